//! Arbitrary bytes as a ZMTP stream: however it is cut, it is read alike; what is read is what was
//! sent; messages and metadata stay within their limits.
#![no_main]

use bytes::Bytes;
use cepa_wire::zmtp::{
    Assembler, Decoder, Frame, MESSAGE_SIZE_MAX, PART_COUNT_MAX, ZmtpError, check_greeting,
    find_property, split_command,
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let (frames, error) = read(input, input.len().max(1));
    assert_eq!(read(input, 1), (frames.clone(), error));
    assert_eq!(read(input, 7), (frames.clone(), error));
    for frame in &frames {
        check_frame(frame);
    }
    check_messages(frames);
});

/// Cuts a stream into pieces of `cut` bytes and reads it up to the first mistake.
fn read(input: &[u8], cut: usize) -> (Vec<Frame>, Option<ZmtpError>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let mut greeted = false;
    for chunk in input.chunks(cut) {
        decoder.handle_bytes(chunk);
        if !greeted {
            match decoder.poll_greeting() {
                Ok(Some(greeting)) => {
                    if let Err(error) = check_greeting(&greeting) {
                        return (frames, Some(error));
                    }
                    greeted = true;
                }
                Ok(None) => continue,
                Err(error) => return (frames, Some(error)),
            }
        }
        loop {
            match decoder.poll_frame(LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn check_frame(frame: &Frame) {
    assert!(frame.body.len() <= LIMIT && !(frame.command && frame.more));
    let mut written = Vec::new();
    frame.encode(&mut written);
    let mut decoder = Decoder::new();
    decoder.handle_bytes(&written);
    assert_eq!(decoder.poll_frame(LIMIT).as_ref(), Ok(&Some(frame.clone())));
    assert_eq!(decoder.poll_frame(LIMIT), Ok(None), "and nothing behind it");

    let Ok((name, data)) = split_command(&frame.body) else { return };
    assert_eq!(1 + name.len() + data.len(), frame.body.len());
    if let Ok(Some(value)) = find_property(data, "Identity") {
        assert!(value.len() + 13 <= data.len(), "a name of 8 bytes and two sizes stand before it");
    }
}

fn check_messages(frames: Vec<Frame>) {
    let mut assembler = Assembler::default();
    let mut due: Vec<Bytes> = Vec::new();
    for frame in frames {
        due.push(frame.body.clone());
        match assembler.handle_part(frame.body, frame.more) {
            Ok(None) => assert!(frame.more && due.len() <= PART_COUNT_MAX),
            Ok(Some(message)) => {
                assert!(!frame.more);
                assert_eq!(message, core::mem::take(&mut due));
            }
            Err(error) => {
                let size: usize = due.iter().map(Bytes::len).sum();
                assert!(due.len() > PART_COUNT_MAX || size > MESSAGE_SIZE_MAX, "{error}");
                return;
            }
        }
    }
}
