//! Requests over HTTPS: to a node itself, or an onion to its guard.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use cepa_client::onion::Onion;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::clock;
use crate::engine::{Connection, Fault};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer: what nodes send at most.
const ANSWER_SIZE_MAX: usize = 16 << 20;

/// A request to a node.
pub struct Post {
    /// Whom it goes to.
    pub address: SocketAddrV4,
    /// Where.
    pub path: &'static str,
    /// Its body, made and signed.
    pub body: Bytes,
    /// What opens the answer if it is an onion's.
    pub onion: Option<Onion>,
}

/// One request at a time; a connection to each node that it asked is kept.
pub struct HttpsConnection {
    tls: TlsConnector,
    source: Option<Ipv4Addr>,
    kept: BTreeMap<SocketAddrV4, SendRequest<Full<Bytes>>>,
}

impl HttpsConnection {
    /// Whose sockets are bound to `source`, if there is one.
    pub fn new(source: Option<Ipv4Addr>) -> Self {
        Self {
            tls: TlsConnector::from(cepa_tls::node_client_config()),
            source,
            kept: BTreeMap::new(),
        }
    }

    /// Opens connections to nodes before they are asked.
    pub async fn open(&mut self, nodes: &[SocketAddrV4]) -> Result<(), Fault> {
        for node in nodes {
            let opened = self.connect(*node).await?;
            self.kept.insert(*node, opened);
        }
        Ok(())
    }

    async fn connect(&self, node: SocketAddrV4) -> Result<SendRequest<Full<Bytes>>, Fault> {
        let connecting = async {
            let socket = TcpSocket::new_v4().map_err(broken)?;
            if let Some(source) = self.source {
                socket.bind((source, 0).into()).map_err(broken)?;
            }
            let stream = socket.connect(node.into()).await.map_err(broken)?;
            stream.set_nodelay(true).map_err(broken)?;
            let name = ServerName::IpAddress((*node.ip()).into());
            let stream = self.tls.connect(name, stream).await.map_err(broken)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
            // It ends when the sender is dropped, or with an error that the sender then tells.
            tokio::spawn(async move { drop(connection.await) });
            Ok(sender)
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_| Err(broken(format!("no connection to {node} in time"))))
    }

    /// Sends a body and gives status, body, and when all of it was there.
    pub async fn post(
        &mut self,
        node: SocketAddrV4,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes, Instant), Fault> {
        let mut kept = self.kept.remove(&node);
        // One that the node has closed while it was idle is no failure of a request.
        if kept.as_mut().is_some_and(|kept| kept.is_closed()) {
            kept = None;
        }
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.connect(node).await?,
        };
        let request = Request::post(path)
            .header(HOST, node.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        sender.ready().await.map_err(broken)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX);
        let body = body.collect().await.map_err(broken)?.to_bytes();
        let at = clock::now();
        self.kept.insert(node, sender);
        Ok((status, body, at))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn broken(fault: impl ToString) -> Fault {
    Fault::Connection(fault.to_string())
}

impl Connection for HttpsConnection {
    type Request = Post;

    /// The time is that of the last byte; an onion's answer is opened after it.
    async fn ask(&mut self, request: Post) -> Result<Instant, Fault> {
        let (status, body, at) = self
            .post(request.address, request.path, request.body)
            .await?;
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        if status != 200 {
            return Err(Fault::Status(status, text(&body)));
        }
        if let Some(onion) = request.onion {
            let opened = onion.open_answer(&body);
            let opened = opened.map_err(|fault| Fault::Malformed(fault.to_string()))?;
            if opened.status != 200 {
                return Err(Fault::Status(opened.status, opened.text()));
            }
        }
        Ok(at)
    }
}
