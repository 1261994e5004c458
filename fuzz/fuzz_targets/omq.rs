//! Arbitrary parts as an OMQ message: parts are cut at zero bytes.
#![no_main]

use bytes::Bytes;
use cepa_wire::omq::{Message, reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let parts: Vec<Bytes> = input.split(|byte| *byte == 0).map(Bytes::copy_from_slice).collect();
    match Message::parse(parts.clone()) {
        Some(Message::Reply { tag, parts: body }) => assert_eq!(reply(tag, body), parts),
        Some(Message::Command { name, parts: body }) => {
            assert_eq!((name.as_bytes(), body.len() + 1), (&parts[0][..], parts.len()));
        }
        Some(Message::Refused { word, tag, command }) => {
            assert_eq!(command.is_some(), parts.len() > 1 && parts[1] != "REPLY");
            assert_eq!(word, parts[0]);
            assert_eq!(tag.is_some(), parts.len() > 2 && parts[1] == "REPLY");
            assert!(tag.is_none_or(|tag| tag == parts[2]));
        }
        Some(Message::Hi) => assert_eq!(parts[0], "HI"),
        Some(Message::Hello) => assert_eq!(parts[0], "HELLO"),
        Some(Message::Bye) => assert_eq!(parts[0], "BYE"),
        None => assert!(parts[0].is_empty() || parts[0] == "REPLY" || !is_word(&parts[0])),
    }
});

fn is_word(part: &[u8]) -> bool {
    part.len() <= 64 && part.iter().all(u8::is_ascii_graphic)
}
