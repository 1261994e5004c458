//! Ed25519 and the making of keys, each beside dalek.

use core::hint::black_box;

use cepa_crypto::key::{VerifyingKey, verify};
use cepa_crypto::{Ed25519SecretKey, X25519SecretKey};
use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};

const SEED: [u8; 32] = [7; 32];

/// As long as the signed text of a request.
const TEXT: [u8; 200] = [9; 200];

fn signatures(criterion: &mut Criterion) {
    let (ours, dalek) = (
        Ed25519SecretKey::from_seed(SEED),
        SigningKey::from_bytes(&SEED),
    );
    let mut group = criterion.benchmark_group("sign");
    group.bench_function("ours", |bencher| {
        bencher.iter(|| ours.sign(black_box(&TEXT)));
    });
    group.bench_function("dalek", |bencher| {
        bencher.iter(|| dalek.sign(black_box(&TEXT)));
    });
    group.finish();

    let public = ours.public_key();
    let signature = ours.sign(&TEXT);
    let strange = ed25519_dalek::Signature::from_bytes(&signature.0);
    let mut group = criterion.benchmark_group("verify");
    group.bench_function("ours, new key", |bencher| {
        bencher.iter(|| verify(black_box(&public), &TEXT, &signature).is_ok());
    });
    group.bench_function("dalek, new key", |bencher| {
        bencher.iter(|| {
            ed25519_dalek::VerifyingKey::from_bytes(black_box(&public.0))
                .is_ok_and(|key| key.verify_strict(&TEXT, &strange).is_ok())
        });
    });
    if let Ok(kept) = VerifyingKey::new(&public) {
        group.bench_function("ours, kept key", |bencher| {
            bencher.iter(|| kept.verify(black_box(&TEXT), &signature).is_ok());
        });
    }
    let kept = dalek.verifying_key();
    group.bench_function("dalek, kept key", |bencher| {
        bencher.iter(|| kept.verify_strict(black_box(&TEXT), &strange).is_ok());
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    group.bench_function("ours, Ed25519", |bencher| {
        bencher.iter(|| Ed25519SecretKey::from_seed(black_box(SEED)).public_key());
    });
    group.bench_function("dalek, Ed25519", |bencher| {
        bencher.iter(|| SigningKey::from_bytes(black_box(&SEED)).verifying_key());
    });
    group.bench_function("ours, X25519", |bencher| {
        bencher.iter(|| X25519SecretKey::from_bytes(black_box(SEED)).public_key());
    });
    group.bench_function("dalek, X25519", |bencher| {
        bencher.iter(|| {
            let secret = x25519_dalek::StaticSecret::from(black_box(SEED));
            x25519_dalek::PublicKey::from(&secret)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = signatures, keys
}
criterion_main!(benches);
