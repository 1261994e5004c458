//! Arbitrary bytes to a CURVE server: before a good handshake, after it, and as what a peer that is
//! proven (anybody can be: every key is admitted) seals well.
#![no_main]

use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use cepa_crypto::primitive::{box_key, secretbox_seal};
use cepa_wire::zmtp::{Frame, MESSAGE_SIZE_MAX, PART_COUNT_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let long_term = X25519SecretKey::from_bytes([2; 32]);
    let mut server = Connection::server(&long_term, [4; 96]);
    feed(&mut server, input);
    assert!(!server.is_ready(), "nobody without the key gets through");

    let mut server = ready(&long_term);
    feed(&mut server, input);
    assert_eq!(server.poll_message(), None, "nothing unsealed is a message");

    feed_sealed(&mut ready(&long_term), input);
});

/// A server with a client that has proven itself.
fn ready(long_term: &X25519SecretKey) -> Connection {
    let mut server = Connection::server(long_term, [4; 96]);
    let client = X25519SecretKey::from_bytes([1; 32]);
    let mut client = Connection::client(&client, long_term.public_key(), b"L", [3; 48]);
    for _ in 0..3 {
        server.handle_bytes(&client.take_output()).expect("a good handshake");
        client.handle_bytes(&server.take_output()).expect("a good handshake");
    }
    assert!(server.is_ready() && client.is_ready());
    server
}

/// Seals the input in pieces, each of a byte of size and the flags and body that are in its box.
fn feed_sealed(server: &mut Connection, input: &[u8]) {
    let client_short = X25519SecretKey::from_bytes([3; 32]);
    let server_short = X25519SecretKey::from_bytes([4; 32]).public_key();
    let key = box_key(&client_short.diffie_hellman(&server_short).expect("a good key"));
    let (mut rest, mut number) = (input, 2_u64);
    while let Some((size, after)) = rest.split_first() {
        let (plaintext, after) = after.split_at(usize::from(*size).min(after.len()));
        rest = after;
        number += 1;
        let mut nonce = *b"CurveZMQMESSAGEC\0\0\0\0\0\0\0\0";
        nonce[16..].copy_from_slice(&number.to_be_bytes());
        let sealed = secretbox_seal(&key, &nonce, plaintext);
        let body = [&b"\x07MESSAGE"[..], &number.to_be_bytes(), &sealed].concat();
        let mut bytes = Vec::new();
        Frame { more: false, command: false, body: body.into() }.encode(&mut bytes);
        if server.handle_bytes(&bytes).is_err() {
            assert!(!server.is_ready());
            return;
        }
        assert!(server.take_output().len() <= bytes.len(), "an answer is no larger than its question");
        while let Some(message) = server.poll_message() {
            assert!((1..=PART_COUNT_MAX).contains(&message.len()));
            assert!(message.iter().map(|part| part.len()).sum::<usize>() <= MESSAGE_SIZE_MAX);
        }
    }
}

fn feed(connection: &mut Connection, input: &[u8]) {
    for chunk in input.chunks(61) {
        if connection.handle_bytes(chunk).is_err() {
            assert!(connection.handle_bytes(b"x").is_err(), "an ended connection stays ended");
            return;
        }
    }
}
