//! A packet tile's core, sans-IO: a batch of datagrams comes in, and leaves as the batch that is to be sent.
//!
//! ```text
//! datagram -> its link opens it -> peeled with the batch -> seen before? -> what its routing block says:
//!     on at once  -> sealed for the next link, where it lies
//!     on later    -> delay wheel ... sealed for the next link
//!     for us      -> piece of a request -> request, when that is whole
//! ```
//!
//! Every datagram and every packet ends in one of these, or in one counted [`DropReason`]. So what was peeled or
//! answered is what was forwarded, replied or delivered, what waits, and what was dropped after it was peeled.
//! Nothing is allocated for a packet that goes on.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use arrayvec::ArrayVec;
use cepa_crypto::link::LinkIdentity;
use cepa_crypto::packet::{BuiltPacket, HopKeys};
use cepa_crypto::x25519::BATCH_MAX;
use cepa_meter::bounds::{BATCH, STEP};
use cepa_wire::Timestamp;
use cepa_wire::packet::geometry::{
    DATAGRAM_SIZE, LINK_HEADER_SIZE, LINK_TAG_SIZE, PACKET_SIZE, split_mut,
};
use cepa_wire::packet::reassembler::{Message, ReassemblerLimits};
use cepa_wire::packet::{Packet, PacketBytes};

use super::batch::{BATCH_CAPACITY_MAX, Batch, Datagram};
use super::delay::{DelayError, DelayWheel};
use super::directory::PacketDirectory;
use super::drop_reason::{DropCounters, DropReason};
use super::io_counters::IoCounters;
use super::links::{LinkConfig, LinkEvent, LinkName, LinkPeer, LinkStats, LinkTable, Sealed};
use super::peeler::{Destination, Peeler, Step};
use super::replay_epochs::{Clearing, ReplayFilters};
use super::terminal::{Delivered, Terminal};

/// Slices of a replay filter that are emptied in one turn: less than a tenth of a millisecond.
const CLEARED_SLICE_COUNT: usize = 8;
/// How far ahead it is looked for the next packet that is due.
const DELAY_HORIZON: Duration = Duration::from_millis(100);

/// What a tile is set up with.
#[derive(Clone, Copy, Debug)]
pub struct RelaySettings {
    /// Bounds of its links.
    pub links: LinkConfig,
    /// Packets that may wait for their time, of 1.2 KiB each.
    pub delayed_count_max: usize,
    /// What unfinished requests may cost.
    pub reassembler: ReassemblerLimits,
    /// Whole requests that may wait to be taken: a batch of them.
    pub request_count_max: usize,
}

impl Default for RelaySettings {
    /// 16,384 packets that wait: 20 MiB, and eight thousand a second with a delay of two seconds.
    fn default() -> Self {
        Self {
            links: LinkConfig::default(),
            delayed_count_max: 16_384,
            reassembler: ReassemblerLimits::TILE,
            request_count_max: 256,
        }
    }
}

cepa_meter::counters! {
    /// Written by packet tiles, read by control. What ended otherwise is in [`DropCounters`].
    pub struct PacketCounters, named "packet_";
    /// Packets that were peeled, whatever became of them.
    peeled,
    /// Batches of packets that were peeled together.
    batches,
    /// Packets in such a batch: more come with more load, and cost less each.
    batch_size: histogram(BATCH),
    /// Seconds of a turn that had datagrams: from what was read to what was written.
    step_seconds: histogram(STEP),
    /// Turns of the tile: while it lives, ten a second at least.
    turns,
    /// Packets sent to a relay, those of answers too.
    forwarded,
    /// Packets handed to a client.
    replied,
    /// Packets that were to wait before they go on.
    delayed,
    /// Packets for this node that were a new piece of a request.
    delivered,
    /// Packets of answers that were taken, whatever became of them.
    answered,
    /// Whole requests that the shards had no room for.
    requests_refused,
    /// Datagrams that were for the links themselves.
    link_messages,
    /// Messages of handshakes that Diffie-Hellmans were computed for.
    link_handshakes,
    /// Cookies that were asked for instead.
    link_cookies,
    /// Handshakes of ours that nobody answered.
    link_given_up,
    /// Clients that gave way to others.
    link_evicted,
    /// Handshakes that were answered, and no frame came yet.
    link_half_open: gauge,
    /// Packets that wait for their link.
    link_queued: gauge,
    /// Relays with a link that packets go over at once; looked at every ten seconds.
    relays_linked: gauge,
    /// Pieces of requests that wait for the others.
    fragments_waiting: gauge,
    /// Packets of answers that waited for the tile at its last turn.
    answers_waiting: gauge,
    /// Packets that wait for their time.
    waiting: gauge,
    /// Clients with a link.
    clients: gauge,
    /// Share of the bits of the replay filter of this epoch that are set: the more, the more packets are dropped as
    /// replays that are none.
    replay_fill_ratio: gauge / 1000,
}

