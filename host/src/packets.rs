//! Requests that came as packets: a packet tile puts them together, a shard serves them, and their answers
//! go back to the tile, which has the links.

use core::sync::atomic::Ordering::Relaxed;
use std::rc::Rc;

use cepa_crypto::packet::BuiltPacket;
use cepa_relay::counters::count;
use cepa_relay::packet::answers::answer_packets;
use cepa_wire::answer::Answer;
use cepa_wire::packet::reassembler::Message;
use cepa_wire::packet::request::{PacketAnswer, PacketRequest, answer_parts};
use cepa_wire::request::Encoding;
use crossbeam::queue::ArrayQueue;

use crate::door::Refused;
use crate::packet_io::Waker;
use crate::requests;
use crate::tile::Tile;

/// Packets of answers that wait for their tile: what 40 of the longest answers take, and 10 MiB. A tile
/// that is so far behind sends nothing in time anyway.
const RETURN_COUNT_MAX: usize = 8192;

/// The way back to a packet tile.
pub struct PacketReturns {
    queue: ArrayQueue<BuiltPacket>,
    waker: Waker,
}

impl PacketReturns {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            queue: ArrayQueue::new(RETURN_COUNT_MAX),
            waker,
        }
    }

    /// Takes a packet that is to be sent.
    pub(crate) fn pop(&self) -> Option<BuiltPacket> {
        self.queue.pop()
    }

    /// Hands packets over; gives how many found no room.
    fn push_all(&self, packets: impl Iterator<Item = BuiltPacket>) -> usize {
        let refused = packets
            .filter_map(|packet| self.queue.push(packet).err())
            .count();
        self.waker.wake();
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
    let (answer, encoding) = if tile.is_overloaded() {
        count(&tile.counters.refused_overloaded);
        let (status, text) = Refused::Busy.reply();
        (Answer::text(status, text), Encoding::Json)
    } else {
        requests::serve_params(tile, request.method(), request.params()).await
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
