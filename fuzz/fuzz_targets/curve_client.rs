//! Arbitrary bytes to a CURVE client, from its beginning and behind a good greeting.
#![no_main]

use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let server = X25519SecretKey::from_bytes([2; 32]).public_key();
    let long_term = X25519SecretKey::from_bytes([1; 32]);
    for greeting in [&[][..], &cepa_wire::zmtp::greeting(true)] {
        let mut client = Connection::client(&long_term, server, b"L", [3; 48]);
        let result = client.handle_bytes(&[greeting, input].concat());
        assert!(!client.is_ready(), "nobody without the server's key gets through");
        assert!(result.is_ok() || client.handle_bytes(b"x").is_err());
        assert!(client.take_output().len() <= 64 + 2 + 200, "a greeting and HELLO at most");
    }
});
