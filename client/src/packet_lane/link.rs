//! The link to a guard, from the client's side, sans-IO: it opens itself, changes its keys in time, seals
//! packets and opens what comes back (`cepa_crypto::link` has the cryptography).

use core::net::SocketAddr;
use core::time::Duration;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{
    COOKIE_AGE_MAX, Cookie, INITIATION_SIZE, Initiation, LinkIdentity, LinkKeys, PeerKeys, Stamp,
    Start,
};
use cepa_wire::Timestamp;
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE, PACKET_SIZE};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};
use cepa_wire::packet::{ClientId, PacketBytes, RelayId};
use cepa_wire::{Ed25519PublicKey, X25519PublicKey};
use zeroize::Zeroizing;

use super::directory::LaneRelay;
use super::exchange::{Guard, Random};

/// How long an initiation waits for its answer; twice as long with each that follows.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);
/// Initiations without an answer after which the guard counts as down: 3.5 s.
const TRY_COUNT_MAX: u32 = 3;

/// What a datagram brought.
pub enum LinkEvent {
    /// Nothing, or nothing of this link.
    Nothing,
    /// The link is open, or has new keys.
    Open(Guard),
    /// A packet for us.
    Packet(Box<PacketBytes>),
}

/// A link to one guard. The key that it shows there was made for it and is used nowhere else.
pub struct GuardLink {
    relay: RelayId,
    node: Ed25519PublicKey,
    address: SocketAddr,
    link_key: X25519PublicKey,
    kem_key: Box<[u8; KEM_KEY_SIZE]>,
    identity: LinkIdentity,
    client: Option<ClientId>,
    pending: Option<Pending>,
    /// The newest first; the other one opens what was on its way.
    keys: [Option<Keys>; 2],
    cookie: Option<(Cookie, Timestamp)>,
    stamp: u64,
    /// Something is to be sent: only then keys are made.
    is_wanted: bool,
    /// Nothing came back for a while: the guard is to show that it is there.
    is_doubted: bool,
    /// The guard is to see that we have the new keys.
    owes_keep_alive: bool,
    try_count: u32,
}

struct Pending {
    initiation: Initiation,
    index: u32,
    until: Timestamp,
}

struct Keys {
    index: u32,
    keys: LinkKeys,
}

impl GuardLink {
    /// A link that will open itself. `secret` is random and of this link alone.
    pub fn new(relay: &LaneRelay, secret: [u8; 32]) -> Self {
        Self {
            relay: relay.id,
            node: relay.ed25519,
            address: relay.address(),
            link_key: relay.link,
            kem_key: relay.kem.clone(),
            identity: LinkIdentity::client(X25519SecretKey::from_bytes(secret)),
            client: None,
            pending: None,
            keys: [None, None],
            cookie: None,
            stamp: 0,
            is_wanted: true,
            is_doubted: false,
            owes_keep_alive: false,
            try_count: 0,
        }
    }

    /// The guard.
    pub const fn relay(&self) -> RelayId {
        self.relay
    }

    /// The guard's key in the network.
    pub const fn node(&self) -> Ed25519PublicKey {
        self.node
    }

    /// Where datagrams go to, and come from.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it was open once.
    pub const fn is_open(&self) -> bool {
        self.client.is_some()
    }

    /// The guard did not answer several initiations.
    pub const fn is_down(&self) -> bool {
        self.try_count > TRY_COUNT_MAX
    }

    /// A datagram of the link itself that is due, if there is one.
    pub fn poll_transmit(&mut self, now: Timestamp, random: &mut impl Random) -> Option<Vec<u8>> {
        if self.owes_keep_alive {
            self.owes_keep_alive = false;
            let [newest, _] = &mut self.keys;
            let frame = newest.as_mut()?.keys.keep_alive(now).ok()?;
            return Some(frame.to_vec());
        }
        let waits = self.pending.as_ref().is_some_and(|it| it.until > now);
        if !self.is_wanted || waits || !self.needs_keys(now) || self.is_down() {
            return None;
        }
        self.initiate(now, random)
    }

