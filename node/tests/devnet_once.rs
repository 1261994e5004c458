//! The whole network at once: `cepa devnet` as a user runs it.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::time::Duration;
use std::fs;
use std::process::{Output, Stdio};

use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Far more than it takes: only a devnet that hangs meets it.
const TIME_BOUND: Duration = Duration::from_mins(3);

fn run(mut command: Command) -> Output {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        timeout(TIME_BOUND, output).await.unwrap().unwrap()
    })
}

#[test]
fn a_devnet_carries_messages_both_ways_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command
        .args(["devnet", "--once", "--nodes", "6", "--swarms", "2"])
        .env("TMPDIR", temporary.path())
        .current_dir(temporary.path());
    let output = run(command);
    let shown = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{shown}\n{error}");

    let lines: Vec<_> = shown.lines().collect();
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(with("6 of 6 answer"), 1, "{shown}");
    assert_eq!(with("Hello from Cepa"), 1, "{shown}");
    // Each way: the store's answer signed by the whole swarm, then each member asked by itself. And again
    // over either lane, each way.
    assert_eq!(with("3 of 3 members signed"), 6, "{shown}");
    assert_eq!(with("3 of 3 members hold it"), 2, "{shown}");
    for cipher in ["xchacha20", "aes-gcm"] {
        assert_eq!(with(cipher), 2, "{cipher}: {shown}");
    }
    assert_eq!(
        with("6 of 6 nodes have the descriptors of all"),
        1,
        "{shown}"
    );
    assert_eq!(with("packets through"), 2, "{shown}");
    assert_eq!(with("ver the packet lane."), 2, "{shown}");
    for what in ["    first info  ", "    A sends  ", "    B receives  "] {
        assert_eq!(with(what), 1, "{what}: {shown}");
    }
    assert_eq!(lines.last(), Some(&"everything held"));
    assert!(!shown.contains('\x1b'), "no colours but on a terminal");
    assert_eq!(
        fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "its directory is removed"
    );
}
