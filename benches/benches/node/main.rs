//! What a request costs a node, as the kernel counts it: real `cepa run` processes on loopback, keep-alive
//! HTTPS, an open loop: requests begin when their time has come, however long others take, and a latency
//! counts from there.
//!
//! ```text
//! cargo build --release && cargo bench -p benches --bench node
//! ```
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench that can't run ends, waits for its time, and prints what it found"
)]

mod load;
mod nodes;

use core::time::Duration;
use std::sync::OnceLock;

use bytes::Bytes;
use cepa_benches::{PAYLOAD_SIZE, account, retrieve};
use cepa_client::onion::wrap_request;
use cepa_wire::onion::EncType;
use cepa_wire::request::{ClientRequest, Store};
use cepa_wire::{Mailbox, Namespace, ServiceNode, Timestamp};
use clap::Parser;

use load::{Load, Measured};
use nodes::Nodes;

/// What a request costs a node.
#[derive(Debug, Parser)]
struct Arguments {
    /// Requests a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// How long each kind of request is sent, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Only this kind of request: info, store, retrieve, onion-1 or onion-3
    #[arg(long)]
    only: Option<String>,
    /// Cargo passes this
    #[arg(long, hide = true)]
    bench: bool,
}

fn now() -> Timestamp {
    cepa_host::clock::now()
}

fn store(number: u64) -> ClientRequest {
    let mut data = vec![7; PAYLOAD_SIZE];
    data[..8].copy_from_slice(&number.to_be_bytes());
    ClientRequest::Store(Store {
        mailbox: mailbox(number),
        namespace: Namespace::INBOX,
        timestamp: now(),
        expiry: now().saturating_add(Duration::from_hours(24)),
        data: Bytes::from(data),
        sig_timestamp: None,
        proof: None,
    })
}

/// One of many, so that none is full.
fn mailbox(number: u64) -> Mailbox {
    const COUNT: usize = 64;
    static MAILBOXES: OnceLock<Vec<Mailbox>> = OnceLock::new();
    let mailboxes =
        MAILBOXES.get_or_init(|| (100..).take(COUNT).map(|n| account(n).id()).collect());
    mailboxes[usize::try_from(number & 0xffff).unwrap_or(0) % COUNT]
}

/// A request of 2 KiB in an onion: the destination answers it in short.
fn onion(path: &[ServiceNode], destination: &ServiceNode) -> Vec<u8> {
    let padding = "x".repeat(PAYLOAD_SIZE);
    let payload = format!(r#"{{"method":"info","params":{{"padding":"{padding}"}}}}"#);
    let random = || {
        let mut bytes = [0; 56];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        let (key, nonce) = bytes.split_at(32);
        let fits = "32 and 24 bytes";
        Ok((key.try_into().expect(fits), nonce.try_into().expect(fits)))
    };
    let wrapped = wrap_request(
        path,
        destination,
        payload.as_bytes(),
        EncType::XChaCha20,
        random,
    );
    wrapped.expect("keys are good").body().to_vec()
}

/// Onions made beforehand, one after the other: a client's work is many times a relay's, and would take
/// the cores from it. Each is opened anew, by whoever gets it.
fn repeat(make: &dyn Fn() -> Vec<u8>) -> impl Fn(u64) -> Vec<u8> {
    const COUNT: usize = 512;
    let made: Vec<_> = (0..COUNT).map(|_| make()).collect();
    move |number| made[usize::try_from(number & 0xffff).unwrap_or(0) % COUNT].clone()
}

fn row(name: &str, measured: &Measured, node: usize, reference: &str, goal: &str) {
    let cpu = measured.cpu_micros(node);
    println!(
        "| {name} | {cpu:.0} | {goal} | {reference} | {:.2} | {:.2} | {:.2} |",
        measured.latency_millis(50.0),
        measured.latency_millis(99.0),
        measured.latency_millis(99.9),
    );
}

fn main() {
    let arguments = Arguments::parse();
    let Some(nodes) = Nodes::start(3) else {
        println!("skipped: there is no release binary; run `cargo build --release` first");
        return;
    };
    let load = Load {
        rate: arguments.rate,
        span: Duration::from_secs(arguments.seconds),
        connection_count: arguments.connections,
        pids: nodes.pids(),
        port: nodes.view[0].port,
    };
    println!("| request | CPU us | goal | reference | p50 ms | p99 ms | p99.9 ms |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let rpc = "/storage_rpc/v1";
    let is_asked = |kind: &str| arguments.only.as_deref().is_none_or(|only| only == kind);
    if is_asked("info") {
        let info = load.run(rpc, |_| ClientRequest::Info.encode_json());
        row("info, HTTPS", &info, 0, "37", "-");
    }
    if is_asked("store") {
        let stored = load.run(rpc, |number| store(number).encode_json());
        row("store 2 KiB, HTTPS, durable", &stored, 0, "236", "45");
    }
    if is_asked("retrieve") {
        nodes.put(&account(2));
        let asking = retrieve(&account(2), now()).encode_json();
        let retrieved = load.run(rpc, |_| asking.clone());
        row("retrieve one of 2 KiB, signed", &retrieved, 0, "253", "80");
    }
    let [a, b, c] = nodes.view.as_slice() else {
        panic!("there are three nodes");
    };
    if is_asked("onion-1") {
        let one = load.run("/onion_req/v2", repeat(&|| onion(&[], a)));
        row("onion of 1 hop, 2 KiB", &one, 0, "-", "-");
    }
    if is_asked("onion-3") {
        let path = [a.clone(), b.clone()];
        let three = load.run("/onion_req/v2", repeat(&|| onion(&path, c)));
        row("onion of 3 hops: entry", &three, 0, "217-265", "60");
        row("onion of 3 hops: middle", &three, 1, "203-229", "40");
        row("onion of 3 hops: final", &three, 2, "200-230", "-");
    }
}
