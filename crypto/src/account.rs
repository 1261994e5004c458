//! Session accounts (`../shared/protocol/session-client.md`, section 1).

use cepa_wire::Mailbox;
use zeroize::Zeroizing;

use crate::mnemonic::{self, MnemonicError};
use crate::{Ed25519SecretKey, X25519SecretKey};

/// An account: 16 bytes of entropy and the keys that follow from them.
pub struct Account {
    entropy: Zeroizing<[u8; 16]>,
    ed25519: Ed25519SecretKey,
    x25519: X25519SecretKey,
    id: Mailbox,
}

impl Account {
    /// From 16 random bytes.
    pub fn from_entropy(entropy: [u8; 16]) -> Self {
        let entropy = Zeroizing::new(entropy);
        // The seed is the entropy's hex padded with '0' on the right, and so these bytes and zeros.
        let mut seed = Zeroizing::new([0; 32]);
        for (to, from) in seed.iter_mut().zip(entropy.iter()) {
            *to = *from;
        }
        let ed25519 = Ed25519SecretKey::from_seed(*seed);
        let x25519 = ed25519.to_x25519();
        let id = Mailbox {
            prefix: Mailbox::ACCOUNT,
            key: x25519.public_key().0,
        };
        Self {
            entropy,
            ed25519,
            x25519,
            id,
        }
    }

    /// From its 13 words; any word with the right three-letter prefix is accepted.
    pub fn from_mnemonic(words: &str) -> Result<Self, MnemonicError> {
        mnemonic::decode(words).map(|entropy| Self::from_entropy(*entropy))
    }

    /// Its 13 words.
    pub fn mnemonic(&self) -> Zeroizing<String> {
        mnemonic::encode(&self.entropy)
    }

    /// Its id: `05` and the X25519 key.
    pub const fn id(&self) -> Mailbox {
        self.id
    }

    /// The signing key.
    pub const fn ed25519(&self) -> &Ed25519SecretKey {
        &self.ed25519
    }

    /// The key that messages are sealed to.
    pub const fn x25519(&self) -> &X25519SecretKey {
        &self.x25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entropy, words, id: made by libsodium and the published algorithm of Monero's word lists, and
    /// the pair that sessionjs tests with.
    const VECTORS: &str = include_str!("account/vectors.txt");

    #[test]
    fn accounts_are_those_of_other_clients() {
        let mut count = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let [entropy, words, id] = line.split('|').collect::<Vec<_>>().try_into().unwrap();
            let entropy = hex::decode(entropy).unwrap().try_into().unwrap();
            let account = Account::from_entropy(entropy);
            assert_eq!(account.id().to_hex(), id);
            assert_eq!(*account.mnemonic(), words);
            assert_eq!(Account::from_mnemonic(words).unwrap().id().to_hex(), id);
            count += 1;
        }
        assert!(count >= 6);
    }
}
