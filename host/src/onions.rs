//! Carries out what relay decides about onions.

use std::rc::Rc;

use bytes::Bytes;
use cepa_meter::count;
use cepa_relay::PeerIndex;
use cepa_relay::counters::{OnionFrom, Via};
use cepa_relay::onion::{self, Hop, Refusal, ReturnLayer, Sealed, Step, read_peer_answer};
use cepa_swarm::limits::ONION_TIMEOUT;
use cepa_wire::Ed25519PublicKey;
use cepa_wire::answer::Answer;
use cepa_wire::onion::Proxy;

use crate::links::Blame;
use crate::tile::Tile;
use crate::{NetworkView, clock, links, random, requests};

/// An onion's answer on its way back.
pub(crate) struct Returned {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
    /// Its type: that of a server's answer; text for all others.
    pub(crate) content_type: Option<String>,
}

impl Returned {
    const fn text(status: u16, body: Bytes) -> Self {
        Self {
            status,
            body,
            content_type: None,
        }
    }
}

/// An onion from a client: we are the guard.
pub(crate) async fn enter(tile: &Rc<Tile>, body: &[u8]) -> Returned {
    timed(tile, OnionFrom::Client, step(tile, body, onion::read_entry)).await
}

/// An onion from a peer.
pub(crate) async fn relay(tile: &Rc<Tile>, part: &[u8]) -> Returned {
    timed(
        tile,
        OnionFrom::Relay,
        step(tile, part, onion::read_relayed),
    )
    .await
}

async fn timed(
    tile: &Tile,
    from: OnionFrom,
    answering: impl Future<Output = Returned>,
) -> Returned {
    let begun = clock::nanos();
    let returned = answering.await;
    let taken = clock::nanos().saturating_sub(begun);
    tile.counters.onion_seconds.of(from).record(taken);
    returned
}

type Read = for<'a> fn(Hop<'_>, &'a [u8]) -> Result<Sealed<'a>, Refusal>;

async fn step(tile: &Rc<Tile>, input: &[u8], read: Read) -> Returned {
    let network = tile.network.load_full();
    let Some(_running) = tile.begin_request() else {
        count(&tile.counters.refused_busy);
        return busy();
    };
    if tile.is_unready() {
        return refuse(tile, &Refusal::NotReady(tile.keys.ed25519_public()));
    }
    let hop = Hop {
        keys: &tile.keys,
        peers: &network.peers,
        allow_aes_cbc: tile.live.allows_aes_cbc(),
    };
    let sealed = match read(hop, input) {
        Ok(sealed) => sealed,
        Err(refusal) => return refuse(tile, &refusal),
    };
    let shared = tile.batcher.diffie_hellman(sealed.ephemeral_key()).await;
    match sealed.open(hop, &shared) {
        Step::Forward {
            peer,
            destination,
            message,
        } => forward(tile, &network, peer, destination, message).await,
        Step::Deliver {
            payload,
            return_layer,
        } => deliver(tile, &payload, &return_layer).await,
        Step::RefuseSealed {
            refusal,
            return_layer,
        } => {
            count(refusal.counter(&tile.counters));
            seal(&return_layer, refusal.answer())
        }
        Step::Proxy { server, body } => ask_server(tile, server, body).await,
        Step::Refuse(refusal) => refuse(tile, &refusal),
    }
}

async fn forward(
    tile: &Rc<Tile>,
    network: &NetworkView,
    peer: PeerIndex,
    destination: Ed25519PublicKey,
    message: Vec<u8>,
) -> Returned {
    let node = usize::try_from(peer.0)
        .ok()
        .and_then(|index| network.view.nodes().get(index));
    let Some(node) = node else {
        return refuse(tile, &Refusal::NextUnknown(destination));
    };
    if tile.health.borrow().is_down(&destination) {
        return refuse(tile, &Refusal::NextUnreachable(destination));
    }
    let asked = ("sn.onion_request", vec![Bytes::from(message)]);
    let reply = links::request(tile, node, asked, ONION_TIMEOUT, Blame::Link).await;
    let Some(parts) = reply else {
        return refuse(tile, &Refusal::NextTimeout);
    };
    match read_peer_answer(&parts) {
        Ok((status, body)) => {
            count(&tile.counters.onion_forwarded);
            Returned::text(status, body)
        }
        Err(refusal) => refuse(tile, &refusal),
    }
}

async fn deliver(tile: &Rc<Tile>, payload: &[u8], return_layer: &ReturnLayer) -> Returned {
    count(&tile.counters.onion_delivered);
    seal(
        return_layer,
        requests::serve_json(tile, Via::Onion, payload).await,
    )
}

fn busy() -> Returned {
    Returned::text(503, Bytes::from_static(b"Server busy, try again later"))
}

/// Passes the opened layer to a server; what that says goes back as it is.
async fn ask_server(tile: &Tile, server: Proxy, body: Bytes) -> Returned {
    if !tile.outside.has_servers() {
        return refuse(tile, &Refusal::NoProxy);
    }
    let Some(answer) = tile.outside.ask_server(server, body).await else {
        count(&tile.counters.refused_busy);
        return busy();
    };
    count(answer.end.counter(&tile.counters));
    Returned {
        status: answer.status,
        body: answer.body,
        content_type: answer.content_type,
    }
}

/// Whatever the answer is, the relays on its way see 200: only the client reads the status inside.
fn seal(return_layer: &ReturnLayer, answer: Answer) -> Returned {
    Returned::text(200, Bytes::from(return_layer.seal(answer, random::bytes())))
}

fn refuse(tile: &Tile, refusal: &Refusal) -> Returned {
    count(refusal.counter(&tile.counters));
    let answer = refusal.answer();
    Returned::text(answer.status, answer.into_http_body().1)
}
