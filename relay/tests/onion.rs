//! Each way an onion can end at a hop.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_crypto::onion_v2::{LayerKey, wrap};
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_meter::count;
use cepa_relay::onion::{
    Hop, ProxyEnd, Refusal, Step, handle_entry, handle_relayed, read_peer_answer,
};
use cepa_relay::{Counters, PeerIndex, PeerTable};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress, Proxy, RelayedOnion};

const CIPHERS: [EncType; 2] = [EncType::XChaCha20, EncType::AesGcm];

struct Node {
    keys: NodeKeys,
    peers: PeerTable,
}

impl Node {
    fn new() -> Self {
        let peers = [NodeKeys::from_seed([8; 32]), NodeKeys::from_seed([9; 32])];
        Self {
            keys: NodeKeys::from_seed([7; 32]),
            peers: PeerTable::new(peers.iter().map(NodeKeys::ed25519_public)),
        }
    }

    fn hop(&self, allow_aes_cbc: bool) -> Hop<'_> {
        Hop {
            keys: &self.keys,
            peers: &self.peers,
            allow_aes_cbc,
        }
    }

    /// A layer for this node.
    fn layer(
        &self,
        enc_type: EncType,
        blob: &[u8],
        control: &[u8],
    ) -> (Vec<u8>, LayerAddress, LayerKey) {
        let ephemeral = X25519SecretKey::from_bytes([3; 32]);
        let plaintext = Frame { blob, control }.encode();
        let public = self.keys.x25519_public();
        let (sealed, key) = wrap(&plaintext, enc_type, &public, &ephemeral, [4; 24]).unwrap();
        let address = LayerAddress {
            ephemeral_key: ephemeral.public_key(),
            enc_type,
            hop_no: 0,
        };
        (sealed, address, key)
    }

    fn entry(&self, enc_type: EncType, blob: &[u8], control: &Control) -> (Vec<u8>, LayerKey) {
        let (sealed, address, key) = self.layer(enc_type, blob, &control.encode());
        (
            Frame {
                blob: &sealed,
                control: &address.encode(),
            }
            .encode(),
            key,
        )
    }
}

fn relay_to(seed: u8) -> Control {
    Control::Relay {
        destination: NodeKeys::from_seed([seed; 32]).ed25519_public(),
        address: LayerAddress {
            ephemeral_key: X25519SecretKey::from_bytes([5; 32]).public_key(),
            enc_type: EncType::AesGcm,
            hop_no: 0,
        },
    }
}

fn refused(step: Step) -> Refusal {
    match step {
        Step::Refuse(refusal) | Step::RefuseSealed { refusal, .. } => refusal,
        Step::Forward { .. } => panic!("forwarded"),
        Step::Deliver { .. } => panic!("delivered"),
        Step::Proxy { .. } => panic!("passed to a server"),
    }
}

#[test]
fn a_relay_layer_goes_to_the_peer_that_it_names_and_counts_its_hop() {
    let node = Node::new();
    for cipher in CIPHERS {
        let (body, _) = node.entry(cipher, b"next layer", &relay_to(9));
        let Step::Forward { peer, message, .. } = handle_entry(node.hop(false), &body) else {
            panic!("not forwarded")
        };
        assert_eq!(peer, PeerIndex(1));
        let onion = RelayedOnion::parse(&message).unwrap();
        assert_eq!((onion.data, onion.address.hop_no), (&b"next layer"[..], 1));
        assert_eq!(onion.address.enc_type, EncType::AesGcm);
    }
}

