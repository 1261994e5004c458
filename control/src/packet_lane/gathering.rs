//! The descriptors of the other nodes: whom to ask when, and what to believe.
//!
//! Every node of the view is asked for its own, since nobody else must be trusted for that; again after a
//! quarter of an epoch, so that the keys of the next are known long before it begins. Who has none (a
//! Session node answers 404) is asked less and less often.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cepa_crypto::packet::{BadDescriptor, relay_id, verify_descriptor};
use cepa_relay::packet::directory::RelayEntry;
use cepa_wire::packet::RelayId;
use cepa_wire::packet::descriptor::Descriptor;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::{Ed25519PublicKey, ServiceNode, Timestamp};
use thiserror::Error;

/// Peers that are asked at once: each costs us a TLS handshake.
const RUNNING_COUNT_MAX: usize = 16;
/// A new view's peers are asked after so long on average for each of them, all mixed: 2,000 within 40 s.
const FIRST_SPREAD: Duration = Duration::from_millis(20);
/// After a failure: the first pause, doubled with each that follows.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const FAILED_PAUSE_MAX: Duration = Duration::from_mins(10);
/// After the answer that there is no lane: the first pause, doubled with each that follows.
const NO_LANE_PAUSE: Duration = Duration::from_hours(1);
/// The longest pause for those.
const NO_LANE_PAUSE_MAX: Duration = Duration::from_hours(12);
/// The longest time until a good descriptor is asked for again.
const REFRESH_PAUSE_MAX: Duration = Duration::from_hours(6);
/// A peer's clock may be ahead by so much.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);
/// A clock that was set back by more than this is one that was wrong before: whom it put off by days is asked.
const SET_BACK_MIN: Duration = Duration::from_mins(1);
/// A descriptor is signed hourly, and told again by whoever has it for an epoch; so much longer it is taken.
const AGE_MARGIN: Duration = Duration::from_hours(2);

/// What a peer showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// These bytes.
    Bytes(Bytes),
    /// It has no packet lane: it answered 404.
    NoLane,
    /// It could not be asked, or answered something else.
    Failed,
}

/// Why a descriptor is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotTaken {
    /// The node did not sign it, or it is none.
    #[error(transparent)]
    Bad(#[from] BadDescriptor),
    /// It is of another node than the one that was asked.
    #[error("it is another node's")]
    OtherNode,
    /// Its X25519 key is not that of the view.
    #[error("its X25519 key is not the one that the network knows")]
    OtherKey,
    /// The address in the view is not among its addresses, or it has no port for packets.
    #[error("it can't be reached where the network knows it")]
    Address,
    /// It was made in the future, or too long ago.
    #[error("its time is not now")]
    Time,
    /// Its hop keys are not of this epoch or of one beside it.
    #[error("its hop keys are of another epoch")]
    Epoch,
    /// Another node with the same relay id is known.
    #[error("another node has its relay id")]
    RelayId,
}

struct Known {
    relay: RelayId,
    descriptor: Descriptor,
    bytes: Bytes,
}

struct Peer {
    node: ServiceNode,
    due: Timestamp,
    is_running: bool,
    /// Failures, or 404s, one after the other.
    failure_count: u32,
    known: Option<Known>,
}

/// All peers of the view, and what is known of them: one entry a node, 2 KiB with a descriptor.
pub struct Gathering {
    us: Ed25519PublicKey,
    length: EpochLength,
    peers: BTreeMap<Ed25519PublicKey, Peer>,
    relays: BTreeSet<RelayId>,
    running_count: usize,
    /// When the nodes were looked at last.
    looked_at: Timestamp,
}

impl Gathering {
    /// Without a peer. `length` is that of the network's epochs.
    pub fn new(us: Ed25519PublicKey, length: EpochLength) -> Self {
        Self {
            us,
            length,
            peers: BTreeMap::new(),
            relays: BTreeSet::from([relay_id(&us)]),
            running_count: 0,
            looked_at: Timestamp::ZERO,
        }
    }

