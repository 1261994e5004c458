//! The packet lane's control plane: our hop keys and our descriptor, and the descriptors of the others.
//!
//! Everything that others read is immutable behind an `ArcSwap`: hop keys and the directory for the packet
//! tiles, the board for HTTPS. What decides is sans-IO: [`OwnLane`] keeps our keys, [`Gathering`] says whom
//! to ask and what to believe. [`PacketLane::run`] gives both the time and the network.

mod gathering;
mod own;

use core::net::Ipv4Addr;
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cepa_crypto::packet::HopKeys;
use cepa_relay::packet::directory::{DescriptorBoard, PacketDirectory};
use cepa_wire::packet::descriptor::DESCRIPTOR_SIZE_MAX;
use cepa_wire::packet::descriptor_list::encode_list;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::{Ed25519PublicKey, ServiceNode, Timestamp};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::StatusCode;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

pub use self::gathering::{Fetched, Gathering, NotTaken};
pub use self::own::{LaneIdentity, OwnLane};
use crate::peer_https::PeerHttps;

/// Where a node shows its descriptor, over HTTPS.
pub const DESCRIPTOR_PATH: &str = "/cepa/descriptor/v1";
/// How often it is looked whether something is due. Hop keys change at most so late, which their grace
/// period covers.
const TICK: Duration = Duration::from_secs(1);
/// How long a peer may take to show its descriptor.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Our part of the packet lane.
pub struct PacketLane {
    own: OwnLane,
    gathering: Gathering,
    directory: Arc<ArcSwap<PacketDirectory>>,
    board: Arc<ArcSwap<DescriptorBoard>>,
    /// Something is known that is not shown yet.
    has_news: bool,
}

impl PacketLane {
    /// Draws the first hop keys. `address` is where the network knows us, if that is known already: then
    /// our descriptor is on the board at once.
    pub fn new(
        identity: LaneIdentity,
        epoch: EpochLength,
        now: Timestamp,
        address: Option<Ipv4Addr>,
    ) -> Result<Self, getrandom::Error> {
        let us = identity.ed25519.public_key();
        let mut lane = Self {
            own: OwnLane::new(identity, epoch, now)?,
            gathering: Gathering::new(us, epoch),
            directory: Arc::default(),
            board: Arc::default(),
            has_news: false,
        };
        lane.own.poll(now, address)?;
        lane.show();
        Ok(lane)
    }

    /// Our hop keys, for the packet tiles.
    pub fn hop_keys(&self) -> Arc<ArcSwap<HopKeys>> {
        self.own.hop_keys()
    }

    /// The relays that links go to, for the packet tiles.
    pub fn directory(&self) -> Arc<ArcSwap<PacketDirectory>> {
        Arc::clone(&self.directory)
    }

    /// What HTTPS serves.
    pub fn board(&self) -> Arc<ArcSwap<DescriptorBoard>> {
        Arc::clone(&self.board)
    }

    /// Keeps everything new until the future is dropped. `clock` tells the time, `nodes` the nodes of the
    /// view, ours with them.
    pub async fn run(
        mut self,
        clock: impl Fn() -> Timestamp,
        nodes: impl Fn() -> Vec<ServiceNode>,
    ) -> ! {
        let https = PeerHttps::new();
        let us = self.own.key();
        let mut running = FuturesUnordered::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                Some((key, fetched)) = running.next(), if !running.is_empty() => {
                    self.take(clock(), &key, fetched);
                }
                _ = ticks.tick() => self.tick(clock(), &us, nodes()),
            }
            while let Some(peer) = self.gathering.poll(clock()) {
                running.push(fetch(&https, peer));
            }
        }
    }

    fn tick(&mut self, now: Timestamp, us: &Ed25519PublicKey, nodes: Vec<ServiceNode>) {
        let us_there = nodes.iter().find(|node| node.pubkey_ed25519 == *us);
        let address = us_there.map(|node| node.ip);
        let is_new = self.own.poll(now, address).unwrap_or_else(|fault| {
            warn!(%fault, "the system gives no randomness: hop keys stay as they are");
            false
        });
        self.has_news |= self.gathering.handle_nodes(now, nodes, random) || is_new;
        // Not with each descriptor: at a start, two thousand come in less than a minute, and to show them all
        // takes milliseconds, here and at each tile.
        if core::mem::take(&mut self.has_news) {
            self.show();
        }
    }

    fn take(&mut self, now: Timestamp, key: &Ed25519PublicKey, fetched: Fetched) {
        match self.gathering.handle_fetched(now, key, fetched, random) {
            Ok(is_new) => self.has_news |= is_new,
            Err(reason) => debug!(peer = %key, %reason, "a peer's descriptor is not taken"),
        }
    }

    /// Publishes what is known now.
    fn show(&self) {
        let directory = PacketDirectory::new(self.gathering.relays());
        // An hourly signature changes nothing for the tiles.
        if **self.directory.load() != directory {
            self.directory.store(Arc::new(directory));
        }
        let own = self.own.descriptor().cloned();
        let theirs = self.gathering.descriptors();
        let all = own.iter().chain(theirs).map(Bytes::as_ref);
        let all = own.is_some().then(|| encode_list(all).into());
        self.board.store(Arc::new(DescriptorBoard { own, all }));
    }
}

/// Asks a peer for its descriptor.
async fn fetch(https: &PeerHttps, peer: ServiceNode) -> (Ed25519PublicKey, Fetched) {
    let asked = https.get(&peer, DESCRIPTOR_PATH, DESCRIPTOR_SIZE_MAX);
    let fetched = match timeout(FETCH_TIMEOUT, asked).await {
        Ok(Ok((StatusCode::OK, bytes))) => Fetched::Bytes(bytes),
        Ok(Ok((StatusCode::NOT_FOUND, _))) => Fetched::NoLane,
        Ok(Ok((status, _))) => {
            debug!(peer = %peer.address(), %status, "a peer does not show its descriptor");
            Fetched::Failed
        }
        Ok(Err(fault)) => {
            debug!(peer = %peer.address(), fault, "a peer does not show its descriptor");
            Fetched::Failed
        }
        Err(_) => Fetched::Failed,
    };
    (peer.pubkey_ed25519, fetched)
}

/// Randomness of the system; nothing here must be unpredictable, so that 0 will do without it.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
