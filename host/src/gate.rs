//! What comes in by another door than the shards' own: the QUIC listener runs beside them and hands its
//! requests over here.

use core::net::IpAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cepa_relay::Counters;
use cepa_relay::counters::Via;
use cepa_swarm::monitor::Subscriber;
use cepa_wire::answer::Answer;
use cepa_wire::packet::reassembler::Message;
use cepa_wire::request::Encoding;
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt as _;
use glommio::spawn_local;

use crate::door::Refused;
use crate::packets::{self, PacketReturns};
use crate::tile::Tile;
use crate::{onions, requests, subscribers};

/// Requests that wait for one shard to take them up.
const QUEUE_DEPTH: usize = 1024;

/// A request that came in elsewhere. Whoever sent it may go before it is answered.
pub enum Entering {
    /// An onion from a client: the body of `onion_req`. Status and body go back.
    Onion {
        /// As in `POST /onion_req/v2`.
        body: Bytes,
        /// Where the answer is awaited.
        reply: oneshot::Sender<(u16, Bytes)>,
    },
    /// A client's request.
    Client {
        /// Its method.
        method: String,
        /// JSON or bt.
        params: Bytes,
        /// Where the answer is awaited, and the encoding that it is due in.
        reply: oneshot::Sender<(Answer, Encoding)>,
    },
    /// A request for subscriptions. The bt reply goes back.
    Monitor {
        /// A dict or a list of dicts.
        body: Bytes,
        /// Names the connection.
        connection: u64,
        /// The connection.
        subscriber: Arc<dyn Subscriber>,
        /// Where the reply is awaited.
        reply: oneshot::Sender<Bytes>,
    },
    /// A request that came as packets. Nobody knows from whom: its links have limits of their own.
    Packet {
        /// Method, parameters and reply blocks.
        message: Message,
        /// Where the packets of its answer go.
        returns: Arc<PacketReturns>,
    },
}

/// One request with the address that it came from.
pub struct Entered {
    /// Whose requests are counted.
    pub from: IpAddr,
    /// What is asked.
    pub request: Entering,
}

/// The door: one queue for each shard.
#[derive(Clone)]
pub struct Gate {
    senders: Arc<[Mutex<mpsc::Sender<Entered>>]>,
    next: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// The shards' ends.
pub(crate) type GateEnd = mpsc::Receiver<Entered>;

pub(crate) fn make_gate(tile_count: usize, counters: Arc<Counters>) -> (Gate, Vec<GateEnd>) {
    let (senders, ends): (Vec<_>, Vec<_>) = (0..tile_count)
        .map(|_| mpsc::channel(QUEUE_DEPTH))
        .map(|(sender, end)| (Mutex::new(sender), end))
        .unzip();
    let gate = Gate {
        senders: senders.into(),
        next: Arc::default(),
        counters,
    };
    (gate, ends)
}

impl Gate {
    /// Hands a request to one shard after the other; false when that one has too many waiting.
    pub fn enter(&self, entered: Entered) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len().max(1);
        // Before it can be taken up.
        let waiting = &self.counters.gate_waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        let has_entered = self.senders.get(at).is_some_and(|sender| {
            // One thread beside the shards sends, and holds it for the length of a push.
            let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
            sender.try_send(entered).is_ok()
        });
        if !has_entered {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
        has_entered
    }
}

/// Serves what enters here, for as long as the executor lives.
pub(crate) async fn serve(tile: Rc<Tile>, mut end: GateEnd) {
    while let Some(entered) = end.next().await {
        tile.counters.gate_waiting.fetch_sub(1, Ordering::Relaxed);
        let tile = Rc::clone(&tile);
        spawn_local(async move { answer(&tile, entered).await }).detach();
    }
}

async fn answer(tile: &Rc<Tile>, entered: Entered) {
    if let Entering::Packet { message, returns } = entered.request {
        return packets::serve(tile, message, &returns).await;
    }
    let admitted = tile.admit_entered(entered.from);
    match entered.request {
        Entering::Onion { body, reply } => {
            // The one text that clients read as: use another guard.
            let (status, body) = if admitted.is_ok() {
                let returned = onions::enter(tile, &body).await;
                (returned.status, returned.body)
            } else {
                let (status, text) = Refused::Busy.reply();
                (status, Bytes::from_static(text.as_bytes()))
            };
            drop(reply.send((status, body)));
        }
        Entering::Client {
            method,
            params,
            reply,
        } => {
            if let Err(refused) = admitted {
                let (status, text) = refused.reply();
                drop(reply.send((Answer::text(status, text), Encoding::Json)));
                return;
            }
            drop(reply.send(requests::serve_params(tile, Via::Quic, (&method, &params)).await));
        }
        Entering::Monitor {
            body,
            connection,
            subscriber,
            reply,
        } => {
            if admitted.is_err() {
                // Whoever waits for the reply says that we are busy.
                return;
            }
            let told = subscribers::subscribe(tile, &body, connection, &subscriber).await;
            drop(reply.send(told));
        }
        // Was served before.
        Entering::Packet { .. } => {}
    }
}
