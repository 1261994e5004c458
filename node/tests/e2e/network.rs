//! Nodes of this process, each with its own directory, keys and ports, and a plain HTTPS client.

use core::net::Ipv4Addr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU16, AtomicU64};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_crypto::{Account, NodeKeys, request_signature};
use cepa_host::{EdgeLimits, NetworkView, NodeSettings, PacketSettings, RateLimit, RunningNode};
use cepa_relay::Counters;
use cepa_storage::Settings;
use cepa_swarm::View;
use cepa_wire::request::{self, ClientRequest, Proof, Retrieve, Store};
use cepa_wire::{Mailbox, Namespace, ServiceNode, Timestamp};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

/// A network whose nodes all are in one swarm.
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    pub(crate) view: Vec<ServiceNode>,
    /// Of the nodes that are started from now on.
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) monitor_count_max: usize,
    /// Of the nodes that are started from now on.
    pub(crate) edge_limits: EdgeLimits,
}

/// The key that may ask for statistics.
pub(crate) const STATS_SEED: [u8; 32] = [99; 32];

pub(crate) struct Node {
    pub(crate) seed: [u8; 32],
    pub(crate) https_port: u16,
    pub(crate) omq_port: u16,
    pub(crate) counters: Arc<Counters>,
    running: Option<RunningNode>,
    published: Option<Arc<ArcSwap<NetworkView>>>,
    dir: TempDir,
}

impl Node {
    pub(crate) fn keys(&self) -> NodeKeys {
        NodeKeys::from_seed(self.seed)
    }

    pub(crate) fn count(&self, counter: fn(&Counters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Relaxed)
    }
}

/// A port that nobody listens on, below those that the system gives to outgoing connections: it stays
/// free while its node is down.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 16_384;
    const COUNT: u16 = 8192;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each process begins somewhere else: tests may run in many at a time.
    let begin = u16::try_from(std::process::id() * 64 % u32::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (begin + NEXT.fetch_add(1, Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Network {
    /// `count` nodes that all are in the view; none runs yet.
    pub(crate) fn new(count: u8) -> Self {
        let nodes: Vec<Node> = (1..=count)
            .map(|number| Node {
                seed: [number; 32],
                https_port: free_port(),
                omq_port: free_port(),
                counters: Arc::default(),
                running: None,
                published: None,
                dir: TempDir::new().unwrap(),
            })
            .collect();
        let view = nodes.iter().map(|node| service_node(node, 7)).collect();
        Self {
            nodes,
            view,
            rate_limit: None,
            monitor_count_max: 1000,
            // Other tests keep the cores busy meanwhile.
            edge_limits: EdgeLimits {
                lag_max: None,
                ..EdgeLimits::default()
            },
        }
    }

    /// Starts node `index` with `shard_count` shards.
    pub(crate) fn start(&mut self, index: usize, shard_count: usize) {
        self.start_with(index, shard_count, None);
    }

    /// Starts node `index`, with a packet lane or without.
    pub(crate) fn start_with(
        &mut self,
        index: usize,
        shard_count: usize,
        packet: Option<PacketSettings>,
    ) {
        let node = &mut self.nodes[index];
        let keys = node.keys();
        let view = View::new(self.view.clone(), &keys.ed25519_public());
        let settings = NodeSettings {
            keys,
            bind_ip: Ipv4Addr::LOCALHOST,
            https_port: node.https_port,
            omq_port: node.omq_port,
            data_dir: node.dir.path().to_owned(),
            shard_cpus: vec![0; shard_count],
            network: request::Network::Mainnet,
            allow_aes_cbc: false,
            stop_timeout: Duration::from_secs(5),
            store: Settings {
                segment_size: 4 << 20,
                ..Settings::default()
            },
            outside: cepa_host::Outside::none(),
            stats_keys: vec![NodeKeys::from_seed(STATS_SEED).x25519_public()],
            monitor_count_max: self.monitor_count_max,
            rate_limit: self.rate_limit,
            edge_limits: self.edge_limits,
            packet,
        };
        let network = Arc::new(ArcSwap::from_pointee(NetworkView::new(view)));
        let running = cepa_host::start(settings, &network, &node.counters);
        node.running = Some(running.expect("the node starts"));
        node.published = Some(network);
    }

    /// Tells every running node the view as it is now.
    pub(crate) fn publish(&self) {
        for node in &self.nodes {
            if let Some(published) = &node.published {
                let view = View::new(self.view.clone(), &node.keys().ed25519_public());
                published.store(Arc::new(NetworkView::new(view)));
            }
        }
    }

    /// Stops node `index` and waits for it.
    pub(crate) fn stop(&mut self, index: usize) {
        self.nodes[index].published = None;
        if let Some(running) = self.nodes[index].running.take() {
            running.stop();
            running.join().expect("the node stops");
        }
    }

    pub(crate) fn post(&self, index: usize, path: &str, body: &[u8]) -> Reply {
        https("POST", self.nodes[index].https_port, path, body)
    }

    /// Sends a client request to `/storage_rpc/v1`.
    pub(crate) fn rpc(&self, index: usize, request: &ClientRequest) -> Reply {
        self.post(index, "/storage_rpc/v1", &request.encode_json())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.stop(index);
        }
    }
}

pub(crate) fn service_node(node: &Node, swarm_id: u64) -> ServiceNode {
    let keys = node.keys();
    ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: node.https_port,
        omq_port: node.omq_port,
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        swarm_id,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> (u16, String) {
        (
            self.status,
            String::from_utf8_lossy(&self.body).into_owned(),
        )
    }
}

/// One HTTPS request on a connection of its own.
pub(crate) fn https(method: &str, port: u16, path: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    exchange(port, &request).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Writes raw bytes over TLS and reads a whole answer.
pub(crate) fn exchange(port: u16, request: &[u8]) -> std::io::Result<Reply> {
    exchange_over(connect(port)?, request)
}

/// The same over a connection that stands.
pub(crate) fn exchange_over(mut stream: Tls, request: &[u8]) -> std::io::Result<Reply> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // A node may close without a TLS goodbye after a whole answer.
        if answer.is_empty() {
            return Err(error);
        }
    }
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Ok(Reply {
        status,
        head,
        body: answer[split + 4..].to_vec(),
    })
}

/// A TLS connection to a node.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(port: u16) -> std::io::Result<Tls> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(tls_over(stream))
}

