//! Two ends of a CURVE connection in memory.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_crypto::curve::{Connection, ConnectionError};
use cepa_wire::X25519PublicKey;
use cepa_wire::zmtp::{HANDSHAKE_SIZE_MAX, MESSAGE_SIZE_MAX, PART_COUNT_MAX, ZmtpError};

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
    carry_cut(client, server, &mut || chunk)
}

/// Carries bytes both ways, each piece as large as `size` says next, until both are silent.
fn carry_cut(
    client: &mut Connection,
    server: &mut Connection,
    size: &mut impl FnMut() -> usize,
) -> Result<(), ConnectionError> {
    loop {
        let (up, down) = (client.take_output(), server.take_output());
        if up.is_empty() && down.is_empty() {
            return Ok(());
        }
        for (bytes, to) in [(&up, &mut *server), (&down, &mut *client)] {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(size().min(rest.len()));
                to.handle_bytes(head)?;
                rest = tail;
            }
        }
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
fn messages_in_many_sizes_arrive_in_order_however_they_are_cut() {
    for seed in 1..=8_u64 {
        // xorshift64: sizes from 1 to 700.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut size = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 700).unwrap() + 1
        };
        let (mut client, mut server) = pair();
        carry_cut(&mut client, &mut server, &mut size).unwrap();
        let sent: Vec<Vec<Bytes>> = (0..40)
            .map(|_| {
                let count = size() % 5 + 1;
                (0..count).map(|_| vec![7; size() - 1].into()).collect()
            })
            .collect();
        for message in &sent {
            client.send(message);
            server.send(message);
        }
        carry_cut(&mut client, &mut server, &mut size).unwrap();
        for end in [&mut client, &mut server] {
            let received: Vec<_> = core::iter::from_fn(|| end.poll_message()).collect();
            assert_eq!(received, sent);
        }
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

/// Two ends before the command `step` of a handshake (HELLO, WELCOME, INITIATE, READY), and that
/// command, which is on its way to the server when `step` is even.
fn before_step(step: usize) -> (Connection, Connection, Vec<u8>) {
    let (mut client, mut server) = pair();
    let (up, down) = (client.take_output(), server.take_output());
    server.handle_bytes(&up).unwrap();
    client.handle_bytes(&down).unwrap();
    for earlier in 0..step {
        if earlier % 2 == 0 {
            server.handle_bytes(&client.take_output()).unwrap();
        } else {
            client.handle_bytes(&server.take_output()).unwrap();
        }
    }
    let from = [&mut client, &mut server];
    let command = from.into_iter().nth(step % 2).unwrap().take_output();
    (client, server, command)
}

#[test]
fn no_changed_byte_of_a_handshake_leads_to_a_connection() {
    /// HELLO's padding, which means nothing.
    const PADDING: core::ops::Range<usize> = 10..82;
    for step in 0..4 {
        let size = before_step(step).2.len();
        assert!(size > 40, "step {step}");
        for index in (0..size).filter(|index| step != 0 || !PADDING.contains(index)) {
            let (mut client, mut server, mut command) = before_step(step);
            command[index] ^= 1 << (index % 8);
            let to = if step % 2 == 0 {
                &mut server
            } else {
                &mut client
            };
            // A size that grew makes it wait for more.
            let result = to.handle_bytes(&command);
            let waits = result.is_ok() && to.take_output().is_empty();
            assert!(
                (result.is_err() || waits) && !to.is_ready(),
                "step {step}, byte {index}"
            );
        }
    }
}

#[test]
fn a_recorded_handshake_opens_no_other_connection() {
    let (mut client, mut server) = pair();
    let mut recorded = client.take_output();
    client.handle_bytes(&server.take_output()).unwrap();
    recorded.extend(client.take_output());
    server.handle_bytes(&recorded).unwrap();
    client.handle_bytes(&server.take_output()).unwrap();
    let initiate = client.take_output();
    let (_, long_term) = keys();
    let mut other = Connection::server(&long_term, [5; 96]);
    other.handle_bytes(&recorded).unwrap();
    assert!(other.handle_bytes(&initiate).is_err());
    assert!(!other.is_ready());
    server.handle_bytes(&initiate).unwrap();
    assert!(
        server.is_ready(),
        "only the connection that it was made for"
    );
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
    let (_, mut server) = ready();
    client.send(&vec![Bytes::new(); PART_COUNT_MAX + 1]);
    let refused = Err(ConnectionError::Zmtp(ZmtpError::PartCount));
    assert_eq!(server.handle_bytes(&client.take_output()), refused);
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
