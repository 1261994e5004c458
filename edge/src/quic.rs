//! The QUIC listener: clients and peers send requests on the streams of a connection
//! (`session-node.md`, 5.5; `session-client.md`, 7).
//!
//! A thread of its own with a tokio runtime; [`start`] begins it. What is asked goes to an
//! [`Endpoints`], with the [`Peer`] that asks, through which it may be told something later.
//!
//! *Early data* (0-RTT) is taken. It could be a copy of somebody else's that another took: tickets are
//! good once at this node, and a request in early data that changes something waits until the
//! handshake is over, which a copy never is ([`Endpoints::is_idempotent`]).
//!
//! *Logs*: quinn's crates name addresses and what strangers sent, at warn. Whoever sets the filter of the
//! log turns them off: `quinn_udp=off,quinn_proto=error`.
//!
//! *What a stranger may cost*: [`Limits`]. Beside the bytes counted there, QUIC holds what is not read
//! yet and what is not acknowledged: at most [`RECEIVE_WINDOW`] and [`SEND_WINDOW`] a connection.

pub mod client;
mod connection;
mod identity;
mod peer;
pub mod reply;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicU64, AtomicUsize};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use cepa_crypto::{Ed25519SecretKey, primitive};
use cepa_swarm::rate::Prefix;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ledger::Ledger;

pub use peer::{Peer, PushError};
pub use reply::Reply;

/// Most bytes of a connection that have arrived and are not read, over all streams: at 100 ms a
/// megabyte each 100 ms, which is more than a phone sends.
pub const RECEIVE_WINDOW: u32 = 1 << 20;
/// Most bytes of a connection that are written and not acknowledged.
pub const SEND_WINDOW: u32 = 1 << 20;
/// What is asked of the kernel for datagrams that wait: some 50 ms at 1 Gbit/s.
const SOCKET_BUFFER_SIZE: usize = 4 << 20;
/// Connections that wait for the accept loop, which never waits itself.
const INCOMING_COUNT_MAX: usize = 1024;
/// Early data of one such connection.
const INCOMING_SIZE_MAX: u64 = 64 << 10;
/// And of all.
const INCOMING_TOTAL_SIZE_MAX: u64 = 16 << 20;
/// How long peers have to learn that the listener stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// What a stream that sends no bt ends with (oxen-libquic's `BPARSER_ERROR_EXCEPTION`).
const CODE_MALFORMED: VarInt = VarInt::from_u32(777_000_105);
/// What a connection ends with that costs more than it may.
const CODE_GREEDY: VarInt = VarInt::from_u32(777_000_429);

/// What answers requests.
pub trait Endpoints: Send + Sync + 'static {
    /// Answers a command. It may be given up: when the connection ends, the future is dropped.
    fn call(&self, peer: Peer, endpoint: String, body: Bytes)
    -> impl Future<Output = Reply> + Send;

    /// Whether the command changes nothing, here or elsewhere, so that a stranger may repeat it. An
    /// onion is not known to be that.
    fn is_idempotent(&self, endpoint: &str, body: &[u8]) -> bool;
}

/// Where the listener is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Every address of the machine, IPv6 and IPv4; IPv4 alone where there is no IPv6.
    DualStack(u16),
    /// One address.
    Address(SocketAddr),
}

/// How the listener runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where.
    pub bind: Bind,
    /// What strangers may cost.
    pub limits: Limits,
}

impl Settings {
    /// The usual limits.
    pub fn new(bind: Bind) -> Self {
        Self {
            bind,
            limits: Limits::default(),
        }
    }
}

