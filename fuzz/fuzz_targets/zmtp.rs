//! Arbitrary bytes as a ZMTP stream: however it is cut, it is read alike, and nothing is held that has
//! not arrived.
#![no_main]

use cepa_wire::zmtp::{
    Assembler, Decoder, Frame, ZmtpError, check_greeting, find_property, split_command,
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let whole = read(input, input.len().max(1));
    assert_eq!(read(input, 1), whole);
    assert_eq!(read(input, 7), whole);
    let mut assembler = Assembler::default();
    for frame in whole.0 {
        if let Ok((_, data)) = split_command(&frame.body) {
            let _ = find_property(data, "Identity");
        }
        if assembler.handle_part(frame.body, frame.more).is_err() {
            break;
        }
    }
});

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
                Ok(Some(frame)) => {
                    let mut written = Vec::new();
                    frame.encode(&mut written);
                    assert!(written.len() <= frame.body.len() + 9);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
