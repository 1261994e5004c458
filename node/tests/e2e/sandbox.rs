//! What a node takes from itself, seen from outside, and what it says where the machine gives too little.

use core::time::Duration;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::kill::{Process, rpc};
use crate::network::{account, store};

/// Says to [`child`] with which code rings are refused.
const REFUSE: &str = "CEPA_TEST_REFUSE_RINGS";
/// The directory that [`child`] runs a node in.
const DIRECTORY: &str = "CEPA_TEST_DIRECTORY";

fn run(process: &Process) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command
        .args(["run", "--config", "cepa.toml"])
        .current_dir(process.dir.path());
    command
}

fn write_config(process: &Process, line: &str) {
    let file = process.dir.path().join("cepa.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}{line}\n")).unwrap();
}

/// What stands behind a name in a file of `/proc/PID`.
fn of_process(pid: u32, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    words.join(" ")
}

fn core_files(directory: &Path) -> usize {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("core"))
        .count()
}

#[test]
fn a_node_runs_in_its_sandbox_and_leaves_no_core() {
    let mut process = Process::new();
    write_config(&process, "sandbox = \"require\"");
    process.start_as(run(&process));
    let stored = rpc(process.port, &store(account(1).id(), b"from within"));
    assert!(stored.is_some());
    let pid = process.pid();
    // The shards answer a moment before all is open and the filters are set.
    for _ in 0..100 {
        if of_process(pid, "status", "Seccomp:") == "2" {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    for (name, expected) in [("Seccomp:", "2"), ("NoNewPrivs:", "1")] {
        assert_eq!(of_process(pid, "status", name), expected, "{name}");
    }
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = entry.unwrap().file_name().into_string().unwrap();
        let of_thread = of_process(pid, &format!("task/{thread}/status"), "Seccomp:");
        assert_eq!(of_thread, "2", "thread {thread}");
    }
    assert_eq!(of_process(pid, "limits", "Max core file size"), "0 0 bytes");
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -ABRT {pid}")])
        .status();
    assert!(sent.unwrap().success());
    let log = process.end();
    assert!(log.contains("sandbox: Landlock ABI"), "{log}");
    assert_eq!(core_files(process.dir.path()), 0);
}

#[test]
fn who_debugs_gets_no_sandbox_and_core_files() {
    let mut process = Process::new();
    write_config(&process, "sandbox = \"off\"");
    let mut command = run(&process);
    command.arg("--allow-core-dumps");
    process.start_as(command);
    let pid = process.pid();
    assert_eq!(
        of_process(pid, "status", "Seccomp:"),
        of_process(std::process::id(), "status", "Seccomp:")
    );
    let ours = of_process(std::process::id(), "limits", "Max core file size");
    assert_eq!(of_process(pid, "limits", "Max core file size"), ours);
    assert!(process.kill().contains("sandbox is off"));
}

#[test]
fn where_rings_are_forbidden_the_node_says_so_and_begins_nothing() {
    let table = [
        (libc::EPERM, "docker run --security-opt seccomp="),
        (libc::ENOSYS, "docker run --security-opt seccomp="),
        (libc::ENOMEM, "LimitMEMLOCK=infinity"),
    ];
    for (code, expected) in table {
        let process = Process::new();
        fs::remove_file(process.dir.path().join("data/key_ed25519")).unwrap();
        let output = refused(process.dir.path(), code);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let told: Vec<_> = error
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(told.len(), 1, "{error}");
        assert!(
            told[0].contains("io_uring") && told[0].contains(expected),
            "{error}"
        );
        assert!(!error.contains("panicked"), "{error}");
        let made = fs::read_dir(process.dir.path().join("data"))
            .unwrap()
            .count();
        assert_eq!(made, 0, "something was begun");
    }
}

/// A node that is started where rings are refused: this test's program is run anew as [`child`], which sets the
/// filter and becomes the node.
fn refused(directory: &Path, code: i32) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "sandbox::child", "--nocapture"])
        .env(REFUSE, code.to_string())
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn child() {
    let Ok(code) = env::var(REFUSE) else {
        return;
    };
    let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(code.parse().unwrap()),
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
    let fault = Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(["run", "--config", "cepa.toml"])
        .current_dir(env::var(DIRECTORY).unwrap())
        .exec();
    panic!("the node does not run: {fault}");
}
