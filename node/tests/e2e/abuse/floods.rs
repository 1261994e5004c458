//! Those who ask too often, or more than a shard can do.

use core::net::Ipv4Addr;
use core::time::Duration;

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_host::RateLimit;

use super::{HONEST, INFO, PACE, PACE_COUNT_MAX, RUDE, ask, assert_serves, tcp, tls};
use crate::network::Network;
use crate::omq::Peer;

/// What a test asks at once, and hardly any more while it runs.
const LIMIT: RateLimit = RateLimit {
    per_second: 1,
    burst: 1000,
};
const TOO_MANY: &str = "Too many requests, try again later";
const BUSY: &str = "Server busy, try again later";

#[test]
fn a_flood_from_one_address_is_refused_and_others_are_served() {
    let mut network = Network::new(2);
    network.rate_limit = Some(LIMIT);
    // It is a limit of the node: connections to both shards are the same address.
    network.start(0, 2);
    let port = network.nodes[0].https_port;
    let mut rude = [(); 4].map(|()| tls(RUDE, port).unwrap());
    let mut honest = tls(HONEST, port).unwrap();
    let mut peer = tls(Ipv4Addr::LOCALHOST, port).unwrap();
    let mut refused = 0;
    for turn in 0..1100 {
        let (status, text) = ask(&mut rude[turn % 4], "/storage_rpc/v1", INFO).unwrap();
        if status == 429 {
            assert_eq!(text, TOO_MANY);
            refused += 1;
        }
        assert_eq!(ask(&mut peer, "/storage_rpc/v1", INFO).unwrap().0, 200);
        if turn % 5 == 0 {
            assert_eq!(ask(&mut honest, "/storage_rpc/v1", INFO).unwrap().0, 200);
        }
    }
    assert!(refused > 0);
    let counted = network.nodes[0].count(|counters| &counters.refused_rate_limited);
    assert_eq!(counted, refused);
    // Other paths and other connections of this address are the same address.
    let mut again = tls(RUDE, port).unwrap();
    let refusals: Vec<_> = (0..5)
        .map(|_| ask(&mut again, "/onion_req/v2", b"an onion").unwrap())
        .collect();
    assert!(refusals.contains(&(503, BUSY.into())), "{refusals:?}");
    assert_eq!(
        ask(&mut honest, "/onion_req/v2", b"an onion").unwrap().0,
        400
    );
    // As is OMQ, but not for a node of the view, wherever it calls from.
    let omq = network.nodes[0].omq_port;
    let member = network.nodes[1].keys();
    let mut stranger = Peer::over(tcp(RUDE, omq), &network, &NodeKeys::from_seed([200; 32]));
    let mut member = Peer::over(tcp(RUDE, omq), &network, &member);
    let refusals: Vec<_> = (0..5)
        .map(|_| stranger.ask(&[b"storage.info", b"t"]))
        .collect();
    let too_many = ["REPLY", "t", "429", TOO_MANY];
    assert!(
        refusals.iter().any(|reply| reply == &too_many),
        "{refusals:?}"
    );
    for _ in 0..5 {
        assert_eq!(member.ask(&[b"storage.info", b"t"]).len(), 3);
        assert_eq!(member.ask(&[b"sn.ping", b"t"])[2], "pong");
    }
}

