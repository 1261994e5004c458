//! What the benchmarks share: accounts, requests, and a disk of real files.
#![forbid(unsafe_code)]

pub mod memory_disk;
pub mod packet_lane;

use core::time::Duration;

use bytes::Bytes;
use cepa_crypto::{Account, request_signature};
use cepa_wire::request::{ClientRequest, Proof, Retrieve, Store};
use cepa_wire::{Namespace, Timestamp};
use criterion::Criterion;

/// A message of this many bytes: a text of some sentences, padded, sealed and enveloped.
pub const PAYLOAD_SIZE: usize = 2048;
/// When everything happens.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Enough for a stable median, little enough for all benchmarks to end in some minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

/// An account.
pub fn account(number: u8) -> Account {
    Account::from_entropy([number; 16])
}

/// A store of [`PAYLOAD_SIZE`] bytes into a public inbox.
pub fn store() -> ClientRequest {
    ClientRequest::Store(Store {
        mailbox: account(1).id(),
        namespace: Namespace::INBOX,
        timestamp: NOW,
        expiry: NOW.saturating_add(Duration::from_hours(14 * 24)),
        data: Bytes::from(vec![7; PAYLOAD_SIZE]),
        sig_timestamp: None,
        proof: None,
    })
}

/// A retrieve of all messages of an account, signed by it at `now`.
pub fn retrieve(owner: &Account, now: Timestamp) -> ClientRequest {
    let mut retrieve = Retrieve {
        mailbox: owner.id(),
        namespace: Namespace::INBOX,
        last_hash: None,
        max_count: None,
        max_size: None,
        timestamp: Some(now),
        proof: None,
    };
    let text = request_signature::retrieve_text(&retrieve);
    retrieve.proof = Some(Proof::owner(
        Some(owner.ed25519().public_key()),
        owner.ed25519().sign(text.as_bytes()),
    ));
    ClientRequest::Retrieve(retrieve)
}
