//! Our own vectors, `wire/testdata/packet.txt`: made by the fast code, checked against the slow twin as
//! they are made. `cargo test -p cepa-crypto packet_vectors -- --ignored` writes them after the format changed.

use core::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cepa_wire::packet::fragment::{MessageId, MessageKind, fragments};

use super::*;

const HEADING: &str = "\
# Packets of the packet lane, suite 1. Keys and values of a case are in hex, one a line; `secret`, `relay`
# and `delay` (milliseconds) of each hop come in the path's order, then the packet before the first hop,
# and for each hop the replay tag, the routing block, and the packet as it leaves the hop.
";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/testdata/packet.txt")
}

fn line(text: &mut String, key: &str, value: &[u8]) {
    writeln!(text, "{key} {}", hex::encode(value)).unwrap();
}

fn hops(text: &mut String, relays: &[Relay], mut packet: PacketBytes) -> PacketBytes {
    line(text, "packet", &packet);
    for relay in relays {
        let opened = open(&relay.hop, &packet).unwrap();
        line(text, "replay_tag", &opened.replay_tag().0);
        let block = relay.peel(&mut packet).unwrap();
        line(text, "routing_block", &block.encode());
        line(text, "packet", &packet);
    }
    packet
}

fn case(
    text: &mut String,
    name: &str,
    count: usize,
) -> (Vec<Relay>, Vec<PathHop>, impl FnMut(&mut [u8]) + use<>) {
    writeln!(text, "\ncase {name}").unwrap();
    let mut random = random(name);
    let relays = relays(count, &mut random);
    let path = path(&relays);
    for (relay, hop) in relays.iter().zip(&path) {
        line(text, "secret", &relay.secret);
        line(text, "relay", &relay.id.0);
        writeln!(text, "delay {}", hop.delay_ms).unwrap();
    }
    (relays, path, random)
}

fn vectors() -> String {
    let mut text = HEADING.to_owned();
    for count in [1, HOP_COUNT_MAX] {
        let (relays, path, mut random) = case(&mut text, &format!("request_{count}"), count);
        let id = MessageId([0xa5; 16]);
        let contents = fragments(id, MessageKind::Request, b"d4:test5:valuee").unwrap();
        let content = contents.last().unwrap();
        line(&mut text, "content", &content);
        let built = build(&path, &content, &mut random).unwrap();
        let last = hops(&mut text, &relays, built.bytes);
        assert_eq!(Packet::new(&last).content(), &content);
    }
    let (relays, path, mut random) = case(&mut text, "reply_3", 3);
    let (block, keys) = reply_block(&path, CLIENT, &mut random).unwrap();
    line(&mut text, "client", &CLIENT.0);
    line(&mut text, "reply_block", &block.encode());
    line(&mut text, "reply_id", &keys.id().0);
    let content = content(&mut random, CONTENT_SIZE);
    line(&mut text, "content", &content);
    let last = hops(&mut text, &relays, answer(&block, &content).unwrap().bytes);
    assert_eq!(keys.open(&last).unwrap(), content[..]);
    text
}

#[test]
fn packet_vectors_hold() {
    assert!(vectors() == include_str!("../../../../wire/testdata/packet.txt"));
}

/// What is in the file is peeled, without anything that made it.
#[test]
fn packet_vectors_are_peeled_by_the_twin() {
    let text = include_str!("../../../../wire/testdata/packet.txt");
    let mut count = 0;
    for case in text.split("\ncase ").skip(1) {
        let values = |key: &str| -> Vec<Vec<u8>> {
            let lines = case.lines().filter_map(|line| line.split_once(' '));
            lines
                .filter(|(found, _)| *found == key)
                .map(|(_, value)| hex::decode(value).unwrap())
                .collect()
        };
        let packets = values("packet");
        let keys = values("secret").into_iter().zip(values("relay"));
        for (index, (secret, relay)) in keys.enumerate() {
            let keys = (secret.try_into().unwrap(), relay.try_into().unwrap());
            let peeled = twin::peel(keys.0, keys.1, &packets[index]).unwrap();
            assert_eq!(peeled.packet, packets[index + 1]);
            assert_eq!(peeled.replay_tag, values("replay_tag")[index]);
            assert_eq!(peeled.routing_block, values("routing_block")[index]);
            count += 1;
        }
    }
    assert_eq!(count, 9);
}

#[test]
#[ignore = "writes files of the repository"]
fn write_packet_vectors() {
    fs::create_dir_all(file().parent().unwrap()).unwrap();
    fs::write(file(), vectors()).unwrap();
}
