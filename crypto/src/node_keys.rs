//! The keys of a node, of its own making or the chain daemon's.

use cepa_wire::{Ed25519PublicKey, X25519PublicKey};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::{Ed25519SecretKey, X25519SecretKey, ed25519_to_x25519, legacy_public_key};

/// A node's secret keys in the form in which the chain daemon gives them out
/// (`../shared/protocol/session-node.md`, "Obligations towards `oxend`"). Zeroized when dropped; never
/// printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKeys {
    /// A scalar below the group's order, little endian.
    pub legacy: [u8; 32],
    /// Seed and public key.
    pub ed25519: [u8; 64],
    /// As RFC 7748 has it, clamped or not.
    pub x25519: [u8; 32],
}

impl SecretKeys {
    /// All three from one seed, as the daemon makes them for a node that registers today.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let key = Ed25519SecretKey::from_seed(seed);
        Self {
            legacy: *key.to_legacy(),
            ed25519: *key.to_seed_and_public(),
            x25519: *key.to_x25519().to_bytes(),
        }
    }
}

/// Which of the chain daemon's secret keys can't be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The legacy key is zero, or not below the group's order.
    #[error("the legacy key is no scalar of the group")]
    Legacy,
    /// The second half of the Ed25519 key is not the public key of the first.
    #[error("the Ed25519 key does not hold its own public key")]
    Ed25519,
    /// The X25519 key is not that of the Ed25519 key.
    #[error("the X25519 key is not that of the Ed25519 key")]
    X25519,
}

/// A node's identity: the Ed25519 key that names it and signs, the X25519 key of the same scalar that
/// onions and CURVE are addressed to, and the legacy key that names it on the chain: the Ed25519 key
/// as well, but for nodes that registered before keys were unified.
pub struct NodeKeys {
    ed25519: Ed25519SecretKey,
    x25519: X25519SecretKey,
    ed25519_public: Ed25519PublicKey,
    x25519_public: X25519PublicKey,
    legacy_public: [u8; 32],
}

impl NodeKeys {
    /// From a seed, unified.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let ed25519 = Ed25519SecretKey::from_seed(seed);
        let x25519 = ed25519.to_x25519();
        Self {
            ed25519_public: ed25519.public_key(),
            x25519_public: x25519.public_key(),
            legacy_public: ed25519.public_key().0,
            ed25519,
            x25519,
        }
    }

    /// From the chain daemon's keys, once they have been found to belong together.
    pub fn from_secret_keys(keys: &SecretKeys) -> Result<Self, KeyError> {
        let legacy_public = legacy_public_key(&keys.legacy).ok_or(KeyError::Legacy)?;
        let ed25519 =
            Ed25519SecretKey::from_seed_and_public(&keys.ed25519).ok_or(KeyError::Ed25519)?;
        let ed25519_public = ed25519.public_key();
        let x25519 = X25519SecretKey::from_bytes(keys.x25519);
        let x25519_public = x25519.public_key();
        // Public keys are compared: of the secret ones, clamped bits may differ.
        if ed25519_to_x25519(&ed25519_public) != Some(x25519_public) {
            return Err(KeyError::X25519);
        }
        Ok(Self {
            ed25519,
            x25519,
            ed25519_public,
            x25519_public,
            legacy_public,
        })
    }

    /// The signing key.
    pub const fn ed25519(&self) -> &Ed25519SecretKey {
        &self.ed25519
    }

    /// The key of onions and CURVE.
    pub const fn x25519(&self) -> &X25519SecretKey {
        &self.x25519
    }

    /// The key that names it.
    pub const fn ed25519_public(&self) -> Ed25519PublicKey {
        self.ed25519_public
    }

    /// The key that onions and CURVE are addressed to.
    pub const fn x25519_public(&self) -> X25519PublicKey {
        self.x25519_public
    }

    /// The key that names it on the chain, in swarm answers and in reachability tests.
    pub const fn legacy_public(&self) -> [u8; 32] {
        self.legacy_public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(keys: &SecretKeys) -> Option<KeyError> {
        NodeKeys::from_secret_keys(keys).err()
    }

    #[test]
    fn a_seed_and_its_secret_keys_are_one_node() {
        let made = NodeKeys::from_seed([7; 32]);
        let given = NodeKeys::from_secret_keys(&SecretKeys::from_seed([7; 32])).unwrap();
        assert_eq!(given.ed25519_public(), made.ed25519_public());
        assert_eq!(given.x25519_public(), made.x25519_public());
        assert_eq!(given.legacy_public(), made.legacy_public());
        assert_eq!(given.ed25519().seed(), made.ed25519().seed());
        assert_eq!(made.legacy_public(), made.ed25519_public().0);
    }

    #[test]
    fn keys_that_do_not_belong_together_are_refused() {
        let good = SecretKeys::from_seed([7; 32]);
        let other = SecretKeys::from_seed([8; 32]);
        assert_eq!(refusal(&good), None);
        // A node that registered before keys were unified.
        let mut keys = good.clone();
        keys.legacy = other.legacy;
        assert_eq!(refusal(&keys), None);
        for legacy in [[0; 32], [0xff; 32]] {
            keys.legacy = legacy;
            assert_eq!(refusal(&keys), Some(KeyError::Legacy));
        }
        let mut keys = good.clone();
        keys.ed25519[40] ^= 1;
        assert_eq!(refusal(&keys), Some(KeyError::Ed25519));
        let mut keys = good.clone();
        keys.x25519 = other.x25519;
        assert_eq!(refusal(&keys), Some(KeyError::X25519));
        // What clamping sets and clears anyway.
        let mut keys = good;
        keys.x25519[0] ^= 7;
        keys.x25519[31] ^= 0x80;
        assert_eq!(refusal(&keys), None);
    }
}
