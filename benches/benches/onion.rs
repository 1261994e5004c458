//! One hop of an onion of 2 KiB: peel, read, decide.

use core::hint::black_box;

use cepa_benches::PAYLOAD_SIZE;
use cepa_crypto::onion_v2::wrap;
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_relay::PeerTable;
use cepa_relay::onion::{Hop, Step, handle_entry};
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const CIPHERS: [EncType; 2] = [EncType::XChaCha20, EncType::AesGcm];

#[expect(clippy::expect_used, reason = "the keys are good")]
fn entry(node: &NodeKeys, enc_type: EncType, control: &Control) -> Vec<u8> {
    let ephemeral = X25519SecretKey::from_bytes([3; 32]);
    let plaintext = Frame {
        blob: &[7; PAYLOAD_SIZE],
        control: &control.encode(),
    }
    .encode();
    let (blob, _) = wrap(
        &plaintext,
        enc_type,
        &node.x25519_public(),
        &ephemeral,
        [4; 24],
    )
    .expect("a layer");
    let address = LayerAddress {
        ephemeral_key: ephemeral.public_key(),
        enc_type,
        hop_no: 0,
    };
    Frame {
        blob: &blob,
        control: &address.encode(),
    }
    .encode()
}

fn hops(criterion: &mut Criterion) {
    let node = NodeKeys::from_seed([7; 32]);
    let next = NodeKeys::from_seed([8; 32]);
    let peers = PeerTable::new([next.ed25519_public()]);
    let hop = Hop {
        keys: &node,
        peers: &peers,
        allow_aes_cbc: false,
    };
    let relay = Control::Relay {
        destination: next.ed25519_public(),
        address: LayerAddress {
            ephemeral_key: next.x25519_public(),
            enc_type: EncType::AesGcm,
            hop_no: 0,
        },
    };
    let mut group = criterion.benchmark_group("onion v2, 2 KiB");
    for cipher in CIPHERS {
        let last = entry(
            &node,
            cipher,
            &Control::Final {
                json: false,
                base64: true,
            },
        );
        group.bench_function(
            BenchmarkId::new("peel and deliver", cipher.name()),
            |bencher| {
                bencher.iter(|| {
                    let step = handle_entry(hop, black_box(&last));
                    assert!(matches!(step, Step::Deliver { .. }));
                });
            },
        );
        let middle = entry(&node, cipher, &relay);
        group.bench_function(
            BenchmarkId::new("peel and forward", cipher.name()),
            |bencher| {
                bencher.iter(|| {
                    let step = handle_entry(hop, black_box(&middle));
                    assert!(matches!(step, Step::Forward { .. }));
                });
            },
        );
        let ephemeral = X25519SecretKey::from_bytes([3; 32]);
        group.bench_function(
            BenchmarkId::new("wrap (client)", cipher.name()),
            |bencher| {
                let public = node.x25519_public();
                bencher
                    .iter(|| wrap(&last, cipher, &public, black_box(&ephemeral), [4; 24]).is_ok());
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = hops
}
criterion_main!(benches);
