//! The cipher crates, named here and nowhere else but in `key` and `packet`: what the layers above are
//! made of.

use aes::Aes256;
use blake2::digest::consts::{U24, U32};
use blake2::{Blake2b, Digest as _};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use chacha20::{R20, hchacha};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use salsa20::XSalsa20;
use salsa20::cipher::StreamCipher as _;
use salsa20::cipher::consts::U10;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

/// A ciphertext does not open: wrong key, or changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("ciphertext does not open")]
pub struct OpenError;

/// A tag's size, of all authenticated ciphers here.
pub const TAG_SIZE: usize = 16;

/// BLAKE2b-256 (RFC 7693) of parts in a row, without key.
pub fn blake2b_256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    parts.into_iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// BLAKE2b-192 of parts in a row: the nonce of a sealed box.
fn blake2b_192<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 24] {
    let mut hasher = Blake2b::<U24>::new();
    parts.into_iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// HMAC-SHA256 (RFC 2104).
pub fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut output = [0; 32];
    output.copy_from_slice(ring::hmac::sign(&key, text).as_ref());
    output
}

/// AES-256-GCM (NIST SP 800-38D) in place; the tag is appended.
pub fn aes_gcm_seal(key: &[u8; 32], nonce: [u8; 12], buffer: &mut Vec<u8>) {
    aead_seal(&aead_key(&AES_256_GCM, key), nonce, buffer);
}

/// Opens AES-256-GCM in place and cuts the tag off.
pub fn aes_gcm_open(
    key: &[u8; 32],
    nonce: [u8; 12],
    buffer: &mut Vec<u8>,
) -> Result<(), OpenError> {
    aead_open(&aead_key(&AES_256_GCM, key), nonce, buffer)
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha, section 2.3) in place; the tag is appended.
pub fn xchacha20_poly1305_seal(key: &[u8; 32], nonce: &[u8; 24], buffer: &mut Vec<u8>) {
    let (key, nonce) = xchacha20_subkey(key, nonce);
    aead_seal(&key, nonce, buffer);
}

/// Opens XChaCha20-Poly1305 in place and cuts the tag off.
pub fn xchacha20_poly1305_open(
    key: &[u8; 32],
    nonce: &[u8; 24],
    buffer: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let (key, nonce) = xchacha20_subkey(key, nonce);
    aead_open(&key, nonce, buffer)
}

/// The key and nonce of the ChaCha20-Poly1305 (RFC 8439) that an XChaCha20-Poly1305 is: ring's is three
/// times as fast as that of the crate that has the longer nonce.
fn xchacha20_subkey(key: &[u8; 32], nonce: &[u8; 24]) -> (LessSafeKey, [u8; 12]) {
    let (prefix, suffix) = nonce.split_at(16);
    let mut input = [0; 16];
    input.copy_from_slice(prefix);
    let subkey = Zeroizing::new(hchacha::<R20>(key.into(), &input.into()).0);
    let mut nonce = [0; 12];
    let (_, room) = nonce.split_at_mut(4);
    room.copy_from_slice(suffix);
    (aead_key(&CHACHA20_POLY1305, &subkey), nonce)
}

fn aead_seal(key: &LessSafeKey, nonce: [u8; 12], buffer: &mut Vec<u8>) {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key.seal_in_place_append_tag(nonce, Aad::empty(), buffer);
    // ring refuses only what is larger than 64 GiB.
    assert!(sealed.is_ok(), "a buffer below the limit is sealed");
}

fn aead_open(key: &LessSafeKey, nonce: [u8; 12], buffer: &mut Vec<u8>) -> Result<(), OpenError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key.open_in_place(nonce, Aad::empty(), buffer);
    let size = opened.map_err(|_| OpenError)?.len();
    buffer.truncate(size);
    Ok(())
}

#[expect(
    clippy::expect_used,
    reason = "the key has the size that the ciphers ask for"
)]
fn aead_key(algorithm: &'static Algorithm, key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(algorithm, key).expect("32 bytes are a key"))
}

/// AES-256-CBC with PKCS#7 padding. It does not authenticate.
pub fn aes_cbc_encrypt(key: &[u8; 32], iv: &[u8; 16], plaintext: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<Aes256>::new(key.into(), iv.into()).encrypt_padded_vec::<Pkcs7>(plaintext)
}

/// Decrypts AES-256-CBC and strips PKCS#7 padding.
pub fn aes_cbc_decrypt(
    key: &[u8; 32],
    iv: &[u8; 16],
    ciphertext: &[u8],
) -> Result<Vec<u8>, OpenError> {
    cbc::Decryptor::<Aes256>::new(key.into(), iv.into())
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .map_err(|_| OpenError)
}

/// `NaCl`'s `crypto_box_beforenm`: the key of a box from a Diffie-Hellman secret.
pub fn box_key(shared_secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(salsa20::hsalsa::<U10>(shared_secret.into(), &[0; 16].into()).into())
}

/// `NaCl`'s `crypto_secretbox` (XSalsa20-Poly1305): tag first, then the ciphertext.
pub fn secretbox_seal(key: &[u8; 32], nonce: &[u8; 24], plaintext: &[u8]) -> Vec<u8> {
    let (mut cipher, mac_key) = secretbox_begin(key, nonce);
    let mut output = vec![0; TAG_SIZE];
    output.extend_from_slice(plaintext);
    let (tag, body) = output.split_at_mut(TAG_SIZE);
    cipher.apply_keystream(body);
    tag.copy_from_slice(&poly1305(&mac_key, body));
    output
}

