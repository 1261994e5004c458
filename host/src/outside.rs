//! What shards ask of the runtime beside them: the chain daemon, and servers that onions are for. The
//! queue between is bounded; whoever finds it full is told that the node is busy.

use core::cell::RefCell;

use bytes::Bytes;
use cepa_relay::onion::ProxyEnd;
use cepa_swarm::oxend::OxendReply;
use cepa_wire::onion::Proxy;
use futures_channel::{mpsc, oneshot};
use serde_json::Value;

/// Requests that wait to be taken up: those of some milliseconds.
const QUEUE_DEPTH: usize = 1024;

/// A request of a shard.
pub enum Outgoing {
    /// `rpc.<endpoint>` to the chain daemon.
    Oxend {
        /// Which.
        endpoint: String,
        /// Its parameters; null is none.
        params: Value,
        /// Where the answer is awaited. Whoever asked may have gone.
        reply: oneshot::Sender<OxendReply>,
    },
    /// The opened layer of an onion to a server.
    Server {
        /// Which.
        server: Proxy,
        /// All of the layer.
        body: Bytes,
        /// Where the answer is awaited.
        reply: oneshot::Sender<ServerAnswer>,
    },
}

/// What goes back to the client of an onion that was for a server.
#[derive(Debug)]
pub struct ServerAnswer {
    /// The server's status, or 502 or 504.
    pub status: u16,
    /// Its body, or a text that says what failed.
    pub body: Bytes,
    /// Its type, if it gave one.
    pub content_type: Option<String>,
    /// Which counter it belongs to.
    pub end: ProxyEnd,
}

/// A shard's end of the queue.
#[derive(Clone)]
pub struct Outside {
    sender: RefCell<mpsc::Sender<Outgoing>>,
    has_oxend: bool,
    has_servers: bool,
}

impl Outside {
    /// Both ends; and what the far one serves.
    pub fn new(has_oxend: bool, has_servers: bool) -> (Self, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(QUEUE_DEPTH);
        let outside = Self {
            sender: RefCell::new(sender),
            has_oxend,
            has_servers,
        };
        (outside, receiver)
    }

    /// Nobody is there.
    pub fn none() -> Self {
        Self::new(false, false).0
    }

    /// Whether there is a chain daemon.
    pub(crate) const fn has_oxend(&self) -> bool {
        self.has_oxend
    }

    /// Whether servers are asked.
    pub(crate) const fn has_servers(&self) -> bool {
        self.has_servers
    }

    /// Asks the chain daemon.
    pub(crate) async fn ask_oxend(&self, endpoint: String, params: Value) -> OxendReply {
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing::Oxend {
            endpoint,
            params,
            reply,
        };
        self.send(outgoing, answer)
            .await
            .unwrap_or(OxendReply::NoReply)
    }

    /// Asks a server; `None` when too much is asked already.
    pub(crate) async fn ask_server(&self, server: Proxy, body: Bytes) -> Option<ServerAnswer> {
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing::Server {
            server,
            body,
            reply,
        };
        self.send(outgoing, answer).await
    }

    async fn send<T>(&self, outgoing: Outgoing, answer: oneshot::Receiver<T>) -> Option<T> {
        self.sender.borrow_mut().try_send(outgoing).ok()?;
        answer.await.ok()
    }
}
