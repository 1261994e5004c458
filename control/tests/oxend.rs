//! The client of the chain daemon against the lab's, over real sockets.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::net::Ipv4Addr;
use core::time::Duration;

use cepa_control::OxendView;
use cepa_control::oxend::{
    AskError, Bootstrap, Duties, OurNode, OxendAddress, OxendClient, OxendHandle, fetch_keys,
};
use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_lab::{Chain, Listen, Oxend};
use cepa_wire::ServiceNode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.unwrap() });
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(5)).await;
    }
}

fn tcp() -> Listen {
    Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into())
}

fn address(oxend: &Oxend) -> OxendAddress {
    oxend.address().parse().unwrap()
}

fn node(seed: u8, swarm_id: u64) -> ServiceNode {
    let keys = NodeKeys::from_seed([seed; 32]);
    ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: 22_021,
        omq_port: 22_020,
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        swarm_id,
        storage_server_version: [2, 11, u16::from(seed)],
    }
}

fn chain() -> Chain {
    let chain = Chain::new();
    for seed in 1..=3 {
        chain.add(node(seed, 5));
    }
    chain
}

/// Runs a client of node 1 beside `test`, which gets its handle and what it publishes.
async fn with_client(
    address: OxendAddress,
    test: impl AsyncFnOnce(OxendHandle, mpsc::UnboundedReceiver<OxendView>),
) {
    let client = OxendClient::new(address);
    let (publish, published) = mpsc::unbounded_channel();
    let us = OurNode::new(&NodeKeys::from_seed([1; 32]), 22_021, 22_020);
    let duties = Duties {
        us,
        peer_tests: None,
        bootstrap: Bootstrap::default(),
    };
    let handle = client.handle();
    tokio::select! {
        never = client.run(duties, |view| publish.send(view).unwrap()) => never,
        () = test(handle, published) => {}
    }
}

#[test]
fn keys_are_fetched_once_there_are_some() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("oxend.sock");
        let address: OxendAddress = format!("ipc://{}", path.display()).parse().unwrap();
        let mut keys = SecretKeys::from_seed([1; 32]);
        keys.legacy = SecretKeys::from_seed([9; 32]).legacy;
        let fetching = fetch_keys(&address);
        tokio::pin!(fetching);
        // Nothing listens; then a daemon that is no service node; then one that is.
        assert!(
            timeout(Duration::from_millis(300), &mut fetching)
                .await
                .is_err()
        );
        let oxend = Oxend::start(&chain(), keys.clone(), Listen::Ipc(path)).unwrap();
        oxend.withhold_keys(true);
        let asked = until(|| oxend.connection_count() > 1);
        tokio::select! {
            _ = &mut fetching => panic!("there are no keys"),
            () = asked => {}
        }
        oxend.withhold_keys(false);
        let fetched = fetching.await;
        let expected = NodeKeys::from_secret_keys(&keys).unwrap();
        assert_eq!(fetched.ed25519_public(), expected.ed25519_public());
        assert_eq!(fetched.x25519_public(), expected.x25519_public());
        assert_eq!(fetched.legacy_public(), node(9, 0).pubkey_legacy);
    });
}

#[test]
fn how_the_node_stands_is_told() {
    run(async {
        let chain = chain();
        let oxend = Oxend::start(&chain, SecretKeys::from_seed([1; 32]), tcp()).unwrap();
        let client = OxendClient::new(address(&oxend));
        let standing = client.standing();
        let duties = Duties {
            us: OurNode::new(&NodeKeys::from_seed([1; 32]), 22_021, 22_020),
            peer_tests: None,
            bootstrap: Bootstrap::default(),
        };
        let told = |name: &str| {
            let samples = standing.samples(0);
            let found = samples.iter().find(|sample| sample.name() == name);
            found.map(cepa_meter::Sample::recorded)
        };
        let test = async {
            until(|| told("cepa_oxend_pings_accepted_total") == Some(1)).await;
            until(|| told("cepa_node_active") == Some(1)).await;
            assert_eq!(told("cepa_oxend_connected"), Some(1));
            assert_eq!(told("cepa_oxend_lists_total"), Some(1));
            assert!(told("cepa_decommission_in_seconds") > Some(3_600_000));
            chain.set_swarm(&node(1, 5).pubkey_legacy, ServiceNode::NO_SWARM);
            chain.advance();
            until(|| told("cepa_node_active") == Some(0)).await;
            assert_eq!(told("cepa_decommission_in_seconds"), None);
            drop(oxend);
            until(|| told("cepa_oxend_connected") == Some(0)).await;
        };
        tokio::select! {
            never = client.run(duties, |_| {}) => never,
            () = test => {}
        }
    });
}