    /// Asks the guard for new keys although the old ones are good: a guard that was started anew has
    /// forgotten them, and one that does not answer is down.
    pub const fn doubt(&mut self) {
        (self.is_doubted, self.is_wanted) = (true, true);
    }

    fn needs_keys(&self, now: Timestamp) -> bool {
        let [newest, _] = &self.keys;
        self.is_doubted || newest.as_ref().is_none_or(|it| it.keys.should_rekey(now))
    }

    fn initiate(&mut self, now: Timestamp, random: &mut impl Random) -> Option<Vec<u8>> {
        self.try_count += 1;
        if self.is_down() {
            self.pending = None;
            return None;
        }
        // Two moments of one millisecond differ, and a clock that was set back does no harm.
        self.stamp = now.as_millis().saturating_mul(1000).max(self.stamp + 1);
        let mut index = [0; 4];
        random(&mut index);
        let index = u32::from_le_bytes(index);
        let mut seed = Zeroizing::new([0; 64]);
        random(seed.as_mut_slice());
        let is_good = |(_, at): &&(Cookie, Timestamp)| now.saturating_since(*at) < COOKIE_AGE_MAX;
        let given = Start {
            index,
            stamp: Stamp(self.stamp),
            cookie: self
                .cookie
                .as_ref()
                .filter(is_good)
                .map(|(cookie, _)| *cookie),
        };
        let peer = PeerKeys {
            link: &self.link_key,
            kem: &self.kem_key,
        };
        let mut datagram = [0; INITIATION_SIZE];
        let started = Initiation::start(&self.identity, peer, &given, *seed, &mut datagram);
        let Ok(initiation) = started else {
            // Its descriptor has a key that is none: that does not mend.
            self.try_count = TRY_COUNT_MAX + 1;
            return None;
        };
        let doubled = 1 << (self.try_count - 1).min(TRY_COUNT_MAX);
        self.pending = Some(Pending {
            initiation,
            index,
            until: now.saturating_add(ANSWER_PAUSE * doubled),
        });
        Some(datagram.to_vec())
    }

    /// When [`Self::poll_transmit`] is due, if ever.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        if self.owes_keep_alive {
            return Some(now);
        }
        if self.is_down() || !self.is_wanted || !self.needs_keys(now) {
            return None;
        }
        Some(self.pending.as_ref().map_or(now, |pending| pending.until))
    }

    /// Seals a packet. `None` while there are no keys: the packet is lost as others are.
    pub fn seal(&mut self, now: Timestamp, packet: &PacketBytes) -> Option<[u8; DATAGRAM_SIZE]> {
        self.is_wanted = true;
        let [newest, _] = &mut self.keys;
        let keys = newest.as_mut()?;
        let mut datagram = [0; DATAGRAM_SIZE];
        let place = datagram.get_mut(LINK_HEADER_SIZE..LINK_HEADER_SIZE + PACKET_SIZE);
        place?.copy_from_slice(packet);
        keys.keys.seal(now, &mut datagram).ok()?;
        self.owes_keep_alive = false;
        Some(datagram)
    }

    /// Takes a datagram that came from [`Self::address`]; it is opened in place.
    pub fn handle_datagram(&mut self, now: Timestamp, datagram: &mut [u8]) -> LinkEvent {
        let Ok((header, _)) = LinkHeader::parse(datagram) else {
            return LinkEvent::Nothing;
        };
        match header.frame_type {
            FrameType::HandshakeInit => LinkEvent::Nothing,
            FrameType::HandshakeResponse => self.handle_response(now, &header, datagram),
            FrameType::Cookie => self.handle_cookie(now, &header, datagram),
            FrameType::Data | FrameType::KeepAlive => self.handle_frame(now, &header, datagram),
        }
    }

    fn handle_response(
        &mut self,
        now: Timestamp,
        header: &LinkHeader,
        datagram: &[u8],
    ) -> LinkEvent {
        let pending = self.pending.as_mut();
        let Some(pending) = pending.filter(|it| it.index == header.receiver_index) else {
            return LinkEvent::Nothing;
        };
        let read = pending
            .initiation
            .read_response(&self.identity, now, datagram);
        let Ok(established) = read else {
            return LinkEvent::Nothing;
        };
        let index = pending.index;
        self.pending = None;
        let keys = established.keys;
        let [newest, before] = &mut self.keys;
        *before = newest.replace(Keys { index, keys });
        (self.try_count, self.owes_keep_alive) = (0, true);
        (self.is_wanted, self.is_doubted) = (false, false);
        let client = established.client_id;
        self.client = Some(client);
        let relay = self.relay;
        LinkEvent::Open(Guard { relay, client })
    }

    /// The guard has much to do: it answers who comes again with what it sent.
    fn handle_cookie(&mut self, now: Timestamp, header: &LinkHeader, datagram: &[u8]) -> LinkEvent {
        let pending = self.pending.as_mut();
        if let Some(pending) = pending.filter(|it| it.index == header.receiver_index)
            && let Ok(cookie) = pending.initiation.read_cookie(datagram)
        {
            self.cookie = Some((cookie, now));
            pending.until = now;
        }
        LinkEvent::Nothing
    }

    fn handle_frame(
        &mut self,
        now: Timestamp,
        header: &LinkHeader,
        datagram: &mut [u8],
    ) -> LinkEvent {
        let keys = self.keys.iter_mut().flatten();
        for keys in keys.filter(|keys| keys.index == header.receiver_index) {
            if keys.keys.open(now, header, datagram).is_err() {
                continue;
            }
            let packet = datagram.get(LINK_HEADER_SIZE..LINK_HEADER_SIZE + PACKET_SIZE);
            let packet = packet.and_then(|packet| PacketBytes::try_from(packet).ok());
            return packet.map_or(LinkEvent::Nothing, |packet| {
                LinkEvent::Packet(Box::new(packet))
            });
        }
        LinkEvent::Nothing
    }
}

