//! One secret key with many peers: a batch of each length, and one peer alone, also with
//! x25519-dalek.

use core::hint::black_box;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::x25519::{BATCH_MAX, SharedSecret, available, diffie_hellman_many};
use cepa_wire::X25519PublicKey;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const LENGTHS: [usize; 9] = [1, 2, 4, 8, 9, 16, 32, BATCH_MAX, 2 * BATCH_MAX];

fn peer(index: usize) -> X25519PublicKey {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&index.to_le_bytes());
    X25519SecretKey::from_bytes(secret).public_key()
}

fn batches(criterion: &mut Criterion) {
    let secret = X25519SecretKey::from_bytes([5; 32]);
    let peers: Vec<_> = (0..2 * BATCH_MAX).map(peer).collect();
    let mut shared = vec![SharedSecret::default(); peers.len()];
    let mut group = criterion.benchmark_group("x25519");
    for length in LENGTHS {
        group.throughput(Throughput::Elements(length as u64));
        let name = format!("batch, {:?}", available());
        group.bench_function(BenchmarkId::new(name, length), |bencher| {
            bencher.iter(|| {
                let peers = black_box(&peers[..length]);
                diffie_hellman_many(black_box(&secret), peers, &mut shared[..length]);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("one peer", |bencher| {
        bencher.iter(|| {
            black_box(&secret)
                .diffie_hellman(black_box(&peers[0]))
                .is_ok()
        });
    });
    let dalek = x25519_dalek::StaticSecret::from(*secret.to_bytes());
    group.bench_function("one peer, x25519-dalek", |bencher| {
        bencher.iter(|| {
            let peer = x25519_dalek::PublicKey::from(black_box(&peers[0]).0);
            dalek.diffie_hellman(&peer).was_contributory()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = batches
}
criterion_main!(benches);
