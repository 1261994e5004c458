//! Layers of onion requests, version 2 (`../shared/protocol/session-client.md`, section 4.2).

use cepa_wire::X25519PublicKey;
use cepa_wire::onion::EncType;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::X25519SecretKey;
use crate::primitive::{
    OpenError, aes_cbc_decrypt, aes_cbc_encrypt, aes_gcm_open, aes_gcm_seal, blake2b_256,
    hmac_sha256, xchacha20_poly1305_open, xchacha20_poly1305_seal,
};
use crate::x25519::SharedSecret;

/// A layer does not open: wrong key, wrong cipher, or changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("Invalid ciphertext")]
pub struct InvalidCiphertext;

impl From<OpenError> for InvalidCiphertext {
    fn from(_: OpenError) -> Self {
        Self
    }
}

/// The symmetric key of a layer. The same key encrypts the answer on its way back.
pub struct LayerKey {
    enc_type: EncType,
    key: Zeroizing<[u8; 32]>,
}

impl LayerKey {
    /// The key as the client derives it.
    pub fn for_client(
        enc_type: EncType,
        ephemeral: &X25519SecretKey,
        node: &X25519PublicKey,
    ) -> Result<Self, InvalidCiphertext> {
        let shared = ephemeral
            .diffie_hellman(node)
            .map_err(|_| InvalidCiphertext)?;
        Ok(Self::derive(
            enc_type,
            &shared,
            &ephemeral.public_key(),
            node,
        ))
    }

    /// The key as the node derives it. `node_public` is the public key of `node`.
    pub fn for_node(
        enc_type: EncType,
        ephemeral: &X25519PublicKey,
        node: &X25519SecretKey,
        node_public: &X25519PublicKey,
    ) -> Result<Self, InvalidCiphertext> {
        let shared = node
            .diffie_hellman(ephemeral)
            .map_err(|_| InvalidCiphertext)?;
        Ok(Self::derive(enc_type, &shared, ephemeral, node_public))
    }

    /// The key as the node derives it, from a secret that was computed with others
    /// ([`crate::x25519::diffie_hellman_many`]).
    pub fn from_shared(
        enc_type: EncType,
        shared: &SharedSecret,
        ephemeral: &X25519PublicKey,
        node_public: &X25519PublicKey,
    ) -> Result<Self, InvalidCiphertext> {
        let shared = shared.contributory().map_err(|_| InvalidCiphertext)?;
        Ok(Self::derive(enc_type, shared, ephemeral, node_public))
    }

    fn derive(
        enc_type: EncType,
        shared: &[u8; 32],
        client: &X25519PublicKey,
        node: &X25519PublicKey,
    ) -> Self {
        let key = match enc_type {
            EncType::AesGcm => hmac_sha256(b"LOKI", shared),
            EncType::XChaCha20 => blake2b_256([shared.as_slice(), &client.0, &node.0]),
            EncType::AesCbc => *shared,
        };
        Self {
            enc_type,
            key: Zeroizing::new(key),
        }
    }

    /// Encrypts. The first 24, 12 or 16 bytes of `nonce` are used, as the cipher needs; they must be
    /// random.
    pub fn seal(&self, plaintext: &[u8], nonce: [u8; 24]) -> Vec<u8> {
        let mut body = Vec::with_capacity(plaintext.len() + 40);
        body.extend_from_slice(plaintext);
        match self.enc_type {
            EncType::AesGcm => {
                let nonce: [u8; 12] = truncated(nonce);
                aes_gcm_seal(&self.key, nonce, &mut body);
                [nonce.as_slice(), &body].concat()
            }
            EncType::XChaCha20 => {
                xchacha20_poly1305_seal(&self.key, &nonce, &mut body);
                [nonce.as_slice(), &body].concat()
            }
            EncType::AesCbc => {
                let iv: [u8; 16] = truncated(nonce);
                [iv.as_slice(), &aes_cbc_encrypt(&self.key, &iv, plaintext)].concat()
            }
        }
    }

    /// Decrypts.
    pub fn open(&self, ciphertext: &[u8]) -> Result<Vec<u8>, InvalidCiphertext> {
        match self.enc_type {
            EncType::AesGcm => {
                let (nonce, body) = ciphertext.split_first_chunk().ok_or(InvalidCiphertext)?;
                let mut body = body.to_vec();
                aes_gcm_open(&self.key, *nonce, &mut body)?;
                Ok(body)
            }
            EncType::XChaCha20 => {
                let (nonce, body) = ciphertext.split_first_chunk().ok_or(InvalidCiphertext)?;
                let mut body = body.to_vec();
                xchacha20_poly1305_open(&self.key, nonce, &mut body)?;
                Ok(body)
            }
            EncType::AesCbc => {
                let (iv, body) = ciphertext.split_first_chunk().ok_or(InvalidCiphertext)?;
                Ok(aes_cbc_decrypt(&self.key, iv, body)?)
            }
        }
    }
}

