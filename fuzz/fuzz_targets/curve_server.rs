//! Arbitrary bytes to a CURVE server, before and after a good handshake.
#![no_main]

use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let long_term = X25519SecretKey::from_bytes([2; 32]);
    let mut server = Connection::server(&long_term, [4; 96]);
    feed(&mut server, input);
    assert!(!server.is_ready(), "nobody without the key gets through");

    let mut server = Connection::server(&long_term, [4; 96]);
    let client = X25519SecretKey::from_bytes([1; 32]);
    let mut client = Connection::client(&client, long_term.public_key(), b"L", [3; 48]);
    for _ in 0..3 {
        server.handle_bytes(&client.take_output()).expect("a good handshake");
        client.handle_bytes(&server.take_output()).expect("a good handshake");
    }
    assert!(server.is_ready() && client.is_ready());
    feed(&mut server, input);
    assert_eq!(server.poll_message(), None, "nothing unsealed is a message");
});

fn feed(connection: &mut Connection, input: &[u8]) {
    for chunk in input.chunks(61) {
        if connection.handle_bytes(chunk).is_err() {
            assert!(connection.handle_bytes(b"x").is_err(), "an ended connection stays ended");
            return;
        }
    }
}