/// What tiles count.
#[derive(Debug, Default)]
pub struct Counted {
    /// What happened.
    pub packets: PacketCounters,
    /// What went no further.
    pub drops: DropCounters,
    /// What became of datagrams outside.
    pub io: IoCounters,
}

impl Counted {
    /// All of it.
    pub fn snapshot(&self) -> Vec<cepa_meter::Sample> {
        let mut samples = self.packets.snapshot();
        samples.extend(self.drops.snapshot());
        samples.extend(self.io.snapshot());
        samples
    }
}

struct Delayed {
    to: Destination,
    packet: PacketBytes,
}

/// A packet tile.
pub struct PacketRelay {
    links: LinkTable,
    peeler: Peeler,
    replay: Arc<ReplayFilters>,
    clearing: Option<Clearing>,
    wheel: DelayWheel<Delayed>,
    terminal: Terminal,
    requests: VecDeque<Message>,
    request_count_max: usize,
    counted: Arc<Counted>,
    /// What of the links is counted.
    links_counted: LinkStats,
    /// By how much our time is ahead of the date.
    ahead: Duration,
    /// What is to be done with each datagram of a batch.
    plans: Vec<Plan>,
}

/// What is to be done with a datagram of a batch.
#[derive(Clone, Copy)]
enum Plan {
    /// It holds a packet that is to be peeled.
    Peel {
        /// It came by the link of a client.
        is_clients: bool,
    },
    /// It was rewritten, and goes.
    Send,
    /// Nothing is left to do with it.
    Free,
}

impl PacketRelay {
    /// A tile without peers. `replay` is shared by all tiles of a node.
    pub fn new(
        settings: RelaySettings,
        identity: LinkIdentity,
        replay: Arc<ReplayFilters>,
        counted: Arc<Counted>,
        now: Timestamp,
        random: impl FnMut(&mut [u8]) + Send + 'static,
    ) -> Self {
        Self {
            links: LinkTable::new(settings.links, identity, now, random),
            peeler: Peeler::default(),
            replay,
            clearing: None,
            wheel: DelayWheel::new(settings.delayed_count_max, now),
            terminal: Terminal::new(settings.reassembler),
            requests: VecDeque::with_capacity(settings.request_count_max),
            request_count_max: settings.request_count_max,
            counted,
            links_counted: LinkStats::default(),
            ahead: Duration::ZERO,
            plans: Vec::with_capacity(BATCH_CAPACITY_MAX),
        }
    }

    /// Says which relays there are.
    pub fn set_directory(&mut self, now: Timestamp, directory: &PacketDirectory) {
        let peer = |relay: &super::directory::RelayEntry| LinkPeer {
            relay: relay.id,
            link: relay.link,
            kem: Box::new(*relay.kem),
            address: relay.address,
        };
        let peers: Vec<_> = directory.relays().map(peer).collect();
        self.links.set_peers(now, &peers);
        self.count_links();
    }

    /// Says by how much the `now` that we are given is ahead of the date. It only goes forward, and links and
    /// delays need no more; but what key is taken is a matter of the date, and that may be set back.
    pub const fn set_ahead(&mut self, ahead: Duration) {
        self.ahead = ahead;
    }

