//! A devnet that goes on running: the commands that it tells work as they stand, and none of its nodes
//! outlives it, however it ends.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::pin::pin;
use core::time::Duration;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

/// Far more than it takes: only what hangs meets it.
const TIME_BOUND: Duration = Duration::from_mins(3);

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(TIME_BOUND, test).await.unwrap() });
}

/// Starts a devnet below `directory` and gives the commands that it tells once everything held.
async fn start(directory: &Path) -> (Child, Vec<String>) {
    let mut devnet = Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(["devnet", "--nodes", "4", "--swarms", "1"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(devnet.stdout.take().unwrap()).lines();
    let mut commands = Vec::new();
    while commands.len() < 4 {
        let line = lines.next_line().await.unwrap();
        assert!(line.is_some(), "the devnet ended early");
        let line = line.unwrap_or_default();
        if let Some(command) = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
        {
            commands.push(command.to_owned());
        }
    }
    (devnet, commands)
}

async fn shell(directory: &Path, command: &str) -> String {
    let mut shell = Command::new("sh");
    let output = shell
        .args(["-c", command])
        .current_dir(directory)
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// `cepa top` sees what is stored meanwhile: every node is a member of the one swarm.
async fn watched(directory: &Path, top: &str, send: &str) {
    let top = format!("{top} --interval 3s");
    // On a busy machine no message may come within the interval: then it is looked once more.
    loop {
        let mut printing = pin!(shell(directory, &top));
        // It is no terminal: one table is printed.
        let table = loop {
            tokio::select! {
                table = &mut printing => break table,
                sent = shell(directory, send) => assert!(sent.contains("4 of 4"), "{sent}"),
            }
        };
        let first_number = |name: &str| {
            let mut lines = table.lines().map(str::split_ascii_whitespace);
            let mut words = lines.find(|words| words.clone().next() == Some(name));
            let number = words.as_mut().and_then(|words| words.nth(1));
            number
                .unwrap_or_else(|| unreachable!("{name} in {table}"))
                .to_owned()
        };
        assert!(table.starts_with("cepa 0."), "{table}");
        assert_eq!(first_number("members"), "4");
        let rates = ["requests", "commits"].map(|name| first_number(name).parse::<f64>().unwrap());
        if rates.iter().all(|rate| *rate > 0.0) {
            return;
        }
    }
}

async fn signal(devnet: &Child, name: &str) {
    let id = devnet.id().unwrap();
    shell(Path::new("/"), &format!("kill -s {name} {id}")).await;
}

/// Waits until nobody listens on any node's HTTPS port.
async fn nodes_are_gone(directory: &Path) {
    let text = std::fs::read(directory.join("devnet/network.json")).unwrap();
    let network: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let nodes = network["service_nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    for node in nodes {
        let port = u16::try_from(node["port"].as_u64().unwrap()).unwrap();
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn the_commands_work_and_sigterm_ends_it_well() {
    run(async {
        let directory = TempDir::new().unwrap();
        let (mut devnet, commands) = start(directory.path()).await;
        let [send, receive, bench, top] = commands.as_slice() else {
            unreachable!("four commands were waited for")
        };
        let bench = bench.replace(" --duration 20m", " --duration 2s");
        let measured = shell(directory.path(), &bench).await;
        assert!(measured.contains("written: soak.svg"), "{measured}");
        let sent = shell(directory.path(), send).await;
        assert!(sent.contains("4 of 4"), "{sent}");
        let received = shell(directory.path(), receive).await;
        let texts: Vec<_> = received.lines().collect();
        assert_eq!(texts.len(), 4, "{received}");
        assert!(texts[0].contains("Hello from Cepa"), "{received}");
        assert!(texts[2].ends_with("Over the packet lane."), "{received}");
        assert!(texts[3].ends_with("Hello again"), "{received}");
        assert_eq!(
            shell(directory.path(), receive).await,
            "",
            "what was read is not new"
        );
        watched(directory.path(), top, send).await;

        signal(&devnet, "TERM").await;
        assert!(devnet.wait().await.unwrap().success());
        nodes_are_gone(directory.path()).await;
    });
}

#[test]
fn nodes_end_with_a_devnet_that_is_killed() {
    run(async {
        let directory = TempDir::new().unwrap();
        let (mut devnet, _) = start(directory.path()).await;
        signal(&devnet, "KILL").await;
        assert!(!devnet.wait().await.unwrap().success());
        nodes_are_gone(directory.path()).await;
    });
}
