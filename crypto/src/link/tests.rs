use core::net::SocketAddr;

use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE};
use cepa_wire::packet::link_frame::LinkHeader;
use cepa_wire::packet::{ClientId, PacketBytes};
use cepa_wire::{Timestamp, X25519PublicKey};

use super::noise::DH_COUNT;
use super::*;
use crate::X25519SecretKey;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ID: ClientId = ClientId([9; 16]);

fn relay(seed: u8) -> LinkIdentity {
    let kem = KemSecretKey::from_seed([seed; 64]);
    LinkIdentity::relay(X25519SecretKey::from_bytes([seed; 32]), kem)
}

fn kem_key(seed: u8) -> Box<[u8; KEM_KEY_SIZE]> {
    Box::new(*KemSecretKey::from_seed([seed; 64]).public_key())
}

fn peer_keys<'a>(identity: &'a LinkIdentity, kem: &'a [u8; KEM_KEY_SIZE]) -> PeerKeys<'a> {
    PeerKeys {
        link: identity.public_key(),
        kem,
    }
}

fn start(
    from: &LinkIdentity,
    to: PeerKeys<'_>,
    cookie: Option<Cookie>,
) -> (Initiation, [u8; INITIATION_SIZE]) {
    let mut datagram = [0; INITIATION_SIZE];
    let given = Start {
        index: 0x0102_0304,
        stamp: Stamp(77),
        cookie,
    };
    let started = Initiation::start(from, to, &given, [3; 64], &mut datagram);
    (started.ok().unwrap(), datagram)
}

fn respond(to: &LinkIdentity, datagram: &[u8; INITIATION_SIZE]) -> (LinkKeys, [u8; RESPONSE_SIZE]) {
    let received = to.read_initiation(datagram, [4; 32]).ok().unwrap();
    assert_eq!(received.stamp(), Stamp(77));
    let mut response = [0; RESPONSE_SIZE];
    let keys = received.respond(to, (5, ID), NOW, &mut response);
    (keys.ok().unwrap(), response)
}

/// Two ends of a link: initiator and responder.
fn linked() -> [LinkKeys; 2] {
    let (one, other) = (relay(1), relay(2));
    let (mut initiation, datagram) = start(&one, peer_keys(&other, &kem_key(2)), None);
    let (responder, response) = respond(&other, &datagram);
    let established = initiation.read_response(&one, NOW, &response);
    [established.ok().unwrap().keys, responder]
}

fn sealed(keys: &mut LinkKeys, byte: u8) -> [u8; DATAGRAM_SIZE] {
    let mut datagram = [byte; DATAGRAM_SIZE];
    keys.seal(NOW, &mut datagram).unwrap();
    datagram
}

fn open(keys: &mut LinkKeys, datagram: &[u8]) -> Result<(Opened, Vec<u8>), FrameRefused> {
    let mut datagram = datagram.to_vec();
    let Ok((header, _)) = LinkHeader::parse(&datagram) else {
        return Err(FrameRefused::BadTag);
    };
    let opened = keys.open(NOW, &header, &mut datagram)?;
    let end = datagram.len() - 16;
    Ok((opened, datagram[LINK_HEADER_SIZE..end].to_vec()))
}

#[test]
fn both_sides_complete_and_frames_go_both_ways() {
    let [mut initiator, mut responder] = linked();
    let packet: PacketBytes = [7; 1200];
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut initiator, &mut responder];
        for count in 0..3 {
            let datagram = sealed(ends[from], 7);
            let (header, _) = LinkHeader::parse(&datagram).unwrap();
            assert_eq!(header.counter, count);
            let index = if from == 0 { 5 } else { 0x0102_0304 };
            assert_eq!(header.receiver_index, index);
            let (opened, text) = open(ends[to], &datagram).unwrap();
            assert!(opened.is_newest && text == packet);
            let again = open(ends[to], &datagram).unwrap_err();
            assert_eq!(again, FrameRefused::Replayed);
            // What we sealed does not open with our own keys.
            assert!(open(ends[from], &datagram).is_err());
        }
        let frame = ends[from].keep_alive(NOW).unwrap();
        assert_eq!(open(ends[to], &frame).unwrap().1, b"");
    }
}