    /// Takes the datagrams of a batch; those that are in it afterwards are to be sent. Call
    /// [`Self::poll_transmit`] after it, and [`Self::poll_request`].
    pub fn handle_batch(&mut self, keys: &HopKeys, now: Timestamp, batch: &mut Batch) {
        let mut plans = core::mem::take(&mut self.plans);
        plans.clear();
        for datagram in batch.datagrams_mut() {
            plans.push(self.open(now, datagram));
        }
        let all = batch.datagrams_mut();
        // Packets of one batch are those that one call of the batched Diffie-Hellman takes.
        let chunks = all.chunks_mut(BATCH_MAX).zip(plans.chunks_mut(BATCH_MAX));
        for (datagrams, plans) in chunks {
            self.peel(keys, now, datagrams, plans);
        }
        let mut next = plans.iter();
        batch.retain(|_| matches!(next.next(), Some(Plan::Send)));
        self.plans = plans;
        self.count_links();
    }

    fn open(&mut self, now: Timestamp, datagram: &mut Datagram) -> Plan {
        let from = datagram.peer();
        match self.links.handle_datagram(now, from, datagram.bytes_mut()) {
            LinkEvent::Packet { link, .. } => Plan::Peel {
                is_clients: matches!(link, LinkName::Client(_)),
            },
            LinkEvent::Reply { size } => {
                self.add(|counters| &counters.link_messages, 1);
                datagram.set_size(size);
                Plan::Send
            }
            LinkEvent::Established { .. } | LinkEvent::Taken => {
                self.add(|counters| &counters.link_messages, 1);
                Plan::Free
            }
            LinkEvent::Dropped(reason) => self.drop(reason),
        }
    }

    fn peel(
        &mut self,
        keys: &HopKeys,
        now: Timestamp,
        datagrams: &mut [Datagram],
        plans: &mut [Plan],
    ) {
        let mut packets: ArrayVec<&mut PacketBytes, BATCH_MAX> = ArrayVec::new();
        for (datagram, plan) in datagrams.iter_mut().zip(plans.iter()) {
            if matches!(plan, Plan::Peel { .. }) {
                packets.push(packet_mut(datagram));
            }
        }
        if packets.is_empty() {
            return;
        }
        let date = now.saturating_sub(self.ahead);
        let mut steps = [Step::Deliver; BATCH_MAX];
        let (steps, _) = steps.split_at_mut(packets.len());
        self.peeler
            .peel(keys, &self.replay, date, &mut packets, steps);
        drop(packets);
        self.add(|counters| &counters.batches, 1);
        self.counted.packets.batch_size.record(steps.len() as u64);
        self.add(|counters| &counters.peeled, steps.len());
        let mut steps = steps.iter();
        for (datagram, plan) in datagrams.iter_mut().zip(plans) {
            if let Plan::Peel { is_clients } = *plan
                && let Some(step) = steps.next()
            {
                *plan = self.carry_out(now, allowed(*step, is_clients), datagram);
            }
        }
    }

    fn carry_out(&mut self, now: Timestamp, step: Step, datagram: &mut Datagram) -> Plan {
        match step {
            Step::Send { to, delay } if delay.is_zero() => self.seal(now, to, datagram),
            Step::Send { to, delay } => {
                let packet = *packet_mut(datagram);
                match self.wheel.insert(Delayed { to, packet }, delay, now) {
                    Ok(displaced) => {
                        self.add(|counters| &counters.delayed, 1);
                        if displaced.is_some() {
                            self.drop(DropReason::DelayWheelFull);
                        }
                        Plan::Free
                    }
                    // A routing block with a longer delay is none.
                    Err((DelayError::TooLong, _)) => self.drop(DropReason::BadRoutingBlock),
                    Err((DelayError::Full, _)) => self.drop(DropReason::DelayWheelFull),
                }
            }
            Step::Deliver => self.deliver(now, datagram),
            Step::Drop(reason) => self.drop(reason),
        }
    }