#[test]
fn commands_that_are_none_are_counted_too() {
    let mut network = Network::new(2);
    network.rate_limit = Some(RateLimit {
        per_second: 1,
        burst: 100,
    });
    network.start(0, 1);
    let omq = network.nodes[0].omq_port;
    let dial = |number| {
        let keys = NodeKeys::from_seed([number; 32]);
        Peer::over(tcp(RUDE, omq), &network, &keys)
    };
    let mut stranger = dial(200);
    let too_many = ["REPLY", "t", "429", TOO_MANY];
    let mut answers = [[b"no.such", b"sn.ping"]; 100].into_iter().flatten();
    let mut seen = Vec::new();
    let mut ask_next = || {
        answers.next().map(|command| {
            let answer = stranger.ask(&[command, b"t"]);
            seen.push(answer[0].clone());
            answer
        })
    };
    while ask_next().is_some_and(|answer| answer != too_many) {}
    assert_eq!(seen.pop().unwrap(), "REPLY", "at some time it is too much");
    assert!((100..120).contains(&seen.len()), "{}", seen.len());
    let is_refusal = |word: &Bytes| word == "UNKNOWNCOMMAND" || word == "FORBIDDEN_SN";
    assert!(seen.iter().all(is_refusal), "{seen:?}");
    // A node of the view has no limit, wherever it calls from.
    let member = network.nodes[1].keys();
    let mut member = Peer::over(tcp(RUDE, omq), &network, &member);
    for _ in 0..120 {
        assert_eq!(
            member.ask(&[b"no.such", b"t"]),
            ["UNKNOWNCOMMAND", "no.such"]
        );
    }
}

#[test]
fn while_a_shard_is_overloaded_peers_go_on_and_strangers_wait() {
    let mut network = Network::new(2);
    // Any lag is too much.
    network.edge_limits.lag_max = Some(Duration::ZERO);
    network.start(0, 1);
    let node = &network.nodes[0];
    let is_refused = (0..PACE_COUNT_MAX).any(|_| {
        std::thread::park_timeout(PACE);
        tls(RUDE, node.https_port).is_err()
    });
    assert!(
        is_refused,
        "a stranger's connection is not worth a handshake"
    );
    let mut peer = tls(Ipv4Addr::LOCALHOST, node.https_port).unwrap();
    assert_eq!(ask(&mut peer, "/storage_rpc/v1", INFO).unwrap().0, 200);
    let mut stranger = Peer::over(
        tcp(RUDE, node.omq_port),
        &network,
        &NodeKeys::from_seed([200; 32]),
    );
    let refused = stranger.ask(&[b"storage.info", b"t"]);
    assert_eq!(refused, ["REPLY", "t", "503", BUSY]);
    let mut member = Peer::over(tcp(RUDE, node.omq_port), &network, &network.nodes[1].keys());
    assert_eq!(member.ask(&[b"sn.ping", b"t"])[2], "pong");
    assert_eq!(member.ask(&[b"storage.info", b"t"]).len(), 3);
    assert!(node.count(|counters| &counters.refused_overloaded) >= 2);
}

#[test]
fn one_address_pushes_out_its_own_connections_and_nobody_elses() {
    let mut network = Network::new(1);
    network.edge_limits.https_connection_count_max = 12;
    network.edge_limits.connection_per_prefix_count_max = 4;
    network.start(0, 1);
    let port = network.nodes[0].https_port;
    let mut honest = tls(HONEST, port).unwrap();
    assert_eq!(ask(&mut honest, "/storage_rpc/v1", INFO).unwrap().0, 200);
    let mut rude: Vec<_> = (0..40).map(|_| tls(RUDE, port).unwrap()).collect();
    assert_eq!(ask(&mut honest, "/storage_rpc/v1", INFO).unwrap().0, 200);
    let served = rude
        .iter_mut()
        .filter_map(|stream| ask(stream, "/storage_rpc/v1", INFO).ok())
        .count();
    assert_eq!(served, 4);
    let node = &network.nodes[0];
    assert_eq!(node.count(|counters| &counters.https_evicted), 36);
    assert_serves(&network);
    // Many addresses do push out who is idle, but not who comes.
    for last in 1..100 {
        let source = Ipv4Addr::new(127, 6, 0, last);
        let mut stream = tls(source, port).unwrap();
        assert_eq!(ask(&mut stream, "/storage_rpc/v1", INFO).unwrap().0, 200);
    }
    assert_eq!(node.count(|counters| &counters.https_refused), 0);
}
