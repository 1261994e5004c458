//! Frames of real nodes (`golden.json`): read, and written back byte for byte.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use bytes::Bytes;
use cepa_wire::answer::Tree;
use cepa_wire::omq::{Message, reply};
use cepa_wire::onion::{EncType, Frame, LayerAddress, RelayedOnion};
use cepa_wire::request::{ClientRequest, Encoding};
use cepa_wire::{ServiceNode, transfer};
use serde_json::Value;

fn events() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/golden.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["events"].as_array().unwrap().clone()
}

fn parts(value: &Value) -> Vec<Bytes> {
    let parts = value.as_array().unwrap().iter();
    parts
        .map(|part| Bytes::from(hex::decode(part.as_str().unwrap()).unwrap()))
        .collect()
}

fn kind<'a>(events: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["kind"] == kind)
}

#[test]
fn forwarded_requests_are_written_back_byte_for_byte() {
    let events = events();
    let mut count = 0;
    for event in kind(&events, "from_node0") {
        let frames = parts(&event["frames"]);
        let (name, parts) = match Message::parse(frames[1..].to_vec()).unwrap() {
            Message::Command { name, parts } => (name, parts),
            Message::Reply { tag, parts } => {
                assert_eq!(reply(tag, parts), frames[1..]);
                count += 1;
                continue;
            }
            other => panic!("an unknown word: {other:?}"),
        };
        match name.as_str() {
            "sn.storage_cc" => {
                let method = core::str::from_utf8(&parts[1]).unwrap();
                match ClientRequest::parse_forwarded(method, &parts[2]) {
                    Ok(request) => assert_eq!(request.encode_bt(), parts[2], "{method}"),
                    Err(error) => {
                        assert_eq!(error.text, format!("no method {method}"));
                        continue;
                    }
                }
            }
            "sn.onion_request" => {
                let onion = RelayedOnion::parse(&parts[1]).unwrap();
                assert_eq!(
                    (onion.address.hop_no, onion.address.enc_type),
                    (1, EncType::XChaCha20)
                );
                assert_eq!(onion.encode(), parts[1]);
            }
            "sn.data" => {
                let messages = transfer::parse(&parts[1]).unwrap();
                assert_eq!(messages.len(), 3);
                assert_eq!(transfer::encode(&messages), parts[1]);
            }
            "sn.ping" => assert_eq!(parts.len(), 1, "a tag and nothing else"),
            other => panic!("an unknown command: {other}"),
        }
        count += 1;
    }
    assert_eq!(count, 19);
}

#[test]
fn client_requests_are_the_same_in_both_encodings() {
    let events = events();
    let mut count = 0;
    for event in kind(&events, "client_request") {
        let method = event["method"].as_str().unwrap().split('(').next().unwrap();
        if !ClientRequest::is_method(method) {
            continue;
        }
        let body = serde_json::json!({"method": method, "params": event["params"]});
        let request = ClientRequest::parse_json(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            ClientRequest::parse_json(&request.encode_json()).as_ref(),
            Ok(&request)
        );
        let (mut bt, encoding) = ClientRequest::parse_params(method, &request.encode_bt()).unwrap();
        if let (ClientRequest::Delete(bt), ClientRequest::Delete(request)) = (&mut bt, &request) {
            // Members are not told that something must have been deleted.
            bt.required = request.required;
        }
        assert_eq!((bt, encoding), (request, Encoding::Bt));
        count += 1;
    }
    assert_eq!(count, 15);
}

#[test]
fn replies_are_written_back_byte_for_byte() {
    let events = events();
    let mut count = 0;
    for event in kind(&events, "client_request") {
        let body = parts(&event["reply"]).pop().unwrap();
        let value = serde_json::from_slice(&body).unwrap();
        assert_eq!(Tree::from_json(&value).to_json(), body);
        count += 1;
    }
    for event in kind(&events, "probe") {
        for frames in event["replies"].as_array().unwrap() {
            let frames = parts(frames);
            let Some(Message::Reply { tag, parts }) = Message::parse(frames.clone()) else {
                continue;
            };
            assert_eq!(reply(tag, parts.clone()), frames);
            let Some(body) = parts.last() else { continue };
            match body.first() {
                Some(b'{') => {
                    let value = serde_json::from_slice(body).unwrap();
                    assert_eq!(Tree::from_json(&value).to_json(), *body);
                }
                Some(b'd') => assert_eq!(Tree::from_bt(body).unwrap().to_bt(), *body),
                _ => continue,
            }
            count += 1;
        }
    }
    assert_eq!(count, 20);
}

