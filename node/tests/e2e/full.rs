//! A node whose file system is full, for real: a tmpfs of some MiB in a mount namespace of its own.

use std::fs;
use std::process::Command;

use cepa_crypto::request_signature;
use cepa_wire::request::{ClientRequest, Delete, Proof};

use crate::kill::{Process, kept_of, rpc};
use crate::network::{account, exchange, store};

/// Three segments of 4 MiB and some files.
const SIZE: &str = "14m";
const OWNER: u8 = 3;

/// Whether this machine lets us have a mount namespace. Where it does not, there is nothing to test
/// with; CI's does.
fn may_mount() -> bool {
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|status| status.success())
}

/// Starts the node with its data directory on the tmpfs; the key is copied there.
fn start(process: &mut Process) {
    let dir = process.dir.path();
    let script = format!(
        "mkdir -p {dir}/small && mount -t tmpfs -o size={SIZE} cepa {dir}/small && \
         cp -p {dir}/data/key_ed25519 {dir}/small/ && chmod 700 {dir}/small && \
         exec {cepa} run --config {dir}/small.toml",
        dir = dir.display(),
        cepa = env!("CARGO_BIN_EXE_cepa"),
    );
    let config = fs::read_to_string(dir.join("cepa.toml")).unwrap();
    let config = config.replace("/data\"", "/small\"");
    fs::write(dir.join("small.toml"), config).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    process.start_as(command);
}

/// The status and the text of a store's answer.
fn try_store(process: &Process, number: u32) -> (u16, String, Option<String>) {
    let request = store(account(OWNER).id(), &number.to_be_bytes().repeat(15_000));
    let body = request.encode_json();
    let head = format!(
        "POST /storage_rpc/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let reply = exchange(process.port, &[head.as_bytes(), &body].concat()).unwrap();
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let hash = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| json["hash"].as_str().map(ToOwned::to_owned));
    (reply.status, text, hash)
}

fn delete(hashes: &[String]) -> ClientRequest {
    let owner = account(OWNER);
    let mut delete = Delete {
        mailbox: owner.id(),
        messages: hashes.to_vec(),
        required: false,
        proof: Proof::owner(
            Some(owner.ed25519().public_key()),
            owner.ed25519().sign(b""),
        ),
    };
    let text = request_signature::delete_text(&delete);
    delete.proof.signature = owner.ed25519().sign(text.as_bytes());
    ClientRequest::Delete(delete)
}

#[test]
fn a_full_disk_refuses_stores_and_nothing_else_and_heals() {
    if !may_mount() {
        return;
    }
    let mut process = Process::new();
    start(&mut process);
    let mut stored = Vec::new();
    let refusal = loop {
        let (status, text, hash) = try_store(&process, u32::try_from(stored.len()).unwrap());
        match hash {
            Some(hash) if status == 200 => stored.push(hash),
            _ => break (status, text),
        }
        assert!(stored.len() < 400, "more than the disk holds");
    };
    assert!(stored.len() > 60, "{} were stored", stored.len());
    assert!(refusal.1.contains("disk is full"), "{refusal:?}");
    assert_eq!(
        kept_of(&process, OWNER),
        stored,
        "what was acknowledged is there"
    );

    for hashes in stored.chunks(50) {
        let answer = rpc(process.port, &delete(hashes)).unwrap();
        let text = answer.to_string();
        assert!(!text.contains("failed"), "{text}");
    }
    // Its segments go, and there is room again.
    let is_healed = (0..100).any(|number| {
        std::thread::park_timeout(core::time::Duration::from_millis(100));
        try_store(&process, 10_000 + number).0 == 200
    });
    assert!(is_healed, "{:?}", try_store(&process, 1).1);
    // The operator is told both, and that a shard looks at its log ten times a second is time enough.
    std::thread::park_timeout(core::time::Duration::from_secs(1));
    let log = process.kill();
    let told = |text: &str| log.lines().any(|line| line.contains(text));
    assert!(
        told("messages are not stored") && told("disk is full"),
        "{log}"
    );
    assert!(told("messages are stored again"), "{log}");
}
