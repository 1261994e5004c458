//! The shard tile: one pinned executor with its listeners, links and logs.

use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arc_swap::ArcSwap;
use cepa_crypto::NodeKeys;
use cepa_crypto::request_signature::Verifier;
use cepa_meter::count;
use cepa_relay::Counters;
use cepa_relay::packet::directory::DescriptorBoard;
use cepa_storage::Settings;
use cepa_storage::territory::Territory;
use cepa_swarm::Health;
use cepa_wire::Mailbox;
use cepa_wire::answer::Answer;
use cepa_wire::request::Parser;
use futures_rustls::TlsAcceptor;
use glommio::channels::shared_channel::SharedReceiver;
use glommio::net::TcpListener;
use glommio::timer::sleep;
use glommio::{GlommioError, Task, spawn_local};
use rustls::ServerConfig;

use crate::batcher::{self, Batcher};
use crate::board::{Reporter, StoreBoard};
use crate::door::{self, Door};
use crate::edge_limits::EdgeLimits;
use crate::gate::GateEnd;
use crate::link::Link;
use crate::links::{self, Blame, Links};
use crate::missed::{Anew, MissedFiles};
use crate::outside::Outside;
use crate::packets::PacketRoom;
use crate::ring::{Crossing, RingEnds, Rings};
use crate::store::{LocalLog, Stores, tile_of};
use crate::tuning::Live;
use crate::{NetworkView, StartError, clock, gate, handover, https, missed};

/// Requests of one executor that may run: at some 50 KiB each they stay within 200 MiB.
pub(crate) const RUNNING_COUNT_MAX: usize = 4096;
/// How often the tile looks whether it is to stop, and whom to probe.
const TICK: Duration = Duration::from_millis(100);
/// A probe is a ping: a peer that is up answers within this.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a tile is made from; crosses from the starting thread to the tile's.
pub(crate) struct TileSeed {
    pub(crate) index: usize,
    pub(crate) tile_count: usize,
    pub(crate) log_count: usize,
    pub(crate) keys: Arc<NodeKeys>,
    pub(crate) https: SocketAddr,
    pub(crate) omq: SocketAddr,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) data_dir: PathBuf,
    pub(crate) store: Settings,
    pub(crate) parser: Parser,
    /// What may change.
    pub(crate) live: Arc<Live>,
    pub(crate) edge_limits: EdgeLimits,
    pub(crate) network: Arc<ArcSwap<NetworkView>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) board: Arc<StoreBoard>,
    pub(crate) rings: RingEnds,
    pub(crate) gate: GateEnd,
    pub(crate) anew: Anew,
    pub(crate) outside: Outside,
    pub(crate) descriptors: Option<Arc<ArcSwap<DescriptorBoard>>>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What the tasks of one executor share.
pub(crate) struct Tile {
    index: usize,
    pub(crate) keys: Arc<NodeKeys>,
    pub(crate) network: Arc<ArcSwap<NetworkView>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: RefCell<Health>,
    pub(crate) verifier: RefCell<Verifier>,
    pub(crate) links: Links,
    pub(crate) batcher: Batcher,
    pub(crate) packet_room: PacketRoom,
    pub(crate) stores: Stores,
    /// Reads what clients ask.
    pub(crate) parser: Parser,
    pub(crate) door: Door,
    running_count: Cell<usize>,
    rings: Rc<Rings>,
    /// Who is asked beside the shards.
    pub(crate) outside: Outside,
    /// What the shards say of their logs.
    pub(crate) board: Arc<StoreBoard>,
    /// What may change while the node runs.
    pub(crate) live: Arc<Live>,
    /// What is shown of the packet lane, if there is one.
    pub(crate) descriptors: Option<Arc<ArcSwap<DescriptorBoard>>>,
    link_count: Cell<u64>,
    /// How long it took to read the logs.
    recovery: Cell<Duration>,
    /// New work is refused; what runs is finished.
    is_stopping: Cell<bool>,
    /// What members missed.
    pub(crate) missed: MissedFiles,
    /// For each shard, who is to get everything anew.
    pub(crate) anew: Anew,
}

