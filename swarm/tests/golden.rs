//! Real exchanges of a real node (`golden.json`): the same request, at the same moment, with the same
//! keys and the same replies of its members, must be forwarded and answered byte for byte alike.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use core::cell::RefCell;

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_storage::{Command, Outcome, StoredMessage};
use cepa_swarm::{Action, Event, Exchange, Health, Local, Origin, View};
use cepa_wire::answer::Answer;
use cepa_wire::request::ClientRequest;
use cepa_wire::{MessageHash, Namespace, Scope, ServiceNode, Timestamp};
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
    answer.into_http_body().1.to_vec()
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
    let verifier = RefCell::default();
    let local = Local {
        view: &golden.view,
        health: &health,
        keys: &golden.keys,
        verifier: &verifier,
        has_oxend: false,
        now,
    };
    let mut exchange = Exchange::new(request, Origin::Client, local);
    let mut forwarded = Vec::new();
    while let Some(action) = exchange.poll_action() {
        if let Action::Missed { .. } = action {
            continue;
        }
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
            other => panic!("{other:?}"),
        }
    }
    (
        exchange.poll_answer().expect("everything was done"),
        forwarded,
    )
}

fn recorded_now(event: &Value) -> Timestamp {
    // Every answer tells the time, but that to `get_expiries`.
    let reply = reply(event);
    let now = reply["t"].as_u64();
    Timestamp::from_millis(now.unwrap_or_else(|| event["params"]["timestamp"].as_u64().unwrap()))
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

/// What the recorded node's store said, read from what it answered.
fn recorded_outcome(command: &Command, entry: &Value) -> Outcome {
    let hash = |text: &Value| MessageHash::from_text(text.as_str().unwrap().as_bytes()).unwrap();
    let list = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(hash)
            .collect::<Vec<_>>()
    };
    match command {
        Command::Expire { targets, .. } => {
            assert_eq!(list(&entry["updated"]), [targets[0].0]);
            Outcome::Expired {
                updated: targets.clone(),
                unchanged: Vec::new(),
            }
        }
        Command::Expiries { hashes, .. } => {
            let expiry = entry["expiries"][hashes[0].to_text()].as_u64().unwrap();
            Outcome::Expiries(vec![(hashes[0], Timestamp::from_millis(expiry))])
        }
        Command::ExpireAll { .. } => {
            assert_eq!(list(&entry["updated"]), []);
            Outcome::ExpiredAll(Vec::new())
        }
        Command::DeleteAll { scope, .. } => Outcome::DeletedAll(match scope {
            Scope::All => vec![(Namespace(5), list(&entry["deleted"]["5"])[0])],
            Scope::One(namespace) => vec![(*namespace, list(&entry["deleted"])[0])],
        }),
        Command::Revoke { .. } | Command::Unrevoke { .. } => Outcome::Revoked { count: 1 },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_other_method_is_forwarded_and_answered_as_recorded() {
    let golden = golden();
    let us = golden.keys.ed25519_public().to_hex();
    let methods = [
        "expire",
        "get_expiries",
        "expire_all",
        "revoke_subaccount",
        "unrevoke_subaccount",
        "delete_before",
        "delete_all(all)",
    ];
    for method in methods {
        let event = find(&golden.events, method);
        let mut recorded = reply(event);
        let entry = if recorded["swarm"].is_null() {
            recorded.clone()
        } else {
            recorded["swarm"][&us].clone()
        };
        let (answer, forwarded) = run(&golden, request(event), recorded_now(event), |command| {
            recorded_outcome(command, &entry)
        });
        assert_eq!(answer.status, 200, "{method}");
        if method == "revoke_subaccount" {
            // Newer nodes tell how many it concerned.
            recorded["swarm"][&us]["count"] = 1.into();
        }
        let answered: Value = serde_json::from_slice(&answer_bytes(answer)).unwrap();
        assert_eq!(answered, recorded, "{method}");

        let name = method.split('(').next().unwrap();
        let frame = golden.events.iter().find_map(|event| {
            let frames = event["frames"].as_array()?;
            (frames.get(3)? == &hex::encode(name)).then(|| frames.last().unwrap().clone())
        });
        match frame {
            Some(frame) => {
                let frame = hex::decode(frame.as_str().unwrap()).unwrap();
                assert_eq!(forwarded, [&frame, &frame], "{method}");
            }
            None => assert_eq!(forwarded, Vec::<Bytes>::new(), "{method}"),
        }
    }
}
