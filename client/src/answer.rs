//! Reads the answers of swarm members and verifies what they signed
//! (`../shared/protocol/session-client.md`, sections 3.2 and 3.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cepa_crypto::key::verify;
use cepa_crypto::request_signature::delete_answer_text;
use cepa_wire::request::Delete;
use cepa_wire::{Ed25519PublicKey, MessageHash, ServiceNode, Signature, Timestamp};
use serde_json::Value;

use crate::ClientError;

/// The members of a mailbox's swarm.
pub fn read_swarm(body: &Value) -> Result<Vec<ServiceNode>, ClientError> {
    let nodes = body.get("snodes").and_then(Value::as_array);
    let nodes = nodes.ok_or(ClientError::Malformed("a swarm has no `snodes`"))?;
    Ok(nodes
        .iter()
        .filter_map(|node| ServiceNode::from_swarm_json(node).ok())
        .collect())
}

/// How the members of a swarm answered a request that goes to all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Members whose signature proves that they did it.
    pub signed: Vec<Ed25519PublicKey>,
    /// Members that failed, or whose signature does not verify.
    pub failed: Vec<Ed25519PublicKey>,
}

fn tally(
    body: &Value,
    members: &[ServiceNode],
    text: impl Fn(&Value) -> Option<String>,
) -> Result<Tally, ClientError> {
    let swarm = body.get("swarm").and_then(Value::as_object);
    let swarm = swarm.ok_or(ClientError::Malformed("an answer has no `swarm`"))?;
    let mut tally = Tally::default();
    // Only members count: a node could add entries of its own making.
    for member in members {
        let key = member.pubkey_ed25519;
        let entry = swarm.get(&key.to_hex());
        let is_signed = entry
            .is_some_and(|entry| text(entry).is_some_and(|text| is_signed_by(&key, entry, &text)));
        if is_signed {
            tally.signed.push(key);
        } else {
            tally.failed.push(key);
        }
    }
    Ok(tally)
}

fn is_signed_by(key: &Ed25519PublicKey, entry: &Value, text: &str) -> bool {
    let signature = entry.get("signature").and_then(Value::as_str);
    let signature = signature.and_then(|signature| STANDARD.decode(signature).ok());
    signature
        .and_then(|signature| Signature::from_slice(&signature))
        .is_some_and(|signature| verify(key, text.as_bytes(), &signature).is_ok())
}

/// Reads the answer to `store`: who proves to have stored the message with this hash.
pub fn read_stored(
    body: &Value,
    members: &[ServiceNode],
    hash: &MessageHash,
) -> Result<Tally, ClientError> {
    let hash = hash.to_text();
    tally(body, members, |entry| {
        let told = entry.get("hash").and_then(Value::as_str)?;
        (told == hash).then(|| hash.clone())
    })
}

/// Reads the answer to `delete`: who proves to have deleted what.
pub fn read_deleted(
    body: &Value,
    members: &[ServiceNode],
    delete: &Delete,
) -> Result<Tally, ClientError> {
    tally(body, members, |entry| {
        let deleted = entry.get("deleted").and_then(Value::as_array)?;
        let deleted: Option<Vec<String>> = deleted
            .iter()
            .map(|hash| hash.as_str().map(str::to_owned))
            .collect();
        let mut deleted = deleted?;
        deleted.sort_unstable();
        Some(delete_answer_text(delete, &deleted))
    })
}

/// A message as it lies in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieved {
    /// Its hash.
    pub hash: String,
    /// Its payload.
    pub data: Vec<u8>,
    /// When it will be forgotten.
    pub expiry: Timestamp,
}

/// Reads the answer to `retrieve`: messages, and whether there are more.
pub fn read_retrieved(body: &Value) -> Result<(Vec<Retrieved>, bool), ClientError> {
    let malformed = ClientError::Malformed("a retrieved message lacks something");
    let rows = body.get("messages").and_then(Value::as_array);
    let rows = rows.ok_or(ClientError::Malformed("an answer has no `messages`"))?;
    let messages = rows
        .iter()
        .map(|row| {
            let data = row.get("data").and_then(Value::as_str)?;
            Some(Retrieved {
                hash: row.get("hash").and_then(Value::as_str)?.to_owned(),
                data: STANDARD.decode(data).ok()?,
                expiry: Timestamp::from_millis(row.get("expiration").and_then(Value::as_u64)?),
            })
        })
        .collect::<Option<_>>()
        .ok_or(malformed)?;
    // bt, which comes by packets, has 1 for true.
    let is_true = |more: &Value| more.as_bool() == Some(true) || more.as_u64() == Some(1);
    Ok((messages, body.get("more").is_some_and(is_true)))
}

#[cfg(test)]
mod tests {
    use cepa_crypto::NodeKeys;

    use super::*;
    use crate::testing::service_node;

    fn entry(keys: &NodeKeys, text: &str, hash: &str) -> Value {
        let signature = STANDARD.encode(keys.ed25519().sign(text.as_bytes()).0);
        serde_json::json!({"hash": hash, "signature": signature})
    }

    #[test]
    fn only_members_with_a_good_signature_over_this_hash_count() {
        let keys: Vec<NodeKeys> = (1..=5).map(|n| NodeKeys::from_seed([n; 32])).collect();
        let members: Vec<ServiceNode> = keys[..4].iter().map(service_node).collect();
        let hash = MessageHash([7; 32]);
        let text = hash.to_text();
        let other = MessageHash([8; 32]).to_text();
        let name = |n: usize| keys[n].ed25519_public().to_hex();
        let body = serde_json::json!({"swarm": {
            name(0): entry(&keys[0], &text, &text),
            name(1): entry(&keys[0], &text, &text),
            name(2): entry(&keys[2], &other, &other),
            name(3): {"failed": true, "timeout": true},
            name(4): entry(&keys[4], &text, &text),
        }});
        let tally = read_stored(&body, &members, &hash).unwrap();
        assert_eq!(tally.signed, [keys[0].ed25519_public()]);
        assert_eq!(tally.failed.len(), 3);
        assert!(read_stored(&serde_json::json!({}), &members, &hash).is_err());
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = serde_json::json!({"messages": [
            {"hash": "h", "data": "AAAA", "expiration": 5, "timestamp": 1}], "more": true});
        let (messages, more) = read_retrieved(&good).unwrap();
        assert_eq!((messages.len(), more), (1, true));
        let more = |more: Value| {
            let body = serde_json::json!({"messages": [], "more": more});
            read_retrieved(&body).unwrap().1
        };
        assert!(more(1.into()) && !more(0.into()) && !more(false.into()));
        let bad = serde_json::json!({"messages": [{"hash": "h", "data": "!", "expiration": 5}]});
        assert!(read_retrieved(&bad).is_err());
        assert!(read_retrieved(&serde_json::json!([])).is_err());
    }
}
