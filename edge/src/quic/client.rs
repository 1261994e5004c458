//! The asking side: reachability tests, and whoever tests a node from outside.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cepa_crypto::Ed25519SecretKey;
use cepa_wire::Ed25519PublicKey;
use cepa_wire::bt_stream::{Decoder, Message};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, VarInt};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Limits, identity, reply, transport_config};

/// How long a connection may take to stand (the reference's `handshake_timeout` of a reachability
/// test).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reply may take: as long as an onion does.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a reachability test waits for its reply (oxen-libquic's `DEFAULT_TIMEOUT`).
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is kept alive, as between newer nodes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Requests under way: more is a fault of whoever asks.
const PENDING_COUNT_MAX: usize = 256;
/// Pushes that wait to be taken; what is more is dropped.
const PUSH_COUNT_MAX: usize = 256;
/// What is read at once.
const READ_SIZE_MAX: usize = 64 << 10;

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// Our own side: no socket, or a key that TLS does not take.
    #[error("QUIC can't be set up: {0}")]
    Setup(String),
    /// No connection: nobody there, or not the key that was expected.
    #[error("no connection: {0}")]
    Connect(String),
    /// Took too long.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended before the reply.
    #[error("the connection ended")]
    Ended,
    /// Too large, or too many requests under way.
    #[error("the request is too large, or too many are under way")]
    Request,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A reply.
    Ok(Bytes),
    /// An error.
    Error(Bytes),
}

/// A socket that connections are made from. To be made and used on a tokio runtime.
pub struct Client {
    endpoint: Endpoint,
    own: Option<Arc<CertifiedKey>>,
}

impl Client {
    /// One that reaches addresses of the family of `bind`; port 0 is any. It shows `own`, if given.
    pub fn new(bind: SocketAddr, own: Option<&Ed25519SecretKey>) -> Result<Self, ClientError> {
        let own = own.map(identity::certified).transpose();
        Ok(Self {
            endpoint: Endpoint::client(bind).map_err(|fault: io::Error| setup(&fault))?,
            own: own.map_err(|fault| setup(&fault))?,
        })
    }

    /// One that reaches addresses of the family of `address`.
    pub fn towards(
        address: SocketAddr,
        own: Option<&Ed25519SecretKey>,
    ) -> Result<Self, ClientError> {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        Self::new(any, own)
    }

    /// Connects to the server that has the key `expected`, and to no other.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Ed25519PublicKey,
    ) -> Result<Connection, ClientError> {
        let tls = identity::client_config(expected, self.own.as_ref());
        let config = client_config(tls.map_err(|fault| setup(&fault))?)?;
        // Names are of no meaning here: an address sends none.
        let name = address.ip().to_string();
        let connecting = self.endpoint.connect_with(config, address, &name);
        let connecting = connecting.map_err(|fault| ClientError::Connect(fault.to_string()))?;
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = connected.map_err(|_| ClientError::Timeout)?;
        let connection = connected.map_err(|fault| ClientError::Connect(fault.to_string()))?;
        Connection::open(connection).await
    }

    /// Closes all connections, and waits until their peers know or do not care.
    pub async fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}

fn setup(fault: &dyn core::fmt::Display) -> ClientError {
    ClientError::Setup(fault.to_string())
}