    /// Takes the nodes of the view: who is new will be asked, who is gone is forgotten, and so is a
    /// descriptor that does not fit its node any more or has become too old. Tells whether what is known
    /// has changed. `random` spreads the asking.
    pub fn handle_nodes(
        &mut self,
        now: Timestamp,
        nodes: Vec<ServiceNode>,
        mut random: impl FnMut() -> u64,
    ) -> bool {
        let spread = FIRST_SPREAD * u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let mut before = core::mem::take(&mut self.peers);
        let mut has_changed = false;
        let is_set_back = self.looked_at.saturating_since(now) > SET_BACK_MIN;
        self.looked_at = now;
        for node in nodes {
            if node.pubkey_ed25519 == self.us || node.ip.is_unspecified() || node.port == 0 {
                continue;
            }
            let mut peer = before.remove(&node.pubkey_ed25519).unwrap_or_else(|| Peer {
                due: now.saturating_add(part(spread, random())),
                node: node.clone(),
                is_running: false,
                failure_count: 0,
                known: None,
            });
            if peer.node.ip != node.ip || peer.node.port != node.port {
                (peer.due, peer.failure_count) = (now, 0);
            }
            if is_set_back {
                (peer.due, peer.failure_count) = (now.saturating_add(part(spread, random())), 0);
            }
            peer.node = node;
            has_changed |= peer.check(now, self.length);
            self.peers.insert(peer.node.pubkey_ed25519, peer);
        }
        has_changed |= before.values().any(|peer| peer.known.is_some());
        let gone = before.values().filter(|peer| peer.is_running).count();
        self.running_count -= gone;
        if has_changed {
            let known = self.peers.values().filter_map(|peer| peer.known.as_ref());
            let ours = relay_id(&self.us);
            self.relays = known.map(|known| known.relay).chain([ours]).collect();
        }
        has_changed
    }

    /// A peer that is to be asked now, if there is one.
    pub fn poll(&mut self, now: Timestamp) -> Option<ServiceNode> {
        if self.running_count >= RUNNING_COUNT_MAX {
            return None;
        }
        let waiting = self.peers.values_mut().filter(|peer| !peer.is_running);
        let peer = waiting.min_by_key(|peer| peer.due)?;
        if peer.due > now {
            return None;
        }
        peer.is_running = true;
        self.running_count += 1;
        Some(peer.node.clone())
    }

    /// Takes what a peer showed. Tells whether what is known has changed.
    pub fn handle_fetched(
        &mut self,
        now: Timestamp,
        key: &Ed25519PublicKey,
        fetched: Fetched,
        mut random: impl FnMut() -> u64,
    ) -> Result<bool, NotTaken> {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_running) else {
            return Ok(false);
        };
        peer.is_running = false;
        self.running_count -= 1;
        let (pause, taken) = match fetched {
            Fetched::Bytes(bytes) => match peer.take(now, self.length, bytes, &mut self.relays) {
                Ok(changed) => (refresh_pause(self.length), Ok(changed)),
                Err(reason) => (peer.pause(FAILED_PAUSE, FAILED_PAUSE_MAX), Err(reason)),
            },
            Fetched::NoLane => (peer.pause(NO_LANE_PAUSE, NO_LANE_PAUSE_MAX), Ok(false)),
            Fetched::Failed => (peer.pause(FAILED_PAUSE, FAILED_PAUSE_MAX), Ok(false)),
        };
        // Somewhere in the last quarter before and the first behind.
        let jittered = pause.mul_f32(0.75) + part(pause / 2, random());
        peer.due = now.saturating_add(jittered);
        taken
    }

    /// The relays that are known.
    pub fn relays(&self) -> impl Iterator<Item = RelayEntry> {
        self.peers.values().filter_map(|peer| {
            let Known {
                relay, descriptor, ..
            } = peer.known.as_ref()?;
            Some(RelayEntry {
                id: *relay,
                ed25519: descriptor.ed25519,
                link: descriptor.link,
                kem: Arc::new(*descriptor.kem),
                address: SocketAddr::from((peer.node.ip, descriptor.ports.packet)),
            })
        })
    }

    /// Their descriptors, as they were signed.
    pub fn descriptors(&self) -> impl Iterator<Item = &Bytes> {
        let known = self.peers.values().filter_map(|peer| peer.known.as_ref());
        known.map(|known| &known.bytes)
    }
}

