//! What comes in.

use core::net::SocketAddr;

use cepa_crypto::link::{
    COOKIE_FRAME_SIZE, FrameRefused, HandshakeError, INITIATION_SIZE, LinkRole, RESPONSE_SIZE,
    ReceivedInitiation,
};
use cepa_wire::Timestamp;
use cepa_wire::packet::ClientId;
use cepa_wire::packet::geometry::{LINK_HEADER_SIZE, PACKET_SIZE};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};

use super::limits::Verdict;
use super::peers::Entry;
use super::{LinkEvent, LinkName, LinkTable};
use crate::packet::drop_reason::DropReason;

impl LinkTable {
    /// Takes a datagram that came from an address. It is changed: a packet is opened in place, and a
    /// reply written over it. Call [`Self::poll_transmit`] after a batch.
    pub fn handle_datagram(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> LinkEvent {
        let Ok((header, _)) = LinkHeader::parse(datagram) else {
            return LinkEvent::Dropped(DropReason::MalformedFrame);
        };
        let handled = match header.frame_type {
            FrameType::Data | FrameType::KeepAlive => {
                self.handle_frame(now, from, &header, datagram)
            }
            FrameType::HandshakeInit => self.handle_initiation(now, from, datagram),
            FrameType::HandshakeResponse => self.handle_response(now, &header, datagram),
            FrameType::Cookie => self.handle_cookie(now, &header, datagram),
        };
        handled.unwrap_or_else(LinkEvent::Dropped)
    }

    fn handle_frame(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        header: &LinkHeader,
        datagram: &mut [u8],
    ) -> Result<LinkEvent, DropReason> {
        let index = header.receiver_index;
        let Some(Entry::Keyed { slot, keys }) = self.entries.get_mut(index) else {
            return Err(DropReason::UnknownLink);
        };
        let slot = *slot;
        let opened = keys
            .open(now, header, datagram)
            .map_err(|refused| match refused {
                FrameRefused::Spent => DropReason::LinkSpent,
                FrameRefused::Replayed => DropReason::LinkReplayed,
                FrameRefused::BadTag => DropReason::LinkBadTag,
            })?;
        let should_rekey = keys.should_rekey(now);
        let peer = self.peers.get_mut(slot as usize).and_then(Option::as_mut);
        let peer = peer.ok_or(DropReason::UnknownLink)?;
        let link = peer.name;
        if peer.is_client() && opened.is_newest {
            peer.address = Some(from);
        }
        let is_first = peer.next == Some(index);
        let is_packet = header.frame_type == FrameType::Data;
        let may_pass = !is_packet || peer.bucket.take(now);
        if should_rekey && peer.current == Some(index) {
            self.begin(slot, now);
        }
        if is_first {
            self.confirm(slot, now);
        }
        if matches!(link, LinkName::Client(_)) {
            self.set_heard(slot, now);
            self.evict_clients(slot);
        }
        match (may_pass, is_packet, is_first) {
            (false, _, _) => Err(DropReason::RateLimited),
            (true, true, _) => Ok(LinkEvent::Packet {
                link,
                range: LINK_HEADER_SIZE..LINK_HEADER_SIZE + PACKET_SIZE,
            }),
            (true, false, true) => Ok(LinkEvent::Established { link }),
            (true, false, false) => Ok(LinkEvent::Taken),
        }
    }

    /// The first frame under keys that we answered a handshake with: its initiator has them.
    fn confirm(&mut self, slot: u32, now: Timestamp) {
        let Some(index) = self.peer_mut(slot).and_then(|peer| peer.next.take()) else {
            return;
        };
        self.stats.half_open -= 1;
        self.promote(slot, index);
        let is_fresh = self
            .keys_mut(Some(index))
            .is_some_and(|keys| !keys.should_rekey(now));
        if is_fresh {
            // Whatever we began meanwhile is not needed.
            self.drop_attempt(slot);
        }
        self.schedule(slot);
        self.make_ready(slot);
    }

    fn handle_initiation(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<LinkEvent, DropReason> {
        if self.jar.is_stale(now) {
            let random = self.draw();
            self.jar.refresh(now, random);
        }
        let proof = self.identity.check_mac(datagram, from, &self.jar);
        let proof = proof.map_err(drop_reason)?;
        let initiation: &[u8; INITIATION_SIZE] = (&*datagram)
            .try_into()
            .map_err(|_| DropReason::MalformedFrame)?;
        match self.limits.judge(now, proof, from, &self.keyed) {
            Verdict::Refuse => return Err(DropReason::HandshakeLimit),
            Verdict::AskForCookie => {
                let nonce = self.draw();
                let frame = self
                    .identity
                    .write_cookie(initiation, from, &self.jar, nonce);
                self.stats.cookies += 1;
                return Ok(reply::<COOKIE_FRAME_SIZE>(datagram, &frame));
            }
            Verdict::Compute => {}
        }
        self.stats.computed += 1;
        let random = self.draw();
        let received = self.identity.read_initiation(initiation, random);
        let response = self.answer(now, received.map_err(drop_reason)?)?;
        Ok(reply(datagram, &response))
    }

    fn answer(
        &mut self,
        now: Timestamp,
        received: ReceivedInitiation,
    ) -> Result<[u8; RESPONSE_SIZE], DropReason> {
        let slot = match received.role() {
            LinkRole::Relay => self.relay_keys.get(received.peer()),
            LinkRole::Client => self.clients.get(&self.identity.client_id(received.peer())),
        };
        let known = slot.and_then(|slot| self.peer(slot));
        if known.is_some_and(|peer| peer.stamp >= Some(received.stamp())) {
            return Err(DropReason::HandshakeReplayed);
        }
        let replaces = known.is_some_and(|peer| peer.next.is_some());
        if !replaces && self.stats.half_open >= self.config.half_open_count_max {
            return Err(DropReason::HandshakeLimit);
        }
        let slot = match received.role() {
            LinkRole::Relay => slot.ok_or(DropReason::HandshakeUnknown)?,
            LinkRole::Client => self
                .client(now, *received.peer())
                .ok_or(DropReason::HandshakeLimit)?,
        };
        let stamp = received.stamp();
        let id = match self.peer(slot).map(|peer| peer.name) {
            Some(LinkName::Client(id)) => id,
            _ => ClientId([0; 16]),
        };
        let (identity, mut response) = (&self.identity, [0; RESPONSE_SIZE]);
        let mut failed = false;
        let index = self.entries.insert_with(|index| {
            let keys = received.respond(identity, (index, id), now, &mut response);
            failed = keys.is_err();
            let keys = Box::new(keys.ok()?);
            Some(Entry::Keyed { slot, keys })
        });
        let Some(index) = index else {
            self.forget_idle_client(slot);
            return Err(if failed {
                DropReason::HandshakeFailed
            } else {
                DropReason::HandshakeLimit
            });
        };
        self.drop_next(slot);
        if let Some(peer) = self.peer_mut(slot) {
            peer.next = Some(index);
            peer.stamp = Some(stamp);
            self.stats.half_open += 1;
        }
        self.schedule(slot);
        Ok(response)
    }

    fn handle_response(
        &mut self,
        now: Timestamp,
        header: &LinkHeader,
        datagram: &[u8],
    ) -> Result<LinkEvent, DropReason> {
        let index = header.receiver_index;
        let entry = self.entries.get_mut(index);
        let Some(entry) = entry else {
            return Err(DropReason::UnknownLink);
        };
        let Entry::Pending { slot, initiation } = entry else {
            return Err(DropReason::UnknownLink);
        };
        let slot = *slot;
        let established = initiation.read_response(&self.identity, now, datagram);
        if !matches!(
            established,
            Err(HandshakeError::BadMac | HandshakeError::Size)
        ) {
            self.stats.computed += 1;
        }
        let established = established.map_err(drop_reason)?;
        let keys = Box::new(established.keys);
        *entry = Entry::Keyed { slot, keys };
        let keeps_open = self.keeps_open();
        let peer = self.peer_mut(slot).ok_or(DropReason::UnknownLink)?;
        // The number is that of keys now.
        peer.attempt = None;
        peer.keep_alive_due = true;
        peer.own_id = keeps_open.then_some(established.client_id);
        let link = peer.name;
        self.promote(slot, index);
        self.schedule(slot);
        self.make_ready(slot);
        Ok(LinkEvent::Established { link })
    }

    fn handle_cookie(
        &mut self,
        now: Timestamp,
        header: &LinkHeader,
        datagram: &[u8],
    ) -> Result<LinkEvent, DropReason> {
        let Some(Entry::Pending { slot, initiation }) = self.entries.get_mut(header.receiver_index)
        else {
            return Err(DropReason::UnknownLink);
        };
        let slot = *slot;
        let cookie = initiation.read_cookie(datagram).map_err(drop_reason)?;
        let peer = self.peer_mut(slot).ok_or(DropReason::UnknownLink)?;
        peer.cookie = Some((cookie, now));
        if let Some(attempt) = &mut peer.attempt
            && !core::mem::replace(&mut attempt.had_cookie, true)
        {
            // Once at once; whoever sends a cookie for each initiation does not drive us.
            attempt.is_due = true;
            self.make_ready(slot);
        }
        Ok(LinkEvent::Taken)
    }
}

/// Writes a reply over the datagram that it answers.
fn reply<const SIZE: usize>(datagram: &mut [u8], bytes: &[u8; SIZE]) -> LinkEvent {
    const { assert!(SIZE < INITIATION_SIZE, "nothing is amplified") };
    if let Some(room) = datagram.first_chunk_mut() {
        *room = *bytes;
    }
    LinkEvent::Reply { size: SIZE }
}

const fn drop_reason(error: HandshakeError) -> DropReason {
    match error {
        HandshakeError::Size => DropReason::MalformedFrame,
        HandshakeError::BadMac => DropReason::BadMac,
        HandshakeError::BadTag
        | HandshakeError::BadPayload
        | HandshakeError::BadKemKey
        | HandshakeError::NotResponder => DropReason::HandshakeFailed,
    }
}
