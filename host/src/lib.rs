//! The machine: one pinned executor a core, HTTPS and OMQ listeners, links to peers, the disk, the
//! clock. It decides nothing: it carries bytes and time to relay, swarm and storage and back.
#![deny(unsafe_code)]

mod batcher;
mod board;
mod certificate;
pub mod clock;
mod connections;
mod disk;
mod door;
mod edge_limits;
mod gate;
mod handover;
mod https;
mod link;
mod links;
mod lock;
pub mod log;
mod memory;
mod missed;
mod numbers;
mod omq;
mod onions;
mod outside;
pub mod packet_io;
mod packet_port;
mod packet_settings;
mod packet_tile;
pub mod packets;
pub mod probe;
mod random;
mod requests;
pub mod requirements;
mod ring;
pub mod sandbox;
mod stats;
mod store;
mod subscribers;
mod tile;
mod tuning;
mod wait;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arc_swap::ArcSwap;
use cepa_crypto::NodeKeys;
use cepa_relay::{Counters, PeerTable};
use cepa_storage::Settings;
use cepa_swarm::View;
use cepa_wire::X25519PublicKey;
use cepa_wire::request::{Network, Parser};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use thiserror::Error;

pub use crate::board::StoreBoard;
pub use crate::edge_limits::{BODY_PROGRESS_SIZE, EdgeLimits};
pub use crate::gate::{Entered, Entering, Gate};
use crate::lock::DataDirLock;
pub use crate::outside::{Outgoing, Outside, ServerAnswer};
pub use crate::packet_settings::{PacketBackend, PacketSettings};
use crate::packet_tile::RunningTile;
use crate::tile::TileSeed;
use crate::tuning::Live;
pub use crate::tuning::{Tuner, Tuning};
pub use cepa_swarm::rate::RateLimit;

/// What control publishes and every shard reads: the view, and the data plane's table of it.
pub struct NetworkView {
    /// Nodes and swarms.
    pub view: View,
    /// The same nodes by key, for onions.
    pub peers: PeerTable,
    /// Their addresses: who calls from one of these is a peer, as far as one can tell before a handshake.
    pub addresses: BTreeSet<Ipv4Addr>,
}

impl NetworkView {
    /// From a view.
    pub fn new(view: View) -> Self {
        let peers = PeerTable::new(view.nodes().iter().map(|node| node.pubkey_ed25519));
        let addresses = view.nodes().iter().map(|node| node.ip).collect();
        Self {
            view,
            peers,
            addresses,
        }
    }

    /// Whether one of the nodes has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        matches!(address.to_canonical(), IpAddr::V4(address) if self.addresses.contains(&address))
    }
}

/// What a node needs to start.
pub struct NodeSettings {
    /// Its keys.
    pub keys: NodeKeys,
    /// Address to listen on.
    pub bind_ip: Ipv4Addr,
    /// HTTPS port.
    pub https_port: u16,
    /// OMQ port.
    pub omq_port: u16,
    /// Where certificate and message log stand. Made if it is not there.
    pub data_dir: PathBuf,
    /// The cores that shards are pinned to: one shard each.
    pub shard_cpus: Vec<usize>,
    /// Of which network the account ids are that clients write.
    pub network: Network,
    /// Accept aes-cbc onion layers (unauthenticated; off by default).
    pub allow_aes_cbc: bool,
    /// How long what is running has to end when the node stops.
    pub stop_timeout: Duration,
    /// How the message log is set up; its capacity is that of all shards together. The key of its
    /// tables is drawn at start.
    pub store: Settings,
    /// Who is asked beside the shards.
    pub outside: Outside,
    /// CURVE keys of clients that may ask for statistics.
    pub stats_keys: Vec<X25519PublicKey>,
    /// Most subscriptions to new messages at a time.
    pub monitor_count_max: usize,
    /// How often one address may ask; none: as often as it likes. Nodes of the view always may.
    pub rate_limit: Option<RateLimit>,
    /// What the edges of one shard may cost.
    pub edge_limits: EdgeLimits,
    /// The packet lane, if the node has one.
    pub packet: Option<PacketSettings>,
}

