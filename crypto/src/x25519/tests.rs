mod bounds;
mod digits;
mod twin;

use std::io::Write as _;
use std::sync::OnceLock;

use super::*;

/// Splitmix64: bytes that look random, the same each time.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.as_chunks_mut::<8>().0 {
            *chunk = self.word().to_le_bytes();
        }
        bytes
    }
}

/// Every backend that this CPU runs.
fn engines() -> Vec<Engine> {
    if available() == Backend::Scalar {
        let line = "x25519: NOT TESTED: AVX-512 IFMA, which this CPU does not have\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return vec![Engine::Scalar];
    }
    vec![Engine::Scalar, Engine::detect()]
}

fn many(engine: Engine, secret: &[u8; 32], peers: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let secret = X25519SecretKey::from_bytes(*secret);
    let peers: Vec<_> = peers.iter().copied().map(X25519PublicKey).collect();
    let mut shared = vec![SharedSecret([0xee; 32]); peers.len()];
    engine.many(&secret, &peers, &mut shared);
    let bytes = |shared: &SharedSecret| {
        let is_zero = shared.0 == [0; 32];
        assert_eq!(
            shared.contributory(),
            if is_zero { Err(WeakKey) } else { Ok(&shared.0) }
        );
        shared.0
    };
    shared.iter().map(bytes).collect()
}

/// What dalek computes; all zero for a peer of low order.
fn with_dalek(secret: &[u8; 32], peers: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let secret = x25519_dalek::StaticSecret::from(*secret);
    let one = |peer: &[u8; 32]| secret.diffie_hellman(&(*peer).into()).to_bytes();
    peers.iter().map(one).collect()
}

/// All engines agree, and dalek. Gives what they agree on.
fn compare(secret: &[u8; 32], peers: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let expected = with_dalek(secret, peers);
    for engine in engines() {
        let shared = many(engine, secret, peers);
        for ((shared, expected), peer) in shared.iter().zip(&expected).zip(peers) {
            assert_eq!(
                shared,
                expected,
                "{} {}",
                hex::encode(secret),
                hex::encode(peer)
            );
        }
    }
    expected
}

