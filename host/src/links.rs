//! The links of one executor, by the peer's key: a held one is used, else one is opened.

use core::cell::RefCell;
use core::net::SocketAddrV4;
use core::pin::pin;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use cepa_crypto::curve::Connection;
use cepa_meter::count;
use cepa_wire::{Ed25519PublicKey, ServiceNode, X25519PublicKey};
use futures_util::future::{Either, select};
use glommio::net::TcpStream;
use glommio::spawn_local;

use crate::link::{self, Link, Side};
use crate::tile::Tile;
use crate::wait::within;
use crate::{NetworkView, clock, random};

/// How long a peer has to accept a connection: as long as a member has to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The table of links.
#[derive(Default)]
pub(crate) struct Links {
    by_peer: RefCell<BTreeMap<X25519PublicKey, Rc<Link>>>,
}

impl Links {
    /// A link whose peer is proven may be used for requests to it.
    pub(crate) fn offer(&self, peer: X25519PublicKey, link: &Rc<Link>) {
        self.by_peer
            .borrow_mut()
            .entry(peer)
            .or_insert_with(|| Rc::clone(link));
    }

    /// A link ended.
    pub(crate) fn forget(&self, link: &Rc<Link>) {
        self.by_peer
            .borrow_mut()
            .retain(|_, held| !Rc::ptr_eq(held, link));
    }

    /// Ends all.
    pub(crate) fn close_all(&self) {
        for link in self.by_peer.borrow().values() {
            link.close();
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_peer.borrow().len()
    }

    fn held(&self, peer: &X25519PublicKey) -> Option<Rc<Link>> {
        self.by_peer
            .borrow()
            .get(peer)
            .filter(|link| !link.is_closed())
            .map(Rc::clone)
    }
}

/// Whose fault it may be that a reply does not come in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The peer's: it answers by itself.
    Peer,
    /// Somebody's behind it: it waits for another relay just as long as we wait for it. Only a link
    /// that can't be made, or breaks, is its own.
    Link,
}

/// Asks a peer and waits for its reply at most `timeout`. What is learnt of its health is noted.
pub(crate) async fn request(
    tile: &Rc<Tile>,
    node: &ServiceNode,
    (command, parts): (&'static str, Vec<Bytes>),
    timeout: Duration,
    blame: Blame,
) -> Option<Vec<Bytes>> {
    let held = tile.links.held(&node.pubkey_x25519);
    let link = held.unwrap_or_else(|| dial(tile, node));
    let reply = within(timeout, link.request(command, parts))
        .await
        .flatten();
    let mut health = tile.health.borrow_mut();
    if reply.is_some() {
        health.handle_alive(&node.pubkey_ed25519);
    } else if blame == Blame::Peer || link.peer_key().is_none() || link.is_closed() {
        health.handle_failure(node.pubkey_ed25519, clock::now());
    }
    reply
}

/// The node with a key, if it is in the view.
pub(crate) fn find<'a>(
    network: &'a NetworkView,
    peer: &Ed25519PublicKey,
) -> Option<&'a ServiceNode> {
    let index = network.peers.find(peer)?;
    let index = usize::try_from(index.0).ok()?;
    network.view.nodes().get(index)
}

/// Begins a link to a peer; requests may be made at once and wait for the handshake.
fn dial(tile: &Rc<Tile>, node: &ServiceNode) -> Rc<Link> {
    count(&tile.counters.omq_dialled);
    // Service nodes announce themselves with `L` and their key, so that a peer can ask back.
    let mut identity = vec![b'L'];
    identity.extend_from_slice(tile.keys.x25519_public().as_bytes());
    let connection = Connection::client(
        tile.keys.x25519(),
        node.pubkey_x25519,
        &identity,
        random::bytes(),
    );
    let link = Link::new(connection, tile.next_link_number());
    tile.links
        .by_peer
        .borrow_mut()
        .insert(node.pubkey_x25519, Rc::clone(&link));
    // Of a node without a proof nobody knows the address: 0.0.0.0 would be this machine.
    let address = node
        .is_contactable()
        .then_some(SocketAddrV4::new(node.ip, node.omq_port));
    let (tile, dialled) = (Rc::clone(tile), Rc::clone(&link));
    spawn_local(async move {
        let stream = match address {
            Some(address) => within(DIAL_TIMEOUT, TcpStream::connect(address)).await,
            None => None,
        };
        if let Some(Ok(stream)) = stream {
            link::run(tile, dialled, stream, Side::Dialled).await;
        } else {
            count(&tile.counters.omq_failed);
            dialled.close();
            tile.links.forget(&dialled);
        }
    })
    .detach();
    link
}

/// Serves a connection that a peer or a client opened.
pub(crate) fn accept(tile: &Rc<Tile>, stream: TcpStream) {
    // Who hung up already has no address.
    let Ok(address) = stream.peer_addr() else {
        return;
    };
    let Some(seat) = tile.door.omq.seat(tile.caller(address)) else {
        count(&tile.counters.omq_refused);
        return;
    };
    count(&tile.counters.omq_accepted);
    let connection = Connection::server(tile.keys.x25519(), random::bytes());
    let link = Link::new(connection, tile.next_link_number());
    link.sit(tile, seat);
    let tile = Rc::clone(tile);
    spawn_local(async move {
        let Some(seat) = link.seat() else { return };
        let running = link::run(Rc::clone(&tile), Rc::clone(&link), stream, Side::Accepted);
        if let Either::Right(_) = select(pin!(running), pin!(seat.ended())).await {
            count(&tile.counters.omq_evicted);
            link.close();
            tile.links.forget(&link);
        }
    })
    .detach();
}
