//! Arbitrary bytes to either side of a NULL connection, from its beginning, behind a good greeting and
//! behind a handshake: however they are cut, the same messages and the same output come of them.
#![no_main]

use bytes::Bytes;
use cepa_wire::zmtp::null::{Connection, ConnectionError};
use cepa_wire::zmtp::{MESSAGE_SIZE_MAX, Mechanism, PART_COUNT_MAX};
use libfuzzer_sys::fuzz_target;

type Outcome = (Vec<Vec<Bytes>>, Option<ConnectionError>, Vec<u8>);

fuzz_target!(|input: &[u8]| {
    let greeting = Mechanism::Null.greeting(false);
    let mut peer = Connection::dealer(b"peer");
    peer.handle_bytes(&greeting).expect("a good greeting");
    let handshake = peer.take_output();
    for before in [&[][..], &greeting, &handshake] {
        let whole = run(Connection::router(), before, input, input.len().max(1));
        assert_eq!(run(Connection::router(), before, input, 1), whole);
        assert_eq!(run(Connection::dealer(b""), before, input, 7).0, whole.0);
        for message in &whole.0 {
            let size: usize = message.iter().map(Bytes::len).sum();
            assert!(!message.is_empty() && message.len() <= PART_COUNT_MAX);
            assert!(size <= MESSAGE_SIZE_MAX);
        }
        // Our greeting and READY, and for each PING a PONG, which is shorter.
        assert!(whole.2.len() <= 64 + 64 + input.len());
    }
});

fn run(mut connection: Connection, before: &[u8], input: &[u8], cut: usize) -> Outcome {
    connection.handle_bytes(before).expect("a good beginning");
    let mut messages = Vec::new();
    let mut error = None;
    for chunk in input.chunks(cut) {
        error = connection.handle_bytes(chunk).err();
        while let Some(message) = connection.poll_message() {
            messages.push(message);
        }
        if error.is_some() {
            break;
        }
    }
    (messages, error, connection.take_output())
}
