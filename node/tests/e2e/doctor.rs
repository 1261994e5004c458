//! `cepa doctor` beside real nodes: what it finds of a node that runs among peers, of one without them, of
//! a port that another has, and of a chain daemon.

use core::net::Ipv4Addr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cepa_crypto::SecretKeys;
use cepa_lab::{Chain, Listen, Oxend};
use cepa_wire::ServiceNode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network::{Network, connect, free_port};

/// What a doctor said, and how it ended.
struct Told {
    code: Option<i32>,
    json: Value,
    error: String,
}

impl Told {
    /// The verdict of a check and what it found.
    fn check(&self, group: &str, name: &str) -> (&str, &str) {
        let checks = self.json["checks"].as_array().unwrap();
        let is_it = |check: &&Value| check["group"] == group && check["name"] == name;
        let check = checks.iter().find(is_it);
        let check = check.unwrap_or_else(|| panic!("no {group}/{name}: {:#}", self.json));
        let text = |key: &str| check[key].as_str().unwrap();
        (text("verdict"), text("found"))
    }
}

fn doctor(config: &Path, only: &str, more: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(["doctor", "--json", "--only", only, "--config"])
        .arg(config)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Told {
        code: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Node 0 of a network as an operator has it: a directory with a config, its key and the network.
fn set_up(network: &Network, source: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("data")).unwrap();
    fs::write(path("data/key_ed25519"), hex::encode(network.nodes[0].seed)).unwrap();
    let owner_alone = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path("data/key_ed25519"), owner_alone).unwrap();
    let nodes = network.view.iter().map(ServiceNode::to_network_json);
    let nodes = json!({ "service_nodes": nodes.collect::<Vec<_>>() });
    fs::write(path("network.json"), nodes.to_string()).unwrap();
    let (https_port, omq_port) = (network.nodes[0].https_port, network.nodes[0].omq_port);
    let config = format!(
        "bind_ip = \"127.0.0.1\"\nhttps_port = {https_port}\nomq_port = {omq_port}\n\
         data_dir = \"data\"\n{source}\nshard_cpus = [0]\nsegment_size_mib = 4\n\
         store_capacity_mib = 64\npacket_lane = false\nadmin_listen = \"127.0.0.1:{}\"\n",
        free_port()
    );
    fs::write(path("cepa.toml"), config).unwrap();
    let config = path("cepa.toml");
    (directory, config)
}

const BY_FILE: &str = "network_file = \"network.json\"";

/// A node process, which ends with this.
struct Running(Child);

impl Running {
    fn start(config: &Path, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
        command.args(["run", "--log-level", "off", "--config"]);
        let child = command.arg(config).stdout(Stdio::null()).spawn().unwrap();
        let running = Self(child);
        for _ in 0..300 {
            if connect(port).is_ok() {
                return running;
            }
            std::thread::park_timeout(core::time::Duration::from_millis(100));
        }
        panic!("the node does not start");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_node_among_peers_is_reached_and_one_without_is_not() {
    let mut network = Network::new(4);
    let (_directory, config) = set_up(&network, BY_FILE);
    for index in 1..4 {
        network.start(index, 1);
    }
    let node = Running::start(&config, network.nodes[0].https_port);
    let told = doctor(&config, "node,ports,network", &[]);
    assert_eq!(told.code, Some(0), "{:#}", told.json);
    for (group, name, expected) in [
        ("node", "running", "lock of data_dir"),
        ("node", "metrics", ""),
        ("ports", "https_port", "is the running node's"),
        ("ports", "omq_port", "is the running node's"),
        ("ports", "quic", "is the running node's"),
        ("ports", "admin_listen", "is the running node's"),
        ("network", "view", "4 nodes"),
        ("network", "our_entry", "127.0.0.1"),
        ("network", "clock_offset", "of 3 peers"),
        ("network", "own_https", "answers"),
        ("network", "own_omq", "answers"),
        ("network", "own_quic", "answers"),
        ("network", "reached", "3 of 3 onions"),
    ] {
        let (verdict, found) = told.check(group, name);
        assert_eq!(verdict, "pass", "{name}: {found}");
        assert!(found.contains(expected), "{name}: {found}");
    }
    let offline = doctor(&config, "network", &["--offline"]);
    assert_eq!(offline.code, Some(0));
    assert_eq!(offline.check("network", "peers").0, "skip");

    for index in 1..4 {
        network.stop(index);
    }
    let told = doctor(&config, "network", &[]);
    assert_eq!(told.code, Some(1), "{:#}", told.json);
    assert_eq!(told.json["verdict"], "fail");
    assert_eq!(told.check("network", "reached").0, "fail");
    assert_eq!(told.check("network", "clock_offset").0, "warn");
    assert_eq!(told.error, "error: 1 check failed: network/reached\n");

    drop(node);
    let told = doctor(&config, "node,network", &["--offline"]);
    assert_eq!(told.check("node", "running").0, "skip");
}

#[test]
fn a_port_that_another_has_fails_and_leaves_nothing() {
    let network = Network::new(1);
    let (directory, config) = set_up(&network, BY_FILE);
    let count = || fs::read_dir(directory.path().join("data")).unwrap().count();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, network.nodes[0].https_port)).unwrap();
    let told = doctor(&config, "ports,disk", &[]);
    assert_eq!(told.code, Some(1), "{:#}", told.json);
    assert_eq!(told.check("ports", "https_port").0, "fail");
    assert_eq!(told.check("ports", "omq_port").0, "pass");
    assert!(told.error.contains("ports/https_port"), "{}", told.error);
    assert_eq!(told.check("disk", "key_ed25519").0, "pass");
    assert!(told.check("disk", "write_4k").1.contains("durable in"));
    assert_eq!(count(), 1, "only the key is there");
    drop(taken);
    let told = doctor(&config, "ports", &[]);
    assert_eq!(told.check("ports", "https_port").0, "pass");

    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("data/key_ed25519"), open).unwrap();
    let told = doctor(&config, "disk,network", &["--offline"]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.check("disk", "key_ed25519").0, "fail");
    assert_eq!(told.check("network", "key").0, "fail");
}

#[test]
fn a_chain_daemon_is_asked_and_told_nothing() {
    let network = Network::new(2);
    let chain = Chain::new();
    for node in &network.view {
        chain.add(node.clone());
    }
    let keys = SecretKeys::from_seed(network.nodes[0].seed);
    let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let oxend = Oxend::start(&chain, keys, listen).unwrap();
    let source = format!("oxend_rpc = \"{}\"\ntestnet = true", oxend.address());
    let (_directory, config) = set_up(&network, &source);
    let told = doctor(&config, "network", &["--offline"]);
    assert_eq!(told.code, Some(0), "{:#}", told.json);
    assert_eq!(told.check("network", "oxend").0, "pass");
    let (verdict, found) = told.check("network", "view");
    assert_eq!(verdict, "pass");
    assert!(found.starts_with("2 nodes"), "{found}");
    assert_eq!(told.check("network", "our_entry").0, "pass");
    assert!(oxend.pings().is_empty(), "it is not told that a node lives");
    drop(oxend);
    let told = doctor(&config, "network", &["--offline"]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.check("network", "oxend").0, "fail");
}
