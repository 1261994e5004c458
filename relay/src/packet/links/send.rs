//! What goes out: packets, and what begins and holds links.

use core::net::SocketAddr;
use core::time::Duration;

use cepa_crypto::link::{COOKIE_AGE_MAX, INITIATION_SIZE, Initiation, PeerKeys, Stamp, Start};
use cepa_wire::Timestamp;
use cepa_wire::packet::PacketBytes;
use cepa_wire::packet::geometry::{
    DATAGRAM_SIZE, LINK_HEADER_SIZE, LINK_TAG_SIZE, PACKET_SIZE, split_mut,
};

use super::peers::{Attempt, Entry};
use super::{JITTER_PERMILLE, LinkName, LinkTable, QUEUE_COUNT_MAX, RETRY_AFTER, Sealed, Transmit};
use crate::packet::drop_reason::DropReason;

/// A datagram.
type Datagram = [u8; DATAGRAM_SIZE];

impl LinkTable {
    /// Seals a packet for the peer into `out`, or lets it wait for the handshake. What does not go to a
    /// client that has no link, since only it can open one.
    pub fn seal(
        &mut self,
        now: Timestamp,
        to: LinkName,
        packet: &PacketBytes,
        out: &mut Datagram,
    ) -> Result<Sealed, DropReason> {
        *packet_mut(out) = *packet;
        self.seal_in_place(now, to, out)
    }

    /// As [`Self::seal`], of the packet that stands behind the first 16 bytes of the datagram.
    pub fn seal_in_place(
        &mut self,
        now: Timestamp,
        to: LinkName,
        datagram: &mut Datagram,
    ) -> Result<Sealed, DropReason> {
        let slot = self.find(to).ok_or(match to {
            LinkName::Relay(_) => DropReason::UnknownRelay,
            LinkName::Client(_) => DropReason::UnknownClient,
        })?;
        if let Some(address) = self.seal_now(slot, now, datagram) {
            self.rekey_if_due(slot, now);
            return Ok(Sealed::To(address));
        }
        self.queue(slot, now, packet_mut(datagram))
    }

    fn seal_now(
        &mut self,
        slot: u32,
        now: Timestamp,
        datagram: &mut Datagram,
    ) -> Option<SocketAddr> {
        let peer = self.peer(slot)?;
        let (index, address) = (peer.current, peer.address?);
        self.keys_mut(index)?.seal(now, datagram).ok()?;
        self.has_sent(slot, now);
        Some(address)
    }

    fn has_sent(&mut self, slot: u32, now: Timestamp) {
        if let Some(peer) = self.peer_mut(slot) {
            peer.sent_at = now;
            // Any frame shows that we have the keys.
            peer.keep_alive_due = false;
        }
    }

    fn queue(
        &mut self,
        slot: u32,
        now: Timestamp,
        packet: &PacketBytes,
    ) -> Result<Sealed, DropReason> {
        let has_room = self.stats.queued < self.config.queued_count_max;
        let peer = self.peer_mut(slot).ok_or(DropReason::LinkNotReady)?;
        let can_come = peer.kem.is_some() || peer.next.is_some();
        if !can_come || !has_room || peer.queue.len() >= QUEUE_COUNT_MAX {
            return Err(DropReason::LinkNotReady);
        }
        peer.queue.push_back(Box::new(*packet));
        let awaits_frame = peer.next.is_some();
        self.stats.queued += 1;
        if !awaits_frame {
            self.begin(slot, now);
        }
        Ok(Sealed::Queued)
    }

    /// Begins a handshake for new keys when those in use are old, and we can.
    pub(super) fn rekey_if_due(&mut self, slot: u32, now: Timestamp) {
        let current = self.peer(slot).and_then(|peer| peer.current);
        let is_due = self
            .keys_mut(current)
            .is_some_and(|keys| keys.should_rekey(now));
        if is_due {
            self.begin(slot, now);
        }
    }

    /// Begins a handshake, unless one is under way or we lack the peer's keys.
    pub(super) fn begin(&mut self, slot: u32, now: Timestamp) {
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        if peer.attempt.is_some() || peer.kem.is_none() {
            return;
        }
        peer.attempt = Some(Attempt {
            count: 0,
            retry_at: now,
            is_due: true,
            pending: None,
            had_cookie: false,
        });
        self.make_ready(slot);
    }

    pub(super) fn make_ready(&mut self, slot: u32) {
        if let Some(peer) = self.peer_mut(slot)
            && !core::mem::replace(&mut peer.is_ready, true)
        {
            self.ready.push_back(slot);
        }
    }

