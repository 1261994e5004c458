//! A network as clients, peers and `oxend` see it: two swarms of five processes, each beside an `oxend`
//! that speaks OMQ, and every method on every way to them.

mod lab;
mod methods;
mod transport;

use core::time::Duration;

use bytes::Bytes;
use cepa_crypto::{Account, NodeKeys};
use cepa_swarm::View;
use cepa_wire::{ServiceNode, bt};
use serde_json::{Value, json};

use crate::network::{account, https, retrieve, store};
use crate::omq::{Peer, subscription};
use lab::Lab;
use methods::Round;
use transport::{Asker, WAYS, Way};

const LOW: u64 = 0;
const HIGH: u64 = 1 << 63;

fn two_swarms() -> Lab {
    Lab::start(&[LOW, LOW, LOW, LOW, LOW, HIGH, HIGH, HIGH, HIGH, HIGH])
}

/// Accounts of the swarm `id`.
fn owners(view: &[ServiceNode], id: u64) -> impl Iterator<Item = Account> {
    let view = View::new(view.to_vec(), &view[0].pubkey_ed25519);
    (0..=255)
        .map(account)
        .filter(move |owner| view.swarm_of(&owner.id()) == Some(id))
}

#[test]
fn every_method_is_served_on_every_way() {
    let lab = two_swarms();
    let view = lab.view();
    let mut asker = Asker::new(view.clone());
    for (owner, way) in owners(&view, LOW).zip(WAYS) {
        let mut round = Round {
            asker: &mut asker,
            way,
            node: &view[1],
            owner: &owner,
            member_count: 5,
        };
        round.messages();
        round.subaccounts();
        round.questions(view.len());
        // The other swarm shows the way, on every way.
        let foreign = owners(&view, HIGH).next().unwrap();
        let (status, body) = asker.ask(way, &view[1], &store(foreign.id(), b"astray"));
        assert_eq!(status, 421, "{way:?}");
        assert_eq!(body["snodes"].as_array().unwrap().len(), 5);
    }
    bare_account(&view[0], &owners(&view, LOW).next().unwrap());
    duties_towards_oxend(&lab);
}

/// On the testnet, where this lab is, an account may come without its prefix.
fn bare_account(node: &ServiceNode, owner: &Account) {
    let ask = |pubkey: &str| {
        let body = json!({"method": "get_swarm", "params": {"pubkey": pubkey}}).to_string();
        https("POST", node.port, "/storage_rpc/v1", body.as_bytes())
    };
    let id = owner.id();
    let (whole, bare) = (ask(&id.to_hex()), ask(&hex::encode(id.key)));
    assert_eq!((whole.status, bare.status), (200, 200), "{:?}", bare.text());
    let swarm = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["swarm"].clone();
    assert!(swarm(&whole.body).is_string());
    assert_eq!(swarm(&whole.body), swarm(&bare.body));
}

/// What `oxend` heard of each node.
fn duties_towards_oxend(lab: &Lab) {
    for node in &lab.nodes {
        let pings = node.oxend.pings();
        let ping = pings.first().expect("a ping");
        assert_eq!(ping["version"], serde_json::json!([2, 11, 0]));
        assert_eq!(ping["https_port"], node.node.port);
        assert_eq!(ping["omq_port"], node.node.omq_port);
        assert_eq!(ping["pubkey_ed25519"], node.node.pubkey_ed25519.to_hex());
    }
}

