//! Secret keys, and what public keys can do.

use core::cell::OnceCell;

use cepa_wire::{Ed25519PublicKey, Signature, X25519PublicKey};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::{Signer as _, SigningKey};
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

/// The signature does not verify, or the key is no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// The shared secret would be all zero: the peer's key is of low order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("public key is of low order")]
pub struct WeakKey;

/// An X25519 secret key (RFC 7748). Zeroized when dropped; never printed.
#[derive(Clone)]
pub struct X25519SecretKey(StaticSecret);

impl X25519SecretKey {
    /// From 32 random bytes (clamped when used).
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(StaticSecret::from(bytes));
        bytes.zeroize();
        key
    }

    /// The bytes, for what keeps them.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public key. One multiplication: keep it where it is needed often.
    pub fn public_key(&self) -> X25519PublicKey {
        X25519PublicKey(PublicKey::from(&self.0).to_bytes())
    }

    /// Diffie-Hellman with a peer's key.
    pub fn diffie_hellman(&self, peer: &X25519PublicKey) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(peer.0));
        if shared.was_contributory() {
            Ok(Zeroizing::new(shared.to_bytes()))
        } else {
            Err(WeakKey)
        }
    }
}

/// The public key of a legacy secret key: a scalar below the group's order, little endian, as Monero
/// has them. `None` when it is zero, or not below the order.
pub fn legacy_public_key(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let mut scalar = Option::<Scalar>::from(Scalar::from_canonical_bytes(*secret))?;
    let point = EdwardsPoint::mul_base(&scalar);
    scalar.zeroize();
    (!point.is_identity()).then(|| point.compress().0)
}

/// An Ed25519 secret key (RFC 8032), expanded once. Zeroized when dropped; never printed.
#[derive(Clone)]
pub struct Ed25519SecretKey(SigningKey);

impl Ed25519SecretKey {
    /// From a seed.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = Self(SigningKey::from_bytes(&seed));
        seed.zeroize();
        key
    }

    /// From a seed and the public key behind it, the 64 bytes of libsodium; `None` when the public key
    /// is not that of the seed.
    pub fn from_seed_and_public(bytes: &[u8; 64]) -> Option<Self> {
        SigningKey::from_keypair_bytes(bytes).ok().map(Self)
    }

    /// What [`Self::from_seed_and_public`] reads.
    pub fn to_seed_and_public(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_keypair_bytes())
    }

    /// The seed, for the file that keeps it.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Its public key.
    pub fn public_key(&self) -> Ed25519PublicKey {
        Ed25519PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The legacy secret key of the same scalar, whose public key is the Ed25519 public key.
    pub fn to_legacy(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_scalar().to_bytes())
    }

    /// The X25519 key of the same scalar (libsodium's `crypto_sign_ed25519_sk_to_curve25519`).
    pub fn to_x25519(&self) -> X25519SecretKey {
        X25519SecretKey::from_bytes(self.0.to_scalar_bytes())
    }
}

/// A key that signatures are verified with, worked out once: its point, and what is asked of that more
/// than once.
pub struct VerifyingKey {
    bytes: Ed25519PublicKey,
    point: ed25519_dalek::VerifyingKey,
    /// Worked out when it is asked for: that costs as much as to verify. `None` in it when the point is
    /// not of the prime-order group.
    x25519: OnceCell<Option<X25519PublicKey>>,
}

impl VerifyingKey {
    /// From a public key.
    pub fn new(key: &Ed25519PublicKey) -> Result<Self, BadSignature> {
        Ok(Self {
            bytes: *key,
            point: verifying_point(key)?,
            x25519: OnceCell::new(),
        })
    }

    /// The key.
    pub const fn bytes(&self) -> &Ed25519PublicKey {
        &self.bytes
    }

    /// Its X25519 form, as [`ed25519_to_x25519`].
    pub fn to_x25519(&self) -> Option<X25519PublicKey> {
        *self
            .x25519
            .get_or_init(|| x25519_of(self.point.to_edwards()))
    }

    /// Verifies a signature, as [`verify`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        verify_with(&self.point, message, signature)
    }
}

/// Verifies a signature as libsodium does: canonical encodings, no points of small order.
pub fn verify(
    key: &Ed25519PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_with(&verifying_point(key)?, message, signature)
}

fn verifying_point(key: &Ed25519PublicKey) -> Result<ed25519_dalek::VerifyingKey, BadSignature> {
    if !is_canonical(key) {
        return Err(BadSignature);
    }
    ed25519_dalek::VerifyingKey::from_bytes(&key.0).map_err(|_| BadSignature)
}

fn verify_with(
    point: &ed25519_dalek::VerifyingKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    point
        .verify_strict(message, &signature)
        .map_err(|_| BadSignature)
}