    /// Writes the next datagram that is to be sent: an initiation, a packet that waited, a keep-alive.
    /// `None` when there is none; call it until then, after whatever else was called.
    pub fn poll_transmit(&mut self, now: Timestamp, out: &mut Datagram) -> Option<Transmit> {
        while let Some(slot) = self.ready.front().copied() {
            if let Some(transmit) = self.transmit(slot, now, out) {
                return Some(transmit);
            }
            self.ready.pop_front();
            if let Some(peer) = self.peer_mut(slot) {
                peer.is_ready = false;
            }
        }
        None
    }

    fn transmit(&mut self, slot: u32, now: Timestamp, out: &mut Datagram) -> Option<Transmit> {
        let attempt = self.peer(slot)?.attempt.as_ref();
        if attempt.is_some_and(|attempt| attempt.is_due) {
            if let Some(to) = self.initiate(slot, now, out) {
                let size = INITIATION_SIZE;
                return Some(Transmit { to, size });
            }
            self.give_up(slot);
        }
        if let Some(packet) = self.peer(slot)?.queue.front() {
            *packet_mut(out) = **packet;
            if let Some(to) = self.seal_now(slot, now, out) {
                let peer = self.peer_mut(slot)?;
                peer.queue.pop_front();
                let is_client = peer.is_client();
                self.stats.queued -= 1;
                self.stats.sent_to_clients += u64::from(is_client);
                self.stats.sent_to_relays += u64::from(!is_client);
                let size = DATAGRAM_SIZE;
                return Some(Transmit { to, size });
            }
        }
        let peer = self.peer_mut(slot)?;
        if !core::mem::take(&mut peer.keep_alive_due) {
            return None;
        }
        let (index, to) = (peer.current, peer.address?);
        let frame = self.keys_mut(index)?.keep_alive(now).ok()?;
        self.has_sent(slot, now);
        out.iter_mut()
            .zip(frame)
            .for_each(|(room, byte)| *room = byte);
        let size = frame.len();
        Some(Transmit { to, size })
    }

    /// Writes an initiation; `None` when the peer's keys are none, or there is no room for it.
    fn initiate(&mut self, slot: u32, now: Timestamp, out: &mut Datagram) -> Option<SocketAddr> {
        let before = self.peer_mut(slot)?.attempt.as_mut()?.pending.take();
        if let Some(index) = before {
            self.entries.remove(index);
        }
        let (random, stamp, jitter) = (self.draw(), self.next_stamp(now), self.draw());
        let peer = self.peers.get(slot as usize)?.as_ref()?;
        let cookie = peer
            .cookie
            .filter(|(_, since)| now.saturating_since(*since) < COOKIE_AGE_MAX);
        let keys = PeerKeys {
            link: &peer.key,
            kem: peer.kem.as_ref()?,
        };
        let address = peer.address?;
        let identity = &self.identity;
        let pending = self.entries.insert_with(|index| {
            let given = Start {
                index,
                stamp,
                cookie: cookie.map(|(cookie, _)| cookie),
            };
            let initiation = Initiation::start(identity, keys, &given, random, out).ok()?;
            let initiation = Box::new(initiation);
            Some(Entry::Pending { slot, initiation })
        })?;
        let attempt = self.peer_mut(slot)?.attempt.as_mut()?;
        attempt.pending = Some(pending);
        attempt.is_due = false;
        let pause = RETRY_AFTER * 2_u32.saturating_pow(attempt.count.min(16));
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let share = u64::from(u16::from_le_bytes(jitter));
        let extra = (millis * JITTER_PERMILLE / 1000 * share) >> 16;
        attempt.retry_at = now.saturating_add(Duration::from_millis(millis.saturating_add(extra)));
        attempt.count += 1;
        self.schedule(slot);
        Some(address)
    }

    /// Microseconds, always above those before, whatever the clock does.
    fn next_stamp(&mut self, now: Timestamp) -> Stamp {
        let micros = now.as_millis().saturating_mul(1000);
        self.last_stamp = Stamp(micros.max(self.last_stamp.0.saturating_add(1)));
        self.last_stamp
    }

    /// Ends a handshake that came to nothing; what waits is dropped, unless there are keys for it.
    pub(super) fn give_up(&mut self, slot: u32) {
        self.drop_attempt(slot);
        self.stats.given_up += 1;
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        if peer.current.is_none() && peer.next.is_none() {
            let queue = core::mem::take(&mut peer.queue);
            self.drop_queue(&queue);
        }
    }
}

/// Where the packet stands.
fn packet_mut(datagram: &mut Datagram) -> &mut PacketBytes {
    let (_, rest) =
        split_mut::<LINK_HEADER_SIZE, { PACKET_SIZE + LINK_TAG_SIZE }, DATAGRAM_SIZE>(datagram);
    split_mut::<PACKET_SIZE, LINK_TAG_SIZE, { PACKET_SIZE + LINK_TAG_SIZE }>(rest).0
}
