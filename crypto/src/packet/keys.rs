//! The keys of one layer, from its Diffie-Hellman secret.

use blake3::Hasher;
use cepa_wire::X25519PublicKey;
use cepa_wire::packet::geometry::{
    EPHEMERAL_KEY_SIZE, PAYLOAD_KEY_SIZE, RELAY_ID_SIZE, REPLAY_TAG_SIZE, split, split_mut,
};
use cepa_wire::packet::{RelayId, SUITE};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What marks a packet as seen by a relay: the same for every copy of it, whatever its payload, and
/// unpredictable for everybody but its client. It is kept for an epoch in the replay filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayTag(pub [u8; REPLAY_TAG_SIZE]);

/// The keys of one layer. Each is used once.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct LayerKeys {
    pub(super) tag: [u8; 32],
    pub(super) stream: [u8; 32],
    pub(super) payload: [u8; PAYLOAD_KEY_SIZE],
    pub(super) replay: [u8; REPLAY_TAG_SIZE],
}

const OUTPUT_SIZE: usize = 32 + 32 + PAYLOAD_KEY_SIZE + REPLAY_TAG_SIZE;

/// One block of BLAKE3: what the keys are bound to.
const INPUT_SIZE: usize = 64;

/// Tells these keys from all others that a secret could be used for; its last byte is the suite.
const CONTEXT: [u8; 16] = *b"cepa packet v1 \x01";
const _: () = assert!(CONTEXT[15] == SUITE);

impl LayerKeys {
    /// BLAKE3, keyed with the secret, of: ephemeral key 32, relay id 16, context 16. Its output is tag key
    /// 32, stream key 32, payload key 32, replay tag 16.
    pub(super) fn derive(secret: &[u8; 32], ephemeral: &X25519PublicKey, relay: RelayId) -> Self {
        let mut input = [0; INPUT_SIZE];
        let (key, rest) = split_mut::<EPHEMERAL_KEY_SIZE, 32, INPUT_SIZE>(&mut input);
        let (id, context) = split_mut::<RELAY_ID_SIZE, 16, 32>(rest);
        (*key, *id, *context) = (ephemeral.0, relay.0, CONTEXT);
        let mut hasher = Hasher::new_keyed(secret);
        hasher.update(&input);
        let mut reader = hasher.finalize_xof();
        let mut output = Zeroizing::new([0; OUTPUT_SIZE]);
        // In one go: what ends within a block would be computed again for the next part.
        reader.fill(output.as_mut_slice());
        reader.zeroize();
        hasher.zeroize();
        let (tag, rest) = split::<32, { OUTPUT_SIZE - 32 }, OUTPUT_SIZE>(&output);
        let (stream, rest) = split::<32, { OUTPUT_SIZE - 64 }, { OUTPUT_SIZE - 32 }>(rest);
        let (payload, replay) =
            split::<PAYLOAD_KEY_SIZE, REPLAY_TAG_SIZE, { OUTPUT_SIZE - 64 }>(rest);
        Self {
            tag: *tag,
            stream: *stream,
            payload: *payload,
            replay: *replay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_bound() {
        let ephemeral = X25519PublicKey([2; 32]);
        let keys = LayerKeys::derive(&[1; 32], &ephemeral, RelayId([3; 16]));
        let mut all = vec![keys.replay];
        for at in 0..32 {
            let mut secret = [1; 32];
            secret[at] ^= 0x80;
            all.push(LayerKeys::derive(&secret, &ephemeral, RelayId([3; 16])).replay);
            let mut other = ephemeral;
            other.0[at] ^= 0x80;
            all.push(LayerKeys::derive(&[1; 32], &other, RelayId([3; 16])).replay);
            let mut relay = RelayId([3; 16]);
            relay.0[at / 2] ^= if at % 2 == 0 { 1 } else { 0x80 };
            all.push(LayerKeys::derive(&[1; 32], &ephemeral, relay).replay);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
