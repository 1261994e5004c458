//! Session messages: encrypted and decrypted by their ends.

use core::hint::black_box;

use cepa_benches::{NOW, account};
use cepa_crypto::message::{decrypt, encrypt};
use criterion::{Criterion, criterion_group, criterion_main};

fn messages(criterion: &mut Criterion) {
    let (alice, bob) = (account(1), account(2));
    let text = "x".repeat(200);
    let mut group = criterion.benchmark_group("message of 200 characters");
    group.bench_function("encrypt", |bencher| {
        bencher.iter(|| encrypt(&alice, &bob.id(), black_box(&text), NOW, [3; 32]).is_ok());
    });
    let sealed = encrypt(&alice, &bob.id(), &text, NOW, [3; 32]).unwrap_or_default();
    group.bench_function("decrypt", |bencher| {
        bencher.iter(|| decrypt(&bob, black_box(&sealed)).is_ok());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = messages
}
criterion_main!(benches);