/// What strangers may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections: each costs some 20 KiB, and at worst its windows: 4 GiB when all are hostile.
    pub connection_count_max: usize,
    /// Connections of one IPv4 address or one IPv6 /64: many phones stand behind one address.
    pub connection_per_prefix_count_max: usize,
    /// Handshakes at once: each is a signature and a verification of some 50 us. From a quarter of it
    /// on, who connects must first show that its address is its own.
    pub handshake_count_max: usize,
    /// How long one may take: three round trips of the slowest with losses.
    pub handshake_timeout: Duration,
    /// Streams of a connection: a peer of the newest version holds 6, clients 1.
    pub stream_count_max: u32,
    /// Requests of a connection under way: then its streams are not read.
    pub request_count_max: usize,
    /// Bytes of requests under way and of replies not written, of all connections.
    pub held_size_max: usize,
    /// And of those of one prefix, as above: nobody alone takes the room of all.
    pub held_per_prefix_size_max: usize,
    /// And of one: three of the largest messages. One that wants more is closed.
    pub held_per_connection_size_max: usize,
    /// Bytes that wait to be told to one: some 50 notes with a message in each. What is more is
    /// dropped, and that is reported.
    pub push_size_max: usize,
    /// How long a connection may be silent.
    pub idle_timeout: Duration,
    /// How often we ask a silent connection whether it is there. `None`, as in the reference: clients
    /// keep alive what they want kept.
    pub keep_alive: Option<Duration>,
    /// How long a message may take to arrive whole, and to be taken: 10 MiB at 1.5 Mbit/s. Who takes
    /// longer is closed.
    pub message_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection_count_max: 2048,
            connection_per_prefix_count_max: 128,
            handshake_count_max: 256,
            handshake_timeout: Duration::from_secs(10),
            stream_count_max: 32,
            request_count_max: 64,
            held_size_max: 256 << 20,
            held_per_prefix_size_max: 64 << 20,
            held_per_connection_size_max: 32 << 20,
            push_size_max: 4 << 20,
            idle_timeout: Duration::from_mins(1),
            keep_alive: None,
            message_timeout: Duration::from_mins(1),
        }
    }
}

cepa_meter::counters! {
    /// How often each thing happened.
    pub struct Counters, named "quic_";
    /// Connections whose handshake succeeded.
    accepted,
    /// Connections refused because there are too many, in all or of a prefix.
    refused,
    /// Connections whose handshake failed or took too long.
    handshake_failed,
    /// Connections and streams ended for what they sent, or for what they cost.
    closed_for_cause,
    /// Commands that were given to the endpoints.
    commands,
    /// Commands in early data that waited for the handshake.
    early_waited,
    /// Pushes dropped because their peer reads too slowly.
    push_dropped,
}

/// Why the listener did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address can't be bound.
    #[error("can't listen for QUIC on UDP {address}: {fault}. {advice}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the kernel says.
        fault: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Something of ours.
    #[error("can't set QUIC up: {0}")]
    Setup(String),
}

/// A listener that runs. It stops when this is dropped; [`Running::join`] waits for it too.
pub struct Running {
    local_address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    handle: Handle,
    counters: Arc<Counters>,
}

