//! Limits and tolerances of the protocol (`../shared/protocol/session-client.md`, sections 3.1 and
//! 3.2; `session-node.md`, 5.6), and what this node says of itself.

use core::time::Duration;

/// How far a stored message's timestamp may be ahead, and its expiry past.
pub const STORE_TOLERANCE: Duration = Duration::from_secs(10);
/// How far a signature's timestamp may be off.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_mins(1);
/// The same for a request that a member forwarded: it was on its way a little longer.
pub const SIGNATURE_TOLERANCE_FORWARDED: Duration = Duration::from_secs(70);
/// How far in the future the time of `delete_before` may be.
pub const DELETE_BEFORE_TOLERANCE: Duration = Duration::from_mins(1);
/// How far in the past the new expiry of `expire` may be.
pub const EXPIRE_TOLERANCE: Duration = Duration::from_mins(1);
/// How late a member may deliver what this node missed while it was away: as long as a message in a
/// public inbox lives.
pub const LATE_FORWARD_MAX: Duration = TTL_MAX_PUBLIC;
/// The pause after the first failed delivery of what a member missed or is to get, as in the reference.
const RETRY_PAUSE_FIRST: Duration = Duration::from_secs(15);
/// And after each one more.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

/// How long to wait after so many failures in a row before this one.
pub(crate) const fn retry_pause(failure_count: u32) -> Duration {
    if failure_count == 0 {
        RETRY_PAUSE_FIRST
    } else {
        RETRY_PAUSE
    }
}

/// Shortest life of a message.
pub const TTL_MIN: Duration = Duration::from_secs(10);
/// Longest life in a public inbox.
pub const TTL_MAX_PUBLIC: Duration = Duration::from_hours(14 * 24);
/// Longest life elsewhere.
pub const TTL_MAX_PRIVATE: Duration = Duration::from_hours(30 * 24);
/// Most bytes of one answer to `retrieve`: base64 of 7.8 MB, sealed and encoded once more on its way
/// through an onion, stays below the 10 MiB that peers accept.
pub const RETRIEVE_SIZE_MAX: usize = 7_800_000;
/// How long a member has to answer a forwarded request.
pub const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the next relay has to answer an onion.
pub const ONION_TIMEOUT: Duration = Duration::from_secs(30);
/// The version of the storage server protocol that this node speaks and reports.
pub const VERSION: [u16; 3] = [2, 11, 0];
/// The network's hard fork when nobody tells: that from which everything here is allowed.
pub const HARD_FORK: [u16; 2] = [19, 4];
/// The hard fork from which clients are served.
pub const HARD_FORK_MIN: [u16; 2] = [19, 3];

const _: () = assert!(TTL_MIN.as_secs() < TTL_MAX_PUBLIC.as_secs());
const _: () = assert!(TTL_MAX_PUBLIC.as_secs() < TTL_MAX_PRIVATE.as_secs());
const _: () = assert!(RETRIEVE_SIZE_MAX / 3 * 4 < 10 << 20);