impl Peer {
    /// Forgets a descriptor that is not good any more; tells whether it did.
    fn check(&mut self, now: Timestamp, length: EpochLength) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let is_good = fits(&known.descriptor, &self.node)
            .and_then(|()| is_timely(&known.descriptor, now, length))
            .is_ok();
        if !is_good {
            self.known = None;
        }
        !is_good
    }

    fn take(
        &mut self,
        now: Timestamp,
        length: EpochLength,
        bytes: Bytes,
        relays: &mut BTreeSet<RelayId>,
    ) -> Result<bool, NotTaken> {
        if let Some(known) = self.known.as_ref().filter(|known| known.bytes == bytes) {
            is_timely(&known.descriptor, now, length)?;
            self.failure_count = 0;
            return Ok(false);
        }
        let descriptor = verify_descriptor(&bytes)?;
        fits(&descriptor, &self.node)?;
        is_timely(&descriptor, now, length)?;
        let relay = relay_id(&descriptor.ed25519);
        match &self.known {
            // An old one that somebody shows again.
            Some(known) if known.descriptor.published > descriptor.published => {
                return Err(NotTaken::Time);
            }
            None if !relays.insert(relay) => return Err(NotTaken::RelayId),
            Some(_) | None => {}
        }
        self.failure_count = 0;
        self.known = Some(Known {
            relay,
            descriptor,
            bytes,
        });
        Ok(true)
    }

    /// The pause after one more failure.
    fn pause(&mut self, first: Duration, longest: Duration) -> Duration {
        let doubled = 1_u32.checked_shl(self.failure_count).unwrap_or(u32::MAX);
        self.failure_count = self.failure_count.saturating_add(1);
        first.saturating_mul(doubled).min(longest)
    }
}

/// Whether it is the descriptor of this node of the view.
fn fits(descriptor: &Descriptor, node: &ServiceNode) -> Result<(), NotTaken> {
    if descriptor.ed25519 != node.pubkey_ed25519 {
        return Err(NotTaken::OtherNode);
    }
    if descriptor.x25519 != node.pubkey_x25519 {
        return Err(NotTaken::OtherKey);
    }
    // Links go to the address that the network knows, so that no descriptor sends us to a third.
    let has_address = descriptor
        .addresses
        .iter()
        .any(|address| *address == node.ip);
    if descriptor.ports.packet == 0 || !has_address {
        return Err(NotTaken::Address);
    }
    Ok(())
}

/// Whether it is of now, and has a key for now.
fn is_timely(descriptor: &Descriptor, now: Timestamp, length: EpochLength) -> Result<(), NotTaken> {
    let age_max = length.as_duration() + AGE_MARGIN;
    let published = descriptor.published;
    if published > now.saturating_add(CLOCK_SKEW_MAX) || now.saturating_since(published) > age_max {
        return Err(NotTaken::Time);
    }
    let keys = &descriptor.hop_keys;
    let epoch = length.epoch_at(now);
    let is_near = [keys.epoch, keys.epoch.next()].contains(&epoch) || keys.epoch == epoch.next();
    if keys.length == length && is_near {
        Ok(())
    } else {
        Err(NotTaken::Epoch)
    }
}

fn refresh_pause(length: EpochLength) -> Duration {
    (length.as_duration() / 4).min(REFRESH_PAUSE_MAX)
}

