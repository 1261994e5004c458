//! Two ends of a CURVE connection in memory.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::{Connection, ConnectionError};
use cepa_wire::X25519PublicKey;
use cepa_wire::zmtp::{HANDSHAKE_SIZE_MAX, MESSAGE_SIZE_MAX};

fn keys() -> (X25519SecretKey, X25519SecretKey) {
    (
        X25519SecretKey::from_bytes([1; 32]),
        X25519SecretKey::from_bytes([2; 32]),
    )
}

fn pair() -> (Connection, Connection) {
    let (client, server) = keys();
    let client = Connection::client(&client, server.public_key(), b"Lme", [3; 48]);
    (client, Connection::server(&server, [4; 96]))
}

/// Carries bytes both ways in chunks until both are silent.
fn carry(
    client: &mut Connection,
    server: &mut Connection,
    chunk: usize,
) -> Result<(), ConnectionError> {
    loop {
        let (up, down) = (client.take_output(), server.take_output());
        if up.is_empty() && down.is_empty() {
            return Ok(());
        }
        up.chunks(chunk)
            .try_for_each(|chunk| server.handle_bytes(chunk))?;
        down.chunks(chunk)
            .try_for_each(|chunk| client.handle_bytes(chunk))?;
    }
}

fn ready() -> (Connection, Connection) {
    let (mut client, mut server) = pair();
    carry(&mut client, &mut server, 4096).unwrap();
    (client, server)
}

fn parts(parts: &[&'static str]) -> Vec<Bytes> {
    parts
        .iter()
        .map(|part| Bytes::from_static(part.as_bytes()))
        .collect()
}

#[test]
fn both_sides_know_each_other_however_the_bytes_are_cut() {
    for chunk in [1, 2, 7, 63, 64, 65, 1000] {
        let (mut client, mut server) = pair();
        assert!(!client.is_ready() && client.peer_key().is_none());
        carry(&mut client, &mut server, chunk).unwrap();
        let (client_key, server_key) = keys();
        assert_eq!(client.peer_key(), Some(server_key.public_key()));
        assert_eq!(server.peer_key(), Some(client_key.public_key()));
        let message = parts(&["sn.ping", "tag", "", "part"]);
        client.send(&message);
        server.send(&parts(&["HELLO"]));
        client.send(&[vec![5; 1 << 20].into()]);
        carry(&mut client, &mut server, 1 << 14).unwrap();
        assert_eq!(server.poll_message(), Some(message));
        assert_eq!(server.poll_message().unwrap()[0].len(), 1 << 20);
        assert_eq!(server.poll_message(), None);
        assert_eq!(client.poll_message(), Some(parts(&["HELLO"])));
    }
}

#[test]
fn pings_are_answered_and_are_no_messages() {
    let (mut client, mut server) = ready();
    client.send_ping();
    let ping = client.take_output();
    server.handle_bytes(&ping).unwrap();
    let pong = server.take_output();
    assert!(!pong.is_empty());
    client.handle_bytes(&pong).unwrap();
    assert_eq!((client.poll_message(), server.poll_message()), (None, None));
    assert!(client.take_output().is_empty(), "a PONG is not answered");
}

#[test]
fn the_wrong_server_key_is_noticed_by_the_server() {
    let (client, server) = keys();
    let wrong = X25519SecretKey::from_bytes([9; 32]).public_key();
    let mut client = Connection::client(&client, wrong, b"", [3; 48]);
    let mut server = Connection::server(&server, [4; 96]);
    assert_eq!(
        carry(&mut client, &mut server, 4096),
        Err(ConnectionError::Decrypt)
    );
    assert_eq!(server.handle_bytes(b"x"), Err(ConnectionError::Ended));
}

#[test]
fn no_changed_byte_of_a_handshake_leads_to_a_connection() {
    let (mut client, mut server) = pair();
    let greeting = server.take_output();
    client.handle_bytes(&greeting).unwrap();
    let hello = client.take_output();
    for index in (64..hello.len()).filter(|index| !(74..146).contains(index)) {
        let mut changed = hello.clone();
        changed[index] ^= 1;
        let (_, mut server) = pair();
        let result = server.handle_bytes(&changed);
        assert!(
            result.is_err() || server.take_output().len() <= 64,
            "byte {index}"
        );
    }
}

#[test]
fn replayed_reordered_and_changed_messages_end_the_connection() {
    let send = |text: &'static str, client: &mut Connection| {
        client.send(&parts(&[text]));
        client.take_output()
    };
    let (mut client, mut server) = ready();
    let first = send("first", &mut client);
    server.handle_bytes(&first).unwrap();
    assert!(matches!(
        server.handle_bytes(&first),
        Err(ConnectionError::PeerMisbehaved(_))
    ));

    let (mut client, mut server) = ready();
    let (first, second) = (send("first", &mut client), send("second", &mut client));
    server.handle_bytes(&second).unwrap();
    assert!(server.handle_bytes(&first).is_err());

    let message = send("first", &mut ready().0);
    for index in 10..message.len() {
        let (_, mut server) = ready();
        let mut changed = message.clone();
        changed[index] ^= 1;
        assert!(server.handle_bytes(&changed).is_err(), "byte {index}");
        assert_eq!(server.poll_message(), None);
    }
}

#[test]
fn a_stranger_can_not_make_us_hold_much() {
    let (_, mut server) = pair();
    let mut flood = server_greeting();
    flood.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0]);
    flood.extend_from_slice(&u16::try_from(HANDSHAKE_SIZE_MAX + 1).unwrap().to_be_bytes());
    assert!(server.handle_bytes(&flood).is_err());
    let (mut client, mut server) = ready();
    let mut large = vec![2];
    large.extend_from_slice(&u64::try_from(MESSAGE_SIZE_MAX + 100).unwrap().to_be_bytes());
    assert!(server.handle_bytes(&large).is_err());
    for _ in 0..40 {
        client.send(&vec![Bytes::new(); 33]);
    }
    let (_, mut server) = pair();
    assert!(server.handle_bytes(b"GET / HTTP/1.1\r\n").is_err());
}

fn server_greeting() -> Vec<u8> {
    cepa_wire::zmtp::greeting(false).to_vec()
}

#[test]
fn commands_out_of_turn_and_refusals_end_the_connection() {
    let frame = |body: &'static [u8]| {
        let mut output = server_greeting();
        let frame = cepa_wire::zmtp::Frame {
            more: false,
            command: true,
            body: body.into(),
        };
        frame.encode(&mut output);
        output
    };
    for body in [
        &b"\x07MESSAGEx"[..],
        b"\x08INITIATE",
        b"\x05READY",
        b"\x04PING\0\0",
        b"",
        b"\xff",
    ] {
        let (mut client, mut server) = pair();
        assert!(server.handle_bytes(&frame(body)).is_err(), "{body:?}");
        assert!(client.handle_bytes(&frame(body)).is_err(), "{body:?}");
    }
    let (mut client, _) = pair();
    assert_eq!(
        client.handle_bytes(&frame(b"\x05ERROR\0")),
        Err(ConnectionError::Refused)
    );
}

#[test]
fn weak_keys_are_refused() {
    let (client, _) = keys();
    let mut client = Connection::client(&client, X25519PublicKey([0; 32]), b"", [3; 48]);
    assert!(client.handle_bytes(&server_greeting()).is_err());
}