/// Something counted for as long as it lives.
pub(crate) struct Held<'a> {
    cell: &'a Cell<usize>,
    amount: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.cell.update(|held| held - self.amount);
    }
}

/// Adds to what is counted, unless that is more than the limit then.
pub(crate) fn hold(cell: &Cell<usize>, amount: usize, limit: usize) -> Option<Held<'_>> {
    let held = cell
        .get()
        .checked_add(amount)
        .filter(|held| *held <= limit)?;
    cell.set(held);
    Some(Held { cell, amount })
}

impl Tile {
    /// Its number among the shards.
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// How long it took to read the logs.
    pub(crate) const fn recovery_time(&self) -> Duration {
        self.recovery.get()
    }

    /// Commands that wait for another shard.
    pub(crate) fn ring_waiting_count(&self) -> usize {
        self.rings.waiting_count()
    }

    /// A number for a link, and so for a connection, that no other has here or at another shard.
    pub(crate) fn next_link_number(&self) -> u64 {
        self.link_count.update(|count| count + 1);
        let shard = u64::try_from(self.index).unwrap_or(0);
        shard << 48 | self.link_count.get()
    }

    /// Counts a request as running; `None` when too many are.
    pub(crate) fn begin_request(&self) -> Option<Held<'_>> {
        hold(&self.running_count, 1, RUNNING_COUNT_MAX)
    }

    /// Requests that are running.
    pub(crate) const fn running_count(&self) -> usize {
        self.running_count.get()
    }

    /// The 503 of a node that may not serve clients yet.
    pub(crate) fn unready_answer(&self) -> Option<Answer> {
        let reason = if self.is_stopping.get() {
            Some("shutting down")
        } else {
            self.network.load().view.unready_reason()
        }?;
        count(&self.counters.refused_not_ready);
        Some(Answer::text(
            503,
            format!("Service node is not ready: {reason}\n"),
        ))
    }

    /// Whether onions can't be served now.
    pub(crate) fn is_unready(&self) -> bool {
        self.is_stopping.get() || self.network.load().view.unready_reason().is_some()
    }

    /// Whether the far end of a link is a service node of the view.
    pub(crate) fn is_peer(&self, link: &Link) -> bool {
        link.peer_key()
            .is_some_and(|key| self.network.load().view.find_x25519(&key).is_some())
    }

    /// A link's handshake is done: a peer's link is kept for our own requests, and shows it is up.
    pub(crate) fn handle_link_ready(&self, link: &Rc<Link>) {
        let Some(key) = link.peer_key() else { return };
        let network = self.network.load();
        let node = network
            .view
            .find_x25519(&key)
            .and_then(|index| network.view.nodes().get(index));
        link.handle_proven(node.is_some());
        if let Some(node) = node {
            self.links.offer(key, link);
            self.health.borrow_mut().handle_alive(&node.pubkey_ed25519);
        }
    }
}

/// Runs a tile until it is to stop. `report` hears once whether it started.
pub(crate) async fn run(seed: TileSeed, report: SyncSender<Result<(), StartError>>) {
    let stop = Arc::clone(&seed.stop);
    let (board, index) = (Arc::clone(&seed.board), seed.index);
    let mut store_limits = seed.live.store_limits();
    let started = start(seed).await;
    let tile = match started {
        Ok((tile, accepting)) => {
            drop(report.send(Ok(())));
            (tile, accepting)
        }
        Err(error) => {
            drop(report.send(Err(error)));
            return;
        }
    };
    let (tile, accepting) = tile;
    let mut territory = None;
    let mut reporter = Reporter::new(board, index, tile.stores.local().cloned());
    while !stop.load(Ordering::Relaxed) {
        sleep(TICK).await;
        tile.door.expire(clock::ticks());
        probe(&tile);
        tell_territory(&tile, &mut territory);
        tell_limits(&tile, &mut store_limits);
        give_anew(&tile, index);
        missed::tick(&tile);
        sweep_subscriptions(&tile);
        reporter.report(&tile, territory.as_ref(), clock::now());
    }
    tile.is_stopping.set(true);
    for task in accepting {
        task.cancel().await;
    }
    let deadline = clock::now().saturating_add(tile.live.stop_timeout());
    while tile.is_busy() && clock::now() < deadline {
        missed::write_pending(&tile);
        sleep(TICK).await;
    }
    tile.links.close_all();
}

