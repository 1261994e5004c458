//! What an exchange refuses, and how it treats members that are down, slow or wrong.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use bytes::Bytes;
use cepa_crypto::{Account, NodeKeys, request_signature};
use cepa_storage::{Command, Outcome, StoreFault};
use cepa_swarm::{Action, Event, Exchange, Health, Local, Origin, View};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::request::{ClientRequest, Delete, Proof, Retrieve, Store};
use cepa_wire::{Ed25519PublicKey, Mailbox, Namespace, ServiceNode, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: u64 = 86_400_000;

struct Net {
    keys: Vec<NodeKeys>,
    view: View,
    health: Health,
}

/// Five nodes in swarm 0 and one in the swarm across the ring; we are the first.
fn net() -> Net {
    let keys: Vec<NodeKeys> = (1..=6)
        .map(|seed| NodeKeys::from_seed([seed; 32]))
        .collect();
    let nodes = keys
        .iter()
        .zip([0, 0, 0, 0, 0, 1 << 63])
        .map(|(keys, swarm_id)| ServiceNode {
            ip: core::net::Ipv4Addr::LOCALHOST,
            port: 1,
            omq_port: 2,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.legacy_public(),
            swarm_id,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        });
    let view = View::new(nodes.collect(), &keys[0].ed25519_public());
    Net {
        keys,
        view,
        health: Health::new(),
    }
}

impl Net {
    fn local(&self) -> Local<'_> {
        Local {
            view: &self.view,
            health: &self.health,
            keys: &self.keys[0],
            now: NOW,
        }
    }

    fn member(&self, place: usize) -> Ed25519PublicKey {
        self.keys[place].ed25519_public()
    }

    /// Answers everything with success, members with their own signed entry.
    fn run(&self, request: ClientRequest, origin: Origin) -> (Answer, Vec<Action>) {
        let mut exchange = Exchange::new(request, origin, self.local());
        let mut seen = Vec::new();
        while let Some(action) = exchange.poll_action() {
            match &action {
                Action::Command { ticket, command } => {
                    let outcome = success(command);
                    exchange.handle_event(*ticket, Event::Outcome(outcome), self.local());
                }
                Action::Forward { ticket, .. } => {
                    let reply = vec![Bytes::from_static(b"d6:expiryi1ee")];
                    exchange.handle_event(*ticket, Event::Reply(reply), self.local());
                }
            }
            seen.push(action);
        }
        (exchange.poll_answer().expect("all is done"), seen)
    }
}

fn success(command: &Command) -> Outcome {
    match command {
        Command::Store { expiry, .. } => Outcome::Stored {
            already: false,
            expiry: *expiry,
        },
        Command::Retrieve { .. } => Outcome::Retrieved {
            messages: Vec::new(),
            more: false,
        },
        Command::Delete { hashes, .. } => Outcome::Deleted(hashes.clone()),
        other => panic!("no request asks for {other:?} yet"),
    }
}

/// An account whose mailbox lies in swarm 0.
fn account(net: &Net) -> Account {
    (0..=255)
        .map(|n| Account::from_entropy([n; 16]))
        .find(|account| net.view.is_ours(&account.id()))
        .expect("half of all accounts are ours")
}

fn store(mailbox: Mailbox, namespace: i16) -> Store {
    Store {
        mailbox,
        namespace: Namespace(namespace),
        timestamp: NOW,
        expiry: Timestamp::from_millis(NOW.as_millis() + DAY),
        data: Bytes::from_static(b"payload"),
        sig_timestamp: None,
        proof: None,
    }
}

fn retrieve(account: &Account) -> Retrieve {
    let mut retrieve = Retrieve {
        mailbox: account.id(),
        namespace: Namespace::INBOX,
        last_hash: None,
        max_count: None,
        max_size: None,
        timestamp: Some(NOW),
        proof: None,
    };
    retrieve.proof = Some(proof(account, &request_signature::retrieve_text(&retrieve)));
    retrieve
}

fn proof(account: &Account, text: &str) -> Proof {
    Proof {
        ed25519: Some(account.ed25519().public_key()),
        signature: account.ed25519().sign(text.as_bytes()),
    }
}

fn text_of(answer: &Answer) -> (u16, &str) {
    match &answer.body {
        Body::Text(text) => (answer.status, text),
        Body::Tree(_) => panic!("not text: {answer:?}"),
    }
}

fn tree_of(answer: &Answer) -> &Tree {
    match &answer.body {
        Body::Tree(tree) => tree,
        Body::Text(_) => panic!("not a document: {answer:?}"),
    }
}

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
