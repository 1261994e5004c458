//! Strangers on OMQ who send half a message, or ask and do not read.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_wire::request::ClientRequest;

use super::slow::start;
use super::{
    PACE, PACE_COUNT_MAX, RUDE, SOON, assert_ends, assert_serves, has_ended, tcp, wait_for,
};
use crate::network::{Network, account, retrieve, store};
use crate::omq::Peer;

/// A link to the node; one with its own keys is that of a node of the view.
fn link(network: &Network, keys: &NodeKeys) -> Peer {
    Peer::over(tcp(RUDE, network.nodes[0].omq_port), network, keys)
}

fn stranger() -> NodeKeys {
    NodeKeys::from_seed([200; 32])
}

/// A message of `size` bytes as it goes over the wire.
fn encoded(peer: &mut Peer, size: usize) -> Vec<u8> {
    let parts = [b"sn.ping".to_vec(), b"t".to_vec(), vec![7; size]];
    peer.connection.send(&parts.map(Bytes::from));
    peer.connection.take_output()
}

#[test]
fn a_message_that_trickles_is_given_up() {
    let network = start(|limits| limits.body_timeout = SOON);
    let mut slow = link(&network, &stranger());
    let message = encoded(&mut slow, 10_000);
    let ended = message
        .iter()
        .take(PACE_COUNT_MAX)
        .any(|byte| slow.stream.write_all(&[*byte]).is_err() || has_ended(&mut slow.stream));
    assert!(ended, "it has its time");
    assert_serves(&network);
    // A peer's has not: its link is known to be alive by its heartbeat.
    let mut peer = link(&network, &network.nodes[0].keys());
    let message = encoded(&mut peer, 1000);
    for piece in message.chunks(20) {
        peer.stream.write_all(piece).unwrap();
        std::thread::park_timeout(PACE);
    }
    assert_eq!(peer.receive(), ["REPLY", "t", "pong"]);
}

#[test]
fn unfinished_messages_of_a_prefix_share_a_bound() {
    let network = start(|limits| limits.held_per_prefix_size_max = 3 << 20);
    let mut links: Vec<Peer> = (0..4).map(|_| link(&network, &stranger())).collect();
    for peer in &mut links {
        let mut message = encoded(peer, 2 << 20);
        message.pop();
        // Who is cut off may find out while it writes.
        drop(peer.stream.write_all(&message));
    }
    let mut ended = 0;
    for _ in 0..PACE_COUNT_MAX {
        ended = links
            .iter_mut()
            .filter_map(|peer| has_ended(&mut peer.stream).then_some(()))
            .count();
        if ended >= 3 {
            break;
        }
        assert_serves(&network);
    }
    assert_eq!(ended, 3, "one fits");
    let mut peer = link(&network, &network.nodes[0].keys());
    let message = encoded(&mut peer, 8 << 20);
    peer.stream.write_all(&message).unwrap();
    assert_eq!(peer.receive(), ["REPLY", "t", "pong"]);
}

/// Asks for two megabytes again and again, and reads nothing.
fn ask_and_read_nothing(network: &Network) -> Peer {
    let owner = account(1);
    for number in 0..20 {
        let stored = network.rpc(0, &store(owner.id(), &vec![number; 70_000]));
        assert_eq!(stored.status, 200);
    }
    let mut peer = link(network, &stranger());
    let body: serde_json::Value =
        serde_json::from_slice(&ClientRequest::encode_json(&retrieve(&owner, None))).unwrap();
    let params = body["params"].to_string();
    for _ in 0..20 {
        let parts = ["storage.retrieve", "t", &params];
        let parts = parts.map(|part| Bytes::copy_from_slice(part.as_bytes()));
        peer.connection.send(&parts);
        peer.stream
            .write_all(&peer.connection.take_output())
            .unwrap();
    }
    peer
}

#[test]
fn who_asks_and_does_not_read_is_cut_off_in_time() {
    let network = start(|limits| limits.response_timeout = SOON);
    let _peer = ask_and_read_nothing(&network);
    wait_for(&network, |counters| &counters.omq_evicted, 1);
    assert_serves(&network);
}

#[test]
fn answers_that_a_prefix_does_not_read_have_a_bound() {
    let network = start(|limits| limits.held_per_prefix_size_max = 5 << 20);
    let mut peer = ask_and_read_nothing(&network);
    wait_for(&network, |counters| &counters.omq_evicted, 1);
    drop(peer.stream.read(&mut [0; 100]));
    let mut rest = Vec::new();
    // What the sockets held comes, and then the end.
    drop(peer.stream.read_to_end(&mut rest));
    assert_ends(&network, &mut peer.stream);
}
