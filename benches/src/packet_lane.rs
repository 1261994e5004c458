//! Three relays of the packet lane: a sender, the relay that is measured, and a receiver. With
//! links between them, and packets that go from the first over the second to the third.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{HopKey, HopKeys, PathHop, build, peel_many};
use cepa_relay::packet::batch::{Batch, Datagram};
use cepa_relay::packet::bucket::PacketRate;
use cepa_relay::packet::directory::{PacketDirectory, RelayEntry};
use cepa_relay::packet::links::{LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable, Sealed};
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::packet::epoch::{Epoch, EpochLength};
use cepa_wire::packet::geometry::{CONTENT_SIZE, DATAGRAM_SIZE};
use cepa_wire::packet::{PacketBytes, RelayId};
use cepa_wire::{Ed25519PublicKey, Timestamp, X25519PublicKey};
use rustix::time::{ClockId, clock_gettime};

/// When everything begins: some hours into an epoch, so that one hop key is tried.
pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Who sends, as a relay.
pub const SENDER: Place = Place(1);
/// Who is measured.
pub const RELAY: Place = Place(2);
/// Who receives.
pub const RECEIVER: Place = Place(3);
/// Bytes of the replay filter: more than the caches have, as the usual 256 MiB are.
const FILTER_SIZE: usize = 64 << 20;
const HOP_SECRET: [u8; 32] = [77; 32];
/// What one relay may send here: as fast as it can.
const RATE: PacketRate = PacketRate {
    per_second: u32::MAX,
    burst: u32::MAX,
};

/// One of the three.
#[derive(Clone, Copy)]
pub struct Place(u8);

impl Place {
    /// Its id.
    pub const fn id(self) -> RelayId {
        RelayId([self.0; 16])
    }

    /// What its links are called.
    pub const fn name(self) -> LinkName {
        LinkName::Relay(self.id())
    }

    /// Its address where there is no network.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, self.0], 4000))
    }

    fn secret(self) -> X25519SecretKey {
        X25519SecretKey::from_bytes([self.0; 32])
    }

    fn kem(self) -> KemSecretKey {
        KemSecretKey::from_seed([self.0; 64])
    }

    /// The keys of its links.
    pub fn identity(self) -> LinkIdentity {
        LinkIdentity::relay(self.secret(), self.kem())
    }

    /// What the directory says of it.
    pub fn entry(self, address: SocketAddr) -> RelayEntry {
        RelayEntry {
            id: self.id(),
            ed25519: Ed25519PublicKey([self.0; 32]),
            link: self.secret().public_key(),
            kem: Arc::new(*self.kem().public_key()),
            address,
        }
    }

    /// Its links to some of the others.
    pub fn table(self, peers: &[(Self, SocketAddr)]) -> LinkTable {
        let mut table = LinkTable::new(link_config(), self.identity(), START, random(self.0));
        let peers: Vec<_> = peers
            .iter()
            .map(|(place, address)| LinkPeer {
                relay: place.id(),
                link: place.secret().public_key(),
                kem: Box::new(*place.kem().public_key()),
                address: *address,
            })
            .collect();
        table.set_peers(START, &peers);
        table
    }
}

fn link_config() -> LinkConfig {
    LinkConfig {
        relay_rate: RATE,
        ..LinkConfig::default()
    }
}

/// Bytes that differ: what they are does not matter here.
pub fn random(seed: u8) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut state = u64::from(seed);
    move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    }
}

