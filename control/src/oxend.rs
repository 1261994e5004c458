//! The chain daemon of this node, `oxend` (`../shared/protocol/session-node.md`, 5.1 and "Obligations
//! towards `oxend`"): where the node's keys and the network view come from, and who wants to hear that
//! this node lives and which peers do.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn core::error::Error>> {
//! use cepa_control::oxend::{Bootstrap, Duties, OurNode, OxendAddress, OxendClient};
//!
//! let address: OxendAddress = "ipc:///var/lib/oxen/oxend.sock".parse()?;
//! let keys = cepa_control::oxend::fetch_keys(&address).await;
//! let client = OxendClient::new(address);
//! let handle = client.handle(); // for `ask`, cloned at will
//! let us = OurNode::new(&keys, 22_021, 22_020);
//! let bootstrap = Bootstrap::of_network(false);
//! let duties = Duties { us, peer_tests: None, bootstrap };
//! client.run(duties, |view| drop(view.nodes)).await
//! # }
//! ```

mod address;
mod bootstrap;
mod driver;
mod keys;
mod link;
mod lists;
mod pings;
mod probe;
mod replies;

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_wire::Ed25519PublicKey;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::reachability::{self, PeerTests};
use crate::standing::Standing;
pub use address::{OxendAddress, OxendAddressError};
pub use bootstrap::{Bootstrap, BootstrapNode, BootstrapNodeError};
pub use cepa_wire::oxend::OxendView;
use driver::{Ask, News};
pub use keys::fetch_keys;
pub use probe::{OxendProbe, probe};

/// How long oxend may take to answer: OMQ's own limit.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests that may wait to be sent: the node's own are a dozen, the others come from clients, who are
/// told to try again.
const ASK_COUNT_MAX: usize = 256;
/// News that may wait to be looked at: a thousand nodes may prove themselves at once.
const NEWS_COUNT_MAX: usize = 1024;
/// Largest parameters: those that name every node are 140 KB.
const PARAMS_SIZE_MAX: usize = 256 << 10;
/// What is shown of an error of oxend's.
const TEXT_SIZE_MAX: usize = 200;
/// Longest name of an endpoint: the longest known has 26 characters.
const ENDPOINT_SIZE_MAX: usize = 64;

/// Why oxend gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// There is no connection.
    #[error("oxend is not reachable")]
    Unreachable,
    /// Too many requests wait already.
    #[error("too many requests wait for oxend")]
    Busy,
    /// No answer came within [`ANSWER_TIMEOUT`].
    #[error("oxend did not answer in time")]
    Timeout,
    /// Oxend does not know the command, or does not let us use it.
    #[error("oxend does not know that command, or does not allow it")]
    Refused,
    /// The answer has not the form that answers have.
    #[error("oxend gave an answer that is none")]
    Malformed,
}

/// Who asks oxend. Cheap to clone; of use while [`OxendClient::run`] runs, from any thread and under any
/// executor: what knows of time is there.
#[derive(Clone, Debug)]
pub struct OxendHandle {
    asks: mpsc::Sender<Ask>,
    /// How often a connection came about, while there is one.
    connected: watch::Receiver<Option<u64>>,
}

/// What oxend and the peers are told of this node.
#[derive(Clone)]
pub struct OurNode {
    pub(crate) pubkey_ed25519: Ed25519PublicKey,
    pub(crate) pubkey_legacy: [u8; 32],
    pub(crate) x25519: X25519SecretKey,
    pub(crate) https_port: u16,
    pub(crate) omq_port: u16,
}

impl OurNode {
    /// A node with these keys that listens on these ports.
    pub fn new(keys: &NodeKeys, https_port: u16, omq_port: u16) -> Self {
        Self {
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_legacy: keys.legacy_public(),
            x25519: keys.x25519().clone(),
            https_port,
            omq_port,
        }
    }
}

/// What [`OxendClient::run`] does beside keeping the view.
pub struct Duties {
    /// What oxend is pinged with.
    pub us: OurNode,
    /// How peers are tested; `None` tests nobody, and nothing is said when nobody tests us.
    pub peer_tests: Option<PeerTests>,
    /// Who is asked when oxend knows too little.
    pub bootstrap: Bootstrap,
}

/// The connection to oxend, before it is run.
#[derive(Debug)]
pub struct OxendClient {
    address: OxendAddress,
    handle: OxendHandle,
    asks: mpsc::Receiver<Ask>,
    connected: watch::Sender<Option<u64>>,
    standing: Arc<Standing>,
}

impl OxendClient {
    /// Connects to nothing yet: [`Self::run`] does.
    pub fn new(address: OxendAddress) -> Self {
        let (asks_sender, asks) = mpsc::channel(ASK_COUNT_MAX);
        let (connected, receiver) = watch::channel(None);
        Self {
            address,
            handle: OxendHandle {
                asks: asks_sender,
                connected: receiver,
            },
            asks,
            connected,
            standing: Arc::new(Standing::new()),
        }
    }