    fn seal(&mut self, now: Timestamp, to: Destination, datagram: &mut Datagram) -> Plan {
        let (name, counter): (_, Counter) = match to {
            Destination::Relay(relay) => (LinkName::Relay(relay), |counters| &counters.forwarded),
            Destination::Client(client) => (LinkName::Client(client), |counters| &counters.replied),
        };
        datagram.set_size(DATAGRAM_SIZE);
        match self.links.seal_in_place(now, name, datagram.slot_mut()) {
            Ok(Sealed::To(address)) => {
                datagram.set_peer(address);
                self.add(counter, 1);
                Plan::Send
            }
            // Counted when it goes, or is dropped with its link.
            Ok(Sealed::Queued) => Plan::Free,
            Err(reason) => self.drop(reason),
        }
    }

    fn deliver(&mut self, now: Timestamp, datagram: &mut Datagram) -> Plan {
        let content = Packet::new(packet_mut(datagram)).content();
        match self.terminal.handle_content(now, content) {
            Delivered::Pending => {}
            Delivered::Request(message) if self.requests.len() < self.request_count_max => {
                self.requests.push_back(message);
            }
            Delivered::Request(_) => return self.drop(DropReason::DeliverFull),
            Delivered::Drop(reason) => return self.drop(reason),
        }
        self.add(|counters| &counters.delivered, 1);
        Plan::Free
    }

    /// Gives a request that is whole.
    pub fn poll_request(&mut self) -> Option<Message> {
        self.requests.pop_front()
    }

    /// Sends a packet of an answer on its way; it is dropped when the batch has no room.
    pub fn send_answer(&mut self, now: Timestamp, packet: &BuiltPacket, batch: &mut Batch) {
        self.add(|counters| &counters.answered, 1);
        self.send(now, Destination::Relay(packet.first), &packet.bytes, batch);
    }

    fn send(&mut self, now: Timestamp, to: Destination, packet: &PacketBytes, batch: &mut Batch) {
        let Some(slot) = batch.take_slot() else {
            self.drop(DropReason::OutboxFull);
            return;
        };
        *packet_mut(slot) = *packet;
        if !matches!(self.seal(now, to, slot), Plan::Send) {
            batch.give_back();
        }
    }

    /// Puts what links have to send, and what waited for its time, into the room that a batch has; false
    /// when there may be more.
    pub fn poll_transmit(&mut self, now: Timestamp, batch: &mut Batch) -> bool {
        let is_all = self.transmit(now, batch);
        self.count_links();
        is_all
    }

    fn transmit(&mut self, now: Timestamp, batch: &mut Batch) -> bool {
        while !batch.is_full() {
            if let Some(Delayed { to, packet }) = self.wheel.poll_due(now) {
                self.send(now, to, &packet, batch);
                continue;
            }
            let Some(slot) = batch.take_slot() else { break };
            let Some(transmit) = self.links.poll_transmit(now, slot.slot_mut()) else {
                batch.give_back();
                return true;
            };
            slot.set_size(transmit.size);
            slot.set_peer(transmit.to);
        }
        false
    }