fn bytes(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// RFC 7748, section 5.2: scalar, u, result.
const VECTORS: [[&str; 3]; 2] = [
    [
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ],
    [
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ],
];

/// The same after that many turns of section 5.2's loop.
const ITERATED: [(usize, &str); 3] = [
    (
        1,
        "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    ),
    (
        1_000,
        "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
    ),
    (
        1_000_000,
        "7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424",
    ),
];

#[test]
fn vectors_of_rfc_7748() {
    for [secret, peer, expected] in VECTORS {
        let (secret, peer) = (bytes(secret), bytes(peer));
        assert_eq!(hex::encode(twin::x25519(&secret, &peer)), expected);
        for engine in engines() {
            for shared in many(engine, &secret, &[peer; 9]) {
                assert_eq!(hex::encode(shared), expected);
            }
        }
    }
}

fn iterate(turns: usize, mut multiply: impl FnMut(&[u8; 32], &[u8; 32]) -> [u8; 32]) -> String {
    let mut secret = [0; 32];
    secret[0] = 9;
    let mut u = secret;
    for _ in 0..turns {
        (secret, u) = (multiply(&secret, &u), secret);
    }
    hex::encode(secret)
}

fn iterated(turns: usize, expected: &str) {
    for engine in engines() {
        let in_every_lane = |secret: &[u8; 32], u: &[u8; 32]| {
            let shared = many(engine, secret, &[*u; 8]);
            assert!(shared.iter().all(|other| *other == shared[0]));
            shared[0]
        };
        let alone = |secret: &[u8; 32], u: &[u8; 32]| many(engine, secret, &[*u])[0];
        match engine {
            Engine::Scalar => assert_eq!(iterate(turns, alone), expected),
            #[cfg(target_arch = "x86_64")]
            Engine::Ifma(_) => assert_eq!(iterate(turns, in_every_lane), expected),
        }
    }
}

#[test]
fn iterated_as_in_rfc_7748() {
    let [once, thousand, _] = ITERATED;
    assert_eq!(iterate(once.0, twin::x25519), once.1);
    iterated(once.0, once.1);
    iterated(thousand.0, thousand.1);
}

/// About a minute: `cargo test --release -p cepa-crypto --lib a_million -- --ignored`.
#[test]
#[ignore = "a million multiplications take a minute"]
fn iterated_a_million_times() {
    let [.., (turns, expected)] = ITERATED;
    iterated(turns, expected);
}

/// More than 100,000 random points, in batches of every length, each with a secret of its own.
#[test]
fn random_points_in_batches_of_every_length() {
    let mut random = Random(1);
    let mut count = 0;
    for _ in 0..13 {
        for length in 1..=128 {
            let secret = random.bytes();
            let peers: Vec<_> = (0..length).map(|_| random.bytes()).collect();
            compare(&secret, &peers);
            count += length;
        }
    }
    assert!(count > 100_000);
}

#[test]
fn the_twin_agrees() {
    let mut random = Random(2);
    for _ in 0..8 {
        let secret = random.bytes();
        let peers: Vec<_> = (0..24).map(|_| random.bytes()).collect();
        for (shared, peer) in compare(&secret, &peers).iter().zip(&peers) {
            assert_eq!(*shared, twin::x25519(&secret, peer));
        }
    }
}

/// u of the points of order 1, 2, 4 and 8 of the curve and of its twist.
const SMALL_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Around p, which is 2^255 - 19: p - 128 to 2^255 - 1. From p on, they are not canonical.
fn around_p() -> impl Iterator<Item = [u8; 32]> {
    (0xed - 0x80..=0xff).map(|low| {
        let mut bytes = [0xff; 32];
        bytes[0] = low;
        bytes[31] = 0x7f;
        bytes
    })
}

/// Peers that are hard on a carry or on the last reduction, each with bit 255 clear and set.
fn edges() -> Vec<[u8; 32]> {
    let mut peers: Vec<_> = SMALL_ORDER.map(bytes).into();
    peers.extend(around_p());
    peers.extend((0..=19).map(|low| {
        let mut bytes = [0; 32];
        bytes[0] = low;
        bytes
    }));
    for bit in 0..255 {
        let mut single = [0; 32];
        single[bit / 8] = 1 << (bit % 8);
        peers.extend([single, single.map(|byte| !byte)]);
    }
    // Digits of 52 bits, each empty or full.
    for pattern in 0..32 {
        let mut digits = [0; 32];
        for bit in (0..255).filter(|bit| pattern >> (bit / 52) & 1 == 1) {
            digits[bit / 8] |= 1 << (bit % 8);
        }
        peers.push(digits);
    }
    let with_high_bit = |mut bytes: [u8; 32]| {
        bytes[31] ^= 0x80;
        bytes
    };
    peers.extend(peers.clone().into_iter().map(with_high_bit));
    peers
}

fn secrets() -> Vec<[u8; 32]> {
    let mut random = Random(3);
    let mut secrets = vec![[0; 32], [0xff; 32], [0x55; 32], [0xaa; 32]];
    secrets.extend((0..3).map(|_| random.bytes()));
    secrets
}

#[test]
fn edges_of_the_field() {
    let peers = edges();
    for secret in secrets() {
        // In step with the lanes, and out of it.
        let shared = compare(&secret, &peers);
        assert_eq!(compare(&secret, &peers[3..]), shared[3..]);
    }
    let secret = [0x55; 32];
    for (shared, peer) in compare(&secret, &peers).iter().zip(&peers) {
        assert_eq!(*shared, twin::x25519(&secret, peer));
    }
}

#[test]
fn points_of_small_order_give_zero_and_spoil_no_other_lane() {
    let mut random = Random(4);
    let mut weak = SMALL_ORDER.map(bytes).to_vec();
    // p and p + 1 are 0 and 1 written otherwise.
    weak.extend(around_p().filter(|bytes| (0xed..=0xee).contains(&bytes[0])));
    for secret in secrets() {
        for lane in 0..8 {
            for point in &weak {
                let mut peers: [_; 20] = core::array::from_fn(|_| random.bytes());
                peers[lane] = *point;
                peers[8 + (lane + 3) % 8] = *point;
                let shared = compare(&secret, &peers);
                for (index, shared) in shared.iter().enumerate() {
                    let is_weak = peers[index] == *point;
                    assert_eq!(
                        *shared == [0; 32],
                        is_weak,
                        "{} {index}",
                        hex::encode(point)
                    );
                }
            }
        }
        for shared in compare(&secret, &weak) {
            assert_eq!(shared, [0; 32]);
        }
    }
}

#[test]
fn as_many_as_both_slices_have() {
    let secret = X25519SecretKey::from_bytes([1; 32]);
    let peer = X25519SecretKey::from_bytes([2; 32]).public_key();
    let expected = secret.diffie_hellman(&peer).unwrap();
    for engine in engines() {
        for (peers, room) in [
            (0, 0),
            (0, 3),
            (3, 0),
            (9, 20),
            (20, 9),
            (300, 300),
            (130, 129),
        ] {
            let mut shared = vec![SharedSecret::default(); room];
            engine.many(&secret, &vec![peer; peers], &mut shared);
            let count = peers.min(room);
            assert!(shared[..count].iter().all(|shared| shared.0 == *expected));
            assert!(shared[count..].iter().all(|shared| shared.0 == [0; 32]));
        }
    }
}

/// On a choice of its own: that of the process is made by whichever test comes first.
#[test]
fn a_backend_is_chosen_once() {
    let chosen = OnceLock::new();
    assert_eq!(choose_in(&chosen, Backend::Scalar), Ok(()));
    assert_eq!(choose_in(&chosen, Backend::Scalar), Ok(()));
    let expected = match available() {
        Backend::Scalar => ChooseError::Unavailable,
        Backend::Avx512Ifma => ChooseError::InUse,
    };
    assert_eq!(choose_in(&chosen, Backend::Avx512Ifma), Err(expected));
    assert_eq!(choose_in(&OnceLock::new(), available()), Ok(()));
}

#[test]
fn what_the_process_chose_computes_the_same() {
    let secret = X25519SecretKey::from_bytes([1; 32]);
    let peers = [2, 3].map(|byte| X25519SecretKey::from_bytes([byte; 32]).public_key());
    let mut shared = [SharedSecret::default(), SharedSecret::default()];
    diffie_hellman_many(&secret, &peers, &mut shared);
    for (peer, shared) in peers.iter().zip(&shared) {
        assert_eq!(
            shared.contributory(),
            Ok(&*secret.diffie_hellman(peer).unwrap())
        );
    }
}