#[test]
fn subscribers_hear_over_omq_and_quic() {
    let lab = Lab::start(&[LOW; 2]);
    let view = lab.view();
    let owner = account(1);
    let request = subscription(&owner, &[0], true).encode();
    let mut asker = Asker::new(view.clone());
    let (runtime, connection) = asker.quic(&view[0]);
    let subscribed = runtime.block_on(connection.request("monitor", request.clone().into()));
    let subscribed = format!("{:?}", subscribed.unwrap());
    assert!(subscribed.contains("7:successi1e"), "{subscribed}");
    let stranger = NodeKeys::from_seed([200; 32]);
    let mut peer = Peer::dial(view[0].omq_port, view[0].pubkey_x25519, &stranger);
    assert_eq!(
        peer.ask(&[b"monitor.messages", b"tag", &request])[2],
        "d7:successi1ee"
    );
    // Stored at the other member: it comes to this one by `sn.storage_cc`.
    let (status, stored) =
        Asker::new(Vec::new()).ask(Way::Https, &view[1], &store(owner.id(), b"news"));
    assert_eq!(status, 200);
    let by_omq = peer.receive();
    assert_eq!(by_omq[0], "notify.message");
    let (runtime, connection) = asker.quic(&view[0]);
    let pushed = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), connection.next_push()).await
    });
    let (endpoint, by_quic) = pushed.expect("in time").expect("a push");
    assert_eq!((endpoint.as_str(), &by_quic), ("notify", &by_omq[1]));
    let told = bt::Value::parse(&by_quic).unwrap().as_dict().unwrap();
    let text = |key: &[u8]| Bytes::copy_from_slice(told.get(key).unwrap().as_bytes().unwrap());
    assert_eq!(text(b"h"), stored["hash"].as_str().unwrap());
    assert_eq!(text(b"~"), "news");
}

fn hashes(asker: &mut Asker, node: &ServiceNode, owner: &Account) -> Option<Vec<Value>> {
    let (status, body) = asker.ask(Way::Https, node, &retrieve(owner, None));
    let messages = (status == 200).then(|| body["messages"].as_array().cloned())??;
    let mut hashes: Vec<Value> = messages.iter().map(|row| row["hash"].clone()).collect();
    hashes.sort_by_key(|hash| hash.as_str().map(str::to_owned));
    Some(hashes)
}

/// Waits until every node of `members` holds the same `count` messages.
fn await_equal(asker: &mut Asker, members: &[ServiceNode], owner: &Account, count: usize) {
    let mut held = Vec::new();
    for _ in 0..240 {
        held = members
            .iter()
            .map(|node| hashes(asker, node, owner))
            .collect();
        let is_whole =
            |one: &Option<Vec<Value>>| one.as_ref().is_some_and(|one| one.len() == count);
        if held.iter().all(is_whole) && held.windows(2).all(|two| two[0] == two[1]) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(250));
    }
    panic!("{held:?} are not {count} messages each");
}

#[test]
fn members_that_die_return_join_and_part_end_with_the_same() {
    let mut lab = Lab::start(&[LOW, LOW, LOW, LOW, LOW, HIGH]);
    let view = lab.view();
    let mut asker = Asker::new(view.clone());
    let owner = owners(&view, LOW).next().unwrap();
    let put = |asker: &mut Asker, node: &ServiceNode, text: &str| {
        asker.ask(Way::Https, node, &store(owner.id(), text.as_bytes()))
    };
    let (status, _) = put(&mut asker, &view[0], "before");
    assert_eq!(status, 200);
    lab.nodes[4].kill();
    for number in 0..5 {
        let (status, body) = put(&mut asker, &view[0], &format!("while one is dead {number}"));
        assert_eq!(status, 200);
        let dead = &body["swarm"][view[4].pubkey_ed25519.to_hex()];
        assert_eq!(dead["failed"], true);
    }
    lab.nodes[4].start();
    lab.nodes[4].await_ready();
    await_equal(&mut asker, &view[..5], &owner, 6);

    // The lonely one joins; then the low swarm is dissolved into a high one of other nodes.
    lab.assign(&[LOW, LOW, LOW, LOW, LOW, LOW]);
    await_equal(&mut asker, &lab.view(), &owner, 6);
    lab.assign(&[ServiceNode::NO_SWARM, HIGH, HIGH, LOW, LOW, HIGH]);
    let view = lab.view();
    let members: Vec<ServiceNode> = {
        let view = View::new(view.clone(), &view[0].pubkey_ed25519);
        let id = view.swarm_of(&owner.id()).unwrap();
        view.members(id).map(|(_, node)| node.clone()).collect()
    };
    await_equal(&mut asker, &members, &owner, 6);
    let (status, body) = asker.ask(
        Way::Https,
        &view[0],
        &store(owner.id(), b"to one that left"),
    );
    assert_eq!(status, 503, "{body}");
}
