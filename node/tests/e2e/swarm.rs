//! A swarm of five: every member keeps every message, and one that is dead holds nobody up.

use core::net::Ipv4Addr;
use std::net::TcpListener;

use crate::network::{Network, account, retrieve, store};

fn failed_members(reply: &serde_json::Value) -> Vec<String> {
    let swarm = reply["swarm"].as_object().expect("a swarm");
    assert_eq!(swarm.len(), 5);
    let failed = swarm.iter().filter(|(_, entry)| entry["failed"] == true);
    failed.map(|(key, _)| key.clone()).collect()
}

fn message_count(network: &Network, index: usize) -> usize {
    let reply = network.rpc(index, &retrieve(&account(1), None)).json();
    reply["messages"].as_array().expect("messages").len()
}

#[test]
fn every_member_keeps_every_message_whoever_was_asked() {
    let mut network = Network::new(5);
    // One node with two shards: mailboxes cross between executors.
    network.start(0, 2);
    (1..5).for_each(|index| network.start(index, 1));
    for index in 0..5 {
        let text = format!("through member {index}");
        let reply = network
            .rpc(index, &store(account(1).id(), text.as_bytes()))
            .json();
        assert_eq!(failed_members(&reply), [""; 0]);
    }
    for index in 0..5 {
        assert_eq!(message_count(&network, index), 5);
    }
    for number in 2..40 {
        let owner = account(number);
        network.rpc(0, &store(owner.id(), b"spread over both shards"));
        let got = network.rpc(0, &retrieve(&owner, None)).json();
        assert_eq!(got["messages"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_member_known_to_be_down_is_reported_failed_without_being_waited_for() {
    let mut network = Network::new(5);
    (0..4).for_each(|index| network.start(index, 1));
    let dead = network.view[4].pubkey_ed25519.to_hex();
    for number in 0..10_u8 {
        let reply = network.rpc(0, &store(account(1).id(), &[number])).json();
        assert_eq!(failed_members(&reply), [dead.as_str()]);
    }
    let node = &network.nodes[0];
    assert_eq!(
        node.count(|counters| &counters.member_timeout),
        1,
        "only the first was sent"
    );
    assert_eq!(node.count(|counters| &counters.member_down), 9);
    assert_eq!(message_count(&network, 3), 10);
}

#[test]
fn a_member_that_accepts_and_stays_silent_is_waited_for_once() {
    let mut network = Network::new(5);
    (0..4).for_each(|index| network.start(index, 1));
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, network.nodes[4].omq_port)).unwrap();
    for number in 0..5_u8 {
        let reply = network.rpc(0, &store(account(1).id(), &[number])).json();
        assert_eq!(
            failed_members(&reply),
            [network.view[4].pubkey_ed25519.to_hex()]
        );
    }
    assert_eq!(
        network.nodes[0].count(|counters| &counters.member_timeout),
        1
    );
    drop(silent);
    // It comes back: probes find it, and it is asked again.
    network.start(4, 1);
    let mut number = 100;
    while !failed_members(&network.rpc(0, &store(account(1).id(), &[number])).json()).is_empty() {
        number += 1;
        assert!(number < 200, "the member that returned is not asked again");
        std::thread::park_timeout(core::time::Duration::from_millis(500));
    }
}

#[test]
fn a_deleted_message_is_gone_from_every_member() {
    use cepa_crypto::request_signature;
    use cepa_wire::request::{ClientRequest, Delete, Proof};

    let mut network = Network::new(5);
    (0..5).for_each(|index| network.start(index, 1));
    let owner = account(1);
    let stored = network.rpc(2, &store(owner.id(), b"regretted")).json();
    let mut delete = Delete {
        mailbox: owner.id(),
        messages: vec![stored["hash"].as_str().unwrap().to_owned()],
        required: true,
        proof: Proof::owner(
            Some(owner.ed25519().public_key()),
            cepa_wire::Signature([0; 64]),
        ),
    };
    let text = request_signature::delete_text(&delete);
    delete.proof.signature = owner.ed25519().sign(text.as_bytes());
    let request = ClientRequest::Delete(delete);
    let reply = network.rpc(0, &request);
    assert_eq!(reply.status, 200);
    for entry in reply.json()["swarm"].as_object().unwrap().values() {
        assert_eq!(entry["deleted"][0], stored["hash"]);
    }
    for index in 0..5 {
        assert_eq!(message_count(&network, index), 0);
    }
    assert_eq!(
        network.rpc(0, &request).status,
        404,
        "required, and nothing left to delete"
    );
}
