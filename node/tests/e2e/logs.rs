//! The rule of the log: at info and above no line has an address, an account or a message's hash,
//! whatever clients send and whatever fails.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cepa_crypto::NodeKeys;
use cepa_wire::ServiceNode;
use cepa_wire::onion::EncType;
use tempfile::TempDir;

use crate::https::onion;
use crate::kill::rpc;
use crate::network::{account, exchange, free_port, https, retrieve, store};

const NODE_COUNT: u8 = 3;

/// Node processes of one swarm.
struct Nodes {
    dir: TempDir,
    view: Vec<ServiceNode>,
    children: Vec<Child>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn seed(number: u8) -> [u8; 32] {
    [100 + number; 32]
}

impl Nodes {
    fn start(level: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let view: Vec<ServiceNode> = (0..NODE_COUNT)
            .map(|number| {
                let keys = NodeKeys::from_seed(seed(number));
                ServiceNode {
                    ip: Ipv4Addr::LOCALHOST,
                    port: free_port(),
                    omq_port: free_port(),
                    pubkey_ed25519: keys.ed25519_public(),
                    pubkey_x25519: keys.x25519_public(),
                    pubkey_legacy: keys.legacy_public(),
                    swarm_id: 0,
                    storage_server_version: ServiceNode::VERSION_DEFAULT,
                }
            })
            .collect();
        let mut nodes = Self {
            dir,
            view,
            children: Vec::new(),
        };
        let of_network = nodes.view.iter().map(ServiceNode::to_network_json);
        let network = serde_json::json!({ "service_nodes": of_network.collect::<Vec<_>>() });
        fs::write(nodes.path("network.json"), network.to_string()).unwrap();
        for number in 0..NODE_COUNT {
            let child = nodes.spawn(number, level);
            nodes.children.push(child);
        }
        for node in &nodes.view {
            let is_ready = || exchange(node.port, GET_STATS).is_ok_and(|reply| reply.status == 200);
            let mut tries = (0..300).map(|_| {
                std::thread::park_timeout(Duration::from_millis(100));
                is_ready()
            });
            assert!(tries.any(|is_ready| is_ready), "a node does not start");
        }
        nodes
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn spawn(&self, number: u8, level: &str) -> Child {
        let data = self.path(&format!("data{number}"));
        fs::create_dir_all(&data).unwrap();
        let key = data.join("key_ed25519");
        fs::write(&key, hex::encode(seed(number))).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let node = &self.view[usize::from(number)];
        let config = self.path(&format!("cepa{number}.toml"));
        let text = format!(
            "bind_ip = \"127.0.0.1\"\nhttps_port = {}\nomq_port = {}\ndata_dir = \"data{number}\"\n\
             network_file = \"network.json\"\nshard_cpus = [0]\nsegment_size_mib = 4\n\
             packet_port = {}\n",
            node.port,
            node.omq_port,
            free_port(),
        );
        fs::write(&config, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_cepa"))
            .args([
                "--log-format",
                "json",
                "--log-level",
                level,
                "run",
                "--config",
            ])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path(&format!("log{number}"))).unwrap())
            .spawn()
            .unwrap()
    }

