//! From a request to parameters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{
    ClientRequest, Condition, Delete, Expire, GetExpiries, IfElse, Proof, Retrieve, Revocation,
    Store,
};
use crate::bt::Writer;
use crate::{Direction, Mailbox, Namespace, Scope, SubaccountToken, Timestamp};

/// `{"method","params"}`
pub(super) fn json(request: &ClientRequest) -> Value {
    let params = match request {
        ClientRequest::Store(store) => store_json(store),
        ClientRequest::Retrieve(retrieve) => retrieve_json(retrieve),
        ClientRequest::Delete(delete) => delete_json(delete),
        ClientRequest::DeleteAll(all) => scoped_json(
            &all.mailbox,
            all.scope,
            ("timestamp", all.timestamp),
            &all.proof,
        ),
        ClientRequest::DeleteBefore(delete) => {
            let time = ("before", delete.before);
            scoped_json(&delete.mailbox, delete.scope, time, &delete.proof)
        }
        ClientRequest::ExpireAll(all) => {
            scoped_json(&all.mailbox, all.scope, ("expiry", all.expiry), &all.proof)
        }
        ClientRequest::Expire(expire) => expire_json(expire),
        ClientRequest::GetExpiries(expiries) => get_expiries_json(expiries),
        ClientRequest::RevokeSubaccount(revocation) => revocation_json("revoke", revocation),
        ClientRequest::UnrevokeSubaccount(revocation) => revocation_json("unrevoke", revocation),
        ClientRequest::RevokedSubaccounts(revoked) => signed_json(
            &revoked.mailbox,
            ("timestamp", revoked.timestamp),
            &revoked.proof,
        ),
        ClientRequest::Info | ClientRequest::ActiveNodes => Map::new(),
        ClientRequest::GetSwarm(mailbox) => pairs([("pubkey", mailbox.to_hex().into())]),
        ClientRequest::Oxend(oxend) => pairs([
            ("endpoint", oxend.endpoint.as_str().into()),
            ("params", oxend.params.clone()),
        ]),
        ClientRequest::Batch(requests) | ClientRequest::Sequence(requests) => {
            pairs([("requests", requests.iter().map(json).collect())])
        }
        ClientRequest::IfElse(ifelse) => ifelse_json(ifelse),
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
    if let Some(subaccount) = &proof.subaccount {
        let signature = STANDARD.encode(subaccount.signature.0);
        params.insert("subaccount".into(), token_json(&subaccount.token));
        params.insert("subaccount_sig".into(), signature.into());
    }
}

fn token_json(token: &SubaccountToken) -> Value {
    STANDARD.encode(token.0).into()
}

fn signed_json(
    mailbox: &Mailbox,
    (name, time): (&str, Timestamp),
    proof: &Proof,
) -> Map<String, Value> {
    let mut params = pairs([
        ("pubkey", mailbox.to_hex().into()),
        (name, time.as_millis().into()),
    ]);
    add_proof(&mut params, Some(proof));
    params
}

fn scoped_json(
    mailbox: &Mailbox,
    scope: Scope,
    time: (&str, Timestamp),
    proof: &Proof,
) -> Map<String, Value> {
    let mut params = signed_json(mailbox, time, proof);
    let namespace = match scope {
        Scope::All => "all".into(),
        Scope::One(namespace) => namespace.0.into(),
    };
    params.insert("namespace".into(), namespace);
    params
}

fn expire_json(expire: &Expire) -> Map<String, Value> {
    let expiry = match expire.expiries.as_slice() {
        [one] => one.as_millis().into(),
        many => many.iter().map(|time| time.as_millis()).collect(),
    };
    let messages: Value = expire.messages.iter().map(String::as_str).collect();
    let mut params = pairs([
        ("expiry", expiry),
        ("messages", messages),
        ("pubkey", expire.mailbox.to_hex().into()),
    ]);
    match expire.direction {
        Direction::Any => None,
        Direction::Shorten => params.insert("shorten".into(), true.into()),
        Direction::Extend => params.insert("extend".into(), true.into()),
    };
    add_proof(&mut params, Some(&expire.proof));
    params
}

fn get_expiries_json(expiries: &GetExpiries) -> Map<String, Value> {
    let time = ("timestamp", expiries.timestamp);
    let mut params = signed_json(&expiries.mailbox, time, &expiries.proof);
    let messages: Value = expiries.messages.iter().map(String::as_str).collect();
    params.insert("messages".into(), messages);
    params
}

fn revocation_json(name: &str, revocation: &Revocation) -> Map<String, Value> {
    let time = ("timestamp", revocation.timestamp);
    let mut params = signed_json(&revocation.mailbox, time, &revocation.proof);
    params.insert(
        name.into(),
        revocation.tokens.iter().map(token_json).collect(),
    );
    params
}

fn ifelse_json(ifelse: &IfElse) -> Map<String, Value> {
    let condition = condition_fields(&ifelse.condition)
        .into_iter()
        .map(|(name, numbers)| {
            let value = match numbers.as_slice() {
                [one] => (*one).into(),
                many => many.into(),
            };
            (name.to_owned(), value)
        })
        .collect();
    let mut params = pairs([("if", Value::Object(condition))]);
    if let Some(request) = &ifelse.then {
        params.insert("then".into(), json(request));
    }
    if let Some(request) = &ifelse.otherwise {
        params.insert("else".into(), json(request));
    }
    params
}

/// What a condition says, by name.
fn condition_fields(condition: &Condition) -> Vec<(&'static str, Vec<i64>)> {
    let fields = [
        (
            "height_at_least",
            condition.height_at_least.map(|height| vec![height]),
        ),
        (
            "height_before",
            condition.height_before.map(|height| vec![height]),
        ),
        ("hf_at_least", condition.hf_at_least.map(Vec::from)),
        ("hf_before", condition.hf_before.map(Vec::from)),
        ("v_at_least", condition.v_at_least.map(Vec::from)),
        ("v_before", condition.v_before.map(Vec::from)),
    ];
    fields
        .into_iter()
        .filter_map(|(name, numbers)| numbers.map(|numbers| (name, numbers)))
        .collect()
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
        ClientRequest::DeleteAll(all) => {
            scope_bt(all.scope, writer);
            mailbox_bt(&all.mailbox, &all.proof, writer);
            signature_bt(Some(&all.proof), writer);
            time_bt(b"timestamp", all.timestamp, writer);
        }
        ClientRequest::DeleteBefore(delete) => {
            time_bt(b"before", delete.before, writer);
            scope_bt(delete.scope, writer);
            mailbox_bt(&delete.mailbox, &delete.proof, writer);
            signature_bt(Some(&delete.proof), writer);
        }
        ClientRequest::ExpireAll(all) => {
            time_bt(b"expiry", all.expiry, writer);
            scope_bt(all.scope, writer);
            mailbox_bt(&all.mailbox, &all.proof, writer);
            signature_bt(Some(&all.proof), writer);
        }
        ClientRequest::Expire(expire) => expire_bt(expire, writer),
        ClientRequest::GetExpiries(expiries) => {
            messages_bt(&expiries.messages, writer);
            mailbox_bt(&expiries.mailbox, &expiries.proof, writer);
            signature_bt(Some(&expiries.proof), writer);
            time_bt(b"timestamp", expiries.timestamp, writer);
        }
        ClientRequest::RevokeSubaccount(revocation) => {
            mailbox_bt(&revocation.mailbox, &revocation.proof, writer);
            tokens_bt(b"revoke", &revocation.tokens, writer);
            signature_bt(Some(&revocation.proof), writer);
            time_bt(b"timestamp", revocation.timestamp, writer);
        }
        ClientRequest::UnrevokeSubaccount(revocation) => {
            mailbox_bt(&revocation.mailbox, &revocation.proof, writer);
            signature_bt(Some(&revocation.proof), writer);
            time_bt(b"timestamp", revocation.timestamp, writer);
            tokens_bt(b"unrevoke", &revocation.tokens, writer);
        }
        ClientRequest::RevokedSubaccounts(revoked) => {
            mailbox_bt(&revoked.mailbox, &revoked.proof, writer);
            signature_bt(Some(&revoked.proof), writer);
            time_bt(b"timestamp", revoked.timestamp, writer);
        }
        ClientRequest::Info | ClientRequest::ActiveNodes => {}
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
                request_bt(request, writer);
            }
            writer.end();
        }
        ClientRequest::IfElse(ifelse) => ifelse_bt(ifelse, writer),
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
    messages_bt(&delete.messages, writer);
    mailbox_bt(&delete.mailbox, &delete.proof, writer);
    signature_bt(Some(&delete.proof), writer);
}