/// The X25519 key of an Ed25519 key; `None` when the bytes are no point of the prime-order group
/// (libsodium's `crypto_sign_ed25519_pk_to_curve25519`).
pub fn ed25519_to_x25519(key: &Ed25519PublicKey) -> Option<X25519PublicKey> {
    let point = CompressedEdwardsY(key.0)
        .decompress()
        .filter(|_| is_canonical(key))?;
    x25519_of(point)
}

fn x25519_of(point: EdwardsPoint) -> Option<X25519PublicKey> {
    let good = !point.is_small_order() && point.is_torsion_free();
    good.then(|| X25519PublicKey(point.to_montgomery().to_bytes()))
}

/// Whether a key's y is below 2^255 - 19, as RFC 8032 asks and dalek does not check.
fn is_canonical(key: &Ed25519PublicKey) -> bool {
    let [low, middle @ .., high] = &key.0;
    !(*low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use ed25519_dalek::Verifier as _;

    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn rfc_8032_vectors() {
        // Section 7.1, tests 1 and 2: secret key, public key, message, signature.
        let vectors = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ];
        for (seed, public, message, signature) in vectors {
            let key = Ed25519SecretKey::from_seed(bytes(seed));
            let message = hex::decode(message).unwrap();
            assert_eq!(key.public_key().to_hex(), public);
            assert_eq!(key.sign(&message).to_hex(), signature);
            let signature = Signature(bytes(signature));
            assert_eq!(verify(&key.public_key(), &message, &signature), Ok(()));
            assert_eq!(
                verify(&key.public_key(), b"other", &signature),
                Err(BadSignature)
            );
        }
    }

    #[test]
    fn rfc_7748_diffie_hellman() {
        // Section 6.1: Bob's secret and public key, Alice's public key, the shared secret.
        let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let bob = X25519SecretKey::from_bytes(bytes(bob));
        let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        let alice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
        assert_eq!(bob.public_key().to_hex(), public);
        let secret = bob.diffie_hellman(&X25519PublicKey(bytes(alice))).unwrap();
        assert_eq!(hex::encode(*secret), shared);
    }

    #[test]
    fn both_forms_of_a_key_belong_together() {
        let key = Ed25519SecretKey::from_seed([7; 32]);
        let converted = ed25519_to_x25519(&key.public_key()).unwrap();
        assert_eq!(converted, key.to_x25519().public_key());
    }

    /// What the equation of RFC 8032 alone would accept, and libsodium does not.
    #[test]
    fn signatures_that_anyone_could_change_or_make_are_refused() {
        let key = Ed25519SecretKey::from_seed([7; 32]);
        let public = key.public_key();
        // S + L is the same scalar, written in another way.
        let signature = key.sign(b"text");
        let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut other = signature;
        let mut carry = 0;
        for (byte, add) in other.0[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(verify(&public, b"text", &signature), Ok(()));
        assert_eq!(verify(&public, b"text", &other), Err(BadSignature));
        // R of small order: S = k a fulfils S B = R + k A.
        let mut small = [0; 64];
        small[0] = 1;
        let hashed = [&small[..32], &public.0, b"text"].concat();
        let hashed = ring::digest::digest(&ring::digest::SHA512, &hashed);
        let challenge = Scalar::from_bytes_mod_order_wide(hashed.as_ref().try_into().unwrap());
        let product = challenge * key.0.to_scalar();
        small[32..].copy_from_slice(product.as_bytes());
        let lenient = ed25519_dalek::VerifyingKey::from_bytes(&public.0).unwrap();
        let dalek = ed25519_dalek::Signature::from_bytes(&small);
        assert!(
            lenient.verify(b"text", &dalek).is_ok(),
            "the equation holds"
        );
        assert_eq!(
            verify(&public, b"text", &Signature(small)),
            Err(BadSignature)
        );
    }

    #[test]
    fn keys_outside_the_prime_order_group_are_not_converted() {
        let public = Ed25519SecretKey::from_seed([7; 32]).public_key();
        let point = CompressedEdwardsY(public.0).decompress().unwrap();
        for (index, torsion) in EIGHT_TORSION.iter().enumerate() {
            let mixed = Ed25519PublicKey((point + torsion).compress().0);
            assert_eq!(ed25519_to_x25519(&mixed).is_some(), index == 0, "{index}");
        }
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let key = X25519SecretKey::from_bytes([1; 32]);
        assert_eq!(key.diffie_hellman(&X25519PublicKey([0; 32])), Err(WeakKey));
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(ed25519_to_x25519(&Ed25519PublicKey(identity)), None);
        // y = p + 1 encodes the same point in another way.
        let mut alias = [0xff; 32];
        alias[0] = 0xee;
        alias[31] = 0x7f;
        assert_eq!(ed25519_to_x25519(&Ed25519PublicKey(alias)), None);
        let signature = Signature([0; 64]);
        assert_eq!(
            verify(&Ed25519PublicKey(identity), b"", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            verify(&Ed25519PublicKey(alias), b"", &signature),
            Err(BadSignature)
        );
    }
}
