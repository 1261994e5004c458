use super::*;

const SEED: u64 = 7;

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

fn many(engine: Engine, secret: [u8; 32], peers: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let secret = X25519SecretKey::from_bytes(secret);
    let peers: Vec<_> = peers.iter().copied().map(X25519PublicKey).collect();
    let mut shared = vec![SharedSecret::default(); peers.len()];
    engine.many(&secret, &peers, &mut shared);
    shared.iter().map(|shared| shared.0).collect()
}

#[test]
fn quick() {
    let mut random = Random(SEED);
    for count in 1..=128 {
        let secret = random.bytes();
        let peers: Vec<_> = (0..count).map(|_| random.bytes()).collect();
        assert!(many(Engine::detect(), secret, &peers) == many(Engine::Scalar, secret, &peers), "{count}");
    }
}
