//! X25519 of one secret key with many peers at once (RFC 7748).
//!
//! A relay's key meets a new peer in each packet, and there are always some packets waiting. Where
//! the CPU has AVX-512 IFMA, eight peers take as long as one, and two are faster than with aws-lc,
//! which other CPUs use, and all for a peer alone. A batch may be of any length; it is best as long
//! as what is waiting, up to [`BATCH_MAX`].
//!
//! - `formulas`: the field and the ladder, and how digits are kept within their bounds.
//! - `ifma`: the same in eight lanes, and why it takes constant time.
//! - `tests`: the vectors of RFC 7748, x25519-dalek, a slow twin, and a proof of the bounds by intervals,
//!   which runs the text of `formulas` itself.
//!
//! Sources: RFC 7748; P. Montgomery, "Speeding the Pollard and elliptic curve methods of
//! factorization" (1987), for the ladder and for the inversion that many share; D. Bernstein,
//! "Curve25519: new Diffie-Hellman speed records" (2006).

use std::sync::OnceLock;

use cepa_wire::X25519PublicKey;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::key::{WeakKey, X25519SecretKey};

#[cfg(any(test, target_arch = "x86_64"))]
mod formulas;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(test)]
mod tests;

/// As many peers as one call is best given: beyond that a batch gains next to nothing, and what
/// came first waits longer.
pub const BATCH_MAX: usize = 64;

/// A shared secret. Zeroized when dropped; never printed.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// The secret, or that the peer's key was of low order: then it is all zero, and no secret at
    /// all.
    pub fn contributory(&self) -> Result<&[u8; 32], WeakKey> {
        if bool::from(self.0.as_slice().ct_eq(&[0_u8; 32][..])) {
            Err(WeakKey)
        } else {
            Ok(&self.0)
        }
    }
}

/// What computes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One peer after the other, on any CPU (aws-lc).
    Scalar,
    /// Eight peers at once, with AVX-512 IFMA; a peer alone as [`Self::Scalar`].
    Avx512Ifma,
}

/// Why [`choose`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChooseError {
    /// This CPU can't run it.
    #[error("this CPU has no AVX-512 IFMA")]
    Unavailable,
    /// Another one was chosen before, or has computed something.
    #[error("another backend is in use")]
    InUse,
}

static CHOSEN: OnceLock<Backend> = OnceLock::new();

/// The fastest that this CPU can run.
pub fn available() -> Backend {
    match Engine::detect() {
        Engine::Scalar => Backend::Scalar,
        #[cfg(target_arch = "x86_64")]
        Engine::Ifma(_) => Backend::Avx512Ifma,
    }
}

/// Has [`diffie_hellman_many`] use `backend` from now on, in the whole process. Once, before it is
/// first called; without, it uses what is [`available`].
pub fn choose(backend: Backend) -> Result<(), ChooseError> {
    choose_in(&CHOSEN, backend)
}

fn choose_in(chosen: &OnceLock<Backend>, backend: Backend) -> Result<(), ChooseError> {
    if backend != Backend::Scalar && backend != available() {
        return Err(ChooseError::Unavailable);
    }
    if *chosen.get_or_init(|| backend) == backend {
        Ok(())
    } else {
        Err(ChooseError::InUse)
    }
}

/// What is used when nobody chose.
#[cfg(not(test))]
fn first_choice() -> Backend {
    available()
}

/// So that the tests of packets run with each: `.ci/run` says which.
#[cfg(test)]
fn first_choice() -> Backend {
    match std::env::var("CEPA_TEST_X25519").as_deref() {
        Ok("scalar") => Backend::Scalar,
        _ => available(),
    }
}

/// Computes `shared[i]` from `secret` and `peers[i]`, for as many as both slices have. All zero
/// where the peer's key is of low order.
pub fn diffie_hellman_many(
    secret: &X25519SecretKey,
    peers: &[X25519PublicKey],
    shared: &mut [SharedSecret],
) {
    let engine = match CHOSEN.get_or_init(first_choice) {
        Backend::Scalar => Engine::Scalar,
        Backend::Avx512Ifma => Engine::detect(),
    };
    engine.many(secret, peers, shared);
}

/// A [`Backend`] that this CPU is known to run.
#[derive(Clone, Copy)]
enum Engine {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Ifma),
}

impl Engine {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(ifma) = ifma::Ifma::detect() {
            return Self::Ifma(ifma);
        }
        Self::Scalar
    }

    fn many(
        self,
        secret: &X25519SecretKey,
        peers: &[X25519PublicKey],
        shared: &mut [SharedSecret],
    ) {
        let count = peers.len().min(shared.len());
        let (peers, shared) = (&peers[..count], &mut shared[..count]);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(ifma) if count > 1 => ifma.many(&secret.to_bytes(), peers, shared),
            _ => one_by_one(secret, peers, shared),
        }
    }
}

fn one_by_one(secret: &X25519SecretKey, peers: &[X25519PublicKey], shared: &mut [SharedSecret]) {
    for (peer, shared) in peers.iter().zip(shared) {
        shared.0 = secret.diffie_hellman(peer).map_or([0; 32], |bytes| *bytes);
    }
}
