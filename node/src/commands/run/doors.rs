//! What runs beside the shards on tokio: the QUIC listener, whose requests enter the shards, and what
//! shards ask outside: the chain daemon, and servers that onions are for.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use cepa_control::oxend::{AskError, OxendHandle};
use cepa_crypto::Ed25519SecretKey;
use cepa_edge::proxy::{ProxyRequest, ServerProxy};
use cepa_edge::quic::reply;
use cepa_edge::quic::{self, Bind, Endpoints, Peer, Reply, Running, Settings};
use cepa_host::{Entered, Entering, Gate, Outgoing, ServerAnswer};
use cepa_meter::count;
use cepa_relay::Counters;
use cepa_swarm::monitor::Subscriber;
use cepa_swarm::oxend::OxendReply;
use cepa_wire::request::ClientRequest;
use futures_channel::mpsc::Receiver;
use futures_channel::oneshot;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::failure::Failure;

/// Numbers of QUIC connections are told from those of OMQ links by this bit.
const QUIC_CONNECTION: u64 = 1 << 63;

/// Who is asked for what shards ask.
pub(crate) struct Asked {
    /// The chain daemon.
    pub(crate) oxend: Option<OxendHandle>,
    /// Servers.
    pub(crate) servers: ServerProxy,
}

/// What runs beside the shards.
pub(crate) enum Doors {
    /// The QUIC listener, whose thread carries what shards ask too.
    Quic(Running),
    /// Only what shards ask, on a thread that ends when the sender is dropped: what asks may outlive the
    /// shards.
    Outside(JoinHandle<()>, oneshot::Sender<()>),
}

impl Doors {
    /// Opens the QUIC door at `address`, or none, and serves what shards ask.
    pub(crate) fn open(
        address: Option<SocketAddr>,
        key: &Ed25519SecretKey,
        endpoints: QuicEndpoints,
        asking: (Receiver<Outgoing>, Asked),
    ) -> Result<Self, Failure> {
        let (outgoing, asked) = asking;
        let serving = serve_outside(outgoing, asked);
        if let Some(address) = address {
            let bind = match address.ip() {
                ip if ip.is_unspecified() => Bind::DualStack(address.port()),
                _ => Bind::Address(address),
            };
            let running =
                quic::start(&Settings::new(bind), key, endpoints).map_err(Failure::new)?;
            running.runtime().spawn(serving);
            return Ok(Self::Quic(running));
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|fault| {
                Failure::new(format!(
                    "cannot start the runtime beside the shards: {fault}"
                ))
            })?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("outside".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serving => {}
                        _ = stopped => {}
                    }
                });
                // Looking up a name blocks, for as long as it likes.
                runtime.shutdown_background();
            })
            .map_err(|fault| Failure::new(format!("cannot start a thread: {fault}")))?;
        Ok(Self::Outside(thread, stop))
    }

    /// What the QUIC door counts, if there is one.
    pub(crate) fn counters(&self) -> Option<Arc<quic::Counters>> {
        match self {
            Self::Quic(running) => Some(Arc::clone(running.counters())),
            Self::Outside(..) => None,
        }
    }

    /// Closes the doors. The shards have stopped.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Self::Quic(running) => {
                running.stop();
                running.join();
                Ok(())
            }
            Self::Outside(thread, stop) => {
                drop(stop);
                thread
                    .join()
                    .map_err(|_| Failure::new("the thread beside the shards ended badly"))
            }
        }
    }
}

/// Answers what shards ask, each in a task of its own, until they are gone.
async fn serve_outside(mut outgoing: Receiver<Outgoing>, asked: Asked) {
    while let Some(request) = outgoing.next().await {
        match request {
            Outgoing::Oxend {
                endpoint,
                params,
                reply,
            } => {
                let oxend = asked.oxend.clone();
                tokio::spawn(async move {
                    drop(reply.send(ask_oxend(oxend, &endpoint, &params).await));
                });
            }
            Outgoing::Server {
                server,
                body,
                reply,
            } => {
                let servers = asked.servers.clone();
                tokio::spawn(async move {
                    let answer = servers.fetch(ProxyRequest { server, body }).await;
                    drop(reply.send(ServerAnswer {
                        status: answer.status,
                        body: answer.body,
                        content_type: answer.content_type,
                        end: answer.end,
                    }));
                });
            }
        }
    }
}