impl Running {
    /// Where it listens.
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// How often what happened.
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Its runtime: what else belongs beside the shards may be spawned there, such as the futures of a
    /// [`crate::proxy::ServerProxy`]. Of no use once it was stopped.
    pub const fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Closes all connections and ends the thread, soon.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops it and waits for its end, a second or so. Not from within its own runtime.
    pub fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the QUIC thread panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What all connections share.
pub(crate) struct Shared<E> {
    endpoints: E,
    limits: Limits,
    counters: Arc<Counters>,
    held: Arc<Ledger>,
    seats: Mutex<BTreeMap<Prefix, Seats>>,
    seat_count: AtomicUsize,
    handshake_count: AtomicUsize,
    next_id: AtomicU64,
}

/// The connections of one prefix.
struct Seats {
    count: usize,
    held: Arc<Ledger>,
}

/// Binds, starts the thread, and returns once it listens. The server's key is `key`.
pub fn start<E: Endpoints>(
    settings: &Settings,
    key: &Ed25519SecretKey,
    endpoints: E,
) -> Result<Running, StartError> {
    let setup = |fault: &dyn core::fmt::Display| StartError::Setup(fault.to_string());
    let socket = bind(settings.bind)?;
    let local_address = socket.local_addr().map_err(|fault| setup(&fault))?;
    let server = server_config(key, settings.limits).map_err(|fault| setup(&fault))?;
    // The same after a restart: peers whose connections are forgotten are told so at once.
    let reset = primitive::hmac_sha256(b"cepa QUIC stateless reset", key.seed());
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset);
    let config = EndpointConfig::new(Arc::new(reset));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| setup(&fault))?;
    let endpoint = {
        let _entered = runtime.enter();
        Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))
            .map_err(|fault| setup(&fault))?
    };
    let counters = Arc::new(Counters::default());
    let shared = Arc::new(Shared {
        endpoints,
        limits: settings.limits,
        counters: Arc::clone(&counters),
        held: Ledger::new(settings.limits.held_size_max),
        seats: Mutex::default(),
        seat_count: AtomicUsize::new(0),
        handshake_count: AtomicUsize::new(0),
        next_id: AtomicU64::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let handle = runtime.handle().clone();
    let run = move || {
        runtime.block_on(listen(endpoint, shared, stopped));
        // A look-up may hang in a thread for long: nobody waits for it.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("quic".to_owned());
    Ok(Running {
        local_address,
        stop,
        thread: Some(thread.spawn(run).map_err(|fault| setup(&fault))?),
        handle,
        counters,
    })
}

async fn listen<E: Endpoints>(
    endpoint: Endpoint,
    shared: Arc<Shared<E>>,
    mut stopped: watch::Receiver<bool>,
) {
    let accept = async {
        while let Some(incoming) = endpoint.accept().await {
            connection::admit(&shared, incoming);
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    endpoint.close(VarInt::from_u32(0), b"stopping");
    // Whoever does not hear it finds out by asking.
    drop(timeout(STOP_TIMEOUT, endpoint.wait_idle()).await);
}

fn server_config(key: &Ed25519SecretKey, limits: Limits) -> Result<quinn::ServerConfig, String> {
    let tls = identity::server_config(key).map_err(|fault| fault.to_string())?;
    let tls = QuicServerConfig::try_from(tls).map_err(|fault| fault.to_string())?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport_config(limits)?))
        .max_incoming(INCOMING_COUNT_MAX)
        .incoming_buffer_size(INCOMING_SIZE_MAX)
        .incoming_buffer_size_total(INCOMING_TOTAL_SIZE_MAX);
    Ok(config)
}

/// As both sides have it: a stream may fill the window of its connection.
fn transport_config(limits: Limits) -> Result<TransportConfig, String> {
    let idle = limits.idle_timeout.try_into();
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.stream_count_max.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(RECEIVE_WINDOW.into())
        .stream_receive_window(RECEIVE_WINDOW.into())
        .send_window(SEND_WINDOW.into())
        .max_idle_timeout(Some(idle.map_err(|_| "idle timeout is too long")?))
        .keep_alive_interval(limits.keep_alive);
    Ok(config)
}

fn bind(bind: Bind) -> Result<UdpSocket, StartError> {
    let (address, bound) = match bind {
        Bind::Address(address) => (address, bind_socket(address)),
        Bind::DualStack(port) => {
            let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            match bind_socket(address) {
                // No IPv6 here: then IPv4 alone.
                Err(fault) if fault.kind() != io::ErrorKind::AddrInUse => {
                    let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
                    (address, bind_socket(address))
                }
                bound => (address, bound),
            }
        }
    };
    bound.map_err(|fault| StartError::Bind {
        address,
        advice: match fault.kind() {
            io::ErrorKind::AddrInUse => {
                "Stop what uses the port (ss -lunp shows it), or choose another one"
            }
            io::ErrorKind::PermissionDenied => {
                "Choose a port above 1023, or allow it: setcap cap_net_bind_service=+ep cepa"
            }
            io::ErrorKind::AddrNotAvailable => {
                "Choose an address of this machine (ip address shows them)"
            }
            _ => "Look at the address and the port in the configuration",
        },
        fault,
    })
}

fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // The kernel gives what it allows; less is slower, and no fault.
    drop(socket.set_recv_buffer_size(SOCKET_BUFFER_SIZE));
    drop(socket.set_send_buffer_size(SOCKET_BUFFER_SIZE));
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

impl<E> Shared<E> {
    fn seats(&self) -> std::sync::MutexGuard<'_, BTreeMap<Prefix, Seats>> {
        // Whoever panicked in here left whole entries.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
