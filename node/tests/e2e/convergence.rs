//! Whatever happens to swarms and members: in the end every member holds what its swarm is to keep, in the
//! box that it was stored in.

use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::collections::BTreeSet;

use cepa_crypto::{Account, request_signature};
use cepa_relay::Counters;
use cepa_swarm::View;
use cepa_wire::request::{ClientRequest, Delete, DeleteAll, Expire};
use cepa_wire::{Direction, Mailbox, Namespace, Scope};

use crate::network::{Network, account, retrieve_from, service_node, sign, store, store_own};

/// The boxes that are looked into.
const NAMESPACES: [i16; 4] = [0, 5, -10, -21];

/// How often it is looked again, half a second each: probes of a member that was away may be 15 s apart.
const LOOK_COUNT: usize = 120;

/// The hashes, boxes and expiries of a mailbox at one member.
type Held = BTreeSet<(i16, String, u64)>;

fn held(network: &Network, index: usize, owner: &Account) -> Option<Held> {
    let mut held = Held::new();
    for namespace in NAMESPACES {
        let request = retrieve_from(owner, Namespace(namespace), None);
        let reply = network.rpc(index, &request);
        if reply.status != 200 {
            return None;
        }
        for message in reply.json()["messages"].as_array()? {
            let hash = message["hash"].as_str()?.to_owned();
            held.insert((namespace, hash, message["expiration"].as_u64()?));
        }
    }
    Some(held)
}

fn view_of(network: &Network) -> View {
    let us = network.view[0].pubkey_ed25519;
    View::new(network.view.clone(), &us)
}

/// The members of a mailbox's swarm.
fn members_of(network: &Network, mailbox: &Mailbox) -> Vec<usize> {
    let view = view_of(network);
    let swarm = view.swarm_of(mailbox).unwrap();
    view.members(swarm).map(|(index, _)| index).collect()
}

/// Waits until every member of a mailbox's swarm holds `expected`.
fn await_held(network: &Network, owner: &Account, expected: &Held) {
    let members = members_of(network, &owner.id());
    let mut last = Vec::new();
    for _ in 0..LOOK_COUNT {
        last = members
            .iter()
            .map(|index| held(network, *index, owner))
            .collect();
        if last.iter().all(|held| held.as_ref() == Some(expected)) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(500));
    }
    panic!("members hold {last:#?}, not {expected:#?}");
}

/// Stores a message in each box through a member of the swarm; gives what the swarm is to hold.
fn fill(network: &Network, owner: &Account, text: &str) -> Held {
    let through = members_of(network, &owner.id())[0];
    for namespace in NAMESPACES {
        let data = format!("{text} in {namespace}");
        let request = if namespace % 10 == 0 {
            let ClientRequest::Store(mut request) = store(owner.id(), data.as_bytes()) else {
                unreachable!("it is a store")
            };
            request.namespace = Namespace(namespace);
            ClientRequest::Store(request)
        } else {
            store_own(owner, namespace, data.as_bytes())
        };
        let reply = network.rpc(through, &request);
        assert_eq!(reply.status, 200, "{:?}", reply.text());
    }
    held(network, through, owner).expect("it is a member")
}

/// Waits until what these nodes say of something in sum is as expected: gauges are told now and then.
fn await_sum(
    network: &Network,
    counter: fn(&Counters) -> &AtomicU64,
    is_expected: fn(u64) -> bool,
) {
    // Those that are not started anew: a gauge begins with 0 in a process.
    let sum = || {
        (1..4)
            .map(|index| network.nodes[index].count(counter))
            .sum()
    };
    let mut last: u64 = sum();
    for _ in 0..120 {
        if is_expected(last) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(250));
        last = sum();
    }
    panic!("it is {last}");
}

/// Accounts of which some lie in each half of the ring.
fn accounts() -> Vec<Account> {
    (1..=12).map(account).collect()
}