/// TLS over a connection; the handshake comes with the first write.
pub(crate) fn tls_over(stream: TcpStream) -> Tls {
    StreamOwned::new(tls_client(), stream)
}

fn tls_client() -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(cepa_tls::node_client_config(), name).unwrap()
}

pub(crate) fn account(number: u8) -> Account {
    Account::from_entropy([number; 16])
}

/// A store into the public inbox that anybody may make.
pub(crate) fn store(mailbox: Mailbox, data: &[u8]) -> ClientRequest {
    let now = cepa_host::clock::now();
    ClientRequest::Store(Store {
        mailbox,
        namespace: Namespace::INBOX,
        timestamp: now,
        expiry: now.saturating_add(Duration::from_hours(1)),
        data: data.to_vec().into(),
        sig_timestamp: None,
        proof: None,
    })
}

/// A store into a namespace, signed by the owner.
pub(crate) fn store_own(owner: &Account, namespace: i16, data: &[u8]) -> ClientRequest {
    let ClientRequest::Store(mut request) = store(owner.id(), data) else {
        unreachable!("it is a store")
    };
    request.namespace = Namespace(namespace);
    request.sig_timestamp = Some(request.timestamp);
    request.proof = Some(sign(owner, request_signature::store_text(&request)));
    ClientRequest::Store(request)
}

/// The owner's signature of a text.
pub(crate) fn sign(owner: &Account, text: impl AsRef<[u8]>) -> Proof {
    let key = owner.ed25519();
    Proof::owner(Some(key.public_key()), key.sign(text.as_ref()))
}

/// A retrieve of the inbox, signed by its owner.
pub(crate) fn retrieve(account: &Account, last_hash: Option<String>) -> ClientRequest {
    retrieve_from(account, Namespace::INBOX, last_hash)
}

/// A retrieve of a box, signed by its owner.
pub(crate) fn retrieve_from(
    account: &Account,
    namespace: Namespace,
    last_hash: Option<String>,
) -> ClientRequest {
    let mut retrieve = Retrieve {
        mailbox: account.id(),
        namespace,
        last_hash,
        max_count: None,
        max_size: None,
        timestamp: Some(cepa_host::clock::now()),
        proof: None,
    };
    let text = request_signature::retrieve_text(&retrieve);
    retrieve.proof = Some(sign(account, text));
    ClientRequest::Retrieve(retrieve)
}

/// The moment `seconds` ago.
pub(crate) fn ago(seconds: u64) -> Timestamp {
    cepa_host::clock::now().saturating_sub(Duration::from_secs(seconds))
}
