//! A node process killed with SIGKILL under load: every acknowledged message is there afterwards.

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use cepa_crypto::NodeKeys;
use cepa_wire::ServiceNode;
use tempfile::TempDir;

use crate::network::{account, exchange, free_port, retrieve, store};

/// How many times the node is killed.
const KILL_COUNT: usize = 3;
/// Accounts that messages are stored for.
const ACCOUNT_COUNT: u8 = 4;

struct Process {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Process {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (port, omq_port) = (free_port(), free_port());
        let seed = [77; 32];
        let keys = NodeKeys::from_seed(seed);
        let node = ServiceNode {
            ip: Ipv4Addr::LOCALHOST,
            port,
            omq_port,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.ed25519_public().0,
            swarm_id: 0,
        };
        let network = serde_json::json!({ "service_nodes": [node.to_network_json()] });
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir_all(dir.path().join("data")).unwrap();
        fs::write(path("data/key_ed25519"), hex::encode(seed)).unwrap();
        let owner_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path("data/key_ed25519"), owner_alone).unwrap();
        fs::write(path("network.json"), network.to_string()).unwrap();
        let config = format!(
            "bind_ip = \"127.0.0.1\"\nhttps_port = {port}\nomq_port = {omq_port}\n\
             data_dir = \"{}\"\nnetwork_file = \"{}\"\nshard_cpus = [0]\nsegment_size_mib = 4\n",
            path("data"),
            path("network.json"),
        );
        fs::write(path("cepa.toml"), config).unwrap();
        Self {
            dir,
            port,
            child: None,
        }
    }

    fn start(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_cepa"))
            .args(["run", "--config"])
            .arg(self.dir.path().join("cepa.toml"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let request = b"GET /get_stats/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        for _ in 0..300 {
            if exchange(self.port, request).is_ok_and(|reply| reply.status == 200) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("the node does not start: {}", self.kill());
    }

    /// SIGKILL; gives what the node had written to its log.
    fn kill(&mut self) -> String {
        let Some(mut child) = self.child.take() else {
            return String::new();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        log.lines()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn rpc(port: u16, request: &cepa_wire::request::ClientRequest) -> Option<serde_json::Value> {
    let body = request.encode_json();
    let head = format!(
        "POST /storage_rpc/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let reply = exchange(port, &[head.as_bytes(), &body].concat()).ok()?;
    (reply.status == 200).then(|| serde_json::from_slice(&reply.body).ok())?
}

/// Stores until told to stop; gives the hashes that were acknowledged.
fn store_until(stop: &AtomicBool, port: u16, owner: u8, next: &AtomicU32) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let data = number.to_be_bytes().repeat(200);
        if let Some(reply) = rpc(port, &store(account(owner).id(), &data)) {
            acknowledged.push(reply["hash"].as_str().unwrap().to_owned());
        }
    }
    acknowledged
}

#[test]
fn every_acknowledged_message_survives_kill_9() {
    let mut process = Process::new();
    let mut acknowledged: Vec<Vec<String>> = vec![Vec::new(); usize::from(ACCOUNT_COUNT)];
    let next = AtomicU32::new(0);
    for _ in 0..KILL_COUNT {
        process.start();
        let stop = AtomicBool::new(false);
        let port = process.port;
        std::thread::scope(|scope| {
            let (stop, next) = (&stop, &next);
            let mut storing = Vec::new();
            for owner in 0..ACCOUNT_COUNT {
                storing.push(scope.spawn(move || store_until(stop, port, owner, next)));
            }
            while next.load(Ordering::Relaxed) % 400 < 200 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            while next.load(Ordering::Relaxed) % 400 >= 200 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            process.kill();
            stop.store(true, Ordering::Relaxed);
            for (owner, storing) in storing.into_iter().enumerate() {
                acknowledged[owner].extend(storing.join().unwrap());
            }
        });
    }
    process.start();
    for (owner, hashes) in (0..ACCOUNT_COUNT).zip(&acknowledged) {
        assert!(hashes.len() > 10, "the load stored something");
        let kept = rpc(process.port, &retrieve(&account(owner), None)).unwrap();
        let kept: Vec<&str> = kept["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["hash"].as_str().unwrap())
            .collect();
        let lost: Vec<_> = hashes
            .iter()
            .filter(|hash| !kept.contains(&hash.as_str()))
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged are lost",
            lost.len(),
            hashes.len()
        );
    }
}
