//! `cepa run` processes on loopback, each in a swarm of its own, and a keep-alive connection to one.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use cepa_benches::PAYLOAD_SIZE;
use cepa_crypto::{Account, NodeKeys};
use cepa_wire::request::{ClientRequest, Store};
use cepa_wire::{Namespace, ServiceNode};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

pub(crate) struct Nodes {
    /// The first keeps every account.
    pub(crate) view: Vec<ServiceNode>,
    children: Vec<Child>,
    _dir: TempDir,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    listener.local_addr().expect("it is bound").port()
}

impl Nodes {
    /// `None` when there is no release binary.
    pub(crate) fn start(count: u8) -> Option<Self> {
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/cepa");
        if !binary.try_exists().unwrap_or(false) {
            return None;
        }
        let dir = TempDir::new().expect("a directory");
        let view: Vec<ServiceNode> = (1..=count).map(service_node).collect();
        let entries: Vec<_> = view.iter().map(ServiceNode::to_network_json).collect();
        let network = serde_json::json!({ "service_nodes": entries }).to_string();
        fs::write(dir.path().join("network.json"), network).expect("it is written");
        let children = (1..=count)
            .zip(&view)
            .map(|(number, node)| run(&binary, dir.path(), number, node))
            .collect();
        let nodes = Self {
            view,
            children,
            _dir: dir,
        };
        for node in &nodes.view {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).is_err() {
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        Some(nodes)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Stores one message for an account.
    pub(crate) fn put(&self, owner: &Account) {
        let now = cepa_host::clock::now();
        let request = ClientRequest::Store(Store {
            mailbox: owner.id(),
            namespace: Namespace::INBOX,
            timestamp: now,
            expiry: now.saturating_add(Duration::from_hours(1)),
            data: Bytes::from(vec![9; PAYLOAD_SIZE]),
            sig_timestamp: None,
            proof: None,
        });
        Connection::open(self.view[0].port).post("/storage_rpc/v1", &request.encode_json());
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn service_node(number: u8) -> ServiceNode {
    let keys = NodeKeys::from_seed([number; 32]);
    ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: free_port(),
        omq_port: free_port(),
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        storage_server_version: ServiceNode::VERSION_DEFAULT,
        // The others only relay: one swarm keeps every account.
        swarm_id: 0,
    }
}

fn run(binary: &Path, dir: &Path, number: u8, node: &ServiceNode) -> Child {
    let data = dir.join(format!("data-{number}"));
    fs::create_dir_all(&data).expect("a directory");
    let key = data.join("key_ed25519");
    fs::write(&key, hex::encode([number; 32])).expect("it is written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    // Each node sees itself alone in its swarm: a store goes no further.
    let mut network: serde_json::Value = serde_json::from_str(
        &fs::read_to_string(dir.join("network.json")).expect("it was written"),
    )
    .expect("it was written");
    for (at, entry) in (1_u8..).zip(network["service_nodes"].as_array_mut().expect("a list")) {
        let id = if at == number { 0_u64 } else { u64::MAX };
        entry["swarm_id"] = id.to_string().into();
    }
    let file = data.join("network.json");
    fs::write(&file, network.to_string()).expect("it is written");
    let config = format!(
        "bind_ip = \"127.0.0.1\"\nhttps_port = {}\nomq_port = {}\ndata_dir = \"{}\"\n\
         network_file = \"{}\"\nshard_cpus = [{}]\n",
        node.port,
        node.omq_port,
        data.display(),
        file.display(),
        number % 2,
    );
    let path = data.join("cepa.toml");
    fs::write(&path, config).expect("it is written");
    Command::new(binary)
        .args(["--log-level", "warn", "run", "--config"])
        .arg(path)
        .stdout(Stdio::null())
        .spawn()
        .expect("cepa runs")
}

/// A keep-alive connection.
pub(crate) struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(cepa_tls::node_client_config(), name).expect("a client");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
        stream.set_nodelay(true).expect("it is TCP");
        Self(StreamOwned::new(tls, stream))
    }

    /// Sends a request and takes its whole answer, which must be 200.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.0.write_all(&request).expect("the node takes it");
        let mut answer = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let size = self.0.read(&mut buffer).expect("the node answers");
            assert_ne!(size, 0, "the node hung up");
            answer.extend_from_slice(&buffer[..size]);
            if is_whole(&answer) {
                break;
            }
        }
        let line = answer.get(..12).unwrap_or_default();
        assert_eq!(
            line,
            b"HTTP/1.1 200",
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.len() >= head + 4 + length
}