/// A clock that never goes back, or that of this thread's work.
pub fn ticks(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The middle one; 0 of none.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// The hop keys of the measured relay.
pub fn hop_keys() -> HopKeys {
    let mut seeds = [HOP_SECRET, [78; 32]].into_iter().cycle();
    let draw = || seeds.next().unwrap_or_default();
    HopKeys::new(
        RELAY.id(),
        EpochLength::DAY,
        Duration::from_hours(1),
        START,
        draw,
    )
}

/// The secret of the current one of [`hop_keys`].
pub fn hop_secret() -> X25519SecretKey {
    X25519SecretKey::from_bytes(HOP_SECRET)
}

/// The epoch of everything.
pub fn epoch() -> Epoch {
    EpochLength::DAY.epoch_at(START)
}

/// The current one of [`hop_keys`].
pub fn hop_key() -> HopKey {
    HopKey::new(hop_secret(), RELAY.id(), epoch())
}

/// Empty replay filters of the measured relay.
pub fn filters() -> Arc<ReplayFilters> {
    Arc::new(ReplayFilters::new(FILTER_SIZE, epoch(), [9; 16]))
}

/// Has the filter forget all packets, so that they can be sent again.
pub fn forget(filters: &Arc<ReplayFilters>) {
    // It is taken from its epoch, and then given back to it, empty.
    drop(filters.begin_clearing(epoch().next().next()));
    if let Some(mut clearing) = filters.begin_clearing(epoch()) {
        while !clearing.step() {}
    }
}

/// The measured relay, that knows the others at their addresses.
pub fn relay(
    filters: &Arc<ReplayFilters>,
    counted: &Arc<Counted>,
    others: [RelayEntry; 2],
) -> PacketRelay {
    let settings = RelaySettings {
        links: link_config(),
        ..RelaySettings::default()
    };
    let (filters, counted) = (Arc::clone(filters), Arc::clone(counted));
    let mut relay = PacketRelay::new(
        settings,
        RELAY.identity(),
        filters,
        counted,
        START,
        random(RELAY.0),
    );
    relay.set_directory(START, &PacketDirectory::new(others));
    relay
}

/// Packets for [`RELAY`], none twice, which sends them on to [`RECEIVER`].
pub struct Pool {
    /// As they are sent.
    pub packets: Vec<PacketBytes>,
    /// How each begins when it is received, and which it is; sorted.
    pub received: Vec<(u64, u32)>,
}

impl Pool {
    /// Of as many; some 0.1 ms each. `built` is told of each.
    #[expect(clippy::expect_used, reason = "the path is good")]
    pub fn new(count: usize, mut built: impl FnMut()) -> Self {
        let hop = |place: Place, key: X25519PublicKey| PathHop {
            relay: place.id(),
            key,
            delay_ms: 0,
        };
        let path = [
            hop(RELAY, hop_secret().public_key()),
            hop(RECEIVER, RECEIVER.secret().public_key()),
        ];
        let mut random = random(0);
        let packets: Vec<_> = (0..count)
            .map(|_| {
                built();
                build(&path, &[1; CONTENT_SIZE], &mut random)
                    .expect("a packet")
                    .bytes
            })
            .collect();
        let mut received: Vec<_> = packets.chunks(1024).flat_map(peeled).zip(0..).collect();
        received.sort_unstable();
        Self { packets, received }
    }

    /// Which one a received packet is.
    pub fn find(&self, packet: &[u8]) -> Option<usize> {
        let begin = u64::from_be_bytes(*packet.first_chunk()?);
        let found = self
            .received
            .binary_search_by_key(&begin, |(begin, _)| *begin);
        let (_, index) = self.received.get(found.ok()?)?;
        usize::try_from(*index).ok()
    }
}

#[expect(clippy::expect_used, reason = "the packets are good")]
fn peeled(packets: &[PacketBytes]) -> Vec<u64> {
    let mut packets = packets.to_vec();
    let mut blocks = vec![Err(cepa_crypto::packet::PeelError::BadTag); packets.len()];
    peel_many(&hop_key(), &mut packets, &mut blocks);
    assert!(
        blocks.iter().all(Result::is_ok),
        "all are for the hop that is measured"
    );
    let begin = |packet: &PacketBytes| u64::from_be_bytes(*packet.first_chunk().expect("8 bytes"));
    packets.iter().map(begin).collect()
}

/// Seals a packet of the sender into a datagram for the measured relay; false when it waits for the
/// link.
pub fn seal_into(
    table: &mut LinkTable,
    now: Timestamp,
    packet: &PacketBytes,
    datagram: &mut Datagram,
) -> bool {
    let sealed = table.seal(now, RELAY.name(), packet, datagram.slot_mut());
    let Ok(Sealed::To(address)) = sealed else {
        return false;
    };
    datagram.set_size(DATAGRAM_SIZE);
    datagram.set_peer(address);
    true
}

/// Opens a link from one table to another, with a packet that is lost.
pub fn link(from: (Place, &mut LinkTable), to: (Place, &mut LinkTable)) {
    let ((from, one), (to, other)) = (from, to);
    let mut datagram = [0; DATAGRAM_SIZE];
    let queued = one.seal(START, to.name(), &[0; 1200], &mut datagram);
    assert!(queued.is_ok(), "the table has this peer");
    for _ in 0..4 {
        let Some(sent) = one.poll_transmit(START, &mut datagram) else {
            break;
        };
        let bytes = datagram.get_mut(..sent.size).unwrap_or_default();
        let event = other.handle_datagram(START, from.address(), bytes);
        if let LinkEvent::Reply { size } = event {
            let reply = datagram.get_mut(..size).unwrap_or_default();
            one.handle_datagram(START, to.address(), reply);
        }
    }
    assert!(
        one.is_linked(to.name()) && other.is_linked(from.name()),
        "a link is open after its handshake"
    );
}

/// The measured relay, its links to both others open, without a network.
pub struct Lane {
    /// Who sends.
    pub sender: LinkTable,
    /// Who is measured.
    pub relay: PacketRelay,
    /// Its hop keys.
    pub keys: HopKeys,
    /// Its replay filters.
    pub filters: Arc<ReplayFilters>,
}

impl Lane {
    /// With links that are opened by a packet of a pool.
    pub fn new(pool: &Pool) -> Self {
        let (filters, counted) = (filters(), Arc::default());
        let others = [SENDER, RECEIVER].map(|place| place.entry(place.address()));
        let mut lane = Self {
            sender: SENDER.table(&[(RELAY, RELAY.address())]),
            relay: relay(&filters, &counted, others),
            keys: hop_keys(),
            filters,
        };
        lane.open(pool);
        forget(&lane.filters);
        lane
    }

    fn open(&mut self, pool: &Pool) {
        let mut receiver = RECEIVER.table(&[(RELAY, RELAY.address())]);
        let mut batch = Batch::new(64);
        self.fill(pool.packets.get(..1).unwrap_or_default(), &mut batch);
        loop {
            transmit(&mut self.sender, SENDER, &mut batch);
            transmit(&mut receiver, RECEIVER, &mut batch);
            if batch.is_empty() {
                break;
            }
            self.relay.handle_batch(&self.keys, START, &mut batch);
            self.relay.poll_transmit(START, &mut batch);
            batch.retain(|datagram| {
                let is_receiver = datagram.peer() == RECEIVER.address();
                let (place, table) = if is_receiver {
                    (RECEIVER, &mut receiver)
                } else {
                    (SENDER, &mut self.sender)
                };
                let event = table.handle_datagram(START, RELAY.address(), datagram.bytes_mut());
                let LinkEvent::Reply { size } = event else {
                    return false;
                };
                datagram.set_size(size);
                datagram.set_peer(place.address());
                true
            });
        }
        assert!(
            self.sender.is_linked(RELAY.name()) && receiver.is_linked(RELAY.name()),
            "both links are open"
        );
    }

    /// Makes a batch of sealed packets; gives how many it has.
    pub fn fill(&mut self, packets: &[PacketBytes], batch: &mut Batch) -> usize {
        fill(&mut self.sender, packets, batch)
    }

    /// Nanoseconds a packet of all packets, in batches of `size`: the relay alone, by a clock.
    pub fn measure(&mut self, packets: &[PacketBytes], size: usize, clock: ClockId) -> f64 {
        forget(&self.filters);
        let mut batch = Batch::new(size);
        let (mut taken, mut count) = (Duration::ZERO, 0);
        for packets in packets.chunks_exact(size) {
            count += self.fill(packets, &mut batch);
            let begin = ticks(clock);
            self.relay.handle_batch(&self.keys, START, &mut batch);
            taken += ticks(clock).saturating_sub(begin);
            assert!(batch.len() == size, "all go on");
        }
        nanos_each(taken, count)
    }
}

/// As [`Lane::fill`], of a table with a link to the measured relay.
pub fn fill(sender: &mut LinkTable, packets: &[PacketBytes], batch: &mut Batch) -> usize {
    batch.clear();
    for packet in packets {
        let Some(slot) = batch.take_slot() else { break };
        if seal_into(sender, START, packet, slot) {
            slot.set_peer(SENDER.address());
        } else {
            batch.give_back();
        }
    }
    batch.len()
}

/// Nanoseconds for each of some.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn nanos_each(span: Duration, count: usize) -> f64 {
    span.as_nanos() as f64 / count.max(1) as f64
}

fn transmit(table: &mut LinkTable, from: Place, batch: &mut Batch) {
    while let Some(slot) = batch.take_slot() {
        let Some(sent) = table.poll_transmit(START, slot.slot_mut()) else {
            batch.give_back();
            return;
        };
        slot.set_size(sent.size);
        slot.set_peer(from.address());
    }
}
