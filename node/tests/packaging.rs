//! What stands around the node: the unit for systemd is understood and hardened as far as is promised, and the
//! profile for containers fits the node's own filter.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What the script says when there is no systemd.
const SKIPPED: i32 = 77;

#[test]
fn systemd_understands_the_unit_and_calls_it_hardened() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/check_unit.sh");
    let output = Command::new(script).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("skipped: {told}");
        return;
    }
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("Overall exposure level for cepa.service"),
        "{told}"
    );
}

/// Calls that are deadly to a node that runs, and belong to starting a container.
const AT_START: [&str; 10] = [
    "capset",
    "execve",
    "execveat",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
];

/// Names behind `libc::SYS_`.
fn calls(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("libc::SYS_").skip(1);
    parts.filter_map(|part| {
        part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
    })
}

/// Else a container would refuse what the node's own filter lets through.
#[test]
fn the_profile_for_containers_has_all_that_a_node_calls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let profile: serde_json::Value =
        serde_json::from_str(&read("config/docker-seccomp.json")).unwrap();
    let names = profile["syscalls"][0]["names"].as_array().unwrap();
    let has = |call: &str| names.iter().any(|name| name == call);
    let lists = read("host/src/sandbox/seccomp/lists.rs");
    let (allowed, deadly) = lists.split_once("const DEADLY").unwrap();
    let conditional = read("host/src/sandbox/seccomp.rs");
    let (conditional, _) = conditional.split_once("mod tests").unwrap();
    let needed: Vec<_> = calls(allowed).chain(calls(conditional)).collect();
    assert!(
        needed.len() > 100,
        "the lists are not where they are looked for"
    );
    for call in needed {
        assert!(has(call), "{call} is missing");
    }
    for call in [
        "io_uring_setup",
        "landlock_restrict_self",
        "seccomp",
        "execve",
    ] {
        assert!(has(call), "{call} is missing");
    }
    for call in calls(deadly).filter(|call| !AT_START.contains(call)) {
        assert!(!has(call), "{call} is let through");
    }
}

#[test]
fn the_container_is_built_by_the_compiler_of_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let toolchain: toml::Table = fs::read_to_string(root.join("rust-toolchain.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let built = fs::read_to_string(root.join("Dockerfile")).unwrap();
    assert!(
        built.contains(&format!("FROM rust:{channel}-")),
        "{channel}"
    );
}