/// Why a node does not start. Each says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error("cannot use the data directory {path}: {source}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the data directory.
    #[error(
        "the data directory {path} is in use: another node or an import runs there; stop it, or \
         give each a directory of its own"
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A port can't be bound.
    #[error("cannot listen on {address}: {source}; is another node running there?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An executor does not start (`io_uring` refused, too little locked memory, no such core).
    #[error("cannot start the shard on core {cpu}: {reason}")]
    Executor {
        /// Which core.
        cpu: usize,
        /// Why.
        reason: String,
    },
    /// The packet tile does not start.
    #[error("cannot take packets at {address}: {reason}")]
    PacketTile {
        /// UDP address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The certificate can't be made or read.
    #[error("cannot make the TLS certificate: {0}")]
    Certificate(String),
}

/// A node whose shards run.
pub struct RunningNode {
    stop: Arc<AtomicBool>,
    stores: Arc<StoreBoard>,
    gate: Gate,
    live: Arc<Live>,
    tiles: Vec<ExecutorJoinHandle<()>>,
    packet_tile: Option<RunningTile>,
    /// Held until the last shard has stopped.
    _lock: DataDirLock,
}

impl RunningNode {
    /// Asks every shard to stop: listeners close, what is running ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What the shards say of their logs, and whether they are alive.
    pub fn stores(&self) -> Arc<StoreBoard> {
        Arc::clone(&self.stores)
    }

    /// The door for what comes in elsewhere.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// What changes the settings that may.
    pub fn tuner(&self) -> Tuner {
        Tuner(Arc::clone(&self.live))
    }

    /// Waits until every shard has started; if one does not, the others stop.
    fn once_started(self, reports: &Receiver<Result<(), StartError>>) -> Result<Self, StartError> {
        for started in reports.iter().take(self.tiles.len()) {
            if let Err(error) = started {
                self.stop();
                return Err(error);
            }
        }
        Ok(self)
    }

    fn with_packet_tile(
        mut self,
        settings: Option<PacketSettings>,
        bind_ip: Ipv4Addr,
    ) -> Result<Self, StartError> {
        let Some(settings) = settings else {
            return Ok(self);
        };
        match packet_tile::spawn(settings, bind_ip, self.gate()) {
            Ok(tile) => self.packet_tile = Some(tile),
            Err(error) => {
                self.stop();
                // The lock of the data directory is ours until they have ended.
                if let Err(fault) = self.join() {
                    tracing::warn!(fault, "a shard did not end well");
                }
                return Err(error);
            }
        }
        Ok(self)
    }

    /// Waits until every shard has stopped, and then the packet tile, which has their last answers to send; the
    /// error names what went wrong first.
    pub fn join(self) -> Result<(), String> {
        let mut ended = Ok(());
        for tile in self.tiles {
            let this = tile.join().map_err(|error| error.to_string());
            ended = ended.and(this);
        }
        let last = self.packet_tile.map_or(Ok(()), RunningTile::stop);
        ended.and(last)
    }
}

/// Starts a node. It listens when this returns; it answers 503 until its view has it in a swarm.
pub fn start(
    settings: NodeSettings,
    view: &Arc<ArcSwap<NetworkView>>,
    counters: &Arc<Counters>,
) -> Result<RunningNode, StartError> {
    assert!(
        !settings.shard_cpus.is_empty(),
        "a node has at least one shard"
    );
    let (https, omq) = free_addresses(&settings)?;
    let live = Arc::new(Live::new(Tuning::of(&settings)));
    let data_dir = make_data_dir(settings.data_dir)?;
    let in_data_dir = |source| StartError::DataDir {
        path: data_dir.clone(),
        source,
    };
    let lock = DataDirLock::take(&data_dir)?;
    let tls = certificate::server_config(&data_dir)?;
    let tile_count = settings.shard_cpus.len();
    let log_count = read_log_count(&data_dir, tile_count).map_err(in_data_dir)?;
    let keys = Arc::new(settings.keys);
    let descriptors = settings.packet.as_ref().map(|packet| &packet.board);
    let stop = Arc::new(AtomicBool::new(false));
    let stores = Arc::new(StoreBoard::new(tile_count));
    let (gate, gate_ends) = gate::make_gate(tile_count, Arc::clone(counters));
    let mut node = RunningNode {
        stop: Arc::clone(&stop),
        stores: Arc::clone(&stores),
        gate,
        live: Arc::clone(&live),
        tiles: Vec::new(),
        packet_tile: None,
        _lock: lock,
    };
    let anew = missed::make_anew(tile_count);
    let (report, reports) = sync_channel(tile_count);
    let ends = ring::make_rings(tile_count).into_iter().zip(gate_ends);
    for (index, (rings, gate)) in ends.enumerate() {
        let seed = TileSeed {
            index,
            tile_count,
            log_count,
            keys: Arc::clone(&keys),
            https,
            omq,
            tls: Arc::clone(&tls),
            data_dir: data_dir.clone(),
            store: log_settings(settings.store, log_count, random::bytes()),
            parser: Parser {
                network: settings.network,
            },
            live: Arc::clone(&live),
            edge_limits: settings.edge_limits,
            network: Arc::clone(view),
            counters: Arc::clone(counters),
            board: Arc::clone(&stores),
            rings,
            gate,
            anew: Arc::clone(&anew),
            outside: settings.outside.clone(),
            descriptors: descriptors.cloned(),
            stop: Arc::clone(&stop),
        };
        let cpu = settings.shard_cpus[index];
        node.tiles.push(spawn(seed, cpu, report.clone())?);
    }
    drop(report);
    node.once_started(&reports)?
        .with_packet_tile(settings.packet, settings.bind_ip)
}

