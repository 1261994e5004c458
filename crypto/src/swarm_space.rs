//! Where a mailbox lies: message hashes and the swarm space
//! (`../shared/protocol/session-node.md`, 5.6).

use cepa_wire::{Mailbox, MessageHash, Namespace};

use crate::primitive::blake2b_256;
use crate::request_signature::namespace_text;

/// Unpadded base64 of this is the message's hash: BLAKE2b-256(prefix ‖ key ‖ namespace in decimal
/// unless 0 ‖ data).
pub fn message_hash(mailbox: &Mailbox, namespace: Namespace, data: &[u8]) -> MessageHash {
    let namespace = namespace_text(namespace);
    MessageHash(blake2b_256([
        &mailbox.to_bytes()[..],
        namespace.as_bytes(),
        data,
    ]))
}

/// A mailbox's point on the ring of swarms.
pub fn swarm_space(mailbox: &Mailbox) -> u64 {
    mailbox.swarm_point()
}

/// The swarm that owns `point`: the nearest id on the 2^64 ring, the lower one on a tie.
/// `swarm_ids` must be ascending; `None` when there are none.
pub fn nearest_swarm(point: u64, swarm_ids: &[u64]) -> Option<u64> {
    let right = swarm_ids.partition_point(|id| *id < point);
    // Past either end the ring goes on at the other.
    let above = swarm_ids.get(right).or_else(|| swarm_ids.first())?;
    let below = right.checked_sub(1).and_then(|left| swarm_ids.get(left));
    let below = below.or_else(|| swarm_ids.last())?;
    let is_above_nearer = above.wrapping_sub(point) < point.wrapping_sub(*below);
    Some(if is_above_nearer { *above } else { *below })
}
