//! Whatever is written is read again; whatever is cut is refused.

use bytes::Bytes;
use cepa_wire::answer::Tree;
use cepa_wire::bt::{Value, Writer};
use cepa_wire::bt_stream;
use cepa_wire::omq::{self, Message};
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress, Proxy, RelayedOnion};
use cepa_wire::request::{
    ClientRequest, Condition, Delete, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries,
    IfElse, Proof, Retrieve, Revocation, RevokedSubaccounts, Store, Subaccount,
};
use cepa_wire::transfer::{self, Transferred};
use cepa_wire::zmtp::{self, Decoder};
use cepa_wire::{
    Direction, Ed25519PublicKey, Mailbox, MessageHash, Namespace, Scope, Signature,
    SubaccountToken, Timestamp, X25519PublicKey,
};
use proptest::prelude::*;

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<i64>().prop_map(Tree::Integer),
        (1_u64 << 63..).prop_map(|number| Tree::Number(number.into())),
        any::<bool>().prop_map(Tree::Bool),
        ".{0,12}".prop_map(Tree::text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Tree::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            proptest::collection::btree_map(".{0,6}", inner, 0..6).prop_map(|pairs| {
                Tree::Dict(
                    pairs
                        .into_iter()
                        .map(|(key, value)| (key.into(), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// What a bt document may hold.
#[derive(Clone, Debug)]
enum Document {
    Integer(i128),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Dict(Vec<(Vec<u8>, Self)>),
}

impl Document {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Integer(value) => {
                writer.integer(*value);
            }
            Self::Bytes(bytes) => {
                writer.bytes(bytes);
            }
            Self::List(values) => {
                writer.list();
                for value in values {
                    value.write(writer);
                }
                writer.end();
            }
            Self::Dict(pairs) => {
                writer.dict();
                for (key, value) in pairs {
                    writer.bytes(key);
                    value.write(writer);
                }
                writer.end();
            }
        }
    }

    fn is(&self, read: Value<'_>) -> bool {
        match self {
            Self::Integer(value) => read == Value::Integer(*value),
            Self::Bytes(bytes) => read.as_bytes() == Some(bytes),
            Self::List(values) => read.as_list().is_some_and(|list| {
                list.iter().count() == values.len()
                    && list.iter().zip(values).all(|(read, value)| value.is(read))
            }),
            Self::Dict(pairs) => read.as_dict().is_some_and(|dict| {
                dict.iter().count() == pairs.len()
                    && pairs
                        .iter()
                        .all(|(key, value)| dict.get(key).is_some_and(|read| value.is(read)))
            }),
        }
    }
}

fn document() -> impl Strategy<Value = Document> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..8);
    let leaf = prop_oneof![
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).prop_map(Document::Integer),
        any::<i8>().prop_map(|value| Document::Integer(value.into())),
        bytes().prop_map(Document::Bytes),
    ];
    leaf.prop_recursive(6, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Document::List),
            proptest::collection::btree_map(bytes(), inner, 0..6)
                .prop_map(|pairs| Document::Dict(pairs.into_iter().collect())),
        ]
    })
}

fn parts() -> impl Strategy<Value = Vec<Bytes>> {
    let part = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    proptest::collection::vec(part, 0..5)
}

prop_compose! {
    fn frame()(
        kind in 0..3_u8, size in prop_oneof![0..300_usize, 60_000..70_000_usize], fill in any::<u8>(),
    ) -> zmtp::Frame {
        // A command is never followed by another part.
        zmtp::Frame { more: kind == 1, command: kind == 2, body: vec![fill; size].into() }
    }
}

fn stream_message() -> impl Strategy<Value = bt_stream::Message> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (0..3, any::<i64>(), bytes(), bytes()).prop_map(|(kind, id, endpoint, body)| match kind {
        0 => bt_stream::Message::Command { id, endpoint, body },
        1 => bt_stream::Message::Reply { id, body },
        _ => bt_stream::Message::Error { id, body },
    })
}

fn enc_type() -> impl Strategy<Value = EncType> {
    prop_oneof![
        Just(EncType::XChaCha20),
        Just(EncType::AesGcm),
        Just(EncType::AesCbc)
    ]
}

prop_compose! {
    fn address()(key in any::<[u8; 32]>(), enc_type in enc_type(), hop_no in 0..17_u32) -> LayerAddress {
        LayerAddress { ephemeral_key: X25519PublicKey(key), enc_type, hop_no }
    }
}

