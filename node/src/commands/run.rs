//! `cepa run`: one node, until it is told to stop.

pub(super) mod advice;
mod arguments;
mod doors;
pub(super) mod identity;
mod observe;
mod packet;
mod reload;
mod sandbox;
mod source;
mod stop;
mod supervisor;

use core::future;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use cepa_control::oxend::OurNode;
use cepa_control::{Config, Endpoint, metrics, seed};
use cepa_crypto::NodeKeys;
use cepa_edge::proxy::{self, ServerProxy};
use cepa_host::{EdgeLimits, NetworkView, NodeSettings, Outside, RateLimit, Tuning};
use cepa_meter::Sample;
use cepa_relay::Counters;
use cepa_storage::{Durability, Settings};
use cepa_wire::request::Network;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tracing::{info, warn};

pub(crate) use self::arguments::RunArguments;
pub(super) use self::arguments::{ConfigArguments, Problem, home_dir};
use self::observe::Observed;
use self::reload::Reloader;
use self::sandbox::Sandbox;
use self::source::Source;
pub(super) use self::stop::Signals;
use self::supervisor::Supervisor;
use crate::failure::Failure;
use doors::{Asked, Doors, QuicEndpoints};

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let (config, sandbox) = prepare(arguments)?;
    packet::choose_x25519(config.packet.x25519)?;
    let supervisor = Supervisor::from_environment()?;
    let runtime = control_runtime()?;
    let hangups = runtime.block_on(async { reload::listen() })?;
    supervisor.status("waiting for the node's keys");
    // While the chain daemon keeps us waiting, a signal ends the process: nothing has begun.
    let keys = runtime.block_on(source::find_keys(&config))?;
    print_identity(&keys)?;
    let source = Source::open(&config.network)?;

    let us = keys.ed25519_public();
    let view = Arc::new(ArcSwap::from_pointee(source.first_view(&us)));
    let counters = Arc::new(Counters::default());
    // The node starts after the endpoints: if a port of theirs is taken, nothing is to be undone.
    let control = runtime.block_on(Control::bind(&config))?;
    let servers = server_proxy(config.proxy_exceptions.clone())?;
    let quic = config
        .quic
        .then(|| SocketAddr::from((config.bind_ip, config.omq_port)));
    let duties = duties(&config, &keys, &counters, &view);
    let (outside, outgoing) = Outside::new(source.oxend().is_some(), true);
    let address = view.load().view.us().map(|node| node.ip);
    let (lane, packet) = packet::make(&config, &keys, address)?.unzip();
    let mut observed = Observed::new(&counters, &view, &config.data_dir, packet.as_ref());
    observed.standing = source.standing();
    let settings = NodeSettings {
        packet,
        ..node_settings(config.clone(), keys, outside)
    };
    supervisor.status("reading the message log");
    let running = cepa_host::start(settings, &view, &counters).map_err(Failure::new)?;
    let endpoints = QuicEndpoints::new(running.gate(), Arc::clone(&counters));
    let reloader = Reloader {
        arguments: arguments.config.clone(),
        running: config,
        tuner: running.tuner(),
        servers: servers.clone(),
    };
    let oxend = source.oxend();
    let doors = Doors::open(
        quic,
        &duties.key,
        endpoints,
        (outgoing, Asked { oxend, servers }),
    )?;
    // Until here a signal ends the process: nothing has begun, and the log survives that.
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    // All is open, and every executor has its rings.
    sandbox.filter()?;
    info!("listening");
    supervisor.ready();

    let stores = running.stores();
    observed.stores = Arc::clone(&stores);
    observed.quic = doors.counters();
    runtime.block_on(async {
        tokio::select! {
            () = signals.wait() => {}
            () = parent_exit(arguments.exit_with_parent) => {}
            never = reloader.watch(hangups, &supervisor) => never,
            never = source.watch(duties) => never,
            never = packet::run(lane, Arc::clone(&view)) => never,
            never = control.serve(Arc::clone(&view), move || observed.samples()) => never,
            never = supervisor.watch(|| stores.are_tiles_alive()) => never,
        }
    });
    info!("stopping");
    runtime.block_on(stop::stop(running, &mut signals, &supervisor))?;
    doors.close()
}

/// What comes before any thread: without rings nothing is begun, and the thread that is confined is this one,
/// with those that it starts.
fn prepare(arguments: &RunArguments) -> Result<(Config, Sandbox), Failure> {
    cepa_host::requirements::check_io_uring().map_err(Failure::new)?;
    let config = arguments.config.read()?;
    advise(&config);
    let sandbox = Sandbox::confine(&config, &arguments.config.files_read(&config))?;
    Ok((config, sandbox))
}

/// What the watch over the network needs.
fn duties(
    config: &Config,
    keys: &NodeKeys,
    counters: &Arc<Counters>,
    view: &Arc<ArcSwap<NetworkView>>,
) -> source::Watch {
    source::Watch {
        us: OurNode::new(keys, config.https_port, config.omq_port),
        key: keys.ed25519().clone(),
        has_quic: config.quic,
        bootstrap: source::bootstrap(config),
        counters: Arc::clone(counters),
        view: Arc::clone(view),
    }
}

/// Says what looks like a mistake.
fn advise(config: &Config) {
    for remark in advice::remarks(config, cepa_host::clock::now(), advice::is_root()) {
        warn!("{remark}");
    }
}

