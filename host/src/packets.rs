//! Requests that came as packets: a packet tile puts them together, a shard serves them, and their answers
//! go back to the tile, which has the links.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_crypto::packet::BuiltPacket;
use cepa_meter::count;
use cepa_relay::counters::Via;
use cepa_relay::packet::answers::answer_packets;
use cepa_wire::answer::Answer;
use cepa_wire::packet::reassembler::Message;
use cepa_wire::packet::request::{PacketAnswer, PacketRequest, answer_parts};
use cepa_wire::request::Encoding;
use crossbeam::queue::ArrayQueue;

use crate::door::Refused;
use crate::packet_io::Waker;
use crate::requests;
use crate::tile::{Held, Tile, hold};

/// Packets of answers that wait for their tile: what 40 of the longest answers take, and 10 MiB. A tile
/// that is so far behind sends nothing in time anyway.
const RETURN_COUNT_MAX: usize = 8192;

/// Requests of packets that one shard serves at once: a quarter of all. Nobody knows whose they are, so that
/// whoever sends too many takes no more than this from those who come by other ways.
const RUNNING_COUNT_MAX: usize = crate::tile::RUNNING_COUNT_MAX / 4;
/// Bytes of these: the largest is 200 KiB. As much as a prefix may hold at the other doors.
const RUNNING_SIZE_MAX: usize = 64 << 20;

/// The way back to a packet tile. It stays the same when the tile's port is opened anew.
pub struct PacketReturns {
    queue: ArrayQueue<BuiltPacket>,
    waker: ArcSwap<Waker>,
}

/// What requests of packets cost a shard now.
#[derive(Default)]
pub(crate) struct PacketRoom {
    count: Cell<usize>,
    size: Cell<usize>,
}

impl PacketRoom {
    /// Room for a request; `None` when there is none.
    fn enter(&self, size: usize) -> Option<(Held<'_>, Held<'_>)> {
        let count = hold(&self.count, 1, RUNNING_COUNT_MAX)?;
        Some((count, hold(&self.size, size, RUNNING_SIZE_MAX)?))
    }
}

impl PacketReturns {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            queue: ArrayQueue::new(RETURN_COUNT_MAX),
            waker: ArcSwap::from_pointee(waker),
        }
    }

    /// Wakes another receive from now on, and at once.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.waker.store(Arc::new(waker));
        self.wake();
    }

    /// Wakes the tile.
    pub(crate) fn wake(&self) {
        self.waker.load().wake();
    }

    /// Whether packets wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes a packet that is to be sent.
    pub(crate) fn pop(&self) -> Option<BuiltPacket> {
        self.queue.pop()
    }

    /// Hands packets over; gives how many found no room.
    pub(crate) fn push_all(&self, packets: impl Iterator<Item = BuiltPacket>) -> usize {
        let refused = packets
            .filter_map(|packet| self.queue.push(packet).err())
            .count();
        self.wake();
        refused
    }
}

/// Serves a request, and sends what it answers, if there is a way for that.
pub(crate) async fn serve(tile: &Rc<Tile>, message: Message, returns: &PacketReturns) {
    let Ok(request) = PacketRequest::parse(&message.bytes) else {
        count(&tile.counters.packet_request_malformed);
        return;
    };
    count(&tile.counters.packet_request);
    let room = tile.packet_room.enter(message.bytes.len());
    let (answer, encoding) = if room.is_none() || tile.is_overloaded() {
        count(&tile.counters.refused_overloaded);
        let (status, text) = Refused::Busy.reply();
        (Answer::text(status, text), Encoding::Json)
    } else {
        requests::serve_params(tile, Via::Packet, (request.method(), request.params())).await
    };
    let (status, encoding, body) = answer_parts(answer, encoding);
    let told = PacketAnswer::Body {
        status,
        encoding,
        body: &body,
    };
    if request.blocks().len() == 0 {
        count(&tile.counters.packet_request_unanswered);
        return;
    }
    let refused = returns.push_all(answer_packets(message.id, &request, &told));
    let refused = u64::try_from(refused).unwrap_or(u64::MAX);
    tile.counters
        .packet_return_dropped
        .fetch_add(refused, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_ask_has_a_share_of_its_own() {
        let room = PacketRoom::default();
        let held: Vec<_> = (0..2000).map_while(|_| room.enter(10)).collect();
        assert_eq!(held.len(), RUNNING_COUNT_MAX);
        drop(held);
        let largest = 200 << 10;
        let held: Vec<_> = (0..2000).map_while(|_| room.enter(largest)).collect();
        assert_eq!(held.len(), RUNNING_SIZE_MAX / largest);
        // What found no room holds nothing.
        assert_eq!(room.count.get(), held.len());
        drop(held);
        assert_eq!((room.count.get(), room.size.get()), (0, 0));
    }
}