#[test]
fn a_client_is_told_its_id() {
    let guard = relay(2);
    let client = LinkIdentity::client(X25519SecretKey::from_bytes([8; 32]));
    assert_eq!(client.role(), LinkRole::Client);
    let (mut initiation, datagram) = start(&client, peer_keys(&guard, &kem_key(2)), None);
    let received = guard.read_initiation(&datagram, [4; 32]).ok().unwrap();
    assert_eq!(received.role(), LinkRole::Client);
    assert_eq!(received.peer(), client.public_key());
    let id = guard.client_id(received.peer());
    assert!(id == relay(2).client_id(client.public_key()));
    assert!(id != relay(3).client_id(client.public_key()));
    let mut response = [0; RESPONSE_SIZE];
    let keys = received.respond(&guard, (5, id), NOW, &mut response);
    let established = initiation.read_response(&client, NOW, &response);
    assert!(keys.is_ok() && established.ok().unwrap().client_id == id);
    // Nobody opens a link to a client.
    let refused = client.read_initiation(&datagram, [4; 32]).err();
    assert_eq!(refused, Some(HandshakeError::NotResponder));
}

#[test]
fn any_flipped_bit_of_a_message_is_refused_and_changes_nothing() {
    let (one, other) = (relay(1), relay(2));
    let jar = CookieJar::new(NOW, [6; 64]);
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let (mut initiation, datagram) = start(&one, peer_keys(&other, &kem_key(2)), None);
    assert_eq!(other.check_mac(&datagram, address, &jar), Ok(MacProof::Key));
    // The mac sees every bit.
    let count = DH_COUNT.get();
    for bit in 0..INITIATION_SIZE * 8 {
        let mut changed = datagram;
        changed[bit / 8] ^= 1 << (bit % 8);
        let checked = other.check_mac(&changed, address, &jar);
        assert_eq!(checked, Err(HandshakeError::BadMac), "{bit}");
    }
    assert_eq!(DH_COUNT.get(), count, "a mac costs no Diffie-Hellman");
    // And the handshake every byte behind the header, when somebody makes a new mac.
    for at in LINK_HEADER_SIZE..INITIATION_SIZE - 16 {
        let mut changed = datagram;
        changed[at] ^= 1 << (at % 8);
        assert!(other.read_initiation(&changed, [4; 32]).is_err(), "{at}");
    }
    let (mut responder, response) = respond(&other, &datagram);
    let count = DH_COUNT.get();
    for bit in 0..RESPONSE_SIZE * 8 {
        let mut changed = response;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(initiation.read_response(&one, NOW, &changed).is_err());
    }
    assert_eq!(DH_COUNT.get(), count, "a mac costs no Diffie-Hellman");
    for at in LINK_HEADER_SIZE..RESPONSE_SIZE - 16 {
        let mut changed = response;
        changed[at] ^= 1 << (at % 8);
        let (signed, mac) = changed.split_at_mut(RESPONSE_SIZE - 16);
        mac.copy_from_slice(&cookie::MacKey::new(one.public_key()).mac(signed, None));
        let refused = initiation.read_response(&one, NOW, &changed).err();
        assert_eq!(refused, Some(HandshakeError::BadTag), "{at}");
    }
    // After all that, the true answer is taken.
    let established = initiation.read_response(&one, NOW, &response);
    let mut keys = established.ok().unwrap().keys;
    assert!(open(&mut responder, &sealed(&mut keys, 1)).is_ok());
    assert!(initiation.read_response(&one, NOW, &response).is_err());
}