impl Tile {
    fn is_busy(&self) -> bool {
        self.running_count.get() > 0
            || self.missed.has_unwritten()
            || !self.stores.local().all(|log| log.is_idle())
    }
}

type Accepting = Vec<Task<()>>;

async fn start(seed: TileSeed) -> Result<(Rc<Tile>, Accepting), StartError> {
    let https = listen(seed.https)?;
    let omq = listen(seed.omq)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&seed.tls));
    let logs = open_logs(&seed)?;
    let missed = MissedFiles::open(&seed.data_dir, seed.index, seed.tile_count);
    let missed = missed.map_err(|source| StartError::DataDir {
        path: seed.data_dir.clone(),
        source,
    })?;
    for log in logs.values() {
        spawn_local(Rc::clone(log).run()).detach();
    }
    let rings = Rings::new(Arc::clone(&seed.counters));
    let stores = Stores::new(
        logs,
        seed.log_count,
        seed.tile_count,
        Rc::clone(&rings),
        Arc::clone(&seed.counters),
        seed.live.monitor_bound.clone(),
    );
    let tile = Rc::new(Tile {
        index: seed.index,
        keys: seed.keys,
        network: seed.network,
        counters: seed.counters,
        health: RefCell::default(),
        verifier: RefCell::default(),
        links: Links::default(),
        batcher: Batcher::default(),
        packet_room: PacketRoom::default(),
        stores,
        parser: seed.parser,
        door: Door::new(seed.edge_limits, Arc::clone(&seed.live)),
        running_count: Cell::new(0),
        rings,
        outside: seed.outside,
        board: seed.board,
        live: seed.live,
        descriptors: seed.descriptors,
        link_count: Cell::new(0),
        recovery: Cell::default(),
        is_stopping: Cell::new(false),
        missed,
        anew: seed.anew,
    });
    connect_rings(&tile, seed.rings);
    wait_for_recovery(&tile).await;
    spawn_local(door::measure_load(Rc::clone(&tile))).detach();
    for (number, log) in tile.stores.numbered() {
        let dir = log_dir(&seed.data_dir, number);
        let handing_over = handover::run(Rc::clone(&tile), Rc::clone(log), dir);
        spawn_local(handing_over).detach();
    }
    spawn_local(batcher::run(Rc::clone(&tile))).detach();
    spawn_local(gate::serve(Rc::clone(&tile), seed.gate)).detach();
    let accepting = vec![
        accept_all(https, {
            let tile = Rc::clone(&tile);
            move |stream| https::accept(&tile, &acceptor, stream)
        }),
        accept_all(omq, {
            let tile = Rc::clone(&tile);
            move |stream| links::accept(&tile, stream)
        }),
    ];
    Ok((tile, accepting))
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error: GlommioError<()>| StartError::Listen {
        address,
        source: error.into(),
    })
}

/// The directory of a log.
pub(crate) fn log_dir(data_dir: &Path, log: usize) -> PathBuf {
    data_dir.join(format!("log-{log}"))
}

fn open_logs(seed: &TileSeed) -> Result<BTreeMap<usize, Rc<LocalLog>>, StartError> {
    let mut logs = BTreeMap::new();
    for log in (0..seed.log_count).filter(|log| tile_of(*log, seed.tile_count) == seed.index) {
        let dir = log_dir(&seed.data_dir, log);
        std::fs::create_dir_all(&dir).map_err(|source| StartError::DataDir {
            path: dir.clone(),
            source,
        })?;
        logs.insert(log, LocalLog::new(dir, seed.store));
    }
    Ok(logs)
}

/// Waits until the logs are read, and says what recovery found.
async fn wait_for_recovery(tile: &Tile) {
    let begun = clock::ticks();
    for log in tile.stores.local() {
        while !log.is_recovered() {
            sleep(Duration::from_millis(5)).await;
        }
        tile.recovery.set(clock::ticks().saturating_since(begun));
        let found = log.statistics();
        if found.is_damaged() {
            tracing::warn!(
                corrupt_records_skipped = found.corrupt_record_count,
                unreadable_blocks = found.unread_block_count,
                segments_of_another_version = found.foreign_segment_count,
                messages_kept = found.message_count,
                "the message log was damaged; what could be read was kept"
            );
        }
    }
}

