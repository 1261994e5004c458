//! Ten thousand who connect and say nothing.

use core::net::Ipv4Addr;
use std::fs;
use std::net::TcpStream;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{HONEST, INFO, NEVER, ask, assert_serves, tcp, tls};
use crate::network::Network;

const HTTPS_COUNT: usize = 7800;
const TLS_COUNT: usize = 200;
const OMQ_COUNT: usize = 2000;
/// Those of one address: fewer than its bound, but for the rude one.
const PER_ADDRESS_COUNT: usize = 200;
/// Both ends of each connection are this process's, as far as the node holds it.
const FILE_COUNT: u64 = 17_000;
/// What our own end of a TLS connection costs at most: it is not the node's.
const TLS_CLIENT_SIZE: usize = 64 << 10;

/// Lets this process open as many files as it may; false when those are too few.
fn raise_file_limit() -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.maximum.is_none_or(|maximum| maximum >= FILE_COUNT)
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        127,
        8,
        0,
        u8::try_from(number / PER_ADDRESS_COUNT + 1).unwrap(),
    )
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_others_and_memory_within_its_budget() {
    if !raise_file_limit() {
        println!("skipped: this process may not open {FILE_COUNT} files");
        return;
    }
    let mut network = Network::new(1);
    network.edge_limits.handshake_timeout = NEVER;
    network.edge_limits.idle_timeout = NEVER;
    network.start(0, 1);
    let (https, omq) = (network.nodes[0].https_port, network.nodes[0].omq_port);
    let mut honest = tls(HONEST, https).unwrap();
    assert_serves(&network);
    let before = resident();
    let mut crowd: Vec<TcpStream> = Vec::new();
    let mut secured = Vec::new();
    for number in 0..HTTPS_COUNT {
        crowd.push(tcp(source(number), https));
        if number % (HTTPS_COUNT / TLS_COUNT) == 0 {
            secured.push(tls(source(number), https).unwrap());
        }
        if number < OMQ_COUNT {
            crowd.push(tcp(source(number), omq));
        }
        if number % 200 == 0 {
            assert_serves(&network);
            let (status, _) = ask(&mut honest, "/storage_rpc/v1", INFO).unwrap();
            assert_eq!(status, 200, "who asks now and then is not the longest idle");
        }
    }
    assert!(crowd.len() + secured.len() >= 10_000);
    assert_serves(&network);
    let growth = resident().saturating_sub(before);
    let budget = network.edge_limits.idle_memory_budget();
    println!("grown by {} KiB", growth >> 10);
    let ours = secured.len() * TLS_CLIENT_SIZE;
    assert!(growth < budget + ours, "{growth} bytes, more than {budget}");
    let node = &network.nodes[0];
    let evicted = node.count(|counters| &counters.https_evicted);
    let held = node.count(|counters| &counters.https_accepted) - evicted;
    assert!(held >= 4096 && evicted > 3000, "{held} {evicted}");
    assert_eq!(node.count(|counters| &counters.https_refused), 0);
    assert_eq!(node.count(|counters| &counters.omq_evicted), 0);
}