    fn signal(&self, number: usize, name: &str) {
        let pid = self.children[number].id();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {pid}")])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ends all; gives all that they logged.
    fn end(mut self) -> String {
        for number in 0..self.children.len() {
            self.signal(number, "TERM");
        }
        for child in &mut self.children {
            child.wait().unwrap();
        }
        let logs = (0..NODE_COUNT).map(|number| self.path(&format!("log{number}")));
        logs.map(|log| fs::read_to_string(log).unwrap()).collect()
    }
}

const GET_STATS: &[u8] = b"GET /get_stats/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Asks right and wrong things; gives the hashes of what was stored.
fn ask(nodes: &Nodes) -> Vec<String> {
    let port = nodes.view[0].port;
    let owner = account(9);
    let stored = |data: &[u8]| {
        let reply = rpc(port, &store(owner.id(), data))?;
        Some(reply["hash"].as_str()?.to_owned())
    };
    let mut hashes: Vec<String> = [b"one", b"two"]
        .iter()
        .filter_map(|data| stored(*data))
        .collect();
    rpc(port, &retrieve(&owner, hashes.last().cloned()));
    // A signature of somebody else's, a method that is none, garbage.
    let body = retrieve(&owner, None).encode_json();
    let body = String::from_utf8(body).unwrap();
    let forged = body.replace(&owner.id().to_string(), &account(8).id().to_string());
    for body in [forged.as_str(), "{\"method\":\"fly\"}", "{", ""] {
        https("POST", port, "/storage_rpc/v1", body.as_bytes());
    }
    drop(exchange(port, b"\x00\x01 garbage\r\n\r\n"));
    let path: Vec<&ServiceNode> = nodes.view.iter().collect();
    let request = store(owner.id(), b"by an onion").encode_json();
    for payload in [&request[..], b"{\"method\":\"info\",\"params\":{}}", b"x"] {
        let (body, _) = onion(&path, EncType::XChaCha20, payload, 0);
        https("POST", port, "/onion_req/v2", &body);
        https(
            "POST",
            port,
            "/onion_req/v2",
            body.get(..20).unwrap_or_default(),
        );
    }
    hashes.extend(stored(b"three"));
    hashes
}

/// Whether four numbers with dots between them stand in a text.
fn has_address(text: &str) -> bool {
    let mut words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    words.any(|word| word.parse::<Ipv4Addr>().is_ok())
}

/// The longest run of letters that keys and hashes are written with.
fn longest_word(text: &str) -> usize {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '+';
    let words = text.split(|letter: char| !is_of_word(letter));
    words.map(str::len).max().unwrap_or(0)
}

fn check_line(line: &str, directory: &Path) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    for key in ["timestamp", "level", "target", "message"] {
        assert!(value[key].is_string(), "{key}: {line}");
    }
    assert!(
        matches!(value["level"].as_str(), Some("INFO" | "WARN" | "ERROR")),
        "{line}"
    );
    let rest = line.replace(&directory.display().to_string(), "DIR");
    assert!(!has_address(&rest), "{line}");
    assert!(longest_word(&rest) < 32, "{line}");
    value["message"].as_str().unwrap().to_owned()
}

#[test]
fn no_line_has_an_address_an_account_or_a_hash() {
    assert!(has_address("from 127.0.0.1:7") && !has_address("version 2.11.0"));
    for level in ["info", "warn"] {
        let mut nodes = Nodes::start(level);
        let directory = nodes.dir.path().to_owned();
        let mut hashes = ask(&nodes);
        assert_eq!(hashes.len(), 3);
        // A member is gone, the network file is none, and the config is not either.
        drop(nodes.children[2].kill());
        hashes.extend(ask(&nodes));
        fs::write(nodes.path("network.json"), "{").unwrap();
        fs::write(nodes.path("cepa0.toml"), "bind_ip = \"192.0.2.7:1\"\n").unwrap();
        nodes.signal(0, "HUP");
        nodes.signal(1, "HUP");
        nodes.children.truncate(3);
        let gone = nodes.children.remove(2);
        drop(gone.wait_with_output());
        // The network file is looked at each second.
        std::thread::park_timeout(Duration::from_millis(2500));
        let log = nodes.end();
        let messages: Vec<_> = log
            .lines()
            .map(|line| check_line(line, &directory))
            .collect();
        let said = |words: &str| messages.iter().any(|message| message.contains(words));
        assert_eq!(said("listening"), level == "info", "{log}");
        assert!(said("the last network view stays"), "{log}");
        assert!(said("the config is refused"), "{log}");
        for number in [8, 9] {
            let id = account(number).id().to_string();
            assert!(!log.contains(id.get(2..).unwrap()), "{log}");
        }
        for hash in &hashes {
            assert!(!log.contains(hash.as_str()), "{log}");
        }
    }
}
