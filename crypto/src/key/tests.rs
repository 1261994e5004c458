use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signer as _, Verifier as _};
use proptest::prelude::*;

use super::*;

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn rfc_8032_vectors() {
    // Section 7.1, tests 1 and 2: secret key, public key, message, signature.
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (seed, public, message, signature) in vectors {
        let key = Ed25519SecretKey::from_seed(bytes(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.public_key().to_hex(), public);
        assert_eq!(key.sign(&message).to_hex(), signature);
        let signature = Signature(bytes(signature));
        assert_eq!(verify(&key.public_key(), &message, &signature), Ok(()));
        assert_eq!(
            verify(&key.public_key(), b"other", &signature),
            Err(BadSignature)
        );
    }
}

#[test]
fn rfc_7748_diffie_hellman() {
    // Section 6.1: Bob's secret and public key, Alice's public key, the shared secret.
    let bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
    let bob = X25519SecretKey::from_bytes(bytes(bob));
    let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    let alice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    assert_eq!(bob.public_key().to_hex(), public);
    let secret = bob.diffie_hellman(&X25519PublicKey(bytes(alice))).unwrap();
    assert_eq!(hex::encode(*secret), shared);
}

#[test]
fn both_forms_of_a_key_belong_together() {
    let key = Ed25519SecretKey::from_seed([7; 32]);
    let converted = ed25519_to_x25519(&key.public_key()).unwrap();
    assert_eq!(converted, key.to_x25519().public_key());
}

/// What the equation of RFC 8032 alone would accept, and libsodium does not.
#[test]
fn signatures_that_anyone_could_change_or_make_are_refused() {
    let key = Ed25519SecretKey::from_seed([7; 32]);
    let public = key.public_key();
    // S + L is the same scalar, written in another way.
    let signature = key.sign(b"text");
    let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut other = signature;
    let mut carry = 0;
    for (byte, add) in other.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(verify(&public, b"text", &signature), Ok(()));
    assert_eq!(verify(&public, b"text", &other), Err(BadSignature));
    // R of small order: S = k a fulfils S B = R + k A.
    let mut small = [0; 64];
    small[0] = 1;
    let hashed = [&small[..32], &public.0, b"text"].concat();
    let hashed = ring::digest::digest(&ring::digest::SHA512, &hashed);
    let challenge = Scalar::from_bytes_mod_order_wide(hashed.as_ref().try_into().unwrap());
    let product = challenge * key.expand().to_scalar();
    small[32..].copy_from_slice(product.as_bytes());
    let lenient = ed25519_dalek::VerifyingKey::from_bytes(&public.0).unwrap();
    let dalek = ed25519_dalek::Signature::from_bytes(&small);
    assert!(
        lenient.verify(b"text", &dalek).is_ok(),
        "the equation holds"
    );
    assert_eq!(
        verify(&public, b"text", &Signature(small)),
        Err(BadSignature)
    );
}

#[test]
fn keys_outside_the_prime_order_group_are_not_converted() {
    let public = Ed25519SecretKey::from_seed([7; 32]).public_key();
    let point = CompressedEdwardsY(public.0).decompress().unwrap();
    for (index, torsion) in EIGHT_TORSION.iter().enumerate() {
        let mixed = Ed25519PublicKey((point + torsion).compress().0);
        assert_eq!(ed25519_to_x25519(&mixed).is_some(), index == 0, "{index}");
    }
}

#[test]
fn weak_and_malformed_keys_are_refused() {
    let key = X25519SecretKey::from_bytes([1; 32]);
    assert_eq!(key.diffie_hellman(&X25519PublicKey([0; 32])), Err(WeakKey));
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(ed25519_to_x25519(&Ed25519PublicKey(identity)), None);
    // y = p + 1 encodes the same point in another way.
    let mut alias = [0xff; 32];
    alias[0] = 0xee;
    alias[31] = 0x7f;
    assert_eq!(ed25519_to_x25519(&Ed25519PublicKey(alias)), None);
    let signature = Signature([0; 64]);
    assert_eq!(
        verify(&Ed25519PublicKey(identity), b"", &signature),
        Err(BadSignature)
    );
    assert_eq!(
        verify(&Ed25519PublicKey(alias), b"", &signature),
        Err(BadSignature)
    );
}

/// What [`verify`] answered before aws-lc did.
fn verify_with_dalek(key: &Ed25519PublicKey, text: &[u8], signature: &Signature) -> bool {
    let point = ed25519_dalek::VerifyingKey::from_bytes(&key.0);
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    is_canonical(key) && point.is_ok_and(|point| point.verify_strict(text, &signature).is_ok())
}

/// The answer of both, which is one.
fn both_verify(key: &Ed25519PublicKey, text: &[u8], signature: &Signature) -> bool {
    let answer = verify(key, text, signature).is_ok();
    let expected = verify_with_dalek(key, text, signature);
    assert_eq!(answer, expected, "{key:?} {signature:?}");
    answer
}

/// Signs with a key that `torsion` is added to, and an R that `other` is added to. Without the
/// cofactor the equation holds when these cancel out: a chance of one in eight for most.
fn sign_mixed(
    secret: u8,
    torsion: usize,
    other: usize,
    text: &[u8],
) -> (Ed25519PublicKey, Signature) {
    let hash = |parts: &[&[u8]]| {
        let hashed = ring::digest::digest(&ring::digest::SHA512, &parts.concat());
        Scalar::from_bytes_mod_order_wide(hashed.as_ref().try_into().unwrap())
    };
    let (scalar, nonce) = (
        hash(&[b"key", &[secret]]),
        hash(&[b"nonce", &[secret], text]),
    );
    let public = (EdwardsPoint::mul_base(&scalar) + EIGHT_TORSION[torsion])
        .compress()
        .0;
    let r = (EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[other])
        .compress()
        .0;
    let s = nonce + hash(&[&r, &public, text]) * scalar;
    let mut signature = Signature([0; 64]);
    signature.0[..32].copy_from_slice(&r);
    signature.0[32..].copy_from_slice(s.as_bytes());
    (Ed25519PublicKey(public), signature)
}

#[test]
fn mixed_keys_verify_as_with_dalek() {
    let mut counts = [0_usize; 2];
    for torsion in 0..8 {
        for other in 0..8 {
            for round in 0..48 {
                let (public, signature) = sign_mixed(round, torsion, other, &[round]);
                let is_good = both_verify(&public, &[round], &signature);
                counts[usize::from(is_good)] += 1;
                assert!(is_good || torsion + other > 0);
            }
        }
    }
    // Some with torsion in them do hold.
    assert!(counts[0] > 1000 && counts[1] > 300, "{counts:?}");
}

/// Canonical and other encodings of each point of small order, and some that are no points.
fn odd_points() -> Vec<[u8; 32]> {
    let mut points: Vec<_> = EIGHT_TORSION
        .iter()
        .map(|point| point.compress().0)
        .collect();
    for low in 0..=0xff {
        let mut around_zero = [0; 32];
        around_zero[0] = low;
        let mut around_p = [0xff; 32];
        around_p[0] = low;
        around_p[31] = 0x7f;
        points.extend([around_zero, around_p]);
    }
    let other_sign = |mut point: [u8; 32]| {
        point[31] ^= 0x80;
        point
    };
    points.extend(points.clone().into_iter().map(other_sign));
    points
}

#[test]
fn odd_points_verify_as_with_dalek() {
    let key = Ed25519SecretKey::from_seed([7; 32]);
    let (public, good) = (key.public_key(), key.sign(b"text"));
    let points = odd_points();
    for point in &points {
        assert!(!both_verify(&Ed25519PublicKey(*point), b"text", &good));
        let mut signature = good;
        signature.0[..32].copy_from_slice(point);
        assert!(!both_verify(&public, b"text", &signature));
        // S of zero: the equation holds when R + k A is the neutral point.
        signature.0[32..].fill(0);
        for other in &points[..32] {
            both_verify(&Ed25519PublicKey(*other), b"text", &signature);
        }
    }
}

#[test]
fn points_of_small_order_are_those_of_the_table() {
    for point in EIGHT_TORSION {
        let mut point = point.compress().0;
        assert!(is_small_order(&point));
        point[31] ^= 0x80;
        assert!(is_small_order(&point));
    }
    let distinct = SMALL_ORDER.map(|y| CompressedEdwardsY(y).decompress().unwrap());
    assert!(distinct.iter().all(EdwardsPoint::is_small_order));
}

#[test]
fn a_clone_outlives_what_it_was_cloned_from() {
    let (secret, signer) = (
        X25519SecretKey::from_bytes([1; 32]),
        Ed25519SecretKey::from_seed([2; 32]),
    );
    let peer = signer.to_x25519().public_key();
    let (shared, signature) = (secret.diffie_hellman(&peer), signer.sign(b"text"));
    let clones = (secret.clone(), signer.clone());
    drop((secret, signer));
    assert_eq!(clones.0.diffie_hellman(&peer), shared);
    assert_eq!(clones.1.sign(b"text"), signature);
}

/// S at the order, and what lies around.
#[test]
fn s_is_below_the_order() {
    let key = Ed25519SecretKey::from_seed([7; 32]);
    let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    for bit in 0..256 {
        for value in [order, [0; 32], [0xff; 32]] {
            let mut signature = key.sign(b"text");
            signature.0[32..].copy_from_slice(&value);
            signature.0[32 + bit / 8] ^= 1 << (bit % 8);
            assert!(!both_verify(&key.public_key(), b"text", &signature));
        }
        let mut signature = key.sign(b"text");
        signature.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!both_verify(&key.public_key(), b"text", &signature));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_signatures_verify_as_with_dalek(
        seed: [u8; 32],
        text in prop::collection::vec(any::<u8>(), 0..300),
        mutations in prop::collection::vec((0_usize..96, any::<u8>()), 0..3),
        key_bytes: [u8; 32],
    ) {
        let key = Ed25519SecretKey::from_seed(seed);
        let (mut public, mut signature) = (key.public_key(), key.sign(&text));
        prop_assert!(both_verify(&public, &text, &signature));
        both_verify(&Ed25519PublicKey(key_bytes), &text, &signature);
        for (at, change) in mutations {
            match at.checked_sub(64) {
                None => signature.0[at] ^= change,
                Some(at) => public.0[at] ^= change,
            }
        }
        both_verify(&public, &text, &signature);
    }

    #[test]
    fn keys_and_signatures_are_those_of_dalek(
        seed: [u8; 32],
        text in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (key, dalek) = (Ed25519SecretKey::from_seed(seed), SigningKey::from_bytes(&seed));
        prop_assert_eq!(key.public_key().0, dalek.verifying_key().to_bytes());
        prop_assert_eq!(key.sign(&text).0, dalek.sign(&text).to_bytes());
        let pair = dalek.to_keypair_bytes();
        prop_assert_eq!(*key.to_seed_and_public(), pair);
        let read = Ed25519SecretKey::from_seed_and_public(&pair).unwrap();
        prop_assert_eq!(read.sign(&text), key.sign(&text));
        let mut other = pair;
        other[32] ^= 1;
        prop_assert!(Ed25519SecretKey::from_seed_and_public(&other).is_none());
        let secret = X25519SecretKey::from_bytes(seed);
        let dalek = x25519_dalek::StaticSecret::from(seed);
        let public = x25519_dalek::PublicKey::from(&dalek);
        prop_assert_eq!(secret.public_key().0, public.to_bytes());
        prop_assert_eq!(*secret.to_bytes(), seed);
    }
}
