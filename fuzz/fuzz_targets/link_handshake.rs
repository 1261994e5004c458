//! Arbitrary bytes for both sides of a handshake, and as a frame of a link, as they are and with a mac that
//! fits: what is refused changes nothing, so that the true answer is taken after it.
#![no_main]

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{
    CookieJar, INITIATION_SIZE, Initiation, KemSecretKey, LinkIdentity, LinkKeys, PeerKeys,
    RESPONSE_SIZE, Stamp, Start, parts,
};
use cepa_wire::Timestamp;
use cepa_wire::packet::ClientId;
use cepa_wire::packet::geometry::DATAGRAM_SIZE;
use cepa_wire::packet::link_frame::LinkHeader;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Scene {
    one: LinkIdentity,
    other: LinkIdentity,
    kem: Box<[u8; 1184]>,
}

thread_local! {
    static SCENE: Scene = Scene {
        one: identity(1),
        other: identity(2),
        kem: Box::new(*KemSecretKey::from_seed([2; 64]).public_key()),
    };
}

fn identity(seed: u8) -> LinkIdentity {
    let secret = X25519SecretKey::from_bytes([seed; 32]);
    LinkIdentity::relay(secret, KemSecretKey::from_seed([seed; 64]))
}

/// The seeds are of this handshake.
fn start(scene: &Scene) -> (Initiation, [u8; INITIATION_SIZE]) {
    let mut datagram = [0; INITIATION_SIZE];
    let keys = PeerKeys {
        link: scene.other.public_key(),
        kem: &scene.kem,
    };
    let given = Start {
        index: 0x0102_0304,
        stamp: Stamp(77),
        cookie: None,
    };
    match Initiation::start(&scene.one, keys, &given, [3; 64], &mut datagram) {
        Ok(initiation) => (initiation, datagram),
        Err(_) => panic!("the keys are good"),
    }
}

fn respond(scene: &Scene, datagram: &[u8; INITIATION_SIZE]) -> (LinkKeys, [u8; RESPONSE_SIZE]) {
    let mut response = [0; RESPONSE_SIZE];
    let received = scene.other.read_initiation(datagram, [4; 32]);
    let id = (5, ClientId([9; 16]));
    let keys = received.and_then(|it| it.respond(&scene.other, id, NOW, &mut response));
    match keys {
        Ok(keys) => (keys, response),
        Err(_) => panic!("the initiation is good"),
    }
}

fn frame(keys: &mut LinkKeys, input: &[u8]) {
    let Ok((header, _)) = LinkHeader::parse(input) else {
        return;
    };
    let mut bytes = input.to_vec();
    if keys.open(NOW, &header, &mut bytes).is_ok() {
        let mut bytes = input.to_vec();
        assert!(keys.open(NOW, &header, &mut bytes).is_err(), "taken twice");
    }
}

fn run(scene: &Scene, input: &[u8]) {
    let jar = CookieJar::new(NOW, [6; 64]);
    let (mut initiation, datagram) = start(scene);
    let (mut responder_keys, response) = respond(scene, &datagram);

    for (receiver, with_mac) in [
        (&scene.one, false),
        (&scene.one, true),
        (&scene.other, true),
    ] {
        let mut bytes = input.to_vec();
        if with_mac {
            parts::write_mac(receiver.public_key(), &mut bytes);
        }
        let from = ([127, 0, 0, 1], 9).into();
        let _ = receiver.check_mac(&bytes, from, &jar).is_ok();
        if let Ok(bytes) = <&[u8; INITIATION_SIZE]>::try_from(&bytes[..]) {
            let good = receiver.read_initiation(bytes, [4; 32]).is_ok();
            assert!(!good || bytes[16..1216] == datagram[16..1216], "forged");
        }
        let _ = initiation.read_cookie(&bytes).is_ok();
        if bytes != response {
            let header_only = bytes.get(16..) == Some(&response[16..]);
            let taken = initiation.read_response(&scene.one, NOW, &bytes).is_ok();
            // The header's number is covered by the mac only.
            assert!(!taken || header_only || bytes.get(16..84) == Some(&response[16..84]));
            if taken {
                return;
            }
        }
    }
    let Ok(mut established) = initiation.read_response(&scene.one, NOW, &response) else {
        panic!("the true answer is refused");
    };
    frame(&mut established.keys, input);
    frame(&mut responder_keys, input);
    let mut datagram = [1; DATAGRAM_SIZE];
    assert!(established.keys.seal(NOW, &mut datagram).is_ok());
    let Ok((header, _)) = LinkHeader::parse(&datagram) else {
        panic!("our own frame")
    };
    assert!(responder_keys.open(NOW, &header, &mut datagram).is_ok());
}

fuzz_target!(|input: &[u8]| SCENE.with(|scene| run(scene, input)));