/// The first bytes of a nonce.
fn truncated<const N: usize>(nonce: [u8; 24]) -> [u8; N] {
    const { assert!(N <= 24) };
    core::array::from_fn(|index| nonce.get(index).copied().unwrap_or_default())
}

/// Adds a layer for `node`; the key opens the answer.
pub fn wrap(
    plaintext: &[u8],
    enc_type: EncType,
    node: &X25519PublicKey,
    ephemeral: &X25519SecretKey,
    nonce: [u8; 24],
) -> Result<(Vec<u8>, LayerKey), InvalidCiphertext> {
    let key = LayerKey::for_client(enc_type, ephemeral, node)?;
    Ok((key.seal(plaintext, nonce), key))
}

/// Removes a layer; the key seals the answer. `node_public` is the public key of `node`.
pub fn peel(
    ciphertext: &[u8],
    enc_type: EncType,
    ephemeral: &X25519PublicKey,
    node: &X25519SecretKey,
    node_public: &X25519PublicKey,
) -> Result<(Vec<u8>, LayerKey), InvalidCiphertext> {
    let key = LayerKey::for_node(enc_type, ephemeral, node, node_public)?;
    Ok((key.open(ciphertext)?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [EncType; 3] = [EncType::AesGcm, EncType::XChaCha20, EncType::AesCbc];

    fn keys() -> (X25519SecretKey, X25519SecretKey) {
        (
            X25519SecretKey::from_bytes([1; 32]),
            X25519SecretKey::from_bytes([2; 32]),
        )
    }

    #[test]
    fn layers_open_and_the_same_key_carries_the_answer() {
        let (client, node) = keys();
        let node_public = node.public_key();
        for cipher in CIPHERS {
            for size in [0, 1, 15, 16, 17, 5000] {
                let text = vec![7; size];
                let (sealed, client_key) =
                    wrap(&text, cipher, &node_public, &client, [9; 24]).unwrap();
                let (opened, node_key) =
                    peel(&sealed, cipher, &client.public_key(), &node, &node_public).unwrap();
                assert_eq!(opened, text);
                let answer = node_key.seal(b"answer", [8; 24]);
                assert_eq!(client_key.open(&answer).unwrap(), b"answer");
            }
        }
    }

    /// Made by libsodium and OpenSSL: see `onion_v2/vectors.py`.
    #[test]
    fn layers_are_those_of_other_implementations() {
        let mut count = 0;
        for line in include_str!("onion_v2/vectors.txt").lines() {
            let fields = line.split('|').collect::<Vec<_>>();
            let [cipher, client, node, nonce, text, sealed] = fields.try_into().unwrap();
            let cipher = match cipher {
                "aes_gcm" => EncType::AesGcm,
                "xchacha20" => EncType::XChaCha20,
                "aes_cbc" => EncType::AesCbc,
                _ => panic!("unknown cipher {cipher}"),
            };
            let [client, node] = [client, node].map(|key| {
                X25519SecretKey::from_bytes(hex::decode(key).unwrap().try_into().unwrap())
            });
            let nonce = hex::decode(nonce).unwrap().try_into().unwrap();
            let text = hex::decode(text).unwrap();
            let public = node.public_key();
            let (wrapped, _) = wrap(&text, cipher, &public, &client, nonce).unwrap();
            assert_eq!(hex::encode(&wrapped), sealed, "{line}");
            let (peeled, _) = peel(&wrapped, cipher, &client.public_key(), &node, &public).unwrap();
            assert_eq!(peeled, text);
            count += 1;
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn what_was_changed_or_cut_does_not_open() {
        let (client, node) = keys();
        let public = node.public_key();
        for cipher in [EncType::AesGcm, EncType::XChaCha20] {
            let (sealed, _) = wrap(b"a secret", cipher, &public, &client, [9; 24]).unwrap();
            let open =
                |sealed: &[u8]| peel(sealed, cipher, &client.public_key(), &node, &public).err();
            for index in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[index] ^= 0x10;
                assert_eq!(open(&changed), Some(InvalidCiphertext));
                assert_eq!(open(&sealed[..index]), Some(InvalidCiphertext));
            }
            let other = X25519SecretKey::from_bytes([3; 32]).public_key();
            assert!(peel(&sealed, cipher, &other, &node, &public).is_err());
        }
        let zero = X25519PublicKey([0; 32]);
        assert!(peel(&[0; 64], EncType::AesCbc, &zero, &node, &public).is_err());
    }

    #[test]
    fn ciphers_of_aes_cbc_refuse_bad_padding_and_sizes() {
        let (client, node) = keys();
        let public = node.public_key();
        for size in [0, 15, 16, 31] {
            let sealed = vec![0; size];
            assert!(
                peel(
                    &sealed,
                    EncType::AesCbc,
                    &client.public_key(),
                    &node,
                    &public
                )
                .is_err()
            );
        }
    }
}