#[test]
fn probes_of_client_methods_are_refused_in_the_recorded_words() {
    let events = events();
    let mut count = 0;
    for event in kind(&events, "probe") {
        let sent = parts(&event["sent"]);
        let command = String::from_utf8_lossy(&sent[0]).into_owned();
        let refused = match command.split_once('.') {
            Some(("storage", method)) if sent.len() == 3 => {
                ClientRequest::parse_params(method, &sent[2]).err()
            }
            Some(("sn", "storage_cc")) if sent.len() == 4 => {
                let method = core::str::from_utf8(&sent[2]).unwrap();
                ClientRequest::parse_forwarded(method, &sent[3]).err()
            }
            _ => None,
        };
        let Some(refused) = refused else { continue };
        let recorded = parts(&event["replies"][0]);
        assert_eq!(refused.status.to_string().as_bytes(), recorded[2]);
        assert_eq!(refused.text.as_bytes(), recorded[3]);
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn the_words_of_real_nodes_are_known() {
    let events = events();
    let answer = |name: &str| {
        let event = kind(&events, "probe").find(|event| event["name"] == name);
        Message::parse(parts(&event.unwrap()["replies"][0])).unwrap()
    };
    let refused = |word: &'static str, tag: Option<&'static str>, command: Option<&'static str>| {
        Message::Refused {
            word: word.into(),
            tag: tag.map(Bytes::from),
            command: command.map(Bytes::from),
        }
    };
    assert_eq!(answer("hi"), Message::Hello);
    assert_eq!(answer("hi as SN"), Message::Hello);
    assert_eq!(
        answer("unknown cmd with tag"),
        refused("UNKNOWNCOMMAND", None, Some("foo.bar"))
    );
    assert_eq!(
        answer("request with no tag"),
        refused("NO_REPLY_TAG", None, Some("storage.info"))
    );
    assert_eq!(
        answer("sn.ping as non-SN"),
        refused("FORBIDDEN_SN", Some("tag1"), None)
    );
    assert_eq!(
        answer("service.get_stats as client"),
        refused("FORBIDDEN", Some("tag1"), None)
    );
    assert_eq!(
        answer("notify.block as client"),
        refused("FORBIDDEN", Some("1"), None)
    );
    let hi = kind(&events, "probe").next().unwrap();
    assert_eq!(Message::parse(parts(&hi["sent"])), Some(Message::Hi));
}

#[test]
fn a_recorded_onion_that_says_nothing_is_refused_in_the_recorded_words() {
    let events = events();
    let event = kind(&events, "probe").find(|event| event["name"] == "sn.onion_request bad");
    let event = event.unwrap();
    let refused = RelayedOnion::parse(&parts(&event["sent"])[2]).unwrap_err();
    assert_eq!(refused.as_bytes(), parts(&event["replies"][0])[3]);
}

#[test]
fn members_of_a_swarm_are_written_back_byte_for_byte() {
    let events = events();
    let event = kind(&events, "client_request").find(|event| event["method"] == "get_swarm");
    let body: Value = serde_json::from_slice(&parts(&event.unwrap()["reply"])[0]).unwrap();
    let members = body["snodes"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    let event = kind(&events, "probe").find(|event| event["name"] == "storage.get_swarm bt");
    let bt = parts(&event.unwrap()["replies"][0]).pop().unwrap();
    for member in members {
        let tree = ServiceNode::from_swarm_json(member)
            .unwrap()
            .to_swarm_tree();
        assert_eq!(tree.to_json(), member.to_string().into_bytes());
        let written = tree.to_bt();
        assert!(bt.windows(written.len()).any(|window| window == written));
    }
}

#[test]
fn the_recorded_onion_is_a_frame_for_one_hop() {
    let events = events();
    let event = kind(&events, "onion_relay").next().unwrap();
    let payload = hex::decode(event["payload"].as_str().unwrap()).unwrap();
    let frame = Frame::parse(&payload).unwrap();
    assert_eq!(frame.encode(), payload);
    let address = LayerAddress::parse(frame.control).unwrap();
    assert_eq!(LayerAddress::parse(&address.encode()), Ok(address));
}
