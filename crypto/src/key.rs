//! Secret keys, and what public keys can do.
//!
//! - aws-lc multiplies where it is many times a second: X25519 of one peer, signatures and their
//!   verification. Measured beside dalek (`cargo bench -p benches --bench signature`): twice as fast
//!   with secret keys, a fifth faster in verification.
//! - dalek has the scalars and points, which aws-lc does not show: converted and legacy keys. Tests
//!   hold both against each other.
//! - [`crate::x25519`] has many peers at once.
//!
//! aws-lc keeps a copy of a secret key on its heap. It frees memory with `OPENSSL_free`, which
//! overwrites it (`OPENSSL_cleanse`).

use core::cell::OnceCell;
use std::sync::Arc;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use cepa_wire::{Ed25519PublicKey, Signature, X25519PublicKey};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::SigningKey;
use thiserror::Error;
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
pub struct X25519SecretKey {
    bytes: Zeroizing<[u8; 32]>,
    public: X25519PublicKey,
    /// The same for aws-lc, which overwrites it when the last clone is dropped.
    parsed: Arc<PrivateKey>,
}

impl X25519SecretKey {
    /// From 32 random bytes (clamped when used). Works out the public key: one multiplication of
    /// the base point.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let Ok(parsed) = PrivateKey::from_private_key(&X25519, &bytes) else {
            unreachable!("{TAKES_ANY}")
        };
        let mut public = X25519PublicKey([0; 32]);
        let Ok(computed) = parsed.compute_public_key() else {
            unreachable!("{TAKES_ANY}")
        };
        public.0.copy_from_slice(computed.as_ref());
        let key = Self {
            bytes: Zeroizing::new(bytes),
            public,
            parsed: Arc::new(parsed),
        };
        bytes.zeroize();
        key
    }

    /// The bytes, for what keeps them.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.bytes.clone()
    }

    /// Its public key.
    pub fn public_key(&self) -> X25519PublicKey {
        self.public
    }

    /// Diffie-Hellman with a peer's key.
    pub fn diffie_hellman(&self, peer: &X25519PublicKey) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        let peer = UnparsedPublicKey::new(&X25519, &peer.0);
        // aws-lc takes any 32 bytes, and errs when what comes out is all zero.
        agreement::agree(&self.parsed, peer, WeakKey, |shared| {
            let mut secret = Zeroizing::new([0; 32]);
            secret.copy_from_slice(shared);
            Ok(secret)
        })
    }
}

/// What is said if aws-lc refused 32 bytes as a key: that would be for want of memory alone.
const TAKES_ANY: &str = "any 32 bytes are a secret key";

/// The public key of a legacy secret key: a scalar below the group's order, little endian, as Monero
/// has them. `None` when it is zero, or not below the order.
pub fn legacy_public_key(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let mut scalar = Option::<Scalar>::from(Scalar::from_canonical_bytes(*secret))?;
    let point = EdwardsPoint::mul_base(&scalar);
    scalar.zeroize();
    (!point.is_identity()).then(|| point.compress().0)
}

/// An Ed25519 secret key (RFC 8032). Zeroized when dropped; never printed.
#[derive(Clone)]
pub struct Ed25519SecretKey {
    seed: Zeroizing<[u8; 32]>,
    /// The same for aws-lc, which overwrites it when the last clone is dropped.
    pair: Ed25519KeyPair,
}

