//! Client requests: read in both encodings, and verified.

use core::hint::black_box;

use cepa_benches::{NOW, account, retrieve, store};
use cepa_crypto::request_signature::{Verifier, retrieve_text};
use cepa_wire::request::ClientRequest;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

fn parses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for (name, request) in [
        ("store 2 KiB", store()),
        ("retrieve, signed", retrieve(&account(1), NOW)),
    ] {
        let json = request.encode_json();
        group.bench_function(BenchmarkId::new("parse JSON", name), |bencher| {
            bencher.iter(|| ClientRequest::parse_json(black_box(&json)).is_ok());
        });
        let bt = request.encode_bt();
        group.bench_function(BenchmarkId::new("parse bt", name), |bencher| {
            bencher.iter(|| ClientRequest::parse_params(request.method(), black_box(&bt)).is_ok());
        });
    }
    if let ClientRequest::Retrieve(retrieve) = retrieve(&account(1), NOW)
        && let Some(proof) = retrieve.proof
    {
        let text = retrieve_text(&retrieve);
        group.bench_function("verify a signature", |bencher| {
            let mut verifier = Verifier::new();
            bencher.iter(|| {
                let mailbox = &retrieve.mailbox;
                verifier
                    .verify(mailbox, black_box(&proof), 0, &text)
                    .is_ok()
            });
        });
        group.bench_function("verify a signature of a new key", |bencher| {
            bencher.iter_batched(
                Verifier::new,
                |mut verifier| {
                    let mailbox = &retrieve.mailbox;
                    verifier
                        .verify(mailbox, black_box(&proof), 0, &text)
                        .is_ok()
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = parses
}
criterion_main!(benches);