async fn ask_oxend(oxend: Option<OxendHandle>, endpoint: &str, params: &Value) -> OxendReply {
    let Some(oxend) = oxend else {
        return OxendReply::NoReply;
    };
    match oxend.ask(endpoint, params).await {
        Ok((status, body)) => {
            let parts = [Bytes::from(status.to_string()), body];
            OxendReply::parse(Some(&parts))
        }
        Err(AskError::Malformed) => OxendReply::Unparsable,
        Err(_) => OxendReply::NoReply,
    }
}

/// What QUIC streams ask goes to the shards.
pub(crate) struct QuicEndpoints {
    gate: Gate,
    counters: Arc<Counters>,
}

impl QuicEndpoints {
    pub(crate) const fn new(gate: Gate, counters: Arc<Counters>) -> Self {
        Self { gate, counters }
    }

    /// What a shard answers; `None` when it has too much to do.
    async fn enter<T>(
        &self,
        from: IpAddr,
        request: impl FnOnce(oneshot::Sender<T>) -> Entering,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        if !self.gate.enter(Entered { from, request }) {
            return None;
        }
        answer.await.ok()
    }
}

fn busy() -> Reply {
    reply::bare_reply(503, Bytes::from_static(b"Server busy, try again later"))
}

impl Endpoints for QuicEndpoints {
    async fn call(&self, peer: Peer, endpoint: String, body: Bytes) -> Reply {
        let from = peer.address().ip();
        match endpoint.as_str() {
            "snode_ping" => {
                count(&self.counters.ping_quic);
                Reply::Ok(reply::PONG)
            }
            "onion_req" => {
                let entering = |reply| Entering::Onion { body, reply };
                let answer = self.enter(from, entering).await;
                answer.map_or_else(busy, |(status, body)| reply::bare_reply(status, body))
            }
            "monitor" => {
                let connection = QUIC_CONNECTION | peer.id();
                let subscriber: Arc<dyn Subscriber> = Arc::new(PeerSubscriber(peer));
                let entering = |reply| Entering::Monitor {
                    body,
                    connection,
                    subscriber,
                    reply,
                };
                self.enter(from, entering)
                    .await
                    .map_or_else(busy, Reply::Ok)
            }
            method if ClientRequest::is_method(method) => {
                let entering = |reply| Entering::Client {
                    method: endpoint,
                    params: body,
                    reply,
                };
                let answer = self.enter(from, entering).await;
                answer.map_or_else(busy, |(answer, encoding)| reply::reply_of(answer, encoding))
            }
            other => reply::no_such_endpoint(other),
        }
    }

    fn is_idempotent(&self, endpoint: &str, _: &[u8]) -> bool {
        matches!(
            endpoint,
            "snode_ping"
                | "info"
                | "retrieve"
                | "get_expiries"
                | "get_swarm"
                | "get_snodes_for_pubkey"
                | "revoked_subaccounts"
                | "oxend_request"
                | "active_nodes_bin"
        )
    }
}

/// A QUIC connection that is told of new messages.
struct PeerSubscriber(Peer);

impl Subscriber for PeerSubscriber {
    fn notify(&self, notification: Bytes) -> bool {
        self.0.push("notify", &notification).is_ok()
    }

    fn end(&self, mailbox: Bytes) {
        // A client that misses it learns so when it renews.
        let _is_room = self.0.push("monitor_ended", &mailbox).is_ok();
    }

    fn is_gone(&self) -> bool {
        self.0.is_ended()
    }
}