fn control() -> impl Strategy<Value = Control> {
    let last = any::<(bool, bool)>().prop_map(|(json, base64)| Control::Final { json, base64 });
    let proxy = (
        any::<String>(),
        any::<String>(),
        any::<String>(),
        any::<u16>(),
    )
        .prop_map(|(host, target, protocol, port)| {
            Control::Proxy(Proxy {
                host,
                target,
                protocol,
                port,
            })
        });
    let relay = (any::<[u8; 32]>(), address()).prop_map(|(key, address)| Control::Relay {
        destination: Ed25519PublicKey(key),
        address: LayerAddress {
            hop_no: 0,
            ..address
        },
    });
    prop_oneof![last, proxy, relay]
}

prop_compose! {
    fn transferred()(
        mailbox in mailbox(), namespace in prop_oneof![Just(0), any::<i16>()], hash in any::<[u8; 32]>(),
        timestamp in timestamp(), expiry in timestamp(),
        data in proptest::collection::vec(any::<u8>(), 0..100),
    ) -> Transferred {
        Transferred {
            mailbox, namespace: Namespace(namespace), hash: MessageHash(hash), timestamp, expiry,
            data: data.into(),
        }
    }
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    // JSON refuses what can only be seconds.
    (1_000_000_000..4_000_000_000_000_u64).prop_map(Timestamp::from_millis)
}

fn signature() -> impl Strategy<Value = Signature> {
    proptest::array::uniform32(any::<u8>()).prop_map(|half| {
        let bytes = [half, half].concat();
        Signature::from_slice(&bytes).unwrap_or(Signature([0; 64]))
    })
}

fn token() -> impl Strategy<Value = SubaccountToken> {
    (any::<[u8; 32]>(), any::<[u8; 4]>()).prop_map(|(key, head)| {
        let bytes = [&head[..], &key].concat();
        SubaccountToken::from_slice(&bytes).unwrap_or(SubaccountToken([0; 36]))
    })
}

fn proof() -> impl Strategy<Value = Proof> {
    let subaccount =
        (token(), signature()).prop_map(|(token, signature)| Subaccount { token, signature });
    let subaccount = proptest::option::of(subaccount);
    (owner(), subaccount).prop_map(|(proof, subaccount)| Proof {
        subaccount,
        ..proof
    })
}

fn owner() -> impl Strategy<Value = Proof> {
    (any::<[u8; 32]>(), signature())
        .prop_map(|(key, signature)| Proof::owner(Some(Ed25519PublicKey(key)), signature))
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::All),
        any::<i16>().prop_map(|number| Scope::One(Namespace(number)))
    ]
}

fn hashes() -> impl Strategy<Value = Vec<String>> {
    let hash = any::<[u8; 32]>().prop_map(|hash| MessageHash(hash).to_text());
    proptest::collection::vec(hash, 1..5)
}

prop_compose! {
    fn expire()(
        mailbox in mailbox(), messages in hashes(), one in timestamp(),
        many in proptest::collection::vec(timestamp(), 4), is_one in any::<bool>(),
        direction in prop_oneof![
            Just(Direction::Any), Just(Direction::Shorten), Just(Direction::Extend)
        ],
        proof in proof(),
    ) -> ClientRequest {
        let expiries = if is_one { vec![one] } else { many[..messages.len()].to_vec() };
        ClientRequest::Expire(Expire { mailbox, messages, expiries, direction, proof })
    }
}

/// Requests that concern whole boxes, tell expiries, or subaccounts.
fn other_request() -> impl Strategy<Value = ClientRequest> {
    let scoped = || (mailbox(), scope(), timestamp(), proof());
    let tokens = || proptest::collection::vec(token(), 0..4);
    let revocation = || {
        (mailbox(), tokens(), timestamp(), owner()).prop_map(
            |(mailbox, tokens, timestamp, proof)| Revocation {
                mailbox,
                tokens,
                timestamp,
                proof,
            },
        )
    };
    prop_oneof![
        scoped().prop_map(|(mailbox, scope, timestamp, proof)| {
            ClientRequest::DeleteAll(DeleteAll {
                mailbox,
                scope,
                timestamp,
                proof,
            })
        }),
        scoped().prop_map(|(mailbox, scope, before, proof)| {
            ClientRequest::DeleteBefore(DeleteBefore {
                mailbox,
                scope,
                before,
                proof,
            })
        }),
        scoped().prop_map(|(mailbox, scope, expiry, proof)| {
            ClientRequest::ExpireAll(ExpireAll {
                mailbox,
                scope,
                expiry,
                proof,
            })
        }),
        expire(),
        (mailbox(), hashes(), timestamp(), proof()).prop_map(
            |(mailbox, messages, timestamp, proof)| {
                ClientRequest::GetExpiries(GetExpiries {
                    mailbox,
                    messages,
                    timestamp,
                    proof,
                })
            }
        ),
        revocation().prop_map(ClientRequest::RevokeSubaccount),
        revocation().prop_map(ClientRequest::UnrevokeSubaccount),
        (mailbox(), timestamp(), owner()).prop_map(|(mailbox, timestamp, proof)| {
            ClientRequest::RevokedSubaccounts(RevokedSubaccounts {
                mailbox,
                timestamp,
                proof,
            })
        }),
    ]
}