fn expire_bt(expire: &Expire, writer: &mut Writer) {
    writer.bytes(b"expiry");
    if let [one] = expire.expiries.as_slice() {
        writer.integer(one.as_millis());
    } else {
        writer.list();
        for time in &expire.expiries {
            writer.integer(time.as_millis());
        }
        writer.end();
    }
    if expire.direction == Direction::Extend {
        writer.bytes(b"extend").integer(1);
    }
    messages_bt(&expire.messages, writer);
    mailbox_bt(&expire.mailbox, &expire.proof, writer);
    if expire.direction == Direction::Shorten {
        writer.bytes(b"shorten").integer(1);
    }
    signature_bt(Some(&expire.proof), writer);
}

fn ifelse_bt(ifelse: &IfElse, writer: &mut Writer) {
    if let Some(request) = &ifelse.otherwise {
        writer.bytes(b"else");
        request_bt(request, writer);
    }
    writer.bytes(b"if").dict();
    for (name, numbers) in condition_fields(&ifelse.condition) {
        writer.bytes(name.as_bytes());
        if let [one] = numbers.as_slice() {
            writer.integer(*one);
        } else {
            writer.list();
            for number in numbers {
                writer.integer(number);
            }
            writer.end();
        }
    }
    writer.end();
    if let Some(request) = &ifelse.then {
        writer.bytes(b"then");
        request_bt(request, writer);
    }
}

