//! One hop of the packet lane: its parts, and whole batches. Rows with several packets count each.

use core::hint::black_box;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::packet::{
    HopKey, PathHop, PeelError, answer, build, open_many, parts, peel_many, reply_block,
};
use cepa_wire::X25519PublicKey;
use cepa_wire::packet::epoch::Epoch;
use cepa_wire::packet::geometry::{CONTENT_SIZE, HEADER_STREAM_SIZE, PAYLOAD_SIZE, SEALED_SIZE};
use cepa_wire::packet::{ClientId, Packet, PacketBytes, RelayId};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const RELAY: RelayId = RelayId([7; 16]);
const SECRET: [u8; 32] = [9; 32];
const BATCHES: [usize; 5] = [1, 8, 16, 32, 64];

fn secret() -> X25519SecretKey {
    X25519SecretKey::from_bytes(SECRET)
}

fn hop() -> HopKey {
    HopKey::new(secret(), RELAY, Epoch(1))
}

/// A source of bytes that differ: what they are does not matter here.
fn counting() -> impl FnMut(&mut [u8]) {
    let mut number = 1_u64;
    move |bytes| {
        for byte in bytes {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = number.to_be_bytes()[0];
        }
    }
}

/// A path of five hops that all are us.
fn path() -> Vec<PathHop> {
    let hop = PathHop {
        relay: RELAY,
        key: secret().public_key(),
        delay_ms: 0,
    };
    vec![hop; 5]
}

#[expect(clippy::expect_used, reason = "the path is good")]
fn packets(count: usize) -> Vec<PacketBytes> {
    let mut random = counting();
    let packet = |_| build(&path(), &[1; CONTENT_SIZE], &mut random).expect("a packet");
    (0..count).map(packet).map(|built| built.bytes).collect()
}

fn symmetric(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet, parts");
    let ephemeral = X25519PublicKey([3; 32]);
    group.bench_function("keys", |bencher| {
        bencher.iter(|| parts::keys(black_box(&SECRET), &ephemeral, RELAY));
    });
    group.bench_function("tag", |bencher| {
        bencher.iter(|| parts::tag(black_box(&SECRET), black_box(&[1; SEALED_SIZE])));
    });
    let mut text = [1; HEADER_STREAM_SIZE];
    group.bench_function("header", |bencher| {
        bencher.iter(|| parts::header(black_box(&SECRET), black_box(&mut text)));
    });
    let mut payload = [1; PAYLOAD_SIZE];
    group.bench_function("payload", |bencher| {
        bencher.iter(|| parts::payload(black_box(&SECRET), black_box(&mut payload)));
    });
    group.finish();
}

/// Everything after the Diffie-Hellman, from its secrets.
fn without_diffie_hellman(criterion: &mut Criterion) {
    let (hop, packets) = (hop(), packets(64));
    let secrets: Vec<_> = packets
        .iter()
        .filter_map(|packet| {
            secret()
                .diffie_hellman(&Packet::new(packet).ephemeral_key())
                .ok()
        })
        .collect();
    let mut group = criterion.benchmark_group("packet, all but Diffie-Hellman");
    group.throughput(Throughput::Elements(64));
    group.bench_function("64", |bencher| {
        bencher.iter_batched_ref(
            || packets.clone(),
            |packets| {
                for (packet, secret) in packets.iter_mut().zip(&secrets) {
                    let opened = parts::open(&hop, packet, secret);
                    assert!(opened.is_ok_and(|opened| opened.peel(packet).is_ok()));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let hop = hop();
    let mut group = criterion.benchmark_group("packet, peel");
    for count in BATCHES {
        let packets = packets(count);
        let mut peeled = vec![Err(PeelError::BadTag); count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("batch", count), |bencher| {
            bencher.iter_batched_ref(
                || packets.clone(),
                |packets| peel_many(&hop, packets, &mut peeled),
                BatchSize::LargeInput,
            );
            assert!(peeled.iter().all(Result::is_ok));
        });
    }
    let packets = packets(64);
    group.throughput(Throughput::Elements(64));
    group.bench_function("one by one, 64", |bencher| {
        let key = secret();
        bencher.iter_batched_ref(
            || packets.clone(),
            |packets| {
                for packet in packets {
                    let shared = key.diffie_hellman(&Packet::new(packet).ephemeral_key());
                    let opened = shared.map(|shared| parts::open(&hop, packet, &shared));
                    assert!(opened.is_ok_and(|it| it.is_ok_and(|it| it.peel(packet).is_ok())));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("open only, 64", |bencher| {
        let mut opened: Vec<_> = packets.iter().map(|_| Err(PeelError::BadTag)).collect();
        bencher.iter(|| open_many(&hop, black_box(&packets), &mut opened));
    });
    group.finish();
}

fn client(criterion: &mut Criterion) {
    let (path, mut random) = (path(), counting());
    let mut group = criterion.benchmark_group("packet, client");
    group.bench_function("build for five hops", |bencher| {
        bencher.iter(|| build(&path, &[1; CONTENT_SIZE], &mut random).is_ok());
    });
    let block = reply_block(&path, ClientId([1; 16]), &mut random);
    group.bench_function("answer", |bencher| {
        bencher.iter(|| {
            let answered = block
                .as_ref()
                .map(|(block, _)| answer(block, &[1; CONTENT_SIZE]));
            answered.is_ok_and(|answered| answered.is_ok())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = symmetric, without_diffie_hellman, batches, client
}
criterion_main!(benches);
