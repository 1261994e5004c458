//! Writes the seeds of the fuzz targets of the packet lane, after the format changed:
//! `cargo test -p cepa-crypto write_packet_seeds -- --ignored`.

use std::fs;
use std::path::PathBuf;

use cepa_wire::packet::fragment::{MessageId, MessageKind, fragments};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};

use super::*;

fn write(target: &str, name: &str, bytes: &[u8]) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}

#[test]
#[ignore = "writes files of the repository"]
fn write_packet_seeds() {
    let mut random = random("seeds");
    let hop = PathHop {
        relay: RelayId([7; 16]),
        key: X25519SecretKey::from_bytes([7; 32]).public_key(),
        delay_ms: 5,
    };
    for (name, count) in [("deliver", 1), ("forward", 5)] {
        let built = build(&vec![hop; count], b"text", &mut random).unwrap();
        write("packet_peel", name, &built.bytes);
    }
    let (block, _) = reply_block(&[hop], CLIENT, &mut random).unwrap();
    write(
        "packet_peel",
        "reply",
        &answer(&block, b"text").unwrap().bytes,
    );
    write("packet_peel", "weak_key", &[0; PACKET_SIZE]);
    let commands = [
        ("forward", Command::Forward(hop.relay)),
        ("deliver", Command::Deliver),
        ("reply", Command::Reply(CLIENT)),
    ];
    for (name, command) in commands {
        write(
            "routing_block",
            name,
            &RoutingBlock::new(command, 258).encode(),
        );
    }
    write("routing_block", "reply_block", &block.encode());

    let types = [
        ("init", FrameType::HandshakeInit, 100),
        ("response", FrameType::HandshakeResponse, 100),
        ("cookie", FrameType::Cookie, 64),
        ("data", FrameType::Data, 1232),
    ];
    for (name, frame_type, size) in types {
        let header = LinkHeader {
            frame_type,
            receiver_index: 3,
            counter: 9,
        };
        let mut bytes = header.encode().to_vec();
        bytes.resize(size, 8);
        write("link_frame", name, &bytes);
    }
    write("descriptor", "signed", &signed_descriptor().1);
    let contents = fragments(MessageId([3; 16]), MessageKind::Answer, &[6; 801]).unwrap();
    for (index, content) in contents.enumerate() {
        write("fragments", &format!("content_{index}"), &content);
    }
    // Message, index, pause: a piece twice, another message, and the first after a long pause.
    let pieces: [&[u8]; 4] = [
        &[0x19, 1, 0],
        &[0x19, 1, 0],
        &[0x02, 0, 16],
        &[0x19, 0, 255],
    ];
    write("fragments", "pieces", &pieces.concat());
    let largest: Vec<u8> = (0..=255).flat_map(|index| [0x3a, index, 0]).collect();
    write("fragments", "largest", &largest);
    let crowd: Vec<u8> = (0..40)
        .flat_map(|step| [0x30 | (step % 8), step, 17])
        .collect();
    write("fragments", "crowd", &crowd);
}
