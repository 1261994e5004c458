//! X25519 of one secret key with many peers at once (RFC 7748).

use cepa_wire::X25519PublicKey;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::{WeakKey, X25519SecretKey};

/// As many peers as one call is best given: beyond that a batch gains next to nothing, and what came
/// first waits longer.
pub const BATCH_MAX: usize = 64;

/// A shared secret. Zeroized when dropped; never printed.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// The secret, or that the peer's key was of low order: then it is all zero, and no secret at all.
    pub fn contributory(&self) -> Result<&[u8; 32], WeakKey> {
        if bool::from(self.0.as_slice().ct_eq(&[0_u8; 32][..])) {
            Err(WeakKey)
        } else {
            Ok(&self.0)
        }
    }
}

/// Computes `shared[i]` from `secret` and `peers[i]`, for as many as both slices have.
pub fn diffie_hellman_many(
    secret: &X25519SecretKey,
    peers: &[X25519PublicKey],
    shared: &mut [SharedSecret],
) {
    for (peer, shared) in peers.iter().zip(shared) {
        shared.0 = secret.diffie_hellman(peer).map_or([0; 32], |bytes| *bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_as_one_by_one() {
        let secret = X25519SecretKey::from_bytes([1; 32]);
        let peers: [_; 9] = core::array::from_fn(|index| match index {
            4 => X25519PublicKey([0; 32]),
            _ => X25519SecretKey::from_bytes([9 + u8::try_from(index).unwrap(); 32]).public_key(),
        });
        let mut shared = core::array::from_fn::<_, 9, _>(|_| SharedSecret::default());
        diffie_hellman_many(&secret, &peers, &mut shared);
        for (peer, shared) in peers.iter().zip(&shared) {
            let expected = secret.diffie_hellman(peer);
            let expected = expected.as_deref().map_err(|error| *error);
            assert_eq!(shared.contributory(), expected);
        }
    }
}
