//! The texts that clients sign.

use core::fmt::Write as _;

use cepa_wire::request::{
    Delete, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries, Retrieve, Revocation,
    RevokedSubaccounts, Store,
};
use cepa_wire::{Direction, Timestamp};

use super::{namespace_text, scope_text};

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

/// The text that the signature of a `delete_all` covers.
pub fn delete_all_text(all: &DeleteAll) -> String {
    let signed_at = all.timestamp.as_millis();
    format!("delete_all{}{signed_at}", scope_text(all.scope))
}

/// The text that the signature of a `delete_before` covers.
pub fn delete_before_text(delete: &DeleteBefore) -> String {
    let before = delete.before.as_millis();
    format!("delete_before{}{before}", scope_text(delete.scope))
}

/// The text that the signature of an `expire_all` covers.
pub fn expire_all_text(all: &ExpireAll) -> String {
    let expiry = all.expiry.as_millis();
    format!("expire_all{}{expiry}", scope_text(all.scope))
}

/// The text that the signature of an `expire` covers.
pub fn expire_text(expire: &Expire) -> String {
    let mut text = "expire".to_owned();
    text.push_str(match expire.direction {
        Direction::Any => "",
        Direction::Shorten => "shorten",
        Direction::Extend => "extend",
    });
    append_times(&mut text, &expire.expiries);
    text.extend(expire.messages.iter().map(String::as_str));
    text
}

/// The text that the signature of a `get_expiries` covers.
pub fn get_expiries_text(expiries: &GetExpiries) -> String {
    let signed_at = expiries.timestamp.as_millis();
    format!("get_expiries{signed_at}{}", expiries.messages.concat())
}

/// What the signature of a `method`, `revoke_subaccount` or `unrevoke_subaccount`, covers: the tokens
/// as bytes.
pub fn revocation_text(method: &str, revocation: &Revocation) -> Vec<u8> {
    let mut text = format!("{method}{}", revocation.timestamp.as_millis()).into_bytes();
    text.extend(revocation.tokens.iter().flat_map(|token| token.0));
    text
}

/// The text that the signature of a `revoked_subaccounts` covers.
pub fn revoked_subaccounts_text(revoked: &RevokedSubaccounts) -> String {
    format!("revoked_subaccounts{}", revoked.timestamp.as_millis())
}

/// Milliseconds without separators.
pub(super) fn append_times(text: &mut String, times: &[Timestamp]) {
    for time in times {
        // Writing to a string does not fail.
        write!(text, "{}", time.as_millis()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use cepa_wire::request::Proof;
    use cepa_wire::{Mailbox, Namespace, Scope, Signature, SubaccountToken};

    use super::*;

    const MAILBOX: Mailbox = Mailbox {
        prefix: Mailbox::ACCOUNT,
        key: [1; 32],
    };
    const PROOF: Proof = Proof {
        ed25519: None,
        signature: Signature([0; 64]),
        subaccount: None,
    };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_store_is_signed_with_its_own_time_if_it_has_one() {
        let mut store = Store {
            mailbox: MAILBOX,
            namespace: Namespace::INBOX,
            timestamp: at(1_800_000_000_000),
            expiry: at(1_800_000_060_000),
            data: b"data".as_slice().into(),
            sig_timestamp: None,
            proof: None,
        };
        assert_eq!(store_text(&store), "store1800000000000");
        store.namespace = Namespace(-10);
        store.sig_timestamp = Some(at(1_800_000_000_007));
        assert_eq!(store_text(&store), "store-101800000000007");
    }

    #[test]
    fn namespaces_are_left_out_written_or_all() {
        let text = |scope| {
            let all = DeleteAll {
                mailbox: MAILBOX,
                scope,
                timestamp: at(7),
                proof: PROOF,
            };
            delete_all_text(&all)
        };
        assert_eq!(text(Scope::One(Namespace(0))), "delete_all7");
        assert_eq!(text(Scope::One(Namespace(-3))), "delete_all-37");
        assert_eq!(text(Scope::All), "delete_allall7");
    }

    #[test]
    fn an_expire_names_its_direction_its_times_and_its_hashes() {
        let expire = |direction, times: &[u64]| {
            let expire = Expire {
                mailbox: MAILBOX,
                messages: vec!["x".into(), "y".into()],
                expiries: times.iter().map(|millis| at(*millis)).collect(),
                direction,
                proof: PROOF,
            };
            expire_text(&expire)
        };
        assert_eq!(expire(Direction::Any, &[5]), "expire5xy");
        assert_eq!(expire(Direction::Shorten, &[5]), "expireshorten5xy");
        assert_eq!(expire(Direction::Extend, &[5, 6]), "expireextend56xy");
    }

    #[test]
    fn revocations_cover_the_bytes_of_the_tokens() {
        let revocation = Revocation {
            mailbox: MAILBOX,
            tokens: vec![SubaccountToken([0xff; 36]), SubaccountToken([0; 36])],
            timestamp: at(9),
            proof: PROOF,
        };
        let text = revocation_text("revoke_subaccount", &revocation);
        let expected = [&b"revoke_subaccount9"[..], &[0xff; 36], &[0; 36]].concat();
        assert_eq!(text, expected);
    }
}