/// The runtime of the control plane: this thread alone.
pub(super) fn control_runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| Failure::new(format!("cannot start the control plane: {fault}")))
}

/// Waits for SIGINT or SIGTERM.
pub(super) async fn stop_signal() -> Result<(), Failure> {
    Signals::listen()?.wait().await;
    Ok(())
}

/// Ends when standard input does. A blocking read on a thread of its own, which ends with the process:
/// tokio would wait for it.
async fn parent_exit(is_wanted: bool) {
    if !is_wanted {
        return future::pending().await;
    }
    let (ended, end) = oneshot::channel::<()>();
    thread::spawn(move || {
        if let Err(fault) = io::copy(&mut io::stdin(), &mut io::sink()) {
            warn!(%fault, "standard input ended");
        }
        drop(ended);
    });
    // The sender is only ever dropped.
    drop(end.await);
}

/// What the operator puts into the network file. Said before anything can fail for want of it.
fn print_identity(keys: &NodeKeys) -> Result<(), Failure> {
    let (ed25519, x25519) = (keys.ed25519_public(), keys.x25519_public());
    let legacy = hex::encode(keys.legacy_public());
    writeln!(
        io::stdout(),
        "pubkey_ed25519 {ed25519}\npubkey_x25519  {x25519}\npubkey_legacy  {legacy}"
    )
    .map_err(|fault| Failure::new(format!("cannot print: {fault}")))
}

/// Who passes onions on to servers.
fn server_proxy(exceptions: Vec<String>) -> Result<ServerProxy, Failure> {
    let settings = proxy::Settings {
        exceptions,
        ..proxy::Settings::default()
    };
    let servers = ServerProxy::new(settings).map_err(Failure::new)?;
    if servers.root_count() == 0 {
        warn!(
            "this machine has no root certificates: onions to https servers will fail; install ca-certificates"
        );
    }
    Ok(servers)
}

fn node_settings(config: Config, keys: NodeKeys, outside: Outside) -> NodeSettings {
    let store = store_settings(&config);
    let tuning = tuning(&config);
    let default_limits = EdgeLimits::default();
    NodeSettings {
        keys,
        bind_ip: config.bind_ip,
        https_port: config.https_port,
        omq_port: config.omq_port,
        data_dir: config.data_dir,
        shard_cpus: config.shard_cpus,
        network: if config.testnet {
            Network::Testnet
        } else {
            Network::Mainnet
        },
        allow_aes_cbc: tuning.allow_aes_cbc,
        stop_timeout: tuning.stop_timeout,
        store,
        outside,
        stats_keys: tuning.stats_keys,
        monitor_count_max: tuning.monitor_count_max,
        rate_limit: tuning.rate_limit,
        edge_limits: EdgeLimits {
            lag_max: default_limits
                .lag_max
                .filter(|_| !config.bind_ip.is_loopback()),
            ..default_limits
        },
        packet: None,
    }
}

/// What may change while the node runs.
fn tuning(config: &Config) -> Tuning {
    let store = store_settings(config);
    Tuning {
        // A lab on loopback has one address for all its clients, and shares its cores with them.
        rate_limit: (!config.bind_ip.is_loopback()).then_some(RateLimit {
            per_second: config.rate_limit_per_second,
            burst: config.rate_limit_burst,
        }),
        stats_keys: config.stats_access_keys.clone(),
        monitor_count_max: usize::try_from(config.monitor_count_max).unwrap_or(usize::MAX),
        allow_aes_cbc: config.allow_aes_cbc,
        stop_timeout: Duration::from_secs(config.stop_timeout_seconds),
        mailbox_size_max: store.mailbox_size_max,
        foreign_grace: store.foreign_grace,
    }
}

/// How the message log is set up.
pub(super) fn store_settings(config: &Config) -> Settings {
    let relaxed = config.relaxed_durability_ms.map(Duration::from_millis);
    Settings {
        segment_size: config.segment_size_mib * MIB,
        capacity: config.store_capacity_mib * MIB,
        mailbox_size_max: config.account_size_max_mib * MIB,
        foreign_grace: Duration::from_hours(config.foreign_grace_hours),
        durability: relaxed.map_or(Durability::Durable, Durability::Relaxed),
        ..Settings::default()
    }
}

/// The endpoints that the config asks for.
struct Control {
    admin: Option<Endpoint>,
    seed: Option<Endpoint>,
}

impl Control {
    async fn bind(config: &Config) -> Result<Self, Failure> {
        let mut bound = Self {
            admin: None,
            seed: None,
        };
        if let Some(address) = config.admin_listen {
            bound.admin = Some(Endpoint::bind(address).await.map_err(Failure::new)?);
        }
        if let Some(address) = config.seed_listen {
            bound.seed = Some(Endpoint::bind(address).await.map_err(Failure::new)?);
        }
        Ok(bound)
    }

    /// Answers until the future is dropped; without an endpoint it only waits.
    async fn serve(
        self,
        view: Arc<ArcSwap<NetworkView>>,
        samples: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) -> ! {
        let admin = async {
            match self.admin {
                Some(endpoint) => metrics::serve(endpoint, samples).await,
                None => future::pending().await,
            }
        };
        let seed = async {
            match self.seed {
                Some(endpoint) => {
                    seed::serve(endpoint, move || view.load().view.nodes().to_vec()).await
                }
                None => future::pending().await,
            }
        };
        tokio::select! {
            never = admin => match never {},
            never = seed => match never {},
        }
    }
}