#[cfg(test)]
mod tests {
    use cepa_crypto::link::{KemSecretKey, RESPONSE_SIZE};
    use cepa_wire::packet::descriptor_list::encode_list;

    use super::super::directory::LaneDirectory;
    use super::super::directory::tests::{descriptor, node};
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(600_000);

    fn guard() -> LinkIdentity {
        let kem = KemSecretKey::from_seed([5; 64]);
        LinkIdentity::relay(X25519SecretKey::from_bytes([6; 32]), kem)
    }

    fn link() -> GuardLink {
        let kem = KemSecretKey::from_seed([5; 64]);
        let bytes = descriptor(1, |it| {
            it.link = *guard().public_key();
            *it.kem = *kem.public_key();
        });
        let list = encode_list([bytes.as_slice()]);
        let directory = LaneDirectory::new(&[list], &[node(1)], NOW);
        GuardLink::new(directory.relays().next().unwrap(), [9; 32])
    }

    fn random() -> impl FnMut(&mut [u8]) {
        let mut count = 0_u8;
        move |bytes| {
            count += 1;
            bytes.fill(count);
        }
    }

    fn respond(initiation: &[u8]) -> (LinkKeys, [u8; RESPONSE_SIZE]) {
        let initiation = initiation.try_into().unwrap();
        let received = guard().read_initiation(initiation, [4; 32]).ok().unwrap();
        let id = guard().client_id(received.peer());
        let mut response = [0; RESPONSE_SIZE];
        let keys = received.respond(&guard(), (5, id), NOW, &mut response);
        (keys.ok().unwrap(), response)
    }

    fn open(link: &mut GuardLink, now: Timestamp) -> (LinkKeys, Guard) {
        let datagram = link.poll_transmit(now, &mut random()).unwrap();
        let (keys, mut response) = respond(&datagram);
        let LinkEvent::Open(guard) = link.handle_datagram(now, &mut response) else {
            panic!("the link is open");
        };
        (keys, guard)
    }

