//! A node process killed with SIGKILL under load: every acknowledged message is there afterwards.

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cepa_crypto::NodeKeys;
use cepa_wire::ServiceNode;
use tempfile::TempDir;

use crate::network::{account, exchange, free_port, retrieve, store};

/// How many times the node is killed.
const KILL_COUNT: usize = 20;
/// Stores between two kills: enough for segments of 4 MiB to be sealed on the way.
const WAVE: u32 = 160;
/// Accounts that messages are stored for.
const ACCOUNT_COUNT: u8 = 4;

pub(crate) struct Process {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new() -> Self {
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
            pubkey_legacy: keys.legacy_public(),
            swarm_id: 0,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
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

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
        command
            .args(["run", "--config"])
            .arg(self.dir.path().join("cepa.toml"));
        self.start_as(command);
    }

    /// Starts the node by a command of the caller's.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        let child = command
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

    /// Of the process that runs.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL; gives what the node had written to its log.
    pub(crate) fn kill(&mut self) -> String {
        let Some(mut child) = self.child.take() else {
            return String::new();
        };
        child.kill().unwrap();
        Self::log_of(child)
    }

    /// Waits for its end; gives what the node had written to its log.
    pub(crate) fn end(&mut self) -> String {
        self.child.take().map_or_else(String::new, Self::log_of)
    }

    fn log_of(mut child: Child) -> String {
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

pub(crate) fn rpc(
    port: u16,
    request: &cepa_wire::request::ClientRequest,
) -> Option<serde_json::Value> {
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
        let data = number.to_be_bytes().repeat(2500);
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
            let end = next.load(Ordering::Relaxed) + WAVE;
            while next.load(Ordering::Relaxed) < end {
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
        let kept = kept_of(&process, owner);
        let lost: Vec<_> = hashes.iter().filter(|hash| !kept.contains(hash)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged are lost",
            lost.len(),
            hashes.len()
        );
    }
}

/// Stores messages one after the other and gives their hashes.
fn store_some(process: &Process, count: u32) -> Vec<String> {
    let stored = (0..count).map(|number| {
        let data = number.to_be_bytes().repeat(300);
        rpc(process.port, &store(account(1).id(), &data)).unwrap()["hash"].clone()
    });
    stored
        .map(|hash| hash.as_str().unwrap().to_owned())
        .collect()
}

fn kept(process: &Process) -> Vec<String> {
    kept_of(process, 1)
}

/// Every hash of an account, page by page.
pub(crate) fn kept_of(process: &Process, owner: u8) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    loop {
        let request = retrieve(&account(owner), kept.last().cloned());
        let reply = rpc(process.port, &request).unwrap();
        let rows = reply["messages"].as_array().unwrap().iter();
        kept.extend(rows.map(|row| row["hash"].as_str().unwrap().to_owned()));
        if !reply["more"].as_bool().unwrap() {
            return kept;
        }
    }
}

/// The only segment of a log that has not filled one. How far the handover is stands beside it, once
/// the node has lived long enough to say so.
fn segment(process: &Process) -> PathBuf {
    let log = process.dir.path().join("data/log-0");
    let paths = fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let mut segments = paths.filter(is_segment);
    let segment = segments.next().unwrap();
    assert!(segments.next().is_none(), "one segment");
    segment
}

fn warnings(log: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("the message log was damaged"))
        .count()
}

#[test]
fn a_damaged_record_costs_itself_and_a_torn_tail_nothing_that_was_whole() {
    let mut process = Process::new();
    process.start();
    let hashes = store_some(&process, 9);
    assert_eq!(warnings(&process.kill()), 0);
    let path = segment(&process);
    let mut bytes = fs::read(&path).unwrap();
    let data = 4_u32.to_be_bytes().repeat(300);
    let at = bytes
        .windows(data.len())
        .position(|window| window == data)
        .unwrap();
    bytes[at + 700] ^= 0x40;
    fs::write(&path, &bytes).unwrap();

    process.start();
    let expected: Vec<String> = hashes
        .iter()
        .filter(|hash| **hash != hashes[4])
        .cloned()
        .collect();
    assert_eq!(kept(&process), expected);
    let log = process.kill();
    assert_eq!(warnings(&log), 1, "{log}");

    // The last record is cut in half, as a crash within a write leaves it.
    let data = 8_u32.to_be_bytes().repeat(300);
    let at = bytes
        .windows(data.len())
        .position(|window| window == data)
        .unwrap();
    for byte in &mut bytes[at + 100..] {
        *byte = 0;
    }
    fs::write(&path, &bytes).unwrap();
    process.start();
    assert_eq!(kept(&process), expected[..7]);
    let again = rpc(process.port, &store(account(1).id(), &data)).unwrap();
    assert_eq!(
        again["hash"],
        hashes[8].as_str(),
        "what was lost can be stored again"
    );
    assert_eq!(kept(&process).len(), 8);
    let log = process.kill();
    assert_eq!(warnings(&log), 1, "{log}");
    process.start();
    assert_eq!(kept(&process).len(), 8);
}

#[test]
fn a_second_node_on_the_same_ports_is_refused() {
    let mut process = Process::new();
    process.start();
    let second = Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(["run", "--config"])
        .arg(process.dir.path().join("cepa.toml"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && error.contains("is another node running there?"),
        "{error}"
    );
}
