//! The binary as systemd and operators run it: it says that it is ready, alive and stopping, takes the
//! options of the C++ server, and ends at once when it is told to twice.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cepa_crypto::NodeKeys;
use cepa_wire::ServiceNode;

use crate::kill::{Process, rpc};
use crate::network::{account, free_port, store};

/// A node that is started as systemd starts one.
pub(crate) struct Supervised {
    child: Child,
    socket: UnixDatagram,
}

impl Supervised {
    /// `directory` is where the socket is made.
    pub(crate) fn start(directory: &Path, mut command: Command) -> Self {
        let path = directory.join("notify");
        drop(fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let child = command
            .env("NOTIFY_SOCKET", &path)
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    /// Hears what it says until a line is among it.
    pub(crate) fn wait_for(&mut self, line: &str) {
        let mut buffer = [0; 256];
        loop {
            let Ok(size) = self.socket.recv(&mut buffer) else {
                self.child.kill().unwrap();
                panic!("the node never says {line}: {}", self.end().1);
            };
            let told = String::from_utf8_lossy(&buffer[..size]);
            if told.lines().any(|told| told == line) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {pid}")])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; gives its exit code and what it logged.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Whatever a test found, nothing of it goes on running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn cepa(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command.args(arguments);
    command
}

pub(crate) fn by_config(process: &Process) -> Command {
    let config = process.dir.path().join("cepa.toml");
    cepa(&["run", "--config", config.to_str().unwrap()])
}

#[test]
fn systemd_hears_that_a_node_is_ready_alive_and_stopping() {
    for signal in ["TERM", "INT"] {
        let process = Process::new();
        let mut command = by_config(&process);
        command.env("WATCHDOG_USEC", "1000000");
        let mut node = Supervised::start(process.dir.path(), command);
        node.wait_for("READY=1");
        // Ready means that it answers.
        assert!(rpc(process.port, &store(account(1).id(), b"ready")).is_some());
        for _ in 0..3 {
            node.wait_for("WATCHDOG=1");
        }
        node.signal(signal);
        node.wait_for("STOPPING=1");
        let (code, log) = node.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn a_second_signal_ends_a_node_that_waits_for_somebody() {
    let process = Process::new();
    // A member that takes connections and never says a word: a store waits for it.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let keys = NodeKeys::from_seed([78; 32]);
    let member = ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: free_port(),
        omq_port: silent.local_addr().unwrap().port(),
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.ed25519_public().0,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
        swarm_id: 0,
    };
    let file = process.dir.path().join("network.json");
    let mut network: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let nodes = network["service_nodes"].as_array_mut().unwrap();
    nodes.push(member.to_network_json());
    fs::write(&file, network.to_string()).unwrap();

    let mut node = Supervised::start(process.dir.path(), by_config(&process));
    node.wait_for("READY=1");
    std::thread::scope(|scope| {
        let port = process.port;
        let asking = scope.spawn(move || {
            let request = store(account(1).id(), b"waits");
            // It is cut off: that is the point.
            let answered = std::panic::catch_unwind(|| rpc(port, &request));
            drop(answered);
        });
        // The node has asked the member when it is connected.
        let held = silent.accept().unwrap();
        node.signal("TERM");
        node.wait_for("STOPPING=1");
        node.signal("TERM");
        let (code, log) = node.end();
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains("error: a second signal ended the node at once"),
            "{log}"
        );
        drop(held);
        asking.join().unwrap();
    });
}

#[test]
fn the_options_of_the_cpp_server_start_a_node() {
    let process = Process::new();
    let path = |name: &str| process.dir.path().join(name).display().to_string();
    let conf = format!(
        "# as the C++ server has it\nip = 0.0.0.0\nlmq-port = {}\nhttps-port = 1\nlog-level=warning\n",
        free_port()
    );
    fs::write(path("data/storage-server.conf"), conf).unwrap();
    let (port, data, network) = (process.port.to_string(), path("data"), path("network.json"));
    let command = cepa(&[
        "run",
        "--data-dir",
        &data,
        "--network-file",
        &network,
        "--bind-ip",
        "127.0.0.1",
        "--https-port",
        &port,
        "--force-start",
    ]);
    let mut node = Supervised::start(process.dir.path(), command);
    node.wait_for("READY=1");
    assert!(rpc(process.port, &store(account(1).id(), b"as before")).is_some());
    node.signal("TERM");
    let (code, log) = node.end();
    assert_eq!(code, Some(0), "{log}");
    for expected in [
        "--force-start has no effect",
        "storage-server.conf, line 2: `ip` has no effect",
        "storage-server.conf, line 3: `lmq-port` is the old name of --omq-port",
    ] {
        let count = log.lines().filter(|line| line.contains(expected)).count();
        assert_eq!(count, 1, "{expected}: {log}");
    }
    assert!(!log.contains("INFO"), "the level of the file counts: {log}");
}

#[test]
fn a_data_directory_has_one_node() {
    let mut process = Process::new();
    process.start();
    let path = |name: &str| process.dir.path().join(name).display().to_string();
    let ports = [free_port(), free_port()].map(|port| port.to_string());
    let second = cepa(&[
        "run",
        "--data-dir",
        &path("data"),
        "--network-file",
        &path("network.json"),
        "--https-port",
        &ports[0],
        "--omq-port",
        &ports[1],
        "--bind-ip",
        "127.0.0.1",
    ])
    .output()
    .unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(
        error.contains("is in use: another node or an import runs there"),
        "{error}"
    );
}