impl Ed25519SecretKey {
    /// From a seed. Works out the public key: one multiplication of the base point.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&seed) else {
            unreachable!("{TAKES_ANY}")
        };
        let key = Self {
            seed: Zeroizing::new(seed),
            pair,
        };
        seed.zeroize();
        key
    }

    /// From a seed and the public key behind it, the 64 bytes of libsodium; `None` when the public key
    /// is not that of the seed.
    pub fn from_seed_and_public(bytes: &[u8; 64]) -> Option<Self> {
        let (seed, public) = bytes.split_first_chunk::<32>()?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
        let seed = Zeroizing::new(*seed);
        Some(Self { seed, pair })
    }

    /// What [`Self::from_seed_and_public`] reads.
    pub fn to_seed_and_public(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        let (seed, public) = bytes.split_at_mut(32);
        seed.copy_from_slice(self.seed.as_slice());
        public.copy_from_slice(self.pair.public_key().as_ref());
        bytes
    }

    /// The seed, for the file that keeps it.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Its public key.
    pub fn public_key(&self) -> Ed25519PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        Ed25519PublicKey(bytes)
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(bytes)
    }

    /// The legacy secret key of the same scalar, whose public key is the Ed25519 public key.
    pub fn to_legacy(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.expand().to_scalar().to_bytes())
    }

    /// The X25519 key of the same scalar (libsodium's `crypto_sign_ed25519_sk_to_curve25519`).
    pub fn to_x25519(&self) -> X25519SecretKey {
        X25519SecretKey::from_bytes(self.expand().to_scalar_bytes())
    }

    /// With its scalar, which aws-lc does not give away.
    fn expand(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }
}

/// A key that signatures are verified with, and what is asked of it more than once.
pub struct VerifyingKey {
    bytes: Ed25519PublicKey,
    parsed: ParsedPublicKey,
    /// Worked out when it is asked for: that costs as much as to verify. `None` in it when the bytes
    /// are no point of the prime-order group.
    x25519: OnceCell<Option<X25519PublicKey>>,
}

impl VerifyingKey {
    /// From a public key; an error when it is not written as RFC 8032 asks, or of small order. One
    /// that is no point at all passes, and verifies nothing.
    pub fn new(key: &Ed25519PublicKey) -> Result<Self, BadSignature> {
        if !is_canonical(key) || is_small_order(&key.0) {
            return Err(BadSignature);
        }
        Ok(Self {
            bytes: *key,
            parsed: ParsedPublicKey::new(&ED25519, key.0).map_err(|_| BadSignature)?,
            x25519: OnceCell::new(),
        })
    }

    /// The key.
    pub const fn bytes(&self) -> &Ed25519PublicKey {
        &self.bytes
    }

    /// Its X25519 form, as [`ed25519_to_x25519`].
    pub fn to_x25519(&self) -> Option<X25519PublicKey> {
        *self.x25519.get_or_init(|| ed25519_to_x25519(&self.bytes))
    }

    /// Verifies a signature, as [`verify`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        // aws-lc asks for S below the order, and compares R with the one encoding of what it has
        // computed. It is RFC 8032 without the cofactor, as in libsodium, but for small orders.
        if signature.0.first_chunk().is_none_or(is_small_order) {
            return Err(BadSignature);
        }
        self.parsed
            .verify_sig(message, &signature.0)
            .map_err(|_| BadSignature)
    }
}

/// Verifies a signature as libsodium does: canonical encodings, no points of small order.
pub fn verify(
    key: &Ed25519PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    VerifyingKey::new(key)?.verify(message, signature)
}

/// The X25519 key of an Ed25519 key; `None` when the bytes are no point of the prime-order group
/// (libsodium's `crypto_sign_ed25519_pk_to_curve25519`).
pub fn ed25519_to_x25519(key: &Ed25519PublicKey) -> Option<X25519PublicKey> {
    let point = CompressedEdwardsY(key.0)
        .decompress()
        .filter(|_| is_canonical(key))?;
    let good = !point.is_small_order() && point.is_torsion_free();
    good.then(|| X25519PublicKey(point.to_montgomery().to_bytes()))
}

/// Whether a key's y is below 2^255 - 19, as RFC 8032 asks. dalek does not check that.
fn is_canonical(key: &Ed25519PublicKey) -> bool {
    let [low, middle @ .., high] = &key.0;
    !(*low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f)
}

/// y of the points of order 1, 2, 4 and 8, little endian.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [
        0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];

/// Whether the bytes are a point of small order, with whatever sign. Other than canonical encodings
/// are not looked at.
fn is_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    let [.., high] = &mut y;
    *high &= 0x7f;
    SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests;
