//! Real exchanges of a real node (`golden.json`): the same request, at the same moment, with the same
//! keys and the same replies of its members, must be forwarded and answered byte for byte alike.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_storage::{Command, Outcome, StoredMessage};
use cepa_swarm::{Action, Event, Exchange, Health, Local, Origin, View};
use cepa_wire::answer::{Answer, Body};
use cepa_wire::request::ClientRequest;
use cepa_wire::{MessageHash, ServiceNode, Timestamp};
use serde_json::Value;

struct Golden {
    events: Vec<Value>,
    keys: NodeKeys,
    view: View,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../wire/tests/vectors/golden.json"
    );
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let seed = hex::decode(file["node0"]["ed_sk"].as_str().unwrap()).unwrap();
    let keys = NodeKeys::from_seed(seed[..32].try_into().unwrap());
    let events = file["events"].as_array().unwrap().clone();
    let swarm = reply(find(&events, "get_swarm"));
    let nodes = swarm["snodes"].as_array().unwrap().iter().map(|node| {
        let node = ServiceNode::from_swarm_json(node).unwrap();
        ServiceNode {
            swarm_id: 1 << 63,
            ..node
        }
    });
    let view = View::new(nodes.collect(), &keys.ed25519_public());
    Golden { events, keys, view }
}

fn find<'a>(events: &'a [Value], method: &str) -> &'a Value {
    events
        .iter()
        .find(|event| event["kind"] == "client_request" && event["method"] == method)
        .unwrap()
}

/// The last part of a recorded reply: its body.
fn reply_bytes(event: &Value) -> Vec<u8> {
    hex::decode(
        event["reply"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .as_str()
            .unwrap(),
    )
    .unwrap()
}

fn reply(event: &Value) -> Value {
    serde_json::from_slice(&reply_bytes(event)).unwrap()
}

fn request(event: &Value) -> ClientRequest {
    let method = event["method"].as_str().unwrap().split('(').next().unwrap();
    let body = serde_json::json!({"method": method, "params": event["params"]});
    ClientRequest::parse_json(body.to_string().as_bytes()).unwrap()
}

fn answer_bytes(answer: Answer) -> Vec<u8> {
    match answer.body {
        Body::Tree(tree) => tree.to_json(),
        Body::Text(text) => text.into_owned().into_bytes(),
    }
}

/// The reply of the recorded fake member: its signature is zeros.
fn fake_member_reply() -> Vec<Bytes> {
    let mut reply = b"d6:expiryi1e4:hash43:".to_vec();
    reply.extend([b'x'; 43]);
    reply.extend(b"9:signature64:");
    reply.extend([0; 64]);
    reply.push(b'e');
    vec![Bytes::from(reply)]
}

/// Runs an exchange; node 1 replies as recorded, the third member never does.
fn run(
    golden: &Golden,
    request: ClientRequest,
    now: Timestamp,
    store: impl Fn(&Command) -> Outcome,
) -> (Answer, Vec<Bytes>) {
    let health = Health::new();
    let local = Local {
        view: &golden.view,
        health: &health,
        keys: &golden.keys,
        now,
    };
    let mut exchange = Exchange::new(request, Origin::Client, local);
    let mut forwarded = Vec::new();
    while let Some(action) = exchange.poll_action() {
        assert_eq!(
            exchange.poll_answer(),
            None,
            "answered before everything was done"
        );
        match action {
            Action::Command { ticket, command } => {
                exchange.handle_event(ticket, Event::Outcome(store(&command)), local);
            }
            Action::Forward {
                ticket,
                member,
                params,
                ..
            } => {
                forwarded.push(params);
                let event = if member == 1 {
                    Event::Reply(fake_member_reply())
                } else {
                    Event::NoReply
                };
                exchange.handle_event(ticket, event, local);
            }
        }
    }
    (
        exchange.poll_answer().expect("everything was done"),
        forwarded,
    )
}

fn recorded_now(event: &Value) -> Timestamp {
    Timestamp::from_millis(reply(event)["t"].as_u64().unwrap())
}

fn stored(command: &Command) -> Outcome {
    let Command::Store { expiry, .. } = command else {
        panic!("not a store: {command:?}")
    };
    Outcome::Stored {
        already: false,
        expiry: *expiry,
    }
}

#[test]
fn stores_are_forwarded_and_answered_as_recorded() {
    let golden = golden();
    let mut count = 0;
    for (position, event) in golden.events.iter().enumerate() {
        let is_store = event["kind"] == "client_request"
            && event["method"].as_str().unwrap().starts_with("store");
        if !is_store {
            continue;
        }
        let (answer, forwarded) = run(&golden, request(event), recorded_now(event), stored);
        assert_eq!(answer.status, 200);
        assert_eq!(
            String::from_utf8(answer_bytes(answer)).unwrap(),
            String::from_utf8(reply_bytes(event)).unwrap()
        );
        // The last frame that the recorded node forwarded before it answered.
        let is_forwarded = |event: &&Value| {
            event["kind"] == "from_node0" && event["frames"].as_array().unwrap().len() == 5
        };
        let before = golden.events[..position]
            .iter()
            .rfind(is_forwarded)
            .unwrap();
        let frames = before["frames"].as_array().unwrap();
        let recorded = hex::decode(frames.last().unwrap().as_str().unwrap()).unwrap();
        assert_eq!(
            forwarded,
            [&recorded, &recorded],
            "both members get the recorded frame"
        );
        count += 1;
    }
    assert_eq!(count, 5, "the vectors hold five stores");
}

#[test]
fn retrieve_is_answered_as_recorded() {
    let golden = golden();
    let event = find(&golden.events, "retrieve");
    let recorded = reply(event);
    let row = &recorded["messages"][0];
    let message = StoredMessage {
        hash: MessageHash::from_text(row["hash"].as_str().unwrap().as_bytes()).unwrap(),
        timestamp: Timestamp::from_millis(row["timestamp"].as_u64().unwrap()),
        expiry: Timestamp::from_millis(row["expiration"].as_u64().unwrap()),
        data: Bytes::from_static(b"golden message"),
    };
    let (answer, forwarded) = run(&golden, request(event), recorded_now(event), |_| {
        Outcome::Retrieved {
            messages: vec![message.clone()],
            more: false,
        }
    });
    assert_eq!(answer.status, 200);
    assert_eq!(answer_bytes(answer), reply_bytes(event));
    assert_eq!(forwarded, Vec::<Bytes>::new());
}

#[test]
fn a_required_delete_of_nothing_is_404_and_signed_as_recorded() {
    let golden = golden();
    let event = find(&golden.events, "delete");
    let (answer, _) = run(&golden, request(event), recorded_now(event), |_| {
        Outcome::Deleted(Vec::new())
    });
    assert_eq!(answer.status, 404);
    let ours: Value = serde_json::from_slice(&answer_bytes(answer)).unwrap();
    let us = golden.keys.ed25519_public().to_hex();
    assert_eq!(ours["swarm"][&us], reply(event)["swarm"][&us]);
}

#[test]
fn get_swarm_is_answered_as_recorded() {
    let golden = golden();
    let event = find(&golden.events, "get_swarm");
    let (answer, _) = run(&golden, request(event), recorded_now(event), stored);
    assert_eq!(answer_bytes(answer), reply_bytes(event));
}
