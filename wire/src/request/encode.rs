//! From a request to parameters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{ClientRequest, Delete, Proof, Retrieve, Store};
use crate::Namespace;
use crate::bt::Writer;

/// `{"method","params"}`
pub(super) fn json(request: &ClientRequest) -> Value {
    let params = match request {
        ClientRequest::Store(store) => store_json(store),
        ClientRequest::Retrieve(retrieve) => retrieve_json(retrieve),
        ClientRequest::Delete(delete) => delete_json(delete),
        ClientRequest::Info => Map::new(),
        ClientRequest::GetSwarm(mailbox) => pairs([("pubkey", mailbox.to_hex().into())]),
        ClientRequest::Oxend(oxend) => pairs([
            ("endpoint", oxend.endpoint.as_str().into()),
            ("params", oxend.params.clone()),
        ]),
        ClientRequest::Batch(requests) | ClientRequest::Sequence(requests) => {
            pairs([("requests", requests.iter().map(json).collect())])
        }
    };
    json!({ "method": request.method(), "params": params })
}

fn pairs<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn add_proof(params: &mut Map<String, Value>, proof: Option<&Proof>) {
    let Some(proof) = proof else { return };
    if let Some(key) = proof.ed25519 {
        params.insert("pubkey_ed25519".into(), key.to_hex().into());
    }
    params.insert(
        "signature".into(),
        STANDARD.encode(proof.signature.0).into(),
    );
}

fn store_json(store: &Store) -> Map<String, Value> {
    let mut params = pairs([
        ("data", STANDARD.encode(&store.data).into()),
        ("namespace", store.namespace.0.into()),
        ("pubkey", store.mailbox.to_hex().into()),
        ("timestamp", store.timestamp.as_millis().into()),
    ]);
    match store
        .expiry
        .as_millis()
        .checked_sub(store.timestamp.as_millis())
    {
        Some(ttl) => params.insert("ttl".into(), ttl.into()),
        None => params.insert("expiry".into(), store.expiry.as_millis().into()),
    };
    if let Some(signed_at) = store.sig_timestamp {
        params.insert("sig_timestamp".into(), signed_at.as_millis().into());
    }
    add_proof(&mut params, store.proof.as_ref());
    params
}

fn retrieve_json(retrieve: &Retrieve) -> Map<String, Value> {
    let mut params = pairs([("pubkey", retrieve.mailbox.to_hex().into())]);
    // To name a namespace is to sign, in the eyes of the reference: 0 is not named without need.
    if retrieve.namespace != Namespace::INBOX {
        params.insert("namespace".into(), retrieve.namespace.0.into());
    }
    if let Some(hash) = &retrieve.last_hash {
        params.insert("last_hash".into(), hash.as_str().into());
    }
    if let Some(count) = retrieve.max_count {
        params.insert("max_count".into(), count.into());
    }
    if let Some(size) = retrieve.max_size {
        params.insert("max_size".into(), size.into());
    }
    if let Some(timestamp) = retrieve.timestamp {
        params.insert("timestamp".into(), timestamp.as_millis().into());
    }
    add_proof(&mut params, retrieve.proof.as_ref());
    params
}

fn delete_json(delete: &Delete) -> Map<String, Value> {
    let messages: Value = delete.messages.iter().map(String::as_str).collect();
    let mut params = pairs([
        ("messages", messages),
        ("pubkey", delete.mailbox.to_hex().into()),
    ]);
    if delete.required {
        params.insert("required".into(), true.into());
    }
    add_proof(&mut params, Some(&delete.proof));
    params
}

/// The parameters as a bt dict, keys sorted.
pub(super) fn bt(request: &ClientRequest, writer: &mut Writer) {
    writer.dict();
    match request {
        ClientRequest::Store(store) => store_bt(store, writer),
        ClientRequest::Retrieve(retrieve) => retrieve_bt(retrieve, writer),
        ClientRequest::Delete(delete) => delete_bt(delete, writer),
        ClientRequest::Info => {}
        ClientRequest::GetSwarm(mailbox) => {
            writer.bytes(b"pubkey").bytes(&mailbox.to_bytes());
        }
        ClientRequest::Oxend(oxend) => {
            writer.bytes(b"endpoint").bytes(oxend.endpoint.as_bytes());
            writer
                .bytes(b"params")
                .bytes(oxend.params.to_string().as_bytes());
        }
        ClientRequest::Batch(requests) | ClientRequest::Sequence(requests) => {
            writer.bytes(b"requests").list();
            for request in requests {
                writer.dict();
                writer.bytes(b"method").bytes(request.method().as_bytes());
                writer.bytes(b"params");
                bt(request, writer);
                writer.end();
            }
            writer.end();
        }
    }
    writer.end();
}

fn store_bt(store: &Store, writer: &mut Writer) {
    writer.bytes(b"data").bytes(&store.data);
    writer.bytes(b"expiry").integer(store.expiry.as_millis());
    if store.namespace != Namespace::INBOX {
        writer.bytes(b"namespace").integer(store.namespace.0);
    }
    writer.bytes(b"pubkey").bytes(&store.mailbox.to_bytes());
    ed25519_bt(store.proof.as_ref(), writer);
    if let Some(signed_at) = store.sig_timestamp {
        writer
            .bytes(b"sig_timestamp")
            .integer(signed_at.as_millis());
    }
    signature_bt(store.proof.as_ref(), writer);
    writer
        .bytes(b"timestamp")
        .integer(store.timestamp.as_millis());
}

fn retrieve_bt(retrieve: &Retrieve, writer: &mut Writer) {
    if let Some(hash) = &retrieve.last_hash {
        writer.bytes(b"last_hash").bytes(hash.as_bytes());
    }
    if let Some(count) = retrieve.max_count {
        writer.bytes(b"max_count").integer(count);
    }
    if let Some(size) = retrieve.max_size {
        writer.bytes(b"max_size").integer(size);
    }
    if retrieve.namespace != Namespace::INBOX {
        writer.bytes(b"namespace").integer(retrieve.namespace.0);
    }
    writer.bytes(b"pubkey").bytes(&retrieve.mailbox.to_bytes());
    ed25519_bt(retrieve.proof.as_ref(), writer);
    signature_bt(retrieve.proof.as_ref(), writer);
    if let Some(timestamp) = retrieve.timestamp {
        writer.bytes(b"timestamp").integer(timestamp.as_millis());
    }
}

fn delete_bt(delete: &Delete, writer: &mut Writer) {
    writer.bytes(b"messages").list();
    for hash in &delete.messages {
        writer.bytes(hash.as_bytes());
    }
    writer.end();
    writer.bytes(b"pubkey").bytes(&delete.mailbox.to_bytes());
    ed25519_bt(Some(&delete.proof), writer);
    signature_bt(Some(&delete.proof), writer);
}

fn ed25519_bt(proof: Option<&Proof>, writer: &mut Writer) {
    if let Some(key) = proof.and_then(|proof| proof.ed25519) {
        writer.bytes(b"pubkey_ed25519").bytes(key.as_bytes());
    }
}

fn signature_bt(proof: Option<&Proof>, writer: &mut Writer) {
    if let Some(proof) = proof {
        writer.bytes(b"signature").bytes(proof.signature.as_bytes());
    }
}