prop_compose! {
    fn ifelse()(
        height in proptest::option::of(any::<i64>()),
        hf_before in proptest::option::of(any::<[i64; 2]>()), v_at_least in any::<[i64; 3]>(),
        then in subrequest(), otherwise in proptest::option::of(subrequest()),
    ) -> ClientRequest {
        let condition = Condition {
            height_at_least: height, hf_before, v_at_least: Some(v_at_least), ..Condition::default()
        };
        ClientRequest::IfElse(IfElse {
            condition, then: Some(Box::new(then)), otherwise: otherwise.map(Box::new),
        })
    }
}

prop_compose! {
    fn mailbox()(key in any::<[u8; 32]>()) -> Mailbox {
        Mailbox { prefix: Mailbox::ACCOUNT, key }
    }
}

prop_compose! {
    fn store()(
        mailbox in mailbox(), namespace in any::<i16>(), timestamp in timestamp(),
        expiry in timestamp(), data in proptest::collection::vec(any::<u8>(), 0..400),
        signed_at in timestamp(), proof in proptest::option::of(proof()),
    ) -> ClientRequest {
        let sig_timestamp = proof.map(|_| signed_at);
        ClientRequest::Store(Store {
            mailbox, namespace: Namespace(namespace), timestamp, expiry, data: data.into(),
            sig_timestamp, proof,
        })
    }
}

prop_compose! {
    fn retrieve()(
        mailbox in mailbox(), namespace in any::<i16>(), hash in any::<[u8; 32]>(),
        max_count in proptest::option::of(1_u32..), max_size in proptest::option::of(any::<i64>()),
        timestamp in timestamp(), proof in proof(),
    ) -> ClientRequest {
        ClientRequest::Retrieve(Retrieve {
            mailbox, namespace: Namespace(namespace), last_hash: Some(MessageHash(hash).to_text()),
            max_count, max_size, timestamp: Some(timestamp), proof: Some(proof),
        })
    }
}

prop_compose! {
    fn delete()(
        mailbox in mailbox(), hashes in proptest::collection::vec(any::<[u8; 32]>(), 1..5),
        proof in proof(),
    ) -> ClientRequest {
        let messages = hashes.into_iter().map(|hash| MessageHash(hash).to_text()).collect();
        ClientRequest::Delete(Delete { mailbox, messages, required: false, proof })
    }
}

fn subrequest() -> impl Strategy<Value = ClientRequest> {
    let get_swarm = mailbox().prop_map(ClientRequest::GetSwarm);
    prop_oneof![
        store(),
        retrieve(),
        delete(),
        get_swarm,
        other_request(),
        Just(ClientRequest::Info),
        Just(ClientRequest::ActiveNodes),
    ]
}