/// Runs a shard on a core.
fn spawn(
    seed: TileSeed,
    cpu: usize,
    report: SyncSender<Result<(), StartError>>,
) -> Result<ExecutorJoinHandle<()>, StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{}", seed.index))
        .spawn(move || tile::run(seed, report))
        .map_err(|error| StartError::Executor {
            cpu,
            reason: error.to_string(),
        })
}

/// Where HTTPS and OMQ will listen, and nobody does yet.
fn free_addresses(settings: &NodeSettings) -> Result<(SocketAddr, SocketAddr), StartError> {
    let https = SocketAddr::from((settings.bind_ip, settings.https_port));
    let omq = SocketAddr::from((settings.bind_ip, settings.omq_port));
    check_free(https)?;
    check_free(omq)?;
    Ok((https, omq))
}

/// The settings of one log among as many.
fn log_settings(settings: Settings, log_count: usize, table_key: [u8; 16]) -> Settings {
    Settings {
        capacity: settings.capacity / u64::try_from(log_count.max(1)).unwrap_or(u64::MAX),
        table_key,
        ..settings
    }
}

/// Makes the directory; gives its absolute path, since executors do not open relative ones.
fn make_data_dir(path: PathBuf) -> Result<PathBuf, StartError> {
    let made = fs::create_dir_all(&path).and_then(|()| fs::canonicalize(&path));
    made.map_err(|source| StartError::DataDir { path, source })
}

/// Shards share their ports among themselves (`SO_REUSEPORT`), and would as well with another node: so
/// it is asked first whether anybody answers there. (A plain bind would tell, but also fail for a
/// minute after a node was killed, while its connections linger in `TIME_WAIT`.) A node that just
/// ended is given the moment in which the kernel takes its rings down: until then its port answers.
fn check_free(address: SocketAddr) -> Result<(), StartError> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const ASK_COUNT: usize = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut asked = address;
    if asked.ip().is_unspecified() {
        asked.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    for _ in 0..ASK_COUNT {
        if TcpStream::connect_timeout(&asked, TIMEOUT).is_err() {
            return Ok(());
        }
        // No executor runs yet that this could hold up.
        std::thread::park_timeout(PAUSE);
    }
    Err(StartError::Listen {
        address,
        source: io::ErrorKind::AddrInUse.into(),
    })
}

/// How many logs the mailboxes of this data directory are spread over: as many as there were shards
/// when it was made, and so for ever, however many shards there are now.
fn read_log_count(data_dir: &Path, tile_count: usize) -> io::Result<usize> {
    let path = data_dir.join("log_count");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "log_count does not hold a number",
                )
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unfinished = data_dir.join("log_count.new");
            fs::write(&unfinished, format!("{tile_count}\n"))?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &path)?;
            fs::File::open(data_dir)?.sync_all()?;
            Ok(tile_count)
        }
        Err(error) => Err(error),
    }
}