/// Connects the rings in tasks of their own: each end waits until the other executor runs.
fn connect_rings(tile: &Rc<Tile>, ends: RingEnds) {
    for (to, sender) in ends.senders {
        let tile = Rc::clone(tile);
        spawn_local(async move { tile.rings.connect(to, sender.connect().await) }).detach();
    }
    for (from, receiver) in ends.receivers {
        spawn_local(receive(Rc::clone(tile), from, receiver)).detach();
    }
}

/// Tells the logs what they may hold when that has changed.
fn tell_limits(tile: &Tile, told: &mut (u64, Duration)) {
    let limits = tile.live.store_limits();
    if limits == *told {
        return;
    }
    *told = limits;
    for log in tile.stores.local() {
        log.set_limits(limits.0, limits.1);
    }
}

/// Tells the logs which accounts are ours, when that changed. While we are in no swarm everything is
/// kept: it may be an hour's mishap.
fn tell_territory(tile: &Tile, told: &mut Option<Territory>) {
    let Some(territory) = tile.network.load().view.territory() else {
        return;
    };
    if told.as_ref() != Some(&territory) {
        for log in tile.stores.local() {
            log.set_territory(territory.clone());
        }
        *told = Some(territory);
    }
}

/// Looks at some subscriptions: all of 100,000 in some ten seconds.
fn sweep_subscriptions(tile: &Tile) {
    const MAILBOX_COUNT: usize = 1024;
    let network = tile.network.load();
    // While we are in no swarm it may be an hour's mishap.
    let is_lost = network.view.territory().is_none();
    let is_ours = |mailbox: &Mailbox| is_lost || network.view.is_ours(mailbox);
    tile.stores.sweep_subscriptions(MAILBOX_COUNT, is_ours);
}

/// Tells our logs who is to get everything anew.
fn give_anew(tile: &Tile, index: usize) {
    let Some(queue) = tile.anew.get(index) else {
        return;
    };
    while let Some(peer) = queue.pop() {
        for log in tile.stores.local() {
            log.give_anew(peer);
        }
    }
}

async fn receive(tile: Rc<Tile>, from: usize, receiver: SharedReceiver<Crossing>) {
    let receiver = receiver.connect().await;
    while let Some(crossing) = receiver.recv().await {
        match crossing {
            Crossing::Command { id, log, command } => {
                let tile = Rc::clone(&tile);
                spawn_local(async move {
                    let outcome = tile.stores.execute_for_other(log, command).await;
                    tile.rings.send_outcome(from, id, outcome);
                })
                .detach();
            }
            Crossing::Outcome { id, outcome } => tile.rings.handle_outcome(id, outcome),
            Crossing::Subscribe(added) => tile.stores.add_own_subscription(*added),
        }
    }
}

fn accept_all(
    listener: TcpListener,
    serve: impl Fn(glommio::net::TcpStream) + 'static,
) -> Task<()> {
    spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok(stream) => serve(stream),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    })
}

fn probe(tile: &Rc<Tile>) {
    loop {
        let due = tile.health.borrow_mut().poll_probe(clock::now());
        let Some(peer) = due else { return };
        let network = tile.network.load_full();
        let Some(index) = network.peers.find(&peer) else {
            // It left the network, and so will everybody else who did.
            let known = |peer: &_| network.peers.find(peer).is_some();
            tile.health.borrow_mut().retain(known);
            continue;
        };
        let tile = Rc::clone(tile);
        spawn_local(async move {
            let node = usize::try_from(index.0)
                .ok()
                .and_then(|at| network.view.nodes().get(at));
            if let Some(node) = node {
                let ping = ("sn.ping", Vec::new());
                links::request(&tile, node, ping, PROBE_TIMEOUT, Blame::Peer).await;
            }
        })
        .detach();
    }
}