#[test]
fn a_final_layer_is_delivered_and_its_answer_goes_back_as_asked() {
    let node = Node::new();
    let answer = || Answer::ok(Tree::dict([("t", Tree::Integer(1))]));
    let cases = [
        (false, true, r#"{"body":"{\"t\":1}","status":200}"#),
        (true, true, r#"{"body":{"t":1},"status":200}"#),
        (false, false, r#"{"body":"{\"t\":1}","status":200}"#),
    ];
    for cipher in CIPHERS {
        for (json, base64, expected) in cases {
            let (body, key) = node.entry(cipher, b"payload", &Control::Final { json, base64 });
            let Step::Deliver {
                payload,
                return_layer,
            } = handle_entry(node.hop(false), &body)
            else {
                panic!("not delivered")
            };
            assert_eq!(payload, &b"payload"[..]);
            let sealed = return_layer.seal(answer(), [6; 24]);
            let sealed = if base64 {
                STANDARD.decode(sealed).unwrap()
            } else {
                sealed
            };
            assert_eq!(key.open(&sealed).unwrap(), expected.as_bytes());
        }
    }
}

/// Servers open the layer anew: they get all of it.
#[test]
fn a_layer_for_a_server_goes_on_whole() {
    let node = Node::new();
    for (target, protocol) in [("/oxen/v4/lsrpc", "https"), ("/loki/v3/lsrpc", "http")] {
        let asked = Proxy {
            host: "server.example".into(),
            target: target.into(),
            protocol: protocol.into(),
            port: 8080,
        };
        let control = Control::Proxy(asked.clone());
        let (entry, _) = node.entry(EncType::XChaCha20, b"\x00\xffsealed", &control);
        let Step::Proxy { server, body } = handle_entry(node.hop(false), &entry) else {
            panic!("not passed on")
        };
        assert_eq!(server, asked);
        let read = Frame::parse(&body).unwrap();
        assert_eq!(read.blob, b"\x00\xffsealed");
        assert_eq!(Control::parse(read.control), Ok(control));
    }
}

#[test]
fn each_end_at_a_server_has_its_counter() {
    let counters = Counters::default();
    let ends = [
        ProxyEnd::Answered,
        ProxyEnd::Refused,
        ProxyEnd::TimedOut,
        ProxyEnd::Failed,
    ];
    for end in ends {
        count(end.counter(&counters));
    }
    let counted: Vec<_> = counters
        .snapshot()
        .into_iter()
        .filter_map(|sample| (sample.recorded() == 1).then_some(sample.name()))
        .collect();
    let expected = [
        "cepa_onion_proxied_total",
        "cepa_onion_proxy_refused_total",
        "cepa_onion_proxy_timeout_total",
        "cepa_onion_proxy_failed_total",
    ];
    assert_eq!(counted, expected);
}

#[test]
fn what_can_not_go_on_is_refused_for_its_own_reason() {
    let node = Node::new();
    let hop = node.hop(false);
    let entry = |control: &Control| {
        refused(handle_entry(
            hop,
            &node.entry(EncType::AesGcm, b"", control).0,
        ))
    };
    let proxy = |target: &str, protocol: &str| {
        entry(&Control::Proxy(Proxy {
            host: "h".into(),
            target: target.into(),
            protocol: protocol.into(),
            port: 443,
        }))
    };
    let unknown = NodeKeys::from_seed([99; 32]).ed25519_public();
    assert_eq!(entry(&relay_to(99)), Refusal::NextUnknown(unknown));
    for (target, protocol) in [
        ("/etc/passwd", "https"),
        ("/loki/v3/lsrpc?x=/lsrpc", "https"),
        ("/oxen/v4/lsrpc", "file"),
        ("oxen/lsrpc", "http"),
        ("/oxen/v4/lsrpc/", "https"),
        ("/oxen/v4/lsrpc#/lsrpc", "https"),
        ("/oxen/v4\r\nHost: x/lsrpc", "http"),
        ("/oxen/a b/lsrpc", "http"),
        ("/oxen/\u{e9}/lsrpc", "http"),
        ("/oxen/..\\lsrpc/lsrpc", "http"),
        ("/oxen/../admin/lsrpc", "https"),
        ("/oxen/./lsrpc", "https"),
        ("/oxen/.%2E/admin/lsrpc", "https"),
    ] {
        assert_eq!(proxy(target, protocol), Refusal::BadTarget, "{target}");
    }
    let (sealed, address, _) = node.layer(EncType::AesGcm, b"", b"no JSON");
    let body = Frame {
        blob: &sealed,
        control: &address.encode(),
    }
    .encode();
    assert_eq!(refused(handle_entry(hop, &body)), Refusal::BadPayload);
    let mut changed = body;
    changed[20] ^= 1;
    assert_eq!(refused(handle_entry(hop, &changed)), Refusal::Undecryptable);
    assert!(matches!(
        refused(handle_entry(hop, b"")),
        Refusal::Malformed(_)
    ));
    assert!(matches!(
        refused(handle_relayed(hop, b"de")),
        Refusal::MalformedRelayed(_)
    ));
    let far = LayerAddress {
        hop_no: 16,
        ..address
    };
    let far = RelayedOnion {
        data: &sealed,
        address: far,
    }
    .encode();
    assert_eq!(refused(handle_relayed(hop, &far)), Refusal::HopLimit);
}

#[test]
fn aes_cbc_is_opened_only_where_a_setting_allows_it() {
    let node = Node::new();
    let (body, _) = node.entry(
        EncType::AesCbc,
        b"x",
        &Control::Final {
            json: false,
            base64: true,
        },
    );
    assert_eq!(
        refused(handle_entry(node.hop(false), &body)),
        Refusal::Undecryptable
    );
    assert!(matches!(
        handle_entry(node.hop(true), &body),
        Step::Deliver { .. }
    ));
}

#[test]
fn texts_and_codes_are_those_that_clients_match() {
    let key = NodeKeys::from_seed([1; 32]).ed25519_public();
    let table = [
        (Refusal::Undecryptable, 400, "Invalid ciphertext".to_owned()),
        (Refusal::BadPayload, 400, "Invalid json".into()),
        (Refusal::BadTarget, 400, "Invalid url".into()),
        (
            Refusal::HopLimit,
            400,
            "onion request max path length exceeded".into(),
        ),
        (
            Refusal::NextUnknown(key),
            502,
            format!("Next node not found: {key}"),
        ),
        (
            Refusal::NextUnreachable(key),
            502,
            format!("Next node is currently unreachable: {key}"),
        ),
        (Refusal::NextTimeout, 504, "Request time out".into()),
        (
            Refusal::NextInvalid,
            500,
            "Invalid response from snode".into(),
        ),
        (
            Refusal::NotReady(key),
            503,
            format!("Snode not ready: {key}"),
        ),
    ];
    let counters = Counters::default();
    for (refusal, status, text) in table {
        assert_eq!(
            refusal.answer(),
            Answer {
                status,
                body: Body::Text(text.into())
            }
        );
        count(refusal.counter(&counters));
    }
    let counted: u64 = counters
        .snapshot()
        .iter()
        .map(cepa_meter::Sample::recorded)
        .sum();
    assert_eq!(counted, 9, "every refusal has a counter");
}

#[test]
fn a_peers_answer_is_code_and_body_or_invalid() {
    let parts = |parts: &[&'static str]| -> Vec<Bytes> {
        parts
            .iter()
            .map(|part| Bytes::from_static(part.as_bytes()))
            .collect()
    };
    let good = read_peer_answer(&parts(&["200", "body", "for later versions"]));
    assert_eq!(good, Ok((200, Bytes::from_static(b"body"))));
    for bad in [
        &[][..],
        &["200"],
        &["two", "x"],
        &["99", "x"],
        &["600", "x"],
        &["-1", "x"],
    ] {
        assert_eq!(
            read_peer_answer(&parts(bad)),
            Err(Refusal::NextInvalid),
            "{bad:?}"
        );
    }
}