#[test]
fn the_network_is_published_as_it_changes() {
    run(async {
        let chain = chain();
        let oxend = Oxend::start(&chain, SecretKeys::from_seed([1; 32]), tcp()).unwrap();
        with_client(address(&oxend), async |_, mut published| {
            let view = published.recv().await.unwrap();
            assert_eq!(view.nodes, chain.nodes());
            assert_eq!((view.height, view.block_hash), (1, chain.block_hash()));
            assert_eq!(view.hard_fork, (19, 4));

            // The subscription comes with the first ping; blocks before it are found by asking.
            until(|| !oxend.pings().is_empty()).await;
            let mut unproven = node(4, 6);
            unproven.ip = Ipv4Addr::UNSPECIFIED;
            unproven.port = 0;
            chain.add(unproven.clone());
            chain.set_swarm(&node(2, 0).pubkey_legacy, 6);
            chain.set_swarm(&node(3, 0).pubkey_legacy, ServiceNode::NO_SWARM);
            chain.set_hard_fork((20, 1));
            let mut view = view;
            while view.nodes.len() < 4 {
                chain.advance();
                if let Ok(next) = timeout(Duration::from_secs(1), published.recv()).await {
                    view = next.unwrap();
                }
            }
            assert_eq!(view.nodes, chain.nodes());
            assert_eq!(view.hard_fork, (20, 1));
            let swarm_of = |seed| {
                let key = node(seed, 0).pubkey_legacy;
                let mut nodes = view.nodes.iter();
                nodes
                    .find(|node| node.pubkey_legacy == key)
                    .unwrap()
                    .swarm_id
            };
            assert_eq!([1, 2, 3, 4].map(swarm_of), [5, 6, ServiceNode::NO_SWARM, 6]);
            assert_eq!(view.uncontactable_count(), 1);

            // A node proves itself between two blocks.
            let proven = node(4, 6);
            let is_there = |view: &OxendView| view.nodes.contains(&proven);
            while !is_there(&view) {
                chain.prove(proven.clone());
                if let Ok(next) = timeout(Duration::from_secs(1), published.recv()).await {
                    view = next.unwrap();
                }
            }
            chain.remove(&proven.pubkey_legacy);
            chain.advance();
            while is_there(&view) {
                view = published.recv().await.unwrap();
            }
            assert_eq!(view.nodes.len(), 3);
        })
        .await;
    });
}

#[test]
fn pings_tell_who_we_are() {
    run(async {
        let oxend = Oxend::start(&chain(), SecretKeys::from_seed([1; 32]), tcp()).unwrap();
        oxend.be_old();
        oxend.refuse_pings(Some("Outdated Storage Server"));
        with_client(address(&oxend), async |handle, _published| {
            until(|| !oxend.pings().is_empty()).await;
            let expected = json!({
                "version": [2, 11, 0],
                "pubkey_ed25519": node(1, 0).pubkey_ed25519.to_hex(),
                "https_port": 22_021,
                "omq_port": 22_020,
            });
            assert_eq!(oxend.pings()[0], expected);
            // Neither that nor the unknown subscription ends the connection.
            let peer = node(2, 0).pubkey_legacy;
            for passed in [true, false] {
                let reported = handle.report_peer_status(&peer, passed).await;
                assert_eq!(reported.as_deref(), Ok("OK"));
            }
            let report = |passed: bool| {
                json!({ "type": "storage", "pubkey": hex::encode(peer), "passed": passed })
            };
            assert_eq!(oxend.reports(), [report(true), report(false)]);
            assert_eq!(oxend.connection_count(), 1);
        })
        .await;
    });
}

