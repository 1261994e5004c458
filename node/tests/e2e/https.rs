//! The HTTPS edge: paths, headers, texts, limits.

use cepa_crypto::onion_v2::wrap;
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_wire::ServiceNode;
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress};

use crate::network::{Network, account, exchange, https, retrieve, store};

fn one_node() -> Network {
    let mut network = Network::new(1);
    network.start(0, 1);
    network
}

#[test]
fn the_four_paths_answer_as_the_protocol_says() {
    let network = one_node();
    let port = network.nodes[0].https_port;
    let stats = https("GET", port, "/get_stats/v1", b"");
    assert_eq!(stats.text(), (200, r#"{"version":"2.11.0"}"#.into()));
    assert!(
        stats.head.contains("content-type: application/json"),
        "{}",
        stats.head
    );
    assert!(
        stats.head.contains("server: Oxen Storage Server/2.11.0"),
        "{}",
        stats.head
    );
    let ping = https("POST", port, "/ping_test/v1", b"");
    assert_eq!(ping.text(), (200, String::new()));
    assert!(
        ping.head.to_lowercase().contains("x-oxen-snode-pubkey: "),
        "{}",
        ping.head
    );
    assert_eq!(
        https("GET", port, "/nothing", b"").text(),
        (404, "get /nothing Not Found".into())
    );
    assert_eq!(
        https("GET", port, "/storage_rpc/v1", b"").text(),
        (404, "get /storage_rpc/v1 Not Found".into())
    );
    let bad = [
        (&b"{"[..], "invalid json"),
        (b"{}", "invalid json: no `method` field"),
        (br#"{"method":"info"}"#, "invalid json: no `params` field"),
        (
            br#"{"method":"frobnicate","params":{}}"#,
            "no method frobnicate",
        ),
        (
            br#"{"method":"store","params":{}}"#,
            "invalid request: Required field 'timestamp' missing",
        ),
    ];
    for (body, text) in bad {
        assert_eq!(
            network.post(0, "/storage_rpc/v1", body).text(),
            (400, text.into())
        );
    }
    let info = network
        .post(0, "/storage_rpc/v1", br#"{"method":"info","params":{}}"#)
        .json();
    assert_eq!(info["version"], serde_json::json!([2, 11, 0]));
    assert_eq!(info["hf"], serde_json::json!([19, 4]));
    assert!(info["t"].is_u64() && info["timestamp"].is_u64());
}

#[test]
fn a_store_by_hand_is_retrieved_by_hand() {
    let network = one_node();
    let owner = account(1);
    let stored = network.rpc(0, &store(owner.id(), b"by hand")).json();
    let hash = stored["hash"].as_str().unwrap().to_owned();
    let us = network.nodes[0].keys().ed25519_public().to_hex();
    assert_eq!(stored["swarm"][&us]["hash"], hash.as_str());
    let again = network.rpc(0, &store(owner.id(), b"by hand")).json();
    assert_eq!(again["swarm"][&us]["already"], true);
    network.rpc(0, &store(owner.id(), b"second"));
    let all = network.rpc(0, &retrieve(&owner, None)).json();
    let texts: Vec<_> = all["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["data"].clone())
        .collect();
    assert_eq!(texts, ["YnkgaGFuZA==", "c2Vjb25k"]);
    let rest = network.rpc(0, &retrieve(&owner, Some(hash))).json();
    assert_eq!(rest["messages"].as_array().unwrap().len(), 1);
    assert_eq!(rest["more"], false);
}

#[test]
fn bodies_are_bounded_and_broken_requests_leave_the_node_well() {
    let network = one_node();
    let port = network.nodes[0].https_port;
    let announced = b"POST /storage_rpc/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(exchange(port, announced).unwrap().status, 413);
    let garbage = b"\x00\x01\x02 garbage\r\n\r\n";
    if let Ok(reply) = exchange(port, garbage) {
        assert_eq!(reply.status, 400);
    }
    assert_eq!(https("GET", port, "/get_stats/v1", b"").status, 200);
}

#[test]
fn a_node_outside_its_view_says_that_it_is_not_ready() {
    let mut network = Network::new(2);
    network.view.remove(0);
    network.start(0, 1);
    let reply = network.post(0, "/storage_rpc/v1", br#"{"method":"info","params":{}}"#);
    let expected = "Service node is not ready: not in any swarm\n";
    assert_eq!(reply.text(), (503, expected.into()));
    let key = network.nodes[0].keys().ed25519_public();
    let onion = network.post(0, "/onion_req/v2", b"anything");
    assert_eq!(onion.text(), (503, format!("Snode not ready: {key}")));
    let port = network.nodes[0].https_port;
    assert_eq!(https("GET", port, "/get_stats/v1", b"").status, 200);
}

/// An onion for a path of nodes whose last is the destination, and the key that opens its answer.
pub(crate) fn onion(
    path: &[&ServiceNode],
    enc_type: EncType,
    payload: &[u8],
    hop_no: u32,
) -> (Vec<u8>, cepa_crypto::onion_v2::LayerKey) {
    let control = Control::Final {
        json: false,
        base64: true,
    }
    .encode();
    let mut layer = Frame {
        blob: payload,
        control: &control,
    }
    .encode();
    let mut answer_key = None;
    for (place, node) in path.iter().enumerate().rev() {
        let number = u8::try_from(place).unwrap() + 1;
        let ephemeral = X25519SecretKey::from_bytes([number; 32]);
        let (blob, key) = wrap(
            &layer,
            enc_type,
            &node.pubkey_x25519,
            &ephemeral,
            [number; 24],
        )
        .unwrap();
        answer_key.get_or_insert(key);
        let hop_no = if place == 0 { hop_no } else { 0 };
        let address = LayerAddress {
            ephemeral_key: ephemeral.public_key(),
            enc_type,
            hop_no,
        };
        let control = if place == 0 {
            address.encode()
        } else {
            Control::Relay {
                destination: node.pubkey_ed25519,
                address,
            }
            .encode()
        };
        layer = Frame {
            blob: &blob,
            control: &control,
        }
        .encode();
    }
    (layer, answer_key.unwrap())
}

fn open(key: &cepa_crypto::onion_v2::LayerKey, body: &[u8]) -> serde_json::Value {
    use base64::Engine as _;
    let sealed = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    serde_json::from_slice(&key.open(&sealed).unwrap()).unwrap()
}

const INFO: &[u8] = br#"{"method":"info","params":{}}"#;

#[test]
fn onions_travel_three_hops_with_both_ciphers() {
    let mut network = Network::new(3);
    (0..3).for_each(|index| network.start(index, 1));
    let path: Vec<&ServiceNode> = network.view.iter().collect();
    for enc_type in [EncType::XChaCha20, EncType::AesGcm] {
        let (body, key) = onion(&path, enc_type, INFO, 0);
        let reply = network.post(0, "/onion_req/v2", &body);
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        let answer = open(&key, &reply.body);
        assert_eq!(answer["status"], 200);
        let inner: serde_json::Value =
            serde_json::from_str(answer["body"].as_str().expect("JSON as a string")).unwrap();
        assert_eq!(inner["version"], serde_json::json!([2, 11, 0]));
        let (body, key) = onion(&path, enc_type, b"{", 0);
        let answer = open(&key, &network.post(0, "/onion_req/v2", &body).body);
        assert_eq!(
            answer,
            serde_json::json!({"status": 400, "body": "invalid json"})
        );
    }
}

#[test]
fn onions_that_can_not_go_on_get_the_texts_that_clients_match() {
    let mut network = Network::new(4);
    (0..2).for_each(|index| network.start(index, 1));
    let view = &network.view;
    let stranger = NodeKeys::from_seed([99; 32]);
    let unknown = ServiceNode {
        pubkey_ed25519: stranger.ed25519_public(),
        pubkey_x25519: stranger.x25519_public(),
        ..view[0].clone()
    };
    let send = |path: &[&ServiceNode], enc_type, hop_no| {
        let (body, _) = onion(path, enc_type, INFO, hop_no);
        network.post(0, "/onion_req/v2", &body).text()
    };
    let gcm = EncType::AesGcm;
    let unknown_text = format!("Next node not found: {}", stranger.ed25519_public());
    assert_eq!(
        send(&[&view[0], &unknown], gcm, 0),
        (502, unknown_text.clone())
    );
    assert_eq!(
        send(&[&view[0], &view[1], &unknown], gcm, 0),
        (502, unknown_text)
    );
    assert_eq!(
        send(&[&view[1]], gcm, 0),
        (400, "Invalid ciphertext".into())
    );
    assert_eq!(
        send(&[&view[0]], EncType::AesCbc, 0),
        (400, "Invalid ciphertext".into())
    );
    let too_long = (400, "onion request max path length exceeded".to_owned());
    assert_eq!(send(&[&view[0]], gcm, 16), too_long);
    assert_eq!(send(&[&view[0], &view[1], &view[0]], gcm, 14), too_long);
    assert_eq!(send(&[&view[0], &view[1], &view[0]], gcm, 13).0, 200);
    // Node 3 does not run: the first onion finds out, the next is told at once.
    assert_eq!(
        send(&[&view[0], &view[3]], gcm, 0),
        (504, "Request time out".into())
    );
    let down = format!(
        "Next node is currently unreachable: {}",
        view[3].pubkey_ed25519
    );
    assert_eq!(send(&[&view[0], &view[3]], gcm, 0), (502, down));
    let malformed = network.post(0, "/onion_req/v2", b"xx").text();
    assert_eq!(malformed.0, 400);
    assert!(
        malformed.1.starts_with("Error parsing onion request: "),
        "{}",
        malformed.1
    );
    let nodes = &network.nodes[0];
    assert_eq!(nodes.count(|counters| &counters.onion_next_unreachable), 1);
    assert_eq!(nodes.count(|counters| &counters.onion_malformed), 1);
}
