//! A real node is tested by the control plane of another, and the chain daemon hears of it.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::sync::Arc;

use cepa_control::oxend::{Bootstrap, Duties, OurNode, OxendClient};
use cepa_control::reachability::PeerTests;
use cepa_crypto::SecretKeys;
use cepa_lab::{Chain, Listen, Oxend};
use cepa_relay::Counters;

use crate::network::Network;

/// Tests node 1 as node 0 does; gives what was reported.
fn report(network: &Network) -> serde_json::Value {
    let chain = Chain::new();
    for node in &network.view {
        chain.add(node.clone());
    }
    let keys = SecretKeys::from_seed(network.nodes[0].seed);
    let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let oxend = Oxend::start(&chain, keys, listen).unwrap();
    let client = OxendClient::new(oxend.address().parse().unwrap());
    let duties = Duties {
        us: OurNode::new(&network.nodes[0].keys(), 1, 2),
        peer_tests: Some(PeerTests {
            counters: Arc::new(Counters::default()),
            quic: None,
            has_quic: false,
        }),
        bootstrap: Bootstrap::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reported = async {
            while oxend.reports().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reported = tokio::time::timeout(Duration::from_mins(1), reported);
        tokio::select! {
            never = client.run(duties, drop) => never,
            reported = reported => reported.expect("in time"),
        }
    });
    oxend.reports().remove(0)
}

#[test]
fn a_node_that_runs_is_reachable_and_one_that_does_not_is_not() {
    let mut network = Network::new(2);
    network.start(1, 1);
    let expected = |passed: bool| {
        serde_json::json!({
            "type": "storage",
            "pubkey": hex::encode(network.view[1].pubkey_legacy),
            "passed": passed,
        })
    };
    let (passes, fails) = (expected(true), expected(false));
    assert_eq!(report(&network), passes);
    let node = &network.nodes[1];
    assert_eq!(node.count(|counters| &counters.ping_https), 1);
    assert_eq!(node.count(|counters| &counters.ping_omq), 1);
    network.stop(1);
    assert_eq!(report(&network), fails);
}
