//! Recorded connections with libzmq: it accepted what we sent, and we read what it sent.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::Connection;
use cepa_wire::zmtp::GREETING_SIZE;

/// A frame that holds a sealed PONG without context.
const PONG_SIZE: usize = 2 + 8 + 8 + 16 + 1 + 5;

fn counting<const N: usize>(first: u8) -> [u8; N] {
    core::array::from_fn(|index| first + u8::try_from(index).unwrap())
}

fn client_key() -> X25519SecretKey {
    X25519SecretKey::from_bytes(counting(0x10))
}

fn server_key() -> X25519SecretKey {
    X25519SecretKey::from_bytes(counting(0x40))
}

fn recorded() -> [Vec<u8>; 4] {
    let lines = include_str!("vectors/curve_libzmq.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    let streams: Vec<_> = lines.map(|line| hex::decode(line).unwrap()).collect();
    streams.try_into().unwrap()
}

fn message(parts: &[&'static [u8]]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::from_static(part)).collect()
}

#[test]
fn a_server_of_libzmq_and_our_client() {
    let [received, sent, ..] = recorded();
    let identity = [b"L".as_slice(), &client_key().public_key().0].concat();
    let server = server_key().public_key();
    let mut client = Connection::client(&client_key(), server, &identity, counting(0x20));
    let mut output = Vec::new();
    for byte in received {
        let was_ready = client.is_ready();
        client.handle_bytes(&[byte]).unwrap();
        if client.is_ready() && !was_ready {
            client.send(&message(&[b"hello", b"", b"tail"]));
        }
        output.extend(client.take_output());
    }
    assert_eq!(output, sent);
    let echo = message(&[b"echo", b"hello", b"", b"tail"]);
    assert_eq!(client.poll_message(), Some(echo));
    assert_eq!(client.poll_message(), None);
    assert_eq!(client.peer_key(), Some(server));
}

#[test]
fn a_client_of_libzmq_and_our_server() {
    let [_, _, received, sent] = recorded();
    for cut in [1, 50, received.len()] {
        let mut server = Connection::server(&server_key(), counting(0x80));
        let mut output = Vec::new();
        let mut handshake_size = None;
        for chunk in received.chunks(cut) {
            server.handle_bytes(chunk).unwrap();
            output.extend(server.take_output());
            if server.is_ready() {
                handshake_size.get_or_insert(output.len());
            }
        }
        assert_eq!(output, sent);
        assert_eq!(
            server.poll_message(),
            Some(message(&[b"hello", b"", b"tail"]))
        );
        assert_eq!(server.poll_message(), Some(message(&[&[b'x'; 300]])));
        assert_eq!(server.poll_message(), None);
        assert_eq!(server.peer_key(), Some(client_key().public_key()));
        if cut == 1 {
            let pongs = sent.len() - handshake_size.unwrap();
            assert!(pongs >= PONG_SIZE && pongs.is_multiple_of(PONG_SIZE));
            assert!(handshake_size.unwrap() > GREETING_SIZE);
        }
    }
}
