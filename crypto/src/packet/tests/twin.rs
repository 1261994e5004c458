//! The same packets, peeled slowly: written from the design's list, one step a line, with vectors, one
//! block at a time, and with multiplication in GF(2^128) bit by bit.

use aes::Aes256;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use cepa_wire::X25519PublicKey;

use super::super::PeelError;
use crate::X25519SecretKey;

pub(super) struct Peeled {
    pub(super) replay_tag: Vec<u8>,
    pub(super) routing_block: Vec<u8>,
    pub(super) packet: Vec<u8>,
}

pub(super) fn peel(secret: [u8; 32], relay: [u8; 16], packet: &[u8]) -> Result<Peeled, PeelError> {
    assert_eq!(packet.len(), 1200);
    let (header, payload) = packet.split_at(360);
    let (ephemeral, tag, sealed) = (&header[..32], &header[32..48], &header[48..]);

    // 2. s = X25519(hop key, E); reject an all-zero result.
    let peer = X25519PublicKey::from_slice(ephemeral).unwrap();
    let shared = X25519SecretKey::from_bytes(secret).diffie_hellman(&peer);
    let shared = shared.map_err(|_| PeelError::WeakKey)?;

    // 3. One expansion of s, bound to E, the relay id and the suite.
    let mut output = [0; 112];
    blake3::Hasher::new_keyed(&shared)
        .update(ephemeral)
        .update(&relay)
        .update(b"cepa packet v1 ")
        .update(&[1])
        .finalize_xof()
        .fill(&mut output);
    let (tag_key, stream_key) = (&output[..32], &output[32..64]);
    let (payload_key, replay_tag) = (&output[64..96], &output[96..112]);

    // 4. The tag over the 312 encrypted bytes.
    let mut padded = sealed.to_vec();
    padded.resize(320, 0);
    let expected = polyval(&tag_key[..16], &padded) ^ number(&tag_key[16..]);
    if expected.to_le_bytes() != tag {
        return Err(PeelError::BadTag);
    }

    // 6. Append 72 zero bytes, XOR the stream, cut the routing block, shift.
    let mut text = [sealed, &[0; 72]].concat();
    for (index, chunk) in text.chunks_mut(16).enumerate() {
        let stream = encrypt(stream_key, (index as u128).to_be_bytes());
        chunk
            .iter_mut()
            .zip(stream)
            .for_each(|(byte, stream)| *byte ^= stream);
    }
    let header = text.split_off(24);
    let routing_block = text;
    let payload = hctr2_decrypt(payload_key, payload);

    // 7. The command: deliver, and the zero prefix must hold.
    match routing_block[0] {
        1..=3 => {}
        _ => return Err(PeelError::BadRoutingBlock),
    }
    if routing_block[0] == 2 && payload[..16] != [0; 16] {
        return Err(PeelError::PayloadTampered);
    }
    Ok(Peeled {
        replay_tag: replay_tag.to_vec(),
        routing_block,
        packet: [header, payload].concat(),
    })
}

fn number(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes.try_into().unwrap())
}

fn encrypt(key: &[u8], block: [u8; 16]) -> [u8; 16] {
    let mut block = Array(block);
    Aes256::new_from_slice(key)
        .unwrap()
        .encrypt_block(&mut block);
    block.0
}

fn decrypt(key: &[u8], block: [u8; 16]) -> [u8; 16] {
    let mut block = Array(block);
    Aes256::new_from_slice(key)
        .unwrap()
        .decrypt_block(&mut block);
    block.0
}

/// Figure 1 of the HCTR2 paper, from right to left, with an empty tweak.
#[expect(clippy::many_single_char_names, reason = "the names of the paper")]
fn hctr2_decrypt(key: &[u8], sealed: &[u8]) -> Vec<u8> {
    let hash_key = encrypt(key, 0_u128.to_le_bytes());
    let l = number(&encrypt(key, 1_u128.to_le_bytes()));
    let hash = |text: &[u8]| {
        let mut blocks = 3_u128.to_le_bytes().to_vec();
        blocks.extend_from_slice(text);
        blocks.push(1);
        blocks.resize(blocks.len().next_multiple_of(16), 0);
        polyval(&hash_key, &blocks)
    };
    let (u, v) = sealed.split_at(16);
    let uu = number(u) ^ hash(v);
    let mm = number(&decrypt(key, uu.to_le_bytes()));
    let s = mm ^ uu ^ l;
    let mut n = v.to_vec();
    for (index, chunk) in n.chunks_mut(16).enumerate() {
        let stream = encrypt(key, (s ^ (index as u128 + 1)).to_le_bytes());
        chunk
            .iter_mut()
            .zip(stream)
            .for_each(|(byte, stream)| *byte ^= stream);
    }
    let m = mm ^ hash(&n);
    [&m.to_le_bytes()[..], &n].concat()
}

/// RFC 8452, section 3, in the words of its definition.
fn polyval(key: &[u8], text: &[u8]) -> u128 {
    let key = number(key);
    text.chunks(16)
        .fold(0, |sum, block| dot(sum ^ number(block), key))
}

/// a * b * x^-128 mod x^128 + x^127 + x^126 + x^121 + 1: multiply by x^-1 a hundred and twenty-eight times.
fn dot(a: u128, b: u128) -> u128 {
    let mut sum = 0;
    for bit in 0..128 {
        if a >> bit & 1 == 1 {
            sum ^= b;
        }
        // To divide by x, the polynomial is added to what is odd; its x^128 becomes the highest bit.
        let odd = sum & 1 == 1;
        sum >>= 1;
        if odd {
            sum ^= 1 << 127 | 1 << 126 | 1 << 125 | 1 << 120;
        }
    }
    sum
}

#[test]
fn polyval_of_the_rfc() {
    let key = hex::decode("25629347589242761d31f826ba4b757b").unwrap();
    let text = "4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362";
    let hash = polyval(&key, &hex::decode(text).unwrap());
    assert_eq!(
        hex::encode(hash.to_le_bytes()),
        "f7a3b47b846119fae5b7866cf5e5b77e"
    );
}