#[test]
fn any_flipped_bit_of_a_frame_is_refused_and_changes_nothing() {
    let [mut initiator, mut responder] = linked();
    let datagram = sealed(&mut initiator, 7);
    for bit in 0..DATAGRAM_SIZE * 8 {
        let mut changed = datagram;
        changed[bit / 8] ^= 1 << (bit % 8);
        // The receiver index only finds the keys, but is covered too.
        assert!(open(&mut responder, &changed).is_err(), "{bit}");
    }
    assert!(open(&mut responder, &datagram).is_ok());
    let frame = initiator.keep_alive(NOW).unwrap();
    for bit in 0..KEEP_ALIVE_SIZE * 8 {
        let mut changed = frame;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&mut responder, &changed).is_err(), "{bit}");
    }
    assert!(open(&mut responder, &frame).is_ok());
}

#[test]
fn wrong_keys_fail() {
    let (one, other, third) = (relay(1), relay(2), relay(3));
    // Another link key: it is not for us.
    let (_, datagram) = start(&one, peer_keys(&third, &kem_key(2)), None);
    let refused = other.read_initiation(&datagram, [4; 32]).err();
    assert_eq!(refused, Some(HandshakeError::BadTag));
    // Another ML-KEM key: the responder has another secret, and its answer does not open.
    let (mut initiation, datagram) = start(&one, peer_keys(&other, &kem_key(3)), None);
    let (_, response) = respond(&other, &datagram);
    let refused = initiation.read_response(&one, NOW, &response).err();
    assert_eq!(refused, Some(HandshakeError::BadTag));
    // The answer to another initiation.
    let (mut initiation, _) = start(&one, peer_keys(&other, &kem_key(2)), None);
    let given = Start {
        index: 1,
        stamp: Stamp(77),
        cookie: None,
    };
    let mut datagram = [0; INITIATION_SIZE];
    let kem = kem_key(2);
    let keys = peer_keys(&other, &kem);
    let started = Initiation::start(&one, keys, &given, [8; 64], &mut datagram);
    let (_, response) = respond(&other, &datagram);
    assert!(initiation.read_response(&one, NOW, &response).is_err());
    assert!(
        started
            .ok()
            .unwrap()
            .read_response(&one, NOW, &response)
            .is_ok()
    );
    // Keys that are none.
    let weak = X25519PublicKey([0; 32]);
    let keys = PeerKeys {
        link: &weak,
        kem: &kem,
    };
    let refused = Initiation::start(&one, keys, &given, [8; 64], &mut datagram).err();
    assert_eq!(refused, Some(HandshakeError::BadTag));
    let keys = PeerKeys {
        link: other.public_key(),
        kem: &[0xff; KEM_KEY_SIZE],
    };
    let refused = Initiation::start(&one, keys, &given, [8; 64], &mut datagram).err();
    assert_eq!(refused, Some(HandshakeError::BadKemKey));
}

#[test]
fn a_cookie_proves_the_address_for_some_time() {
    let (one, other) = (relay(1), relay(2));
    let kem = kem_key(2);
    let mut jar = CookieJar::new(NOW, [6; 64]);
    let [here, there, port] = ["127.0.0.1:9", "127.0.0.2:9", "127.0.0.1:8"]
        .map(|address| address.parse::<SocketAddr>().unwrap());
    let (initiation, datagram) = start(&one, peer_keys(&other, &kem), None);
    let frame = other.write_cookie(&datagram, here, &jar, [5; 32]);
    let (header, _) = LinkHeader::parse(&frame).unwrap();
    assert_eq!(header.receiver_index, 0x0102_0304);
    for bit in LINK_HEADER_SIZE * 8..COOKIE_FRAME_SIZE * 8 {
        let mut changed = frame;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(initiation.read_cookie(&changed).is_err());
    }
    // It answers one message only.
    let (stranger, _) = start(&relay(3), peer_keys(&other, &kem), None);
    assert!(stranger.read_cookie(&frame).is_err());
    let cookie = initiation.read_cookie(&frame).ok().unwrap();

    let (_, with_cookie) = start(&one, peer_keys(&other, &kem), Some(cookie));
    let proof = |jar: &CookieJar, from| other.check_mac(&with_cookie, from, jar);
    assert_eq!(proof(&jar, here), Ok(MacProof::Address));
    assert_eq!(proof(&jar, there), Err(HandshakeError::BadMac));
    assert_eq!(proof(&jar, port), Err(HandshakeError::BadMac));
    respond(&other, &with_cookie);
    let later = NOW.saturating_add(COOKIE_AGE_MAX);
    assert!(!jar.is_stale(NOW) && jar.is_stale(later));
    jar.refresh(later, [7; 32]);
    assert_eq!(proof(&jar, here), Ok(MacProof::Address));
    jar.refresh(later, [8; 32]);
    assert_eq!(proof(&jar, here), Err(HandshakeError::BadMac));
}

