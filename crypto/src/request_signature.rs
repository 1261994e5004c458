//! What clients and nodes sign (`../shared/protocol/session-client.md`, sections 3.1 and 3.3).

use cepa_wire::request::{Delete, Proof, Retrieve, Store};
use cepa_wire::{Ed25519PublicKey, Mailbox, MessageHash, Namespace};

use crate::key::{BadSignature, ed25519_to_x25519, verify};

/// The text that the signature of a `store` covers.
pub fn store_text(store: &Store) -> String {
    let signed_at = store.sig_timestamp.unwrap_or(store.timestamp).as_millis();
    format!("store{}{signed_at}", namespace_text(store.namespace))
}

/// The text that the signature of a `retrieve` covers.
pub fn retrieve_text(retrieve: &Retrieve) -> String {
    let signed_at = retrieve.timestamp.unwrap_or_default().as_millis();
    format!("retrieve{}{signed_at}", namespace_text(retrieve.namespace))
}

/// The text that the signature of a `delete` covers.
pub fn delete_text(delete: &Delete) -> String {
    format!("delete{}", delete.messages.concat())
}

/// The text that a node signs in its answer to `delete`: mailbox, requested hashes in order, deleted
/// hashes sorted as text (base64 does not sort like its bytes).
pub fn delete_answer_text(delete: &Delete, deleted: &[MessageHash]) -> String {
    let mut deleted: Vec<String> = deleted.iter().map(|hash| hash.to_text()).collect();
    deleted.sort_unstable();
    format!(
        "{}{}{}",
        delete.mailbox,
        delete.messages.concat(),
        deleted.concat()
    )
}

/// A namespace in signed texts and hashes: 0 is left out.
pub(crate) fn namespace_text(namespace: Namespace) -> String {
    if namespace == Namespace::INBOX {
        String::new()
    } else {
        namespace.0.to_string()
    }
}

/// Verifies a request: the Ed25519 key must belong to the mailbox (a 05 id is its X25519 form, any
/// other mailbox is the key itself).
pub fn verify_request(mailbox: &Mailbox, proof: &Proof, text: &str) -> Result<(), BadSignature> {
    let key = match proof.ed25519 {
        Some(key) => {
            let converted = ed25519_to_x25519(&key).ok_or(BadSignature)?;
            if converted.0 != mailbox.key {
                return Err(BadSignature);
            }
            key
        }
        None => Ed25519PublicKey(mailbox.key),
    };
    verify(&key, text.as_bytes(), &proof.signature)
}
