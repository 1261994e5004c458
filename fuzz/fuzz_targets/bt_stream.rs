//! Arbitrary bytes as a stream of requests: however it is cut, it is read alike; what is read is what
//! would be sent; nothing is held that did not arrive.
#![no_main]

use cepa_wire::bt_stream::{BtStreamError, Decoder, FRAME_SIZE_MAX, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (messages, error) = read(input, input.len().max(1));
    assert_eq!(read(input, 1), (messages.clone(), error));
    assert_eq!(read(input, 7), (messages.clone(), error));
    for message in messages {
        let written = message.encode();
        assert!(written.len() <= FRAME_SIZE_MAX + 9);
        assert_eq!(read(&written, written.len()), (vec![message], None));
    }
});

/// Cuts a stream into pieces of `cut` bytes and reads it up to the first mistake.
fn read(input: &[u8], cut: usize) -> (Vec<Message>, Option<BtStreamError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for chunk in input.chunks(cut) {
        decoder.handle_bytes(chunk);
        assert!(decoder.held_size() <= input.len());
        loop {
            match decoder.poll_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
