//! What an exchange refuses, and how it treats members that are down, slow or wrong.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

mod methods;
mod net;

use bytes::Bytes;
use cepa_crypto::{Account, request_signature};
use cepa_storage::{Outcome, StoreFault};
use cepa_swarm::{Action, Event, Exchange, Origin};
use cepa_wire::answer::Tree;
use cepa_wire::request::{ClientRequest, Delete, Retrieve, Store};
use cepa_wire::{Namespace, Timestamp};

use crate::net::{DAY, NOW, account, net, proof, retrieve, store, success, text_of, tree_of};

#[test]
fn a_member_that_is_down_is_reported_failed_at_once_and_not_asked() {
    let mut net = net();
    net.health.handle_failure(net.member(2), NOW);
    let mailbox = account(&net).id();
    let (answer, actions) = net.run(ClientRequest::Store(store(mailbox, 0)), Origin::Client);
    let asked = actions
        .iter()
        .filter(|action| matches!(action, Action::Forward { .. }))
        .count();
    assert_eq!(asked, 3, "four other members, one down");
    let missed = actions
        .iter()
        .any(|action| matches!(action, Action::Missed { member, .. } if *member == net.member(2)));
    assert!(missed, "it is told what it missed when it is back");
    assert_eq!(answer.status, 200);
    let swarm = tree_of(&answer).get("swarm").unwrap();
    let down = swarm.get(&net.member(2).to_hex()).unwrap();
    assert_eq!(down.to_json(), br#"{"failed":true,"timeout":true}"#);
    assert!(
        swarm
            .get(&net.member(0).to_hex())
            .unwrap()
            .get("signature")
            .is_some()
    );
    let Tree::Dict(entries) = swarm else { panic!() };
    assert_eq!(entries.len(), 5);
}

#[test]
fn a_forwarded_store_goes_no_further_and_is_answered_with_our_entry_alone() {
    let net = net();
    let mailbox = account(&net).id();
    let (answer, actions) = net.run(ClientRequest::Store(store(mailbox, 0)), Origin::Member);
    assert_eq!(actions.len(), 1);
    let tree = tree_of(&answer);
    assert!(tree.get("swarm").is_none() && tree.get("signature").is_some());
}

#[test]
fn replies_that_are_wrong_are_reported_as_what_they_are() {
    let net = net();
    let mailbox = account(&net).id();
    let mut exchange = Exchange::new(
        ClientRequest::Store(store(mailbox, 0)),
        Origin::Client,
        net.local(),
    );
    let replies = [
        Event::NoReply,
        Event::Reply(vec![Bytes::from_static(b"401"), Bytes::from_static(b"no")]),
        Event::Reply(vec![Bytes::from_static(b"garbage")]),
        Event::Reply(Vec::new()),
    ];
    let mut replies = replies.into_iter();
    while let Some(action) = exchange.poll_action() {
        match action {
            Action::Command { ticket, command } => {
                exchange.handle_event(ticket, Event::Outcome(success(&command)), net.local());
            }
            Action::Forward { ticket, .. } => {
                exchange.handle_event(ticket, replies.next().unwrap(), net.local());
            }
            Action::Oxend { .. } => panic!("nobody asks it"),
            Action::Missed { member, .. } => assert_eq!(member, net.member(1)),
        }
    }
    let answer = exchange.poll_answer().unwrap();
    let swarm = tree_of(&answer).get("swarm").unwrap();
    let entry = |place: usize| {
        String::from_utf8(swarm.get(&net.member(place).to_hex()).unwrap().to_json()).unwrap()
    };
    assert_eq!(entry(1), r#"{"failed":true,"timeout":true}"#);
    assert_eq!(entry(2), r#"{"code":"401","failed":true,"reason":"no"}"#);
    assert_eq!(entry(3), r#"{"bad_peer_response":true,"failed":true}"#);
    assert_eq!(entry(4), r#"{"bad_peer_response":true,"failed":true}"#);
}

#[test]
fn nothing_counts_as_stored_when_no_member_stored_it() {
    let net = net();
    let mailbox = account(&net).id();
    let mut exchange = Exchange::new(
        ClientRequest::Store(store(mailbox, 0)),
        Origin::Client,
        net.local(),
    );
    while let Some(action) = exchange.poll_action() {
        let (ticket, event) = match action {
            Action::Command { ticket, .. } => (
                ticket,
                Event::Outcome(Outcome::Failed(StoreFault::DiskFull)),
            ),
            Action::Forward { ticket, .. } => (ticket, Event::NoReply),
            // It is not even here: there is nothing to tell them later.
            other => panic!("{other:?}"),
        };
        exchange.handle_event(ticket, event, net.local());
    }
    let answer = exchange.poll_answer().unwrap();
    assert_eq!(answer.status, 500);
    let us = tree_of(&answer)
        .get("swarm")
        .unwrap()
        .get(&net.member(0).to_hex())
        .unwrap();
    assert_eq!(us.get("reason"), Some(&Tree::text("disk is full")));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of refusals")]
fn stores_are_refused_with_the_protocols_words() {
    let net = net();
    let owner = account(&net);
    let mailbox = owner.id();
    let millis = NOW.as_millis();
    let at = Timestamp::from_millis;
    let cases: Vec<(Store, (u16, &str))> = vec![
        (
            Store {
                expiry: at(millis + 9_000),
                ..store(mailbox, 0)
            },
            (403, "Provided expiry/TTL is not valid."),
        ),
        (
            Store {
                expiry: at(millis + 15 * DAY),
                ..store(mailbox, 0)
            },
            (403, "Provided expiry/TTL is not valid."),
        ),
        (
            Store {
                expiry: at(millis - 1),
                ..store(mailbox, 0)
            },
            (403, "Provided expiry/TTL is not valid."),
        ),
        (
            Store {
                timestamp: at(millis + 11_000),
                expiry: at(millis + DAY),
                ..store(mailbox, 0)
            },
            (406, "Timestamp error: check your clock"),
        ),
        (
            Store {
                timestamp: at(millis - DAY),
                expiry: at(millis - 11_000),
                ..store(mailbox, 0)
            },
            (406, "Timestamp error: check your clock"),
        ),
        (
            store(mailbox, 5),
            (401, "store: signature required to store to namespace 5"),
        ),
        (
            Store {
                sig_timestamp: Some(at(millis - 61_000)),
                proof: Some(proof(&owner, "store5")),
                ..store(mailbox, 5)
            },
            (406, "store signature timestamp too far from current time"),
        ),
        (
            Store {
                proof: Some(proof(&owner, "store6")),
                ..store(mailbox, 5)
            },
            (401, "store signature verification failed"),
        ),
    ];
    for (request, expected) in cases {
        let (answer, actions) = net.run(ClientRequest::Store(request), Origin::Client);
        assert_eq!(text_of(&answer), expected);
        assert_eq!(actions, []);
    }
    let mut signed = store(mailbox, 5);
    signed.proof = Some(proof(&owner, &request_signature::store_text(&signed)));
    assert_eq!(
        net.run(ClientRequest::Store(signed), Origin::Client)
            .0
            .status,
        200
    );
}

#[test]
fn retrieves_and_deletes_need_their_owner() {
    let net = net();
    let owner = account(&net);
    let stranger = Account::from_entropy([0xee; 16]);
    assert_eq!(
        net.run(ClientRequest::Retrieve(retrieve(&owner)), Origin::Client)
            .0
            .status,
        200
    );
    let unsigned = Retrieve {
        proof: None,
        ..retrieve(&owner)
    };
    let forged = Retrieve {
        proof: retrieve(&stranger).proof,
        ..retrieve(&owner)
    };
    let late = Retrieve {
        timestamp: Some(Timestamp::ZERO),
        ..retrieve(&owner)
    };
    let outbox = Retrieve {
        namespace: Namespace(-1),
        ..unsigned.clone()
    };
    let refused = |request| net.run(ClientRequest::Retrieve(request), Origin::Client).0;
    assert_eq!(
        text_of(&refused(unsigned)),
        (401, "retrieve: request signature required")
    );
    assert_eq!(
        text_of(&refused(forged)),
        (401, "retrieve signature verification failed")
    );
    assert_eq!(
        text_of(&refused(late)),
        (406, "retrieve timestamp too far from current time")
    );
    assert_eq!(
        refused(outbox).status,
        200,
        "a public outbox is read by anybody"
    );
    let delete = Delete {
        mailbox: owner.id(),
        messages: vec!["x".into()],
        required: false,
        proof: proof(&stranger, "deletex"),
    };
    let (answer, _) = net.run(ClientRequest::Delete(delete), Origin::Client);
    assert_eq!(
        text_of(&answer),
        (401, "delete_msgs signature verification failed")
    );
}

#[test]
fn a_mailbox_of_another_swarm_is_answered_with_that_swarm() {
    let net = net();
    let foreign = (0..=255)
        .map(|n| Account::from_entropy([n; 16]).id())
        .find(|id| !net.view.is_ours(id))
        .unwrap();
    let (answer, actions) = net.run(ClientRequest::Store(store(foreign, 0)), Origin::Client);
    assert_eq!((answer.status, actions.len()), (421, 0));
    assert_eq!(
        tree_of(&answer).get("swarm"),
        Some(&Tree::text("8000000000000000"))
    );
}

#[test]
fn a_sequence_stops_at_the_first_failure_and_a_batch_does_not() {
    let net = net();
    let mailbox = account(&net).id();
    let requests = || {
        vec![
            ClientRequest::Store(store(mailbox, 0)),
            ClientRequest::Store(store(mailbox, 5)),
            ClientRequest::Info,
        ]
    };
    let codes = |request| {
        let (answer, _) = net.run(request, Origin::Client);
        let Some(Tree::List(rows)) = tree_of(&answer).get("results").cloned() else {
            panic!()
        };
        rows.iter()
            .map(|row| row.get("code").cloned().unwrap())
            .collect::<Vec<_>>()
    };
    let [ok, refused] = [200, 401].map(Tree::Integer);
    let sequence = codes(ClientRequest::Sequence(requests()));
    assert_eq!(sequence, [ok.clone(), refused.clone()]);
    assert_eq!(
        codes(ClientRequest::Batch(requests())),
        [ok.clone(), refused, ok]
    );
    assert_eq!(codes(ClientRequest::Batch(Vec::new())), []);
}

#[test]
fn the_list_of_service_nodes_comes_with_the_fields_asked_for() {
    let net = net();
    let ask = |params: serde_json::Value| {
        let request = cepa_wire::request::OxendRequest {
            endpoint: "get_service_nodes".into(),
            params,
        };
        let (answer, _) = net.run(ClientRequest::Oxend(request), Origin::Client);
        let json: serde_json::Value = serde_json::from_slice(&tree_of(&answer).to_json()).unwrap();
        json["result"]["service_node_states"]
            .as_array()
            .unwrap()
            .clone()
    };
    let object = serde_json::json!({"fields": {"public_ip": true, "storage_port": false}});
    let list = serde_json::json!({"fields": ["public_ip"], "limit": 2});
    assert_eq!(
        ask(object),
        vec![serde_json::json!({"public_ip": "127.0.0.1"}); 6]
    );
    assert_eq!(
        ask(list),
        vec![serde_json::json!({"public_ip": "127.0.0.1"}); 2]
    );
}

#[test]
fn a_member_that_is_busy_is_told_again_and_one_that_refuses_is_not() {
    let net = net();
    let mailbox = account(&net).id();
    let missed = |code: &'static str| {
        let request = ClientRequest::Store(store(mailbox, 0));
        let mut exchange = Exchange::new(request, Origin::Client, net.local());
        let mut count = 0;
        while let Some(action) = exchange.poll_action() {
            let (ticket, event) = match action {
                Action::Command { ticket, command } => (ticket, Event::Outcome(success(&command))),
                Action::Forward { ticket, .. } => {
                    let reply = vec![Bytes::from_static(code.as_bytes()), Bytes::new()];
                    (ticket, Event::Reply(reply))
                }
                Action::Missed { .. } => {
                    count += 1;
                    continue;
                }
                Action::Oxend { .. } => panic!("nobody asks it"),
            };
            exchange.handle_event(ticket, event, net.local());
        }
        count
    };
    assert_eq!(missed("503"), 4);
    assert_eq!(missed("500"), 4);
    assert_eq!(missed("401"), 0);
    assert_eq!(missed("421"), 0);
}