/// `{"method","params"}`
fn request_bt(request: &ClientRequest, writer: &mut Writer) {
    writer.dict();
    writer.bytes(b"method").bytes(request.method().as_bytes());
    writer.bytes(b"params");
    bt(request, writer);
    writer.end();
}

fn messages_bt(messages: &[String], writer: &mut Writer) {
    writer.bytes(b"messages").list();
    for hash in messages {
        writer.bytes(hash.as_bytes());
    }
    writer.end();
}

fn tokens_bt(name: &[u8], tokens: &[SubaccountToken], writer: &mut Writer) {
    writer.bytes(name).list();
    for token in tokens {
        writer.bytes(&token.0);
    }
    writer.end();
}

/// A namespace of 0 is written too.
fn scope_bt(scope: Scope, writer: &mut Writer) {
    writer.bytes(b"namespace");
    match scope {
        Scope::All => writer.bytes(b"all"),
        Scope::One(namespace) => writer.integer(namespace.0),
    };
}

fn time_bt(name: &[u8], time: Timestamp, writer: &mut Writer) {
    writer.bytes(name).integer(time.as_millis());
}

fn mailbox_bt(mailbox: &Mailbox, proof: &Proof, writer: &mut Writer) {
    writer.bytes(b"pubkey").bytes(&mailbox.to_bytes());
    ed25519_bt(Some(proof), writer);
}

fn ed25519_bt(proof: Option<&Proof>, writer: &mut Writer) {
    if let Some(key) = proof.and_then(|proof| proof.ed25519) {
        writer.bytes(b"pubkey_ed25519").bytes(key.as_bytes());
    }
}

fn signature_bt(proof: Option<&Proof>, writer: &mut Writer) {
    if let Some(proof) = proof {
        writer.bytes(b"signature").bytes(proof.signature.as_bytes());
        if let Some(subaccount) = &proof.subaccount {
            writer.bytes(b"subaccount").bytes(&subaccount.token.0);
            let signature = subaccount.signature.as_bytes();
            writer.bytes(b"subaccount_sig").bytes(signature);
        }
    }
}
