//! What real nodes and clients signed, hashed and encrypted (`golden.json`, `swarm_map.json`).
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use cepa_crypto::request_signature::{
    Verifier, delete_answer_text, delete_text, retrieve_text, store_text,
};
use cepa_crypto::swarm_space::{message_hash, nearest_swarm, swarm_space};
use cepa_crypto::{NodeKeys, SecretKeys, onion_v2};
use cepa_wire::onion::{Control, Frame, LayerAddress, RelayedOnion};
use cepa_wire::request::ClientRequest;
use cepa_wire::{Mailbox, Signature};
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = format!(
        "{}/../wire/tests/vectors/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn node_keys(golden: &Value, name: &str) -> NodeKeys {
    NodeKeys::from_seed(unhex(&golden[name]["ed_sk"])[..32].try_into().unwrap())
}

fn client_requests(golden: &Value) -> Vec<(ClientRequest, Value)> {
    let events = golden["events"].as_array().unwrap().iter();
    events
        .filter(|event| event["kind"] == "client_request")
        .filter_map(|event| {
            let method = event["method"].as_str().unwrap().split('(').next().unwrap();
            let body = serde_json::json!({"method": method, "params": event["params"]});
            let request = ClientRequest::parse_json(body.to_string().as_bytes()).ok()?;
            let reply = unhex(event["reply"].as_array().unwrap().last().unwrap());
            Some((request, serde_json::from_slice(&reply).unwrap()))
        })
        .collect()
}

/// What the chain daemon of the recorded nodes gave out: their legacy keys are not their Ed25519 keys.
#[test]
fn secret_keys_of_the_chain_daemon_are_taken() {
    let golden = read("golden.json");
    for name in ["node0", "node1"] {
        let node = &golden[name];
        let keys = NodeKeys::from_secret_keys(&SecretKeys {
            legacy: unhex(&node["legacy_sk"]).try_into().unwrap(),
            ed25519: unhex(&node["ed_sk"]).try_into().unwrap(),
            x25519: unhex(&node["x_sk"]).try_into().unwrap(),
        });
        let keys = keys.unwrap();
        let legacy = hex::encode(keys.legacy_public());
        assert_eq!(legacy, node["legacy_pk"].as_str().unwrap());
        let x25519 = keys.x25519_public().to_hex();
        assert_eq!(x25519, node["x_pk"].as_str().unwrap());
    }
}

/// The recorded nodes' X25519 keys are those of their Ed25519 keys here.
#[test]
fn node_keys_are_those_recorded() {
    let golden = read("golden.json");
    for name in ["node0", "node1"] {
        let keys = node_keys(&golden, name);
        assert_eq!(
            keys.ed25519_public().to_hex(),
            golden[name]["ed_pk"].as_str().unwrap()
        );
        assert_eq!(
            keys.x25519_public().to_hex(),
            golden[name]["x_pk"].as_str().unwrap()
        );
    }
}

#[test]
fn recorded_requests_verify_and_recorded_answers_are_signed_alike() {
    let golden = read("golden.json");
    let node = node_keys(&golden, "node0");
    let us = node.ed25519_public().to_hex();
    let (mut verified, mut signed) = (0, 0);
    let mut verifier = Verifier::new();
    for (request, reply) in client_requests(&golden) {
        let entry = &reply["swarm"][&us];
        let (mailbox, proof, text, answered) = match &request {
            ClientRequest::Store(store) => {
                let hash = message_hash(&store.mailbox, store.namespace, &store.data).to_text();
                assert_eq!(hash, entry["hash"].as_str().unwrap());
                (store.mailbox, store.proof, store_text(store), Some(hash))
            }
            ClientRequest::Retrieve(retrieve) => (
                retrieve.mailbox,
                retrieve.proof,
                retrieve_text(retrieve),
                None,
            ),
            ClientRequest::Delete(delete) => {
                let answered = delete_answer_text(delete, &[]);
                (
                    delete.mailbox,
                    Some(delete.proof),
                    delete_text(delete),
                    Some(answered),
                )
            }
            _ => continue,
        };
        if let Some(proof) = proof {
            assert_eq!(verifier.verify(&mailbox, &proof, 0, &text), Ok(()));
            let other = Mailbox {
                key: [9; 32],
                ..mailbox
            };
            assert!(verifier.verify(&other, &proof, 0, &text).is_err());
            assert!(verifier.verify(&mailbox, &proof, 0, "other").is_err());
            let forged = cepa_wire::request::Proof {
                signature: Signature([0; 64]),
                ..proof
            };
            assert!(verifier.verify(&mailbox, &forged, 0, &text).is_err());
            verified += 1;
        }
        if let Some(answered) = answered {
            use base64::Engine as _;
            let signature = node.ed25519().sign(answered.as_bytes());
            let signature = base64::engine::general_purpose::STANDARD.encode(signature.0);
            assert_eq!(signature, entry["signature"].as_str().unwrap());
            signed += 1;
        }
    }
    assert_eq!((verified, signed), (3, 6));
}

#[test]
fn a_recorded_onion_peels_to_what_the_node_forwarded() {
    let golden = read("golden.json");
    let events = golden["events"].as_array().unwrap();
    let position = events
        .iter()
        .position(|event| event["kind"] == "onion_relay")
        .unwrap();
    let body = unhex(&events[position]["payload"]);
    let frame = Frame::parse(&body).unwrap();
    let address = LayerAddress::parse(frame.control).unwrap();
    let peel = |name: &str, blob: &[u8], address: &LayerAddress| {
        let keys = node_keys(&golden, name);
        let (enc_type, ephemeral) = (address.enc_type, address.ephemeral_key);
        let peeled = onion_v2::peel(
            blob,
            enc_type,
            &ephemeral,
            keys.x25519(),
            &keys.x25519_public(),
        );
        peeled.unwrap().0
    };
    let layer = peel("node0", frame.blob, &address);
    let frame = Frame::parse(&layer).unwrap();
    let Ok(Control::Relay {
        destination,
        address,
    }) = Control::parse(frame.control)
    else {
        panic!("the first layer is for a relay")
    };
    assert_eq!(destination, node_keys(&golden, "node1").ed25519_public());
    let relayed = RelayedOnion {
        data: frame.blob,
        address: LayerAddress {
            hop_no: 1,
            ..address
        },
    };
    let forwarded = unhex(
        events[position - 1]["frames"]
            .as_array()
            .unwrap()
            .last()
            .unwrap(),
    );
    assert_eq!(relayed.encode(), forwarded);
    let last = peel("node1", frame.blob, &address);
    let frame = Frame::parse(&last).unwrap();
    assert!(matches!(
        Control::parse(frame.control),
        Ok(Control::Final { .. } | Control::Relay { .. })
    ));
}

#[test]
fn all_424_accounts_lie_in_the_swarm_of_the_reference() {
    let map = read("swarm_map.json");
    let id = |value: &Value| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
    let mut ids: Vec<u64> = map["swarm_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(id)
        .collect();
    ids.sort_unstable();
    let vectors = map["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 424);
    for vector in vectors {
        let mailbox = Mailbox::from_hex(vector["pubkey"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(swarm_space(&mailbox), id(&vector["space"]));
        assert_eq!(
            nearest_swarm(swarm_space(&mailbox), &ids),
            Some(id(&vector["swarm"]))
        );
    }
    assert_eq!(nearest_swarm(7, &[]), None);
    assert_eq!(nearest_swarm(7, &[u64::MAX]), Some(u64::MAX));
}
