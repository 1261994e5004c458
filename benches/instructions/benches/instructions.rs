//! Instructions of the parsers and of the cores of relay and storage, counted by callgrind:
//! `cargo xtask instructions`.
//!
//! Callgrind's processor has no AVX-512, whatever the machine has: X25519 is the scalar one here.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::pedantic,
    clippy::disallowed_methods,
    reason = "gungraun's macros write items of their own"
)]

use core::hint::black_box;

use bytes::Bytes;
use cepa_crypto::packet::verify_descriptor;
use cepa_wire::bt::Value;
use cepa_wire::bt_stream;
use cepa_wire::omq::Message;
use cepa_wire::onion::{EncType, Frame};
use cepa_wire::packet::descriptor::SignedDescriptor;
use cepa_wire::packet::fragment::Fragment;
use cepa_wire::packet::link_frame::LinkHeader;
use cepa_wire::packet::request::PacketRequest;
use cepa_wire::record::{self, Position};
use cepa_wire::request::ClientRequest;
use cepa_wire::udp_frame::UdpFrame;
use cepa_wire::zmtp::Decoder;
use gungraun::{library_benchmark, library_benchmark_group, main};
use instructions::onion::Entry;
use instructions::packet_lane::{Lane, Pool, START};
use instructions::storage::Store;

macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/", $name)).as_slice()
    };
}

#[library_benchmark]
#[bench::store(seed!("bt/26_store"))]
#[bench::swarm(seed!("bt/14_reply"))]
fn bt(input: &[u8]) -> bool {
    Value::parse(black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::replies(seed!("bt_stream/replies"))]
fn stream(input: &[u8]) -> usize {
    let mut decoder = bt_stream::Decoder::new();
    decoder.handle_bytes(black_box(input));
    let mut count = 0;
    while let Ok(Some(message)) = decoder.poll_message() {
        black_box(message);
        count += 1;
    }
    count
}

#[library_benchmark]
#[bench::store(seed!("client_request_json/27_store"))]
#[bench::retrieve(seed!("client_request_json/28_retrieve"))]
#[bench::sequence(seed!("client_request_json/sequence"))]
fn request_json(input: &[u8]) -> bool {
    ClientRequest::parse_json(black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::store(seed!("bt/26_store"))]
fn request_bt(input: &[u8]) -> bool {
    ClientRequest::parse_params("store", black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::entry(seed!("onion_frame/48"))]
fn onion_frame(input: &[u8]) -> bool {
    Frame::parse(black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::frames(seed!("zmtp/frames"))]
fn zmtp(input: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    decoder.handle_bytes(black_box(input));
    let mut count = 0;
    while let Ok(Some(frame)) = decoder.poll_frame(4096) {
        black_box(frame);
        count += 1;
    }
    count
}

fn parts() -> Vec<Bytes> {
    [&b"storage.store"[..], b"tag", b"de"]
        .map(Bytes::from_static)
        .to_vec()
}

#[library_benchmark]
#[bench::command(parts())]
fn omq(parts: Vec<Bytes>) -> Option<Message> {
    Message::parse(black_box(parts))
}

#[library_benchmark]
#[bench::get_swarm(seed!("packet_request/get_swarm"))]
fn packet_request(input: &[u8]) -> usize {
    PacketRequest::parse(black_box(input)).map_or(0, |request| request.blocks().count())
}

#[library_benchmark]
#[bench::first(seed!("fragments/content_0"))]
fn fragment(input: &[u8]) -> bool {
    input
        .first_chunk()
        .is_some_and(|content| Fragment::parse(black_box(content)).is_ok())
}

#[library_benchmark]
#[bench::data(seed!("link_frame/data"))]
fn link_frame(input: &[u8]) -> bool {
    LinkHeader::parse(black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::signed(seed!("descriptor/signed"))]
fn descriptor(input: &[u8]) -> bool {
    SignedDescriptor::parse(black_box(input)).is_ok()
}

#[library_benchmark]
#[bench::signed(seed!("descriptor/signed"))]
fn descriptor_verified(input: &[u8]) -> bool {
    verify_descriptor(black_box(input)).is_ok()
}

fn stored() -> (Vec<u8>, Position) {
    let position = Position {
        segment: 0,
        offset: 4096,
    };
    let mut bytes = Vec::new();
    let store = record::Store {
        mailbox: cepa_wire::Mailbox {
            prefix: 5,
            key: [1; 32],
        },
        namespace: cepa_wire::Namespace::INBOX,
        hash: cepa_wire::MessageHash([2; 32]),
        sequence: 1,
        version: 1,
        timestamp: START,
        expiry: START,
        data: &[7; 2048],
    };
    store.encode(position, &mut bytes);
    (bytes, position)
}

#[library_benchmark]
#[bench::store(stored())]
fn log_record((bytes, position): (Vec<u8>, Position)) -> (Vec<u8>, bool) {
    let is_read = record::parse(black_box(&bytes), position).is_ok();
    (bytes, is_read)
}

#[library_benchmark]
#[bench::datagram(seed!("udp_frame/ipv6"))]
fn udp_frame(input: &[u8]) -> bool {
    UdpFrame::parse(black_box(input)).is_ok()
}

library_benchmark_group!(
    name = parsers,
    benchmarks = [
        bt,
        stream,
        request_json,
        request_bt,
        onion_frame,
        zmtp,
        omq,
        packet_request,
        fragment,
        link_frame,
        descriptor,
        descriptor_verified,
        log_record,
        udp_frame
    ]
);

#[library_benchmark]
#[bench::xchacha20(Entry::new(EncType::XChaCha20))]
#[bench::aes_gcm(Entry::new(EncType::AesGcm))]
fn onion(entry: Entry) -> (Entry, bool) {
    let is_delivered = black_box(&entry).is_delivered();
    assert!(is_delivered);
    (entry, is_delivered)
}

/// Eight packets, with the datagrams that they came in.
fn lane() -> (Lane, cepa_relay::packet::batch::Batch) {
    let pool = Pool::new(8, || ());
    let mut lane = Lane::new(&pool);
    let mut batch = cepa_relay::packet::batch::Batch::new(8);
    assert_eq!(lane.fill(&pool.packets, &mut batch), 8);
    (lane, batch)
}

type LaneAndBatch = (Lane, cepa_relay::packet::batch::Batch);

#[library_benchmark]
#[bench::eight(lane())]
fn packets((mut lane, mut batch): LaneAndBatch) -> LaneAndBatch {
    lane.relay
        .handle_batch(&lane.keys, START, black_box(&mut batch));
    assert_eq!(batch.len(), 8, "all go on");
    (lane, batch)
}

library_benchmark_group!(name = relay, benchmarks = [onion, packets]);

#[library_benchmark]
#[bench::sixteen(Store::new(8 << 20))]
fn append(mut store: Store) -> Store {
    assert!(black_box(&mut store).append());
    store
}

#[library_benchmark]
#[bench::cached(Store::new(64 << 20))]
#[bench::on_disk(Store::new(0))]
fn retrieve(mut store: Store) -> Store {
    assert!(black_box(&mut store).retrieve());
    store
}

library_benchmark_group!(name = storage, benchmarks = [append, retrieve]);

main!(library_benchmark_groups = parsers, relay, storage);
