//! The layers of the packet lane: what a relay peels and a client builds (`cepa_wire::packet` has the
//! format). The construction is Sphinx (Danezis and Goldberg, 2009) with one fresh X25519 key a hop in
//! the place of the blinded element, and a wide-block permutation over the payload. It is unaudited.
//!
//! A relay goes in two steps, with its replay filter between them: [`open_many`] finds the keys and
//! verifies the tags, [`Opened::peel`] changes the packet. [`peel`] and [`peel_many`] do both.
//!
//! | what | primitive | why, and ns a packet on a Xeon of 3 GHz with AVX-512 |
//! | --- | --- | --- |
//! | keys | BLAKE3, keyed with the secret, 112 bytes | 234, 70 of them to erase; HKDF-SHA256 700 |
//! | tag | POLYVAL with a one-time key and mask | 79; Poly1305 (crate `poly1305`) 1,040 |
//! | header | AES-256-CTR | 86; ChaCha20 (crate `chacha20`) 425 |
//! | payload | HCTR2 with AES-256 | 481; LIONESS over ChaCha20 and BLAKE2b some 3,000 |
//!
//! Together 905, against some 3,700 of a batched Diffie-Hellman and 38,000 of a single one.
//!
//! All of AES and POLYVAL is chosen at run time by the crates `aes` and `polyval` (VAES with AVX-512 or
//! 256 bits, AES-NI, CLMUL, ARM's), with constant-time code where the processor has none.

mod blocks;
mod build;
mod descriptor;
mod epoch;
mod hctr2;
mod header;
mod keys;
mod peel;
mod reply;

#[cfg(test)]
mod tests;

use cepa_wire::packet::RelayId;
use cepa_wire::packet::epoch::Epoch;
use cepa_wire::packet::geometry::split;
use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

pub use build::{BuildError, BuiltPacket, PathHop, build};
pub use descriptor::{BadDescriptor, sign_descriptor, verify_descriptor};
pub use epoch::HopKeys;
pub use keys::ReplayTag;
pub use peel::{Opened, PayloadTampered, PeelError, open, open_many, peel, peel_many};
pub use reply::{ReplyId, ReplyKeys, answer, reply_block};

use crate::X25519SecretKey;

/// What benchmarks measure and fuzzers need alone. No contract.
#[doc(hidden)]
pub mod parts {
    use cepa_wire::X25519PublicKey;
    use cepa_wire::packet::geometry::{
        HEADER_STREAM_SIZE, PACKET_SIZE, PAYLOAD_SIZE, SEALED_SIZE, split_mut,
    };
    use cepa_wire::packet::{Packet, PacketBytes, RelayId};

    use super::keys::LayerKeys;
    use super::{HopKey, Opened, PeelError};

    /// The replay tag among the keys, all of which are made.
    pub fn keys(secret: &[u8; 32], ephemeral: &X25519PublicKey, relay: RelayId) -> [u8; 16] {
        LayerKeys::derive(secret, ephemeral, relay).replay
    }

    /// The tag.
    pub fn tag(key: &[u8; 32], sealed: &[u8; SEALED_SIZE]) -> [u8; 16] {
        super::header::tag(key, sealed)
    }

    /// The stream.
    pub fn header(key: &[u8; 32], text: &mut [u8; HEADER_STREAM_SIZE]) {
        super::header::apply_stream(key, text);
    }

    /// All but the Diffie-Hellman.
    pub fn open(
        hop: &HopKey,
        packet: &PacketBytes,
        secret: &[u8; 32],
    ) -> Result<Opened, PeelError> {
        super::peel::open_with_secret(hop, packet, secret)
    }

    /// Writes the tag that fits, whatever is sealed: a fuzzer would never find it.
    pub fn write_tag(hop: &HopKey, packet: &mut PacketBytes) {
        let parsed = Packet::new(packet);
        let (ephemeral, sealed) = (parsed.ephemeral_key(), *parsed.sealed());
        if let Ok(secret) = hop.secret.diffie_hellman(&ephemeral) {
            let keys = LayerKeys::derive(&secret, &ephemeral, hop.relay);
            let (begin, _) = split_mut::<48, { PACKET_SIZE - 48 }, PACKET_SIZE>(packet);
            *split_mut::<32, 16, 48>(begin).1 = tag(&keys.tag, &sealed);
        }
    }

    /// The permutation of a hop.
    pub fn payload(key: &[u8; 32], payload: &mut [u8; PAYLOAD_SIZE]) {
        super::hctr2::decrypt(key, payload);
    }
}

/// The id of the relay with this key: the first 16 bytes of BLAKE3 in its mode for deriving keys, with the
/// context `cepa packet lane: relay id 1`, of the key.
pub fn relay_id(key: &Ed25519PublicKey) -> RelayId {
    let hash = blake3::derive_key("cepa packet lane: relay id 1", &key.0);
    RelayId(*split::<16, 16, 32>(&hash).0)
}

/// Whether this processor has AES. Without, a packet costs some ten times as much beside its
/// Diffie-Hellman, and a relay should say so when it starts.
pub fn has_aes() -> bool {
    aes::hardware_accelerated()
}

/// A relay's key for one epoch. Zeroized when dropped, each copy of it; never printed.
#[derive(Clone)]
pub struct HopKey {
    secret: X25519SecretKey,
    relay: RelayId,
    epoch: Epoch,
}

impl HopKey {
    /// From a secret that is random and of this epoch alone, and the id of the relay.
    pub const fn new(secret: X25519SecretKey, relay: RelayId, epoch: Epoch) -> Self {
        Self {
            secret,
            relay,
            epoch,
        }
    }

    /// The epoch that it is for.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What clients build with. One multiplication.
    pub fn public_key(&self) -> X25519PublicKey {
        self.secret.public_key()
    }
}
