//! Links of the packet lane: a handshake, and what a frame costs.

use core::hint::black_box;
use core::net::SocketAddr;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{
    CookieJar, INITIATION_SIZE, Initiation, KemSecretKey, LinkIdentity, LinkKeys, PeerKeys,
    RESPONSE_SIZE, Stamp, Start,
};
use cepa_relay::packet::bucket::PacketRate;
use cepa_relay::packet::links::{LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable, Transmit};
use cepa_wire::Timestamp;
use cepa_wire::packet::geometry::DATAGRAM_SIZE;
use cepa_wire::packet::link_frame::LinkHeader;
use cepa_wire::packet::{ClientId, RelayId};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Frames of one measured batch: keys seal 2^28 at most.
const BATCH: usize = 64;

type Initiated = (Initiation, [u8; INITIATION_SIZE]);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 1))
}

fn identity(seed: u8) -> LinkIdentity {
    let secret = X25519SecretKey::from_bytes([seed; 32]);
    LinkIdentity::relay(secret, KemSecretKey::from_seed([seed; 64]))
}

#[expect(clippy::expect_used, reason = "the keys are good")]
fn start(from: &LinkIdentity, to: PeerKeys<'_>) -> Initiated {
    let mut datagram = [0; INITIATION_SIZE];
    let given = Start {
        index: 1,
        stamp: Stamp(1),
        cookie: None,
    };
    let started = Initiation::start(from, to, &given, [3; 64], &mut datagram);
    (started.expect("an initiation"), datagram)
}

#[expect(clippy::expect_used, reason = "the initiation is good")]
fn respond(to: &LinkIdentity, datagram: &[u8; INITIATION_SIZE]) -> (LinkKeys, [u8; RESPONSE_SIZE]) {
    let mut response = [0; RESPONSE_SIZE];
    let received = to.read_initiation(datagram, [4; 32]);
    let id = (2, ClientId([0; 16]));
    let keys = received.and_then(|it| it.respond(to, id, NOW, &mut response));
    (keys.expect("a response"), response)
}

fn handshake(criterion: &mut Criterion) {
    let (one, other) = (identity(1), identity(2));
    let kem = KemSecretKey::from_seed([2; 64]);
    let keys = PeerKeys {
        link: other.public_key(),
        kem: kem.public_key(),
    };
    let jar = CookieJar::new(NOW, [5; 64]);
    let (_, datagram) = start(&one, keys);
    let mut group = criterion.benchmark_group("link, handshake");
    group.bench_function("initiate", |bencher| bencher.iter(|| start(&one, keys)));
    group.bench_function("look at a good mac", |bencher| {
        bencher.iter(|| other.check_mac(black_box(&datagram), address(1), &jar));
    });
    group.bench_function("refuse a bad mac", |bencher| {
        bencher.iter(|| one.check_mac(black_box(&datagram), address(1), &jar));
    });
    group.bench_function("write a cookie", |bencher| {
        bencher.iter(|| other.write_cookie(black_box(&datagram), address(1), &jar, [6; 32]));
    });
    group.bench_function("respond", |bencher| {
        bencher.iter(|| respond(&other, black_box(&datagram)));
    });
    let (_, response) = respond(&other, &datagram);
    group.bench_function("finish", |bencher| {
        bencher.iter_batched_ref(
            || start(&one, keys).0,
            |initiation| assert!(initiation.read_response(&one, NOW, &response).is_ok()),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

#[expect(clippy::expect_used, reason = "the response is good")]
fn linked() -> [LinkKeys; 2] {
    let (one, other) = (identity(1), identity(2));
    let kem = KemSecretKey::from_seed([2; 64]);
    let keys = PeerKeys {
        link: other.public_key(),
        kem: kem.public_key(),
    };
    let (mut initiation, datagram) = start(&one, keys);
    let (responder, response) = respond(&other, &datagram);
    let established = initiation.read_response(&one, NOW, &response);
    [established.expect("keys").keys, responder]
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link, frames");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("seal, 64", |bencher| {
        let [mut initiator, _] = linked();
        let mut datagrams = vec![[7; DATAGRAM_SIZE]; BATCH];
        bencher.iter(|| {
            for datagram in &mut datagrams {
                assert!(initiator.seal(NOW, datagram).is_ok());
            }
        });
    });
    group.bench_function("open, 64", |bencher| {
        let [mut initiator, mut responder] = linked();
        bencher.iter_batched_ref(
            || {
                let mut datagrams = vec![[7; DATAGRAM_SIZE]; BATCH];
                for datagram in &mut datagrams {
                    assert!(initiator.seal(NOW, datagram).is_ok());
                }
                datagrams
            },
            |datagrams| {
                for datagram in datagrams {
                    let header = LinkHeader::parse(datagram).map(|(header, _)| header);
                    let opened = header.map(|header| responder.open(NOW, &header, datagram));
                    assert!(opened.is_ok_and(|opened| opened.is_ok()));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn table(number: u8) -> LinkTable {
    let config = LinkConfig {
        relay_rate: PacketRate {
            per_second: u32::MAX,
            burst: u32::MAX,
        },
        ..LinkConfig::default()
    };
    let mut table = LinkTable::new(config, identity(number), NOW, move |bytes| {
        bytes.fill(number);
    });
    let peer = |number| LinkPeer {
        relay: RelayId([number; 16]),
        link: *identity(number).public_key(),
        kem: Box::new(*KemSecretKey::from_seed([number; 64]).public_key()),
        address: address(number),
    };
    table.set_peers(NOW, &[peer(1), peer(2)]);
    table
}

fn tables(criterion: &mut Criterion) {
    let (mut one, mut other) = (table(1), table(2));
    let mut buffer = [0; DATAGRAM_SIZE];
    let to = LinkName::Relay(RelayId([2; 16]));
    assert!(one.seal(NOW, to, &[7; 1200], &mut buffer).is_ok());
    for _ in 0..2 {
        if let Some(Transmit { size, .. }) = one.poll_transmit(NOW, &mut buffer) {
            let event = other.handle_datagram(NOW, address(1), &mut buffer[..size]);
            if let LinkEvent::Reply { size } = event {
                one.handle_datagram(NOW, address(2), &mut buffer[..size]);
            }
        }
    }
    assert!(one.is_linked(to));
    let mut group = criterion.benchmark_group("link, table");
    group.throughput(Throughput::Elements(1));
    group.bench_function("seal", |bencher| {
        bencher.iter(|| one.seal(NOW, to, black_box(&[7; 1200]), &mut buffer));
    });
    group.bench_function("seal and open", |bencher| {
        bencher.iter(|| {
            assert!(one.seal_in_place(NOW, to, &mut buffer).is_ok());
            let event = other.handle_datagram(NOW, address(1), &mut buffer);
            assert!(matches!(event, LinkEvent::Packet { .. }));
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = handshake, frames, tables
}
criterion_main!(benches);