#[test]
fn clients_questions_are_passed_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let listen = Listen::Ipc(directory.path().join("oxend.sock"));
        let chain = chain();
        let oxend = Oxend::start(&chain, SecretKeys::from_seed([1; 32]), listen).unwrap();
        with_client(address(&oxend), async |handle, mut published| {
            published.recv().await.unwrap();
            let name = json!({ "type": 0, "name_hash": "abc" });
            let (status, body) = handle.ask("ons_resolve", &name).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(status, 200);
            assert_eq!(body["nonce"], "cd".repeat(24));
            let (status, body) = handle.ask("ons_resolve", &Value::Null).await.unwrap();
            assert_eq!((status, &body[..]), (400, &b"Invalid name_hash"[..]));

            let fields = json!({ "fields": ["pubkey_ed25519"], "active_only": true });
            let (_, body) = handle.ask("get_service_nodes", &fields).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let states = body["service_node_states"].as_array().unwrap();
            assert_eq!(states.len(), 3);
            assert_eq!(states[0].as_object().unwrap().len(), 1);
            let height = json!({ "height": [1] });
            let (_, body) = handle.ask("get_block_hash", &height).await.unwrap();
            assert_eq!(body, format!("\"{}\"", hex::encode(chain.block_hash())));

            let refused = Err(AskError::Refused);
            assert_eq!(handle.ask("no_such_thing", &Value::Null).await, refused);
            assert_eq!(
                handle.ask("x.storage_server_ping", &Value::Null).await,
                refused
            );
            let large = json!("x".repeat(300_000));
            assert_eq!(handle.ask("get_service_nodes", &large).await, refused);
            // Many at once, each with its own answer.
            let asks = (0..100_u64).map(|index| {
                let handle = handle.clone();
                async move {
                    let height = json!({ "height": [index % 2 * 1000 + 1] });
                    let (status, _) = handle.ask("get_block_hash", &height).await.unwrap();
                    assert_eq!(status, if index % 2 == 0 { 200 } else { 400 });
                }
            });
            futures_util::future::join_all(asks).await;
        })
        .await;
    });
}

#[test]
fn a_daemon_that_is_restarted_is_found_again() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        for listen in [tcp(), Listen::Ipc(directory.path().join("oxend.sock"))] {
            let chain = chain();
            let keys = SecretKeys::from_seed([1; 32]);
            let oxend = Oxend::start(&chain, keys.clone(), listen).unwrap();
            let listen = oxend.listen().clone();
            with_client(address(&oxend), async |handle, mut published| {
                published.recv().await.unwrap();
                until(|| !oxend.pings().is_empty()).await;
                drop(oxend);
                until(|| !handle.is_connected()).await;
                let unreachable = Err(AskError::Unreachable);
                assert_eq!(handle.ask("ons_resolve", &Value::Null).await, unreachable);
                // Without a new block there is nothing to publish, but the ping comes at once.
                let oxend = Oxend::start(&chain, keys.clone(), listen.clone()).unwrap();
                until(|| !oxend.pings().is_empty() && oxend.unchanged_count() > 0).await;
                assert_eq!(oxend.list_count(), 0);
                assert!(published.try_recv().is_err());
                drop(oxend);
                until(|| !handle.is_connected()).await;
                chain.set_swarm(&node(2, 0).pubkey_legacy, 7);
                chain.advance();
                let oxend = Oxend::start(&chain, keys.clone(), listen.clone()).unwrap();
                let view = published.recv().await.unwrap();
                assert_eq!(view.nodes, chain.nodes());
                until(|| !oxend.pings().is_empty()).await;
            })
            .await;
        }
    });
}
