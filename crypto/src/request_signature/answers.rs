//! The texts that a node signs in its answers. Hashes are sorted as text: base64 does not sort like its
//! bytes.

use core::fmt::Write as _;

use cepa_wire::request::{Delete, Expire, Revocation};
use cepa_wire::{Mailbox, Timestamp};

use super::requests::append_times;

/// `delete`: mailbox, requested hashes in order, deleted hashes (sorted).
pub fn delete_answer_text(delete: &Delete, deleted: &[String]) -> String {
    let (requested, deleted) = (delete.messages.concat(), deleted.concat());
    format!("{}{requested}{deleted}", delete.mailbox)
}

/// `delete_all`, `delete_before`, `expire_all`: mailbox, the time of the request, the hashes of all
/// namespaces together (sorted).
pub fn affected_answer_text(mailbox: &Mailbox, time: Timestamp, affected: &[String]) -> String {
    format!("{mailbox}{}{}", time.as_millis(), affected.concat())
}

/// `expire`: mailbox, applied expiries, requested hashes in order, updated hashes (sorted), and each
/// unchanged hash with its expiry (sorted).
pub fn expire_answer_text(
    expire: &Expire,
    applied: &[Timestamp],
    updated: &[String],
    unchanged: &[(String, Timestamp)],
) -> String {
    let mut text = expire.mailbox.to_hex();
    append_times(&mut text, applied);
    text.extend(expire.messages.iter().map(String::as_str));
    text.extend(updated.iter().map(String::as_str));
    for (hash, expiry) in unchanged {
        // Writing to a string does not fail.
        write!(text, "{hash}{}", expiry.as_millis()).unwrap_or_default();
    }
    text
}

/// `revoke_subaccount` and `unrevoke_subaccount`: mailbox, time, the tokens as bytes.
pub fn revocation_answer_text(revocation: &Revocation) -> Vec<u8> {
    let time = revocation.timestamp.as_millis();
    let mut text = format!("{}{time}", revocation.mailbox).into_bytes();
    text.extend(revocation.tokens.iter().flat_map(|token| token.0));
    text
}
