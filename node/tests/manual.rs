//! What comes with the binary for shells and readers: completions and manual pages.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use tempfile::TempDir;

fn cepa(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_takes_the_script_and_completes_commands_and_options() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("cepa.bash");
    fs::write(&file, cepa(&["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        let script = "source \"$1\"; shift; COMP_WORDS=(cepa \"$@\"); COMP_CWORD=$#; \
                      _cepa cepa \"${@: -1}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                      printf '%s\\n' \"${COMPREPLY[@]}\"";
        let output = Command::new("bash")
            .args(["-c", script, "bash"])
            .arg(&file)
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let syntax = Command::new("bash").arg("-n").arg(&file).status().unwrap();
    assert!(syntax.success());
    assert_eq!(complete(&["che"]), "check-config\n");
    assert_eq!(complete(&["check-config", "--str"]), "--strict\n");
    assert!(complete(&["run", "--log-format", ""]).contains("journald"));
}

#[test]
fn other_shells_have_scripts_too() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = cepa(&["completions", shell]);
        assert!(script.contains("check-config"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_that_groff_takes() {
    let directory = TempDir::new().unwrap();
    let pages = directory.path().join("man1");
    cepa(&["man", "--dir", pages.to_str().unwrap()]);
    let mut names = Vec::new();
    for entry in fs::read_dir(&pages).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        let formatted = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&path)
            .output();
        match formatted {
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && told.is_empty(), "{told}");
            }
            // The structure of the pages is looked at beside the code.
            Err(fault) => assert_eq!(fault.kind(), io::ErrorKind::NotFound),
        }
    }
    for expected in [
        "cepa.1",
        "cepa-run.1",
        "cepa-check-config.1",
        "cepa-account-new.1",
    ] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    let first = fs::read_to_string(pages.join("cepa.1")).unwrap();
    assert_eq!(cepa(&["man"]), first);
}