    /// When [`Self::handle_timeout`] is due, at the latest.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let delayed = self.wheel.next_due(DELAY_HORIZON);
        let due = [
            delayed,
            self.links.poll_timeout(),
            self.terminal.poll_timeout(),
        ];
        due.into_iter().flatten().min()
    }

    /// Does what is due. Call [`Self::poll_transmit`] after it.
    pub fn handle_timeout(&mut self, keys: &HopKeys, now: Timestamp) {
        self.links.handle_timeout(now);
        self.terminal.handle_timeout(now);
        self.clear_filters(keys, now);
        let counters = &self.counted.packets;
        set(&counters.waiting, self.wheel.waiting_count());
        set(&counters.fragments_waiting, self.terminal.fragment_count());
        self.count_links();
    }

    /// Counts what happened to links since it was last looked.
    fn count_links(&mut self) {
        let (counters, stats) = (&self.counted.packets, self.links.stats());
        let before = core::mem::replace(&mut self.links_counted, stats);
        if before == stats {
            return;
        }
        let since: [(&AtomicU64, u64, u64); 6] = [
            (
                &counters.forwarded,
                stats.sent_to_relays,
                before.sent_to_relays,
            ),
            (
                &counters.replied,
                stats.sent_to_clients,
                before.sent_to_clients,
            ),
            (&counters.link_handshakes, stats.computed, before.computed),
            (&counters.link_cookies, stats.cookies, before.cookies),
            (&counters.link_given_up, stats.given_up, before.given_up),
            (&counters.link_evicted, stats.evicted, before.evicted),
        ];
        for (counter, after, before) in since {
            counter.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        }
        let dropped = stats.dropped.saturating_sub(before.dropped);
        self.counted.drops.add(DropReason::LinkNotReady, dropped);
        set(&counters.clients, stats.clients);
        set(&counters.link_half_open, stats.half_open);
        set(&counters.link_queued, stats.queued);
    }

    /// Says of a request that was polled that nobody had room for it.
    pub fn refuse_request(&mut self) {
        self.add(|counters| &counters.requests_refused, 1);
    }

    /// Looks how full the replay filter of this epoch is and how many relays are linked, for whoever watches it:
    /// reads some thousand words.
    pub fn measure(&self, keys: &HopKeys) {
        let fill = self.replay.fill_permille(keys.epoch());
        let fill = usize::try_from(fill).unwrap_or_default();
        set(&self.counted.packets.replay_fill_ratio, fill);
        let linked = self.links.linked_relay_count();
        set(&self.counted.packets.relays_linked, linked);
    }

    /// Prepares the filter of the next epoch as soon as no key of the one before this is taken, bit by bit. And
    /// that of this one, when we slept while it should have been prepared: what it served before is an epoch
    /// whose key was erased.
    fn clear_filters(&mut self, keys: &HopKeys, now: Timestamp) {
        if let Some(clearing) = &mut self.clearing {
            let is_done = (0..CLEARED_SLICE_COUNT).any(|_| clearing.step());
            if is_done {
                self.clearing = None;
            }
            return;
        }
        let oldest = keys
            .usable(now.saturating_sub(self.ahead))
            .map(cepa_crypto::packet::HopKey::epoch)
            .min();
        let current = keys.epoch();
        self.clearing = self.replay.begin_clearing(current);
        if self.clearing.is_none() && oldest.is_some_and(|oldest| oldest >= current) {
            self.clearing = self.replay.begin_clearing(current.next());
        }
    }

    /// Whether [`Self::handle_timeout`] has something to do that nobody waits for: call it soon.
    pub const fn is_clearing(&self) -> bool {
        self.clearing.is_some()
    }

    /// What of us is held in tables: for tests of their bounds.
    pub fn held(&self) -> Held {
        Held {
            waiting: self.wheel.waiting_count(),
            queued: self.links.stats().queued,
            link_entries: self.links.entry_count(),
            requests: self.requests.len(),
        }
    }

    fn drop(&self, reason: DropReason) -> Plan {
        self.counted.drops.add(reason, 1);
        Plan::Free
    }

    fn add(&self, counter: Counter, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let counter = counter(&self.counted.packets);
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Packets that wait for their time.
    pub waiting: usize,
    /// Packets that wait for their link.
    pub queued: usize,
    /// Pairs of keys of links, and begun handshakes.
    pub link_entries: usize,
    /// Whole requests.
    pub requests: usize,
}

/// A client reaches another client of its guard by other relays, or not at all: else the guard would see both
/// ends.
const fn allowed(step: Step, is_clients: bool) -> Step {
    match step {
        Step::Send {
            to: Destination::Client(_),
            ..
        } if is_clients => Step::Drop(DropReason::ClientToClient),
        step => step,
    }
}

type Counter = fn(&PacketCounters) -> &AtomicU64;

fn set(gauge: &AtomicU64, value: usize) {
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    gauge.store(value, Ordering::Relaxed);
}

const _: () = assert!(LINK_HEADER_SIZE + PACKET_SIZE + LINK_TAG_SIZE == DATAGRAM_SIZE);

/// The packet in a datagram: behind the header of the link.
fn packet_mut(datagram: &mut Datagram) -> &mut PacketBytes {
    let (_, rest) = split_mut::<LINK_HEADER_SIZE, { PACKET_SIZE + LINK_TAG_SIZE }, DATAGRAM_SIZE>(
        datagram.slot_mut(),
    );
    split_mut::<PACKET_SIZE, LINK_TAG_SIZE, { PACKET_SIZE + LINK_TAG_SIZE }>(rest).0
}