/// Opens `NaCl`'s `crypto_secretbox`.
pub fn secretbox_open(
    key: &[u8; 32],
    nonce: &[u8; 24],
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let (tag, body) = sealed.split_at_checked(TAG_SIZE).ok_or(OpenError)?;
    let (mut cipher, mac_key) = secretbox_begin(key, nonce);
    if !bool::from(poly1305(&mac_key, body).as_slice().ct_eq(tag)) {
        return Err(OpenError);
    }
    let mut plaintext = body.to_vec();
    cipher.apply_keystream(&mut plaintext);
    Ok(plaintext)
}

/// The cipher past its first 32 bytes, and these: the one-time key of Poly1305.
fn secretbox_begin(key: &[u8; 32], nonce: &[u8; 24]) -> (XSalsa20, Zeroizing<[u8; 32]>) {
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut mac_key = Zeroizing::new([0; 32]);
    cipher.apply_keystream(mac_key.as_mut_slice());
    (cipher, mac_key)
}

fn poly1305(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    Poly1305::new(key.into()).compute_unpadded(text).into()
}

/// The nonce of libsodium's `crypto_box_seal`.
pub fn sealed_box_nonce(ephemeral: &[u8; 32], recipient: &[u8; 32]) -> [u8; 24] {
    blake2b_192([ephemeral.as_slice(), recipient.as_slice()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex_text: &str) -> [u8; N] {
        hex::decode(hex_text).unwrap().try_into().unwrap()
    }

    #[test]
    fn nacl_secretbox_vector() {
        // From NaCl's tests: secretbox.c and box.c ("Cryptography in NaCl", D. J. Bernstein).
        let key = bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let message = hex::decode(concat!(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc",
            "e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31",
            "0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde",
            "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864",
            "5e0705"
        ))
        .unwrap();
        let sealed = secretbox_seal(&key, &nonce, &message);
        assert_eq!(
            hex::encode(&sealed[..48]),
            concat!(
                "f3ffc7703f9400e52a7dfb4b3d3305d9",
                "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a"
            )
        );
        assert_eq!(secretbox_open(&key, &nonce, &sealed), Ok(message));
    }

    #[test]
    fn nacl_box_key_vector() {
        // "Cryptography in NaCl", section 8: k1 and firstkey.
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        let key = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
        assert_eq!(hex::encode(*box_key(&shared)), key);
    }

    #[test]
    fn hmac_vector() {
        // RFC 4231, test case 2.
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(mac), expected);
    }

    #[test]
    fn blake2b_256_vector() {
        // The hash of the empty string, as b2sum -l 256 prints it.
        let expected = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8";
        assert_eq!(hex::encode(blake2b_256([])), expected);
        assert_eq!(blake2b_256([&b"ab"[..], b"c"]), blake2b_256([&b"abc"[..]]));
    }

    #[test]
    fn aes_gcm_vector() {
        // "The Galois/Counter Mode of Operation", appendix B, test case 14.
        let mut buffer = vec![0; 16];
        aes_gcm_seal(&[0; 32], [0; 12], &mut buffer);
        let expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(hex::encode(&buffer), expected);
        assert_eq!(aes_gcm_open(&[0; 32], [0; 12], &mut buffer), Ok(()));
        assert_eq!(buffer, [0; 16]);
    }

    #[test]
    fn xchacha20_poly1305_vector() {
        // draft-irtf-cfrg-xchacha-03, A.3.1: the ciphertext does not depend on its additional data.
        let key = core::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce = core::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
            for the future, sunscreen would be it.";
        let mut buffer = text.to_vec();
        xchacha20_poly1305_seal(&key, &nonce, &mut buffer);
        assert_eq!(
            hex::encode(&buffer[..16]),
            "bd6d179d3e83d43b9576579493c0e939"
        );
        assert_eq!(xchacha20_poly1305_open(&key, &nonce, &mut buffer), Ok(()));
        assert_eq!(buffer, text);
    }

    #[test]
    fn aes_cbc_vector() {
        // NIST SP 800-38A, F.2.5; the padding adds a block.
        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv = bytes("000102030405060708090a0b0c0d0e0f");
        let text = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";
        let text = hex::decode(text).unwrap();
        let sealed = aes_cbc_encrypt(&key, &iv, &text);
        let expected = "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d";
        assert_eq!(hex::encode(&sealed[..32]), expected);
        assert_eq!(sealed.len(), 48);
        assert_eq!(aes_cbc_decrypt(&key, &iv, &sealed), Ok(text));
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let (key, nonce) = ([1; 32], [2; 24]);
        let mut sealed = secretbox_seal(&key, &nonce, b"text");
        for index in 0..sealed.len() {
            sealed[index] ^= 1;
            assert_eq!(secretbox_open(&key, &nonce, &sealed), Err(OpenError));
            sealed[index] ^= 1;
        }
        assert_eq!(secretbox_open(&key, &nonce, &sealed[..15]), Err(OpenError));
    }
}