#[test]
fn keys_are_refused_when_they_are_spent() {
    let [mut initiator, mut responder] = linked();
    let at = |age| NOW.saturating_add(age);
    let before = |age| at(age).saturating_sub(Duration::from_millis(1));
    assert!(!initiator.should_rekey(before(REKEY_AFTER)));
    assert!(initiator.should_rekey(at(REKEY_AFTER)));
    assert!(!responder.should_rekey(at(REKEY_AFTER)));
    assert!(responder.should_rekey(at(REKEY_AFTER_AS_RESPONDER)));
    let mut datagram = [0; DATAGRAM_SIZE];
    assert_eq!(initiator.seal(before(REJECT_AFTER), &mut datagram), Ok(()));
    let (header, _) = LinkHeader::parse(&datagram).unwrap();
    let mut copy = datagram;
    let late = responder.open(at(REJECT_AFTER), &header, &mut copy);
    assert_eq!(late, Err(FrameRefused::Spent));
    assert_eq!(
        initiator.seal(at(REJECT_AFTER), &mut datagram),
        Err(KeysSpent)
    );
    initiator.set_counter(REKEY_AFTER_COUNT);
    assert!(initiator.should_rekey(NOW));
    initiator.set_counter(REJECT_AFTER_COUNT - 1);
    assert_eq!(initiator.seal(NOW, &mut datagram), Ok(()));
    assert!(open(&mut responder, &datagram).is_ok());
    assert_eq!(initiator.seal(NOW, &mut datagram), Err(KeysSpent));
    assert_eq!(initiator.keep_alive(NOW), Err(KeysSpent));
}

#[test]
fn frames_may_come_in_any_order() {
    let [mut initiator, mut responder] = linked();
    let frames: Vec<_> = (0..100).map(|_| sealed(&mut initiator, 1)).collect();
    for (nth, frame) in frames.iter().rev().enumerate() {
        assert_eq!(open(&mut responder, frame).unwrap().0.is_newest, nth == 0);
    }
    let mut behind = sealed(&mut initiator, 1);
    initiator.set_counter(5000);
    assert!(open(&mut responder, &sealed(&mut initiator, 1)).is_ok());
    assert_eq!(
        open(&mut responder, &behind).unwrap_err(),
        FrameRefused::Replayed
    );
    behind[8..16].fill(0xff);
    assert_eq!(
        open(&mut responder, &behind).unwrap_err(),
        FrameRefused::Spent
    );
}

/// Writes the seeds of a fuzz target, after the format changed:
/// `cargo test -p cepa-crypto write_link_seeds -- --ignored`.
#[test]
#[ignore = "writes files of the repository"]
fn write_link_seeds() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/link_handshake");
    std::fs::create_dir_all(&dir).unwrap();
    let (one, other) = (relay(1), relay(2));
    let jar = CookieJar::new(NOW, [6; 64]);
    let (_, datagram) = start(&one, peer_keys(&other, &kem_key(2)), None);
    let (mut keys, response) = respond(&other, &datagram);
    let cookie = other.write_cookie(&datagram, "127.0.0.1:9".parse().unwrap(), &jar, [5; 32]);
    let [frame, keep_alive] = [
        sealed(&mut keys, 7).to_vec(),
        keys.keep_alive(NOW).unwrap().to_vec(),
    ];
    let mut changed = datagram;
    changed[100] ^= 1;
    for (name, bytes) in [
        ("initiation", &datagram[..]),
        ("initiation_changed", &changed),
        ("response", &response),
        ("response_short", &response[..99]),
        ("cookie", &cookie),
        ("frame", &frame),
        ("keep_alive", &keep_alive),
    ] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
