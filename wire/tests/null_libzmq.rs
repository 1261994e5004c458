//! Recorded connections with libzmq, as oxend has it: it accepted what we sent, and we read what it
//! sent.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use bytes::Bytes;
use cepa_wire::zmtp::null::Connection;

fn recorded() -> [Vec<u8>; 4] {
    let lines = include_str!("vectors/null_libzmq.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    let streams: Vec<_> = lines.map(|line| hex::decode(line).unwrap()).collect();
    streams.try_into().unwrap()
}

fn message(parts: &[&'static [u8]]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::from_static(part)).collect()
}

#[test]
fn a_router_of_libzmq_and_our_dealer() {
    let [received, sent, ..] = recorded();
    for cut in [1, 7, received.len()] {
        let mut dealer = Connection::dealer(b"us");
        let mut output = Vec::new();
        let (handshake, rest) = received.split_at(64 + 43);
        for chunk in handshake.chunks(cut) {
            dealer.handle_bytes(chunk).unwrap();
        }
        assert!(dealer.is_ready());
        dealer.send(&message(&[b"hello", b"", b"tail"]));
        for chunk in rest.chunks(cut) {
            dealer.handle_bytes(chunk).unwrap();
            output.extend(dealer.take_output());
        }
        assert_eq!(output, sent, "with a PONG for its PING");
        let echo = message(&[b"echo", b"hello", &[b'x'; 300]]);
        assert_eq!(dealer.poll_message(), Some(echo));
        assert_eq!(dealer.poll_message(), None);
    }
}

#[test]
fn a_dealer_of_libzmq_and_our_router() {
    let [_, _, received, sent] = recorded();
    for cut in [1, 7, received.len()] {
        let mut router = Connection::router();
        for chunk in received.chunks(cut) {
            router.handle_bytes(chunk).unwrap();
        }
        router.send(&message(&[b"echo", &[b'z'; 256]]));
        assert_eq!(router.take_output(), sent);
        assert_eq!(router.peer_identity(), b"libzmq");
        let hello = message(&[b"hello", b"", b"tail"]);
        assert_eq!(router.poll_message(), Some(hello));
        assert_eq!(router.poll_message(), Some(message(&[&[b'y'; 300]])));
        assert_eq!(router.poll_message(), None);
    }
}
