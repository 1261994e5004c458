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

/// Verifies a request: a 05 mailbox needs the Ed25519 key whose X25519 form it is, any other mailbox is
/// the key itself and must come without one.
pub fn verify_request(mailbox: &Mailbox, proof: &Proof, text: &str) -> Result<(), BadSignature> {
    let key = match (mailbox.prefix, proof.ed25519) {
        (Mailbox::ACCOUNT, Some(key)) => {
            let converted = ed25519_to_x25519(&key).ok_or(BadSignature)?;
            if converted.0 != mailbox.key {
                return Err(BadSignature);
            }
            key
        }
        (Mailbox::ACCOUNT, None) | (_, Some(_)) => return Err(BadSignature),
        (_, None) => Ed25519PublicKey(mailbox.key),
    };
    verify(&key, text.as_bytes(), &proof.signature)
}

#[cfg(test)]
mod tests {
    use cepa_wire::Timestamp;

    use super::*;
    use crate::Ed25519SecretKey;

    #[test]
    fn the_key_is_given_for_accounts_and_only_for_them() {
        let secret = Ed25519SecretKey::from_seed([1; 32]);
        let (ed25519, x25519) = (secret.public_key(), secret.to_x25519().public_key());
        let signature = secret.sign(b"text");
        let is_good = |prefix, key, ed25519| {
            let proof = Proof { ed25519, signature };
            verify_request(&Mailbox { prefix, key }, &proof, "text").is_ok()
        };
        assert!(is_good(Mailbox::ACCOUNT, x25519.0, Some(ed25519)));
        assert!(is_good(3, ed25519.0, None));
        // The signature is good in each of these; the key is not where it belongs.
        assert!(!is_good(Mailbox::ACCOUNT, ed25519.0, None));
        assert!(!is_good(Mailbox::ACCOUNT, ed25519.0, Some(ed25519)));
        assert!(!is_good(3, x25519.0, Some(ed25519)));
        assert!(!is_good(3, ed25519.0, Some(ed25519)));
    }

    #[test]
    fn a_store_is_signed_with_its_own_time_if_it_has_one() {
        let mut store = Store {
            mailbox: Mailbox {
                prefix: Mailbox::ACCOUNT,
                key: [1; 32],
            },
            namespace: Namespace::INBOX,
            timestamp: Timestamp::from_millis(1_800_000_000_000),
            expiry: Timestamp::from_millis(1_800_000_060_000),
            data: b"data".as_slice().into(),
            sig_timestamp: None,
            proof: None,
        };
        assert_eq!(store_text(&store), "store1800000000000");
        store.namespace = Namespace(-10);
        store.sig_timestamp = Some(Timestamp::from_millis(1_800_000_000_007));
        assert_eq!(store_text(&store), "store-101800000000007");
    }
}