    /// Who asks oxend.
    pub fn handle(&self) -> OxendHandle {
        self.handle.clone()
    }

    /// How the node stands, while this runs.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Connects and stays connected, pings, subscribes, tests peers, and publishes each new view of the
    /// network, until the future is dropped.
    pub async fn run(self, duties: Duties, publish: impl FnMut(OxendView)) -> ! {
        let (news_sender, mut news) = mpsc::channel::<News>(NEWS_COUNT_MAX);
        let (views, viewed) = watch::channel(None);
        let (handle, standing) = (self.handle, self.standing);
        let mut asks = self.asks;
        let Duties {
            us,
            peer_tests,
            bootstrap,
        } = duties;
        let driven = driver::drive(&self.address, &mut asks, &self.connected, &news_sender);
        let listener = lists::Listener {
            us: &us,
            bootstrap: &bootstrap,
            standing: &standing,
        };
        let listed = lists::keep(&handle, listener, &mut news, &views, publish);
        let tested = async {
            match peer_tests {
                Some(tests) => reachability::run(&handle, &us, tests, (viewed, &standing)).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            never = driven => never,
            never = pings::keep(&handle, &us, &standing) => never,
            never = watch_connections(handle.connections(), &standing) => never,
            never = listed => never,
            never = tested => never,
        }
    }
}

/// Tells when connections come and go.
async fn watch_connections(
    mut connections: watch::Receiver<Option<u64>>,
    standing: &Standing,
) -> ! {
    loop {
        let is_connected = connections.borrow_and_update().is_some();
        standing.handle_connected(is_connected);
        // The sender lives as long as whoever runs this.
        if connections.changed().await.is_err() {
            core::future::pending::<()>().await;
        }
    }
}

impl OxendHandle {
    /// Passes a client's request on: `rpc.<endpoint>` with `params`, null for none. Gives the status
    /// and the body, which is JSON with 200 and text with any other.
    pub async fn ask(&self, endpoint: &str, params: &Value) -> Result<(u16, Bytes), AskError> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if endpoint.len() > ENDPOINT_SIZE_MAX || !endpoint.bytes().all(is_name) {
            return Err(AskError::Refused);
        }
        self.call(&format!("rpc.{endpoint}"), params).await
    }

    /// Tells oxend how the test of a peer ended (`admin.report_peer_status`). Gives the status that
    /// oxend answered with: `OK` when it took the report.
    pub async fn report_peer_status(
        &self,
        pubkey_legacy: &[u8; 32],
        passed: bool,
    ) -> Result<String, AskError> {
        let report = json!({
            "type": "storage",
            "pubkey": hex::encode(pubkey_legacy),
            "passed": passed,
        });
        self.call_for_status("admin.report_peer_status", &report)
            .await
    }

    /// A request whose answer is a status in JSON.
    pub(crate) async fn call_for_status(
        &self,
        command: &str,
        params: &Value,
    ) -> Result<String, AskError> {
        let (status, body) = self.call(command, params).await?;
        if status != 200 {
            let text = body.get(..TEXT_SIZE_MAX).unwrap_or(&body);
            return Ok(format!("{status} {}", String::from_utf8_lossy(text)));
        }
        let body: Value = serde_json::from_slice(&body).map_err(|_| AskError::Malformed)?;
        let status = body.get("status").and_then(Value::as_str);
        status.map(str::to_owned).ok_or(AskError::Malformed)
    }

    /// A request that is answered with a status and a body.
    pub(crate) async fn call(
        &self,
        command: &str,
        params: &Value,
    ) -> Result<(u16, Bytes), AskError> {
        let params = match params {
            Value::Null => None,
            params => Some(Bytes::from(params.to_string())),
        };
        let mut parts = self.request(command, params).await?.into_iter();
        let status = parts.next().ok_or(AskError::Malformed)?;
        let status = core::str::from_utf8(&status)
            .ok()
            .and_then(|text| text.parse().ok());
        let body = parts.next().unwrap_or_default();
        Ok((status.ok_or(AskError::Malformed)?, body))
    }

    /// The parts of the answer to a request.
    pub(crate) async fn request(
        &self,
        command: &str,
        params: Option<Bytes>,
    ) -> Result<Vec<Bytes>, AskError> {
        if self.connected.borrow().is_none() {
            return Err(AskError::Unreachable);
        }
        if params
            .as_ref()
            .is_some_and(|params| params.len() > PARAMS_SIZE_MAX)
        {
            return Err(AskError::Refused);
        }
        let (reply, replied) = oneshot::channel();
        let ask = Ask {
            command: command.to_owned(),
            params,
            reply,
        };
        self.asks.try_send(ask).map_err(|_| AskError::Busy)?;
        // The end of the connection is the end of whoever was to answer.
        replied.await.unwrap_or(Err(AskError::Unreachable))
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connected.borrow().is_some()
    }

    /// The connections, as they come and go.
    pub(crate) fn connections(&self) -> watch::Receiver<Option<u64>> {
        self.connected.clone()
    }
}