pub(super) fn client_config(tls: rustls::ClientConfig) -> Result<ClientConfig, ClientError> {
    let tls = QuicClientConfig::try_from(tls).map_err(|fault| setup(&fault))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    let limits = Limits {
        // Servers open no streams.
        stream_count_max: 0,
        keep_alive: Some(KEEP_ALIVE),
        ..Limits::default()
    };
    let transport = transport_config(limits).map_err(ClientError::Setup)?;
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A connection with one stream for requests. It ends when this is dropped.
pub struct Connection {
    quic: quinn::Connection,
    requests: mpsc::Sender<Bytes>,
    pending: Arc<Pending>,
    pushes: tokio::sync::Mutex<mpsc::Receiver<(String, Bytes)>>,
    reader: JoinHandle<()>,
}

/// Who waits for which reply.
#[derive(Default)]
struct Pending {
    state: Mutex<PendingState>,
}

#[derive(Default)]
struct PendingState {
    next_id: i64,
    is_ended: bool,
    waiting: BTreeMap<i64, oneshot::Sender<Answer>>,
}

impl Pending {
    fn with<T>(&self, change: impl FnOnce(&mut PendingState) -> T) -> T {
        // Whoever panicked in here left whole entries.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) -> Result<(i64, oneshot::Receiver<Answer>), ClientError> {
        self.with(|state| {
            if state.is_ended {
                return Err(ClientError::Ended);
            }
            // Whoever gave up is forgotten here.
            state.waiting.retain(|_, waiting| !waiting.is_closed());
            if state.waiting.len() >= PENDING_COUNT_MAX {
                return Err(ClientError::Request);
            }
            let id = state.next_id;
            state.next_id += 1;
            let (sender, receiver) = oneshot::channel();
            state.waiting.insert(id, sender);
            Ok((id, receiver))
        })
    }

    fn end(&self, id: i64, answer: Answer) {
        if let Some(waiting) = self.with(|state| state.waiting.remove(&id)) {
            // It may have given up.
            drop(waiting.send(answer));
        }
    }

    fn end_all(&self) {
        self.with(|state| {
            state.is_ended = true;
            state.waiting.clear();
        });
    }
}

impl Connection {
    async fn open(connection: quinn::Connection) -> Result<Self, ClientError> {
        let opened = timeout(CONNECT_TIMEOUT, connection.open_bi()).await;
        let opened = opened.map_err(|_| ClientError::Timeout)?;
        let (send, receive) = opened.map_err(|_| ClientError::Ended)?;
        let pending = Arc::new(Pending::default());
        let (push_sender, pushes) = mpsc::channel(PUSH_COUNT_MAX);
        let reader = tokio::spawn(read(receive, Arc::clone(&pending), push_sender));
        // As many as may wait for their replies: it is never full for long.
        let (requests, unwritten) = mpsc::channel(PENDING_COUNT_MAX);
        tokio::spawn(write(send, unwritten));
        Ok(Self {
            quic: connection,
            requests,
            pending,
            pushes: tokio::sync::Mutex::new(pushes),
            reader,
        })
    }

    /// Asks, and waits for what comes back.
    pub async fn request(&self, endpoint: &str, body: Bytes) -> Result<Answer, ClientError> {
        let asked = timeout(REQUEST_TIMEOUT, self.request_untimed(endpoint, body)).await;
        asked.unwrap_or(Err(ClientError::Timeout))
    }

    async fn request_untimed(&self, endpoint: &str, body: Bytes) -> Result<Answer, ClientError> {
        let (id, receiver) = self.pending.begin()?;
        let message = Message::Command {
            id,
            endpoint: Bytes::copy_from_slice(endpoint.as_bytes()),
            body,
        };
        if !message.fits() {
            return Err(ClientError::Request);
        }
        let queued = self.requests.send(message.encode().into()).await;
        queued.map_err(|_| ClientError::Ended)?;
        receiver.await.map_err(|_| ClientError::Ended)
    }

    /// The next thing that the server tells unasked: what and with what. `None` once it has ended.
    pub async fn next_push(&self) -> Option<(String, Bytes)> {
        self.pushes.lock().await.recv().await
    }

    /// Ends it.
    pub fn close(&self) {
        self.quic.close(VarInt::from_u32(0), b"");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
        self.reader.abort();
    }
}

/// Apart from those who ask: who gives up does not leave half a message behind.
async fn write(mut stream: SendStream, mut unwritten: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = unwritten.recv().await {
        if stream.write_chunk(bytes).await.is_err() {
            return;
        }
    }
}

async fn read(
    mut stream: RecvStream,
    pending: Arc<Pending>,
    pushes: mpsc::Sender<(String, Bytes)>,
) {
    let mut decoder = Decoder::new();
    'stream: while let Ok(Some(chunk)) = stream.read_chunk(READ_SIZE_MAX, true).await {
        decoder.handle_bytes(&chunk.bytes);
        loop {
            match decoder.poll_message() {
                Ok(Some(Message::Reply { id, body })) => pending.end(id, Answer::Ok(body)),
                Ok(Some(Message::Error { id, body })) => pending.end(id, Answer::Error(body)),
                Ok(Some(Message::Command { endpoint, body, .. })) => {
                    let endpoint = String::from_utf8_lossy(&endpoint).into_owned();
                    // Nobody takes them: then the newest go.
                    drop(pushes.try_send((endpoint, body)));
                }
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    pending.end_all();
}

/// Whether the node with the key `expected` answers at `address`: the reference's reachability test.
/// Takes at most [`CONNECT_TIMEOUT`] and [`PING_TIMEOUT`].
pub async fn ping(
    address: SocketAddr,
    expected: Ed25519PublicKey,
    own: Option<&Ed25519SecretKey>,
) -> bool {
    let Ok(client) = Client::towards(address, own) else {
        return false;
    };
    let Ok(connection) = client.connect(address, expected).await else {
        return false;
    };
    let asked = connection.request("snode_ping", Bytes::new());
    matches!(timeout(PING_TIMEOUT, asked).await, Ok(Ok(Answer::Ok(body))) if body == reply::PONG)
}