    #[test]
    fn it_opens_and_carries_packets_both_ways() {
        let mut link = link();
        assert_eq!(link.poll_timeout(NOW), Some(NOW));
        assert!(link.seal(NOW, &[1; 1200]).is_none());
        let (mut theirs, opened) = open(&mut link, NOW);
        assert!(link.is_open() && opened.relay == link.relay());
        assert_eq!(link.poll_transmit(NOW, &mut random()).unwrap().len(), 32);
        assert_eq!(link.poll_timeout(NOW), None);
        let mut sealed = link.seal(NOW, &[1; 1200]).unwrap();
        let (header, _) = LinkHeader::parse(&sealed).unwrap();
        theirs.open(NOW, &header, &mut sealed).unwrap();
        assert_eq!(sealed[16..1216], [1; 1200]);
        let mut back = [2; DATAGRAM_SIZE];
        theirs.seal(NOW, &mut back).unwrap();
        let mut again = back;
        let event = link.handle_datagram(NOW, &mut back);
        assert!(matches!(event, LinkEvent::Packet(packet) if *packet == [2; 1200]));
        let event = link.handle_datagram(NOW, &mut again);
        assert!(matches!(event, LinkEvent::Nothing), "seen before");
        for size in 0..100 {
            let event = link.handle_datagram(NOW, &mut again[..size]);
            assert!(matches!(event, LinkEvent::Nothing));
        }
    }

    #[test]
    fn new_keys_are_made_when_they_are_used() {
        let mut link = link();
        let (mut old, first) = open(&mut link, NOW);
        let later = NOW.saturating_add(Duration::from_secs(130));
        link.owes_keep_alive = false;
        assert_eq!(link.poll_timeout(later), None, "nothing is sent");
        assert!(link.seal(later, &[1; 1200]).is_some());
        assert_eq!(link.poll_timeout(later), Some(later));
        let (_, second) = open(&mut link, later);
        assert!(first.client == second.client);
        let mut back = [2; DATAGRAM_SIZE];
        old.seal(later, &mut back).unwrap();
        let event = link.handle_datagram(later, &mut back);
        assert!(matches!(event, LinkEvent::Packet(_)), "with the old keys");
    }

    #[test]
    fn a_guard_that_is_doubted_must_answer() {
        let mut link = link();
        open(&mut link, NOW);
        link.owes_keep_alive = false;
        assert_eq!(link.poll_timeout(NOW), None);
        link.doubt();
        open(&mut link, NOW);
        link.owes_keep_alive = false;
        assert_eq!(link.poll_timeout(NOW), None);
        link.doubt();
        let mut now = NOW;
        while let Some(until) = link.poll_timeout(now) {
            now = until;
            link.poll_transmit(now, &mut random());
        }
        assert!(link.is_down());
    }

    #[test]
    fn a_guard_that_does_not_answer_is_down() {
        let mut link = link();
        let mut now = NOW;
        let mut pauses = Vec::new();
        while let Some(until) = link.poll_timeout(now) {
            pauses.push(until.saturating_since(now).as_millis());
            now = until;
            let sent = link.poll_transmit(now, &mut random());
            assert!(sent.is_some() || link.is_down());
        }
        assert!(link.is_down() && !link.is_open());
        assert_eq!(pauses, [0, 500, 1000, 2000]);
    }

    #[test]
    fn a_cookie_is_brought_back_at_once() {
        use cepa_crypto::link::{CookieJar, MacProof};
        let (mut link, identity) = (link(), guard());
        let jar = CookieJar::new(NOW, [7; 64]);
        let from = "127.0.0.1:7".parse().unwrap();
        let datagram = link.poll_transmit(NOW, &mut random()).unwrap();
        let array = datagram.as_slice().try_into().unwrap();
        let mut frame = identity.write_cookie(array, from, &jar, [3; 32]);
        assert!(matches!(
            link.handle_datagram(NOW, &mut frame),
            LinkEvent::Nothing
        ));
        let again = link.poll_transmit(NOW, &mut random()).unwrap();
        let proof = identity.check_mac(&again, from, &jar).unwrap();
        assert!(matches!(proof, MacProof::Address));
    }
}
