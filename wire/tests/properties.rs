//! Whatever is written is read again; whatever is cut is refused.

use bytes::Bytes;
use cepa_wire::answer::Tree;
use cepa_wire::bt::Value;
use cepa_wire::request::{ClientRequest, Delete, Proof, Retrieve, Store};
use cepa_wire::{Ed25519PublicKey, Mailbox, MessageHash, Namespace, Signature, Timestamp};
use proptest::prelude::*;

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Integer),
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

fn timestamp() -> impl Strategy<Value = Timestamp> {
    // JSON refuses what can only be seconds.
    (1_000_000_000..4_000_000_000_000_u64).prop_map(Timestamp::from_millis)
}

fn proof() -> impl Strategy<Value = Proof> {
    (
        any::<[u8; 32]>(),
        proptest::collection::vec(any::<u8>(), 64),
    )
        .prop_map(|(key, signature)| Proof {
            ed25519: Some(Ed25519PublicKey(key)),
            signature: Signature::from_slice(&signature).unwrap_or(Signature([0; 64])),
        })
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
        Just(ClientRequest::Info)
    ]
}

fn request() -> impl Strategy<Value = ClientRequest> {
    let many = || proptest::collection::vec(subrequest(), 1..5);
    prop_oneof![
        4 => subrequest(),
        1 => many().prop_map(ClientRequest::Batch),
        1 => many().prop_map(ClientRequest::Sequence),
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
        drop(cepa_wire::transfer::parse(&Bytes::from(bytes)));
    }
}
