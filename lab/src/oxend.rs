//! The chain daemon of one node.

mod connection;

use core::net::SocketAddr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use cepa_crypto::SecretKeys;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::Chain;

/// Where a daemon listens.
#[derive(Clone, Debug)]
pub enum Listen {
    /// A loopback address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a socket, which is made anew.
    Ipc(PathBuf),
}

/// A running daemon, on a thread of its own, with the keys of one node. It ends, and its connections
/// with it, when it is dropped.
pub struct Oxend {
    node: Arc<Node>,
    listen: Listen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What connections share.
pub(crate) struct Node {
    chain: Chain,
    keys: SecretKeys,
    seen: Mutex<Seen>,
}

/// What a node did, and what the daemon is told to do to it.
#[derive(Default)]
struct Seen {
    pings: Vec<Value>,
    reports: Vec<Value>,
    connection_count: usize,
    list_count: usize,
    unchanged_count: usize,
    ping_refusal: Option<String>,
    keys_withheld: bool,
    is_old: bool,
}

impl Oxend {
    /// Starts a daemon that tells of `chain` and gives out `keys`.
    pub fn start(chain: &Chain, keys: SecretKeys, listen: Listen) -> io::Result<Self> {
        let node = Arc::new(Node {
            chain: chain.clone(),
            keys,
            seen: Mutex::default(),
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (listener, listen) = Listener::bind(listen)?;
        drop(entered);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("oxend".to_owned()).spawn({
            let node = Arc::clone(&node);
            move || run(&runtime, &node, &listener, stopped)
        })?;
        Ok(Self {
            node,
            listen,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens, with the port that it took: for [`Self::start`] after it was stopped.
    pub const fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Its address as a node's config has it.
    pub fn address(&self) -> String {
        match &self.listen {
            Listen::Tcp(address) => format!("tcp://{address}"),
            Listen::Ipc(path) => format!("ipc://{}", path.display()),
        }
    }

    /// The parameters of each `admin.storage_server_ping`, in the order of arrival.
    pub fn pings(&self) -> Vec<Value> {
        self.node.seen().pings.clone()
    }

    /// The parameters of each `admin.report_peer_status`, in the order of arrival.
    pub fn reports(&self) -> Vec<Value> {
        self.node.seen().reports.clone()
    }

    /// Connections that greeted with `HI`.
    pub fn connection_count(&self) -> usize {
        self.node.seen().connection_count
    }

    /// Answers to `rpc.get_service_nodes` with a list.
    pub fn list_count(&self) -> usize {
        self.node.seen().list_count
    }

    /// Answers to `rpc.get_service_nodes` that said `unchanged`.
    pub fn unchanged_count(&self) -> usize {
        self.node.seen().unchanged_count
    }

    /// Refuses pings with this status from now on, as a daemon does that wants a newer version; with
    /// `None` it takes them again.
    pub fn refuse_pings(&self, status: Option<&str>) {
        self.node.seen().ping_refusal = status.map(str::to_owned);
    }

    /// Gives no keys, as a daemon does that is not run as a service node.
    pub fn withhold_keys(&self, is_withheld: bool) {
        self.node.seen().keys_withheld = is_withheld;
    }

    /// Knows no `sub.snode_addr`, as a daemon before 11.
    pub fn be_old(&self) {
        self.node.seen().is_old = true;
    }
}

impl Drop for Oxend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: the test that sees nothing of it any more says so.
            drop(thread.join());
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener),
}

impl Listener {
    /// Without waiting, since a test may be in a runtime of its own.
    fn bind(listen: Listen) -> io::Result<(Self, Listen)> {
        match listen {
            Listen::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let listener = TcpListener::from_std(listener)?;
                Ok((Self::Tcp(listener), Listen::Tcp(address)))
            }
            Listen::Ipc(path) => {
                match fs::remove_file(&path) {
                    Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                    _ => {}
                }
                Ok((Self::Ipc(UnixListener::bind(&path)?), Listen::Ipc(path)))
            }
        }
    }
}

fn run(runtime: &Runtime, node: &Arc<Node>, listener: &Listener, stopped: oneshot::Receiver<()>) {
    let connections = LocalSet::new();
    connections.block_on(runtime, async {
        tokio::select! {
            // The sender is only ever dropped.
            _ = stopped => {}
            () = accept(node, listener) => {}
        }
    });
}

/// Accepts until the listener fails.
async fn accept(node: &Arc<Node>, listener: &Listener) {
    loop {
        let node = Arc::clone(node);
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(connection::serve(node, stream));
            }),
            Listener::Ipc(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(connection::serve(node, stream));
            }),
        };
        if accepted.is_err() {
            return;
        }
    }
}

impl Node {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows_addresses(&self) -> bool {
        !self.seen().is_old
    }

    fn greet(&self) {
        self.seen().connection_count += 1;
    }

    /// What a request is answered: a status and JSON, or `None` for a command that it does not know.
    fn answer(&self, name: &str, params: &Value) -> Option<(u16, Value)> {
        let answer = match name {
            "admin.get_service_node_privkey" => self.keys_json(),
            "admin.storage_server_ping" => self.take_ping(params),
            "admin.report_peer_status" => {
                self.seen().reports.push(params.clone());
                json!({ "status": "OK" })
            }
            "rpc.get_service_nodes" => {
                let answer = self.chain.service_nodes_json(params);
                let mut seen = self.seen();
                if answer.get("unchanged").is_some() {
                    seen.unchanged_count += 1;
                } else {
                    seen.list_count += 1;
                }
                answer
            }
            "rpc.get_block_hash" => match self.chain.block_hash_json(params) {
                Some(hash) => hash,
                None => return Some((400, "Invalid height".into())),
            },
            // Canned: whether it opens with the name is the client's business.
            "rpc.ons_resolve" | "rpc.lns_resolve" => match params.get("name_hash") {
                Some(_) => json!({
                    "encrypted_value": "ab".repeat(49),
                    "nonce": "cd".repeat(24),
                    "status": "OK",
                }),
                None => return Some((400, "Invalid name_hash".into())),
            },
            _ => return None,
        };
        Some((200, answer))
    }

    fn keys_json(&self) -> Value {
        if self.seen().keys_withheld {
            return json!({
                "service_node_privkey": "",
                "service_node_ed25519_privkey": "",
                "service_node_x25519_privkey": "",
                "status": "OK",
            });
        }
        json!({
            "service_node_privkey": hex::encode(self.keys.legacy),
            "service_node_ed25519_privkey": hex::encode(self.keys.ed25519),
            "service_node_x25519_privkey": hex::encode(self.keys.x25519),
            "status": "OK",
        })
    }

    fn take_ping(&self, params: &Value) -> Value {
        let mut seen = self.seen();
        seen.pings.push(params.clone());
        match &seen.ping_refusal {
            Some(status) => json!({ "status": status }),
            None => json!({ "status": "OK" }),
        }
    }
}