#[test]
fn a_member_that_was_away_gets_what_it_missed() {
    let mut network = Network::new(5);
    (0..5).for_each(|index| network.start(index, 1));
    let owner = account(1);
    let before = fill(&network, &owner, "before");
    await_held(&network, &owner, &before);
    network.stop(4);

    // New messages, one of them regretted; old ones deleted, moved on.
    fill(&network, &owner, "while it is away");
    let regretted = network.rpc(0, &store(owner.id(), b"regretted")).json();
    let hash = |held: &Held, namespace| {
        let mut in_box = held.iter().filter(|(other, ..)| *other == namespace);
        in_box.next().unwrap().1.clone()
    };
    let mut delete = Delete {
        mailbox: owner.id(),
        messages: vec![
            regretted["hash"].as_str().unwrap().to_owned(),
            hash(&before, -10),
        ],
        required: true,
        proof: sign(&owner, ""),
    };
    delete.proof = sign(&owner, request_signature::delete_text(&delete));
    assert_eq!(network.rpc(1, &ClientRequest::Delete(delete)).status, 200);
    let mut expire = Expire {
        mailbox: owner.id(),
        messages: vec![hash(&before, 5)],
        expiries: vec![cepa_host::clock::now().saturating_add(Duration::from_hours(9))],
        direction: Direction::Extend,
        proof: sign(&owner, ""),
    };
    expire.proof = sign(&owner, request_signature::expire_text(&expire));
    assert_eq!(network.rpc(2, &ClientRequest::Expire(expire)).status, 200);

    let expected = held(&network, 0, &owner).unwrap();
    assert_eq!(
        expected.len(),
        6,
        "two boxes of two, an outbox of one, and one of one"
    );
    // Two of them have each kept a request.
    await_sum(
        &network,
        |counters| &counters.missed_entries,
        |sum| sum == 2,
    );
    await_sum(&network, |counters| &counters.missed_bytes, |sum| sum > 100);
    // Those who kept it may restart meanwhile.
    network.stop(0);
    network.start(0, 1);
    network.start(4, 2);
    await_held(&network, &owner, &expected);
    await_sum(
        &network,
        |counters| &counters.missed_entries,
        |sum| sum == 0,
    );
    await_sum(&network, |counters| &counters.missed_bytes, |sum| sum == 0);
}

#[test]
fn what_a_whole_box_lost_while_a_member_was_away_it_loses_too_and_no_more() {
    let mut network = Network::new(3);
    (0..3).for_each(|index| network.start(index, 1));
    let owner = account(1);
    fill(&network, &owner, "before");
    network.stop(2);
    let mut all = DeleteAll {
        mailbox: owner.id(),
        scope: Scope::All,
        timestamp: cepa_host::clock::now(),
        proof: sign(&owner, ""),
    };
    all.proof = sign(&owner, request_signature::delete_all_text(&all));
    assert_eq!(network.rpc(0, &ClientRequest::DeleteAll(all)).status, 200);
    let expected = fill(&network, &owner, "after");
    network.start(2, 1);
    await_held(&network, &owner, &expected);
}

#[test]
fn a_new_member_gets_everything_with_its_namespace() {
    let mut network = Network::new(4);
    let newcomer = network.view.pop().unwrap();
    (0..4).for_each(|index| network.start(index, 1));
    let owners = accounts();
    let expected: Vec<Held> = owners
        .iter()
        .map(|owner| fill(&network, owner, "before the newcomer"))
        .collect();
    network.view.push(newcomer);
    network.publish();
    for (owner, expected) in owners.iter().zip(&expected) {
        assert_eq!(members_of(&network, &owner.id()).len(), 4);
        await_held(&network, owner, expected);
    }
    await_sum(&network, |counters| &counters.handover_given, |sum| sum > 0);
    await_sum(
        &network,
        |counters| &counters.handover_pending,
        |sum| sum == 0,
    );
    await_sum(
        &network,
        |counters| &counters.handover_running,
        |sum| sum == 0,
    );
}

#[test]
fn swarms_that_are_made_and_dissolved_lose_nothing() {
    const LOW: u64 = 1 << 62;
    const HIGH: u64 = 3 << 62;
    let mut network = Network::new(5);
    let assign = |network: &mut Network, swarms: [u64; 5]| {
        let nodes = network.nodes.iter().zip(swarms);
        network.view = nodes
            .map(|(node, swarm)| service_node(node, swarm))
            .collect();
        network.publish();
    };
    assign(&mut network, [LOW, LOW, HIGH, HIGH, HIGH]);
    (0..5).for_each(|index| network.start(index, 1 + index % 2));
    let owners = accounts();
    let expected: Vec<Held> = owners
        .iter()
        .map(|owner| fill(&network, owner, "at first"))
        .collect();
    let halves = owners
        .iter()
        .filter(|owner| members_of(&network, &owner.id()).len() == 2);
    assert!(
        (1..12).contains(&halves.count()),
        "both swarms hold something"
    );
    let rounds = [
        // A swarm is made of one of theirs, between them.
        [LOW, LOW, HIGH, HIGH, 1 << 63],
        // One is dissolved into the others.
        [1 << 63, HIGH, HIGH, HIGH, 1 << 63],
        [LOW; 5],
        [LOW, HIGH, HIGH, LOW, LOW],
    ];
    for swarms in rounds {
        assign(&mut network, swarms);
        for (owner, expected) in owners.iter().zip(&expected) {
            await_held(&network, owner, expected);
        }
    }
}
