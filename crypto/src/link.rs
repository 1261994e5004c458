//! Links: encrypted associations of two relays, or of a client and its guard, over datagrams
//! (`cepa_wire::packet::link_frame` has the header of each). Sans-IO; time and randomness are arguments.
//!
//! The handshake is `Noise_IKpsk2_25519_AESGCM_SHA256` (Noise revision 34) by crate `snow`, with an
//! ML-KEM-768 secret (FIPS 203) as its pre-shared key; what surrounds it follows `WireGuard` (Donenfeld,
//! 2017). AES-256-GCM and SHA-256 since ring has both in assembly, for AES-NI, VAES and ARM's, and in
//! constant time without: a frame costs a third of what ChaCha20-Poly1305 takes.
//!
//! ```text
//! initiation 1,232: header 16 | sender's index 4 | Noise 1,196 | mac 16
//!     payload:      ML-KEM ciphertext 1,088 | stamp 8 | role 1 | reserved 3
//! response 100:     header 16 | Noise 68 | mac 16
//!     payload:      sender's index 4 | client id 16
//! cookie 80:        header 16 | nonce 32 | cookie 16 | tag 16
//! keep-alive 32:    header 16 | tag 16
//! data 1,232:       header 16 | packet 1,200 | tag 16
//! ```
//!
//! - **Bound**: the prologue is a name and the sender's index. The ciphertext is in the payload of the first
//!   message, so it stands in the handshake's hash, is hidden, and is decapsulated only for who has proven
//!   its key. The pre-shared key comes in before the tag of the second message: whoever has another
//!   secret does not open that.
//! - **Stamp**: microseconds since 1970, always above the one before. A responder refuses what is not
//!   above the last that it took from the same key.
//! - **Role**: a relay shows the link key of its descriptor. A client shows a key that it made for this guard,
//!   and the guard tells it its id: a keyed hash of that key, so that the id outlives every link, restarts
//!   too, and nobody can choose one.
//! - **Mac**: one field serves as both of `WireGuard`'s, since 16 bytes are all that the datagram has left.
//!   It is the first half of a BLAKE3 of the message, keyed with the receiver's public key, or of that hash
//!   again, keyed with a cookie.
//! - **Erased**: `snow` does not erase its chaining key. So half of what ML-KEM's secret is expanded to
//!   never enters it: the keys of frames are Noise's, hashed with that half, and can't be made again from
//!   what `snow` leaves behind. ring's keys are overwritten by others.

mod cookie;
mod handshake;
mod identity;
mod kem;
mod noise;
mod transport;
pub mod window;

#[cfg(test)]
mod tests;

/// What fuzzers need alone. No contract.
#[doc(hidden)]
pub mod parts {
    use cepa_wire::X25519PublicKey;

    use super::cookie::{MAC_SIZE, MacKey};

    /// Writes the mac that fits at the end of a message to whoever has the key: a fuzzer would never find
    /// it.
    pub fn write_mac(receiver: &X25519PublicKey, message: &mut [u8]) {
        if let Some((signed, room)) = message.split_last_chunk_mut::<MAC_SIZE>() {
            *room = MacKey::new(receiver).mac(signed, None);
        }
    }
}

use core::time::Duration;

use thiserror::Error;

pub use cookie::{Cookie, CookieJar, MacProof};
pub use handshake::{Established, Initiation, PeerKeys, ReceivedInitiation, Start};
pub use identity::{LinkIdentity, LinkRole, Stamp};
pub use kem::KemSecretKey;
pub use transport::{FrameRefused, KeysSpent, LinkKeys, Opened};

use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE, LINK_TAG_SIZE};

/// The first message: as large as a data frame.
pub const INITIATION_SIZE: usize = DATAGRAM_SIZE;
/// The second message.
pub const RESPONSE_SIZE: usize = 100;
/// What a responder under load answers.
pub const COOKIE_FRAME_SIZE: usize = 80;
/// A frame without a packet.
pub const KEEP_ALIVE_SIZE: usize = LINK_HEADER_SIZE + LINK_TAG_SIZE;

/// Keys this old are replaced by their initiator. As `WireGuard` has it.
pub const REKEY_AFTER: Duration = Duration::from_mins(2);
/// The responder's turn, when the initiator did nothing for so long.
pub const REKEY_AFTER_AS_RESPONDER: Duration = Duration::from_secs(150);
/// Keys this old are refused, and a link that has no others is over: as long as whoever was once in
/// between can hold a frame back, or whoever steals a node's memory can open what was sent.
pub const REJECT_AFTER: Duration = Duration::from_mins(3);
/// Keys that sent so many frames are replaced. At a million frames a second two minutes have twice as many.
pub const REKEY_AFTER_COUNT: u64 = 1 << 26;
/// Keys that sent so many frames are refused. A frame has 78 blocks, and with 2^34.5 of them the
/// advantage against AES-GCM is 2^-60 (RFC 9147, appendix B.1.1; RFC 9001, appendix B.1).
pub const REJECT_AFTER_COUNT: u64 = 1 << 28;
/// How long a cookie, and the secret that it was made with, are used.
pub const COOKIE_AGE_MAX: Duration = Duration::from_mins(2);

const _: () = {
    assert!(RESPONSE_SIZE < INITIATION_SIZE && COOKIE_FRAME_SIZE < INITIATION_SIZE);
    // 2^34.5 blocks.
    assert!(REJECT_AFTER_COUNT * (DATAGRAM_SIZE as u64 / 16 + 1) < 24_296_004_000);
};

/// Why a message of a handshake was not taken. Anybody may have sent it; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// Not as long as its type is.
    #[error("message has the wrong size")]
    Size,
    /// Its sender does not know our key, or what was sent is changed.
    #[error("mac does not verify")]
    BadMac,
    /// It does not open: wrong keys, a wrong ML-KEM secret, changed, or of another handshake.
    #[error("message does not open")]
    BadTag,
    /// What opened is malformed.
    #[error("payload is malformed")]
    BadPayload,
    /// The peer's ML-KEM key is none (FIPS 203, section 7.2).
    #[error("ML-KEM key is malformed")]
    BadKemKey,
    /// We are a client: nobody opens a link to us.
    #[error("not a responder")]
    NotResponder,
}