fn request() -> impl Strategy<Value = ClientRequest> {
    let many = || proptest::collection::vec(subrequest(), 1..5);
    prop_oneof![
        4 => subrequest(),
        1 => many().prop_map(ClientRequest::Batch),
        1 => many().prop_map(ClientRequest::Sequence),
        1 => ifelse(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_are_valid_in_both_encodings(tree in tree()) {
        let bt = tree.to_bt();
        prop_assert!(Value::parse(&bt).is_ok());
        for cut in 0..bt.len() {
            prop_assert!(Value::parse(&bt[..cut]).is_err());
        }
        let json: serde_json::Value = serde_json::from_slice(&tree.to_json()).unwrap();
        prop_assert_eq!(Tree::from_json(&json).to_json(), tree.to_json());
    }

    #[test]
    fn a_stream_of_requests_is_read_alike_however_it_is_cut(
        messages in proptest::collection::vec(stream_message(), 0..6),
        cut in 1..200_usize,
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(bt_stream::Message::encode).collect();
        let mut decoder = bt_stream::Decoder::new();
        let mut read = Vec::new();
        for (index, piece) in stream.chunks(cut).enumerate() {
            decoder.handle_bytes(piece);
            prop_assert!(decoder.held_size() <= (index + 1) * cut);
            while let Some(message) = decoder.poll_message().unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert!(!decoder.is_within_message());
    }

    #[test]
    fn bt_is_read_as_it_is_written(document in document()) {
        let mut writer = Writer::new();
        document.write(&mut writer);
        let bt = writer.finish();
        prop_assert!(document.is(Value::parse(&bt).unwrap()));
        for cut in 0..bt.len() {
            prop_assert!(Value::parse(&bt[..cut]).is_err());
        }
    }

    #[test]
    fn a_zmtp_stream_is_read_alike_however_it_is_cut(
        frames in proptest::collection::vec(frame(), 0..5),
        cuts in proptest::collection::vec(1..50_000_usize, 1..20),
    ) {
        let mut stream = zmtp::greeting(true).to_vec();
        for frame in &frames {
            frame.encode(&mut stream);
        }
        let mut decoder = Decoder::new();
        let (mut greeting, mut read) = (None, Vec::new());
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            decoder.handle_bytes(chunk);
            if greeting.is_none() {
                greeting = decoder.poll_greeting().unwrap();
            }
            while greeting.is_some() && let Some(frame) = decoder.poll_frame(70_000).unwrap() {
                read.push(frame);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(greeting, Some(zmtp::greeting(true)));
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn a_zmtp_frame_is_refused_by_its_head(size in 256..u64::MAX, limit in 0..255_usize, flags in 0..3_u8) {
        // As a part, as a part with another behind it, as a command.
        let mut decoder = Decoder::new();
        decoder.handle_bytes(&[2 | [0, 1, 4][usize::from(flags)]]);
        decoder.handle_bytes(&size.to_be_bytes());
        prop_assert_eq!(decoder.poll_frame(limit), Err(zmtp::ZmtpError::Size));
    }

    #[test]
    fn omq_messages_are_read_as_they_are_written(tag in any::<[u8; 15]>(), parts in parts()) {
        let tag = Bytes::copy_from_slice(&tag);
        let command = Message::parse(omq::request("sn.data", tag.clone(), parts.clone()));
        let with_tag = core::iter::once(tag.clone()).chain(parts.clone()).collect();
        prop_assert_eq!(command, Some(Message::Command { name: "sn.data".into(), parts: with_tag }));
        let reply = Message::parse(omq::reply(tag.clone(), parts.clone()));
        prop_assert_eq!(reply, Some(Message::Reply { tag, parts }));
    }

    #[test]
    fn onions_are_read_as_they_are_written(
        blob in proptest::collection::vec(any::<u8>(), 0..300), control in control(),
        address in address(),
    ) {
        let text = control.encode();
        let bytes = Frame { blob: &blob, control: &text }.encode();
        let frame = Frame::parse(&bytes).unwrap();
        prop_assert_eq!(frame.blob, blob.as_slice());
        prop_assert_eq!(Control::parse(frame.control), Ok(control));
        for cut in 0..4 + blob.len() {
            prop_assert!(Frame::parse(&bytes[..cut]).is_err());
        }
        prop_assert_eq!(LayerAddress::parse(&address.encode()), Ok(address));
        let address = LayerAddress { hop_no: address.hop_no.max(1), ..address };
        let onion = RelayedOnion { data: &blob, address };
        let written = onion.encode();
        prop_assert_eq!(RelayedOnion::parse(&written), Ok(onion));
    }

    #[test]
    fn transfers_are_read_as_they_are_written(
        messages in proptest::collection::vec(transferred(), 0..5),
    ) {
        let blob = Bytes::from(transfer::encode(&messages));
        for cut in 0..blob.len() {
            prop_assert!(transfer::parse(&blob.slice(..cut)).is_err());
        }
        prop_assert_eq!(transfer::parse(&blob), Ok(messages));
    }

    #[test]
    fn requests_are_read_as_they_are_written(request in request()) {
        let json = ClientRequest::parse_json(&request.encode_json());
        prop_assert_eq!(json.as_ref(), Ok(&request));
        let bt = ClientRequest::parse_params(request.method(), &request.encode_bt());
        prop_assert_eq!(bt.map(|(request, _)| request), Ok(request));
    }

    #[test]
    fn arbitrary_bytes_are_never_trouble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Value::parse(&bytes) {
            prop_assert!(value.as_list().is_none_or(|list| list.iter().count() <= bytes.len()));
        }
        drop(ClientRequest::parse_json(&bytes));
        drop(transfer::parse(&Bytes::from(bytes)));
    }
}