/// A random part of a span.
fn part(span: Duration, random: u64) -> Duration {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.max(1))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use cepa_crypto::packet::sign_descriptor;
    use cepa_crypto::{Ed25519SecretKey, NodeKeys};
    use cepa_wire::X25519PublicKey;
    use cepa_wire::packet::descriptor::{KEM_KEY_SIZE, Ports, PublishedHopKeys};
    use cepa_wire::packet::epoch::Epoch;

    use super::*;

    const EPOCH: EpochLength = EpochLength::from_secs(3600).unwrap();

    type Change = Box<dyn FnOnce(&mut Descriptor)>;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(3_600_000 * 1000 + seconds * 1000)
    }

    fn node(number: u8) -> ServiceNode {
        let keys = NodeKeys::from_seed([number; 32]);
        ServiceNode {
            ip: Ipv4Addr::new(203, 0, 113, number),
            port: 22021,
            omq_port: 22020,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: [number; 32],
            swarm_id: 1,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    fn descriptor(number: u8, change: impl FnOnce(&mut Descriptor)) -> Bytes {
        let keys = NodeKeys::from_seed([number; 32]);
        let mut descriptor = Descriptor {
            ed25519: keys.ed25519_public(),
            x25519: keys.x25519_public(),
            link: X25519PublicKey([number; 32]),
            kem: Box::new([4; KEM_KEY_SIZE]),
            addresses: vec![node(number).ip.into()],
            ports: Ports {
                packet: 22022,
                ..Ports::default()
            },
            hop_keys: PublishedHopKeys {
                epoch: Epoch(1000),
                length: EPOCH,
                current: X25519PublicKey([6; 32]),
                next: X25519PublicKey([7; 32]),
            },
            features: Vec::new(),
            published: at(0),
        };
        change(&mut descriptor);
        let key = Ed25519SecretKey::from_seed([number; 32]);
        sign_descriptor(descriptor, &key).encode().into()
    }

    fn gathering(count: u8) -> Gathering {
        let mut gathering = Gathering::new(node(1).pubkey_ed25519, EPOCH);
        let nodes = (1..=count).map(node).collect();
        assert!(!gathering.handle_nodes(at(0), nodes, || 0));
        gathering
    }

    /// Asks a peer, and gives what it answers.
    fn fetch(
        gathering: &mut Gathering,
        now: Timestamp,
        answer: impl FnOnce(u8) -> Fetched,
    ) -> Result<bool, NotTaken> {
        let peer = gathering.poll(now).unwrap();
        let fetched = answer(peer.pubkey_legacy[0]);
        gathering.handle_fetched(now, &peer.pubkey_ed25519, fetched, || 0)
    }

    #[test]
    fn good_descriptors_become_the_directory() {
        let mut gathering = gathering(3);
        for _ in 0..2 {
            let good = |number| Fetched::Bytes(descriptor(number, |_| ()));
            assert_eq!(fetch(&mut gathering, at(1), good), Ok(true));
        }
        assert_eq!(
            gathering.poll(at(1)),
            None,
            "not ourselves, and nobody twice"
        );
        let mut relays: Vec<_> = gathering.relays().collect();
        relays.sort_by_key(|relay| relay.address);
        let [two, three] = relays.as_slice() else {
            panic!("two relays");
        };
        assert_eq!(two.address, "203.0.113.2:22022".parse().unwrap());
        assert_eq!(three.id, relay_id(&node(3).pubkey_ed25519));
        assert_eq!(gathering.descriptors().count(), 2);
        // Who leaves the view, or moves, is forgotten.
        let mut moved = node(3);
        moved.ip = Ipv4Addr::new(203, 0, 113, 99);
        let nodes = vec![node(1), moved];
        assert!(gathering.handle_nodes(at(2), nodes.clone(), || 0));
        assert_eq!(gathering.relays().count(), 0);
        assert!(!gathering.handle_nodes(at(3), nodes, || 0));
        assert!(gathering.poll(at(3)).is_some(), "and asked again at once");
    }

    #[test]
    fn what_is_not_right_is_not_taken() {
        let cases: [(NotTaken, Change); 9] = [
            (NotTaken::OtherKey, Box::new(|it| it.x25519.0[0] ^= 1)),
            (NotTaken::Address, Box::new(|it| it.ports.packet = 0)),
            (
                NotTaken::Address,
                Box::new(|it| it.addresses = vec![[203, 0, 113, 9].into()]),
            ),
            (NotTaken::Time, Box::new(|it| it.published = at(302))),
            (
                NotTaken::Time,
                Box::new(|it| it.published = at(0).saturating_sub(3 * EPOCH.as_duration())),
            ),
            (
                NotTaken::Epoch,
                Box::new(|it| it.hop_keys.epoch = Epoch(998)),
            ),
            (
                NotTaken::Epoch,
                Box::new(|it| it.hop_keys.epoch = Epoch(1002)),
            ),
            (
                NotTaken::Epoch,
                Box::new(|it| it.hop_keys.length = EpochLength::DAY),
            ),
            (NotTaken::OtherNode, Box::new(|_| ())),
        ];
        for (expected, change) in cases {
            let mut gathering = gathering(2);
            let other = u8::from(expected == NotTaken::OtherNode);
            let shown = |number| Fetched::Bytes(descriptor(number + other, change));
            assert_eq!(fetch(&mut gathering, at(1), shown), Err(expected));
            assert_eq!(gathering.relays().count(), 0);
        }
        let mut gathering = gathering(2);
        let mut bytes = descriptor(2, |_| ()).to_vec();
        *bytes.iter_mut().rev().nth(5).unwrap() ^= 1;
        let forged = fetch(&mut gathering, at(1), |_| Fetched::Bytes(bytes.into()));
        assert!(matches!(forged, Err(NotTaken::Bad(_))));
    }

    #[test]
    fn an_old_descriptor_does_not_come_back_and_an_outlived_one_goes() {
        let mut gathering = gathering(2);
        let newer = |_| Fetched::Bytes(descriptor(2, |it| it.published = at(200)));
        assert_eq!(fetch(&mut gathering, at(200), newer), Ok(true));
        let again = |_| Fetched::Bytes(descriptor(2, |it| it.published = at(200)));
        assert_eq!(fetch(&mut gathering, at(2000), again), Ok(false));
        let older = |_| Fetched::Bytes(descriptor(2, |_| ()));
        assert_eq!(fetch(&mut gathering, at(4000), older), Err(NotTaken::Time));
        let nodes = vec![node(1), node(2)];
        assert!(!gathering.handle_nodes(at(7199), nodes.clone(), || 0));
        assert_eq!(gathering.relays().count(), 1);
        assert!(gathering.handle_nodes(at(7200), nodes, || 0));
        assert_eq!(gathering.relays().count(), 0, "no key for this epoch");
        let fresh = |_| {
            let newer = |it: &mut Descriptor| {
                (it.published, it.hop_keys.epoch) = (at(7200), Epoch(1002));
            };
            Fetched::Bytes(descriptor(2, newer))
        };
        assert_eq!(fetch(&mut gathering, at(7200), fresh), Ok(true));
    }

    #[test]
    fn who_fails_or_has_no_lane_is_asked_less_and_less_often() {
        let mut waits = Vec::new();
        for answer in [Fetched::Failed, Fetched::NoLane] {
            let mut gathering = gathering(2);
            let mut now = at(1);
            for _ in 0..12 {
                fetch(&mut gathering, now, |_| answer.clone()).unwrap();
                let asked = now;
                while gathering.peers.values().all(|peer| peer.due > now) {
                    now = now.saturating_add(Duration::from_millis(250));
                }
                waits.push(now.saturating_since(asked).as_millis());
            }
        }
        assert_eq!(waits[..4], [750, 1500, 3000, 6000]);
        assert_eq!(waits[11], 450_000);
        assert_eq!(waits[12..15], [2_700_000, 5_400_000, 10_800_000]);
        assert_eq!(waits[23], 32_400_000);
    }

    #[test]
    fn a_clock_that_was_days_ahead_puts_nobody_off() {
        let mut gathering = gathering(2);
        let nodes = vec![node(1), node(2)];
        let good = |number| Fetched::Bytes(descriptor(number, |_| ()));
        assert_eq!(fetch(&mut gathering, at(1), good), Ok(true));
        let wrong = at(3 * 86_400);
        assert!(gathering.handle_nodes(wrong, nodes.clone(), || 0));
        assert_eq!(
            fetch(&mut gathering, wrong, good),
            Err(NotTaken::Time),
            "too old for that day"
        );
        assert!(!gathering.handle_nodes(at(60), nodes.clone(), || 0));
        assert_eq!(fetch(&mut gathering, at(60), good), Ok(true));
        // A second back is no reason to ask anybody.
        assert!(!gathering.handle_nodes(at(59), nodes, || 0));
        assert_eq!(gathering.poll(at(61)), None);
    }

    #[test]
    fn few_are_asked_at_once() {
        let mut gathering = gathering(40);
        let asked: Vec<_> = core::iter::from_fn(|| gathering.poll(at(1))).collect();
        assert_eq!(asked.len(), RUNNING_COUNT_MAX);
        let key = asked[0].pubkey_ed25519;
        gathering
            .handle_fetched(at(1), &key, Fetched::Failed, || 0)
            .unwrap();
        // An answer that nobody waits for changes nothing.
        gathering
            .handle_fetched(at(1), &key, Fetched::Failed, || 0)
            .unwrap();
        assert!(gathering.poll(at(1)).is_some() && gathering.poll(at(1)).is_none());
        // Those that are gone make room.
        gathering.handle_nodes(at(1), vec![node(1)], || 0);
        assert_eq!(gathering.running_count, 0);
    }
}
