//! ML-KEM-768 (FIPS 203), and what becomes of its secret.

use blake3::Hasher;
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::geometry::split;
use ml_kem::ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey};
use ml_kem::{Decapsulate as _, KeyExport as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::HandshakeError;

/// A ciphertext of ML-KEM-768 (FIPS 203, table 3).
pub(super) const KEM_CIPHERTEXT_SIZE: usize = 1088;

/// A relay's secret key for decapsulation. Zeroized when dropped; never printed.
pub struct KemSecretKey {
    key: DecapsulationKey,
    public: Box<[u8; KEM_KEY_SIZE]>,
}

impl KemSecretKey {
    /// From 64 random bytes: the seed d and z.
    pub fn from_seed(mut seed: [u8; 64]) -> Self {
        let key = DecapsulationKey::from_seed(seed.into());
        seed.zeroize();
        let public = Box::new(key.encapsulation_key().to_bytes().0);
        Self { key, public }
    }

    /// What the descriptor publishes.
    pub const fn public_key(&self) -> &[u8; KEM_KEY_SIZE] {
        &self.public
    }

    /// What a ciphertext holds. One that was made for another key, or changed, gives a secret that nobody
    /// has (implicit rejection): the handshake's tag refuses it.
    pub(super) fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_SIZE]) -> KemKeys {
        let mut secret = self.key.decapsulate(&Ciphertext::from(*ciphertext));
        let keys = KemKeys::expand(&secret.0);
        secret.0.zeroize();
        keys
    }
}

/// A ciphertext for whoever has the key, and what it holds.
pub(super) fn encapsulate(
    key: &[u8; KEM_KEY_SIZE],
    mut random: [u8; 32],
) -> Result<([u8; KEM_CIPHERTEXT_SIZE], KemKeys), HandshakeError> {
    let key = EncapsulationKey::new(&(*key).into()).map_err(|_| HandshakeError::BadKemKey)?;
    let mut message = random.into();
    let (ciphertext, mut secret) = key.encapsulate_deterministic(&message);
    random.zeroize();
    message.0.zeroize();
    let keys = KemKeys::expand(&secret.0);
    secret.0.zeroize();
    Ok((ciphertext.0, keys))
}

/// What a secret is expanded to.
pub(super) struct KemKeys {
    /// The pre-shared key of Noise.
    pub(super) psk: Zeroizing<[u8; 32]>,
    /// What never enters Noise: the keys of frames are made with it.
    pub(super) export: Zeroizing<[u8; 32]>,
}

impl KemKeys {
    fn expand(secret: &[u8; 32]) -> Self {
        let mut hasher = Hasher::new_keyed(secret);
        hasher.update(b"cepa link 1: psk and export");
        let mut output = Zeroizing::new([0; 64]);
        let mut reader = hasher.finalize_xof();
        reader.fill(output.as_mut_slice());
        reader.zeroize();
        hasher.zeroize();
        let (psk, export) = split::<32, 32, 64>(&output);
        Self {
            psk: Zeroizing::new(*psk),
            export: Zeroizing::new(*export),
        }
    }
}
