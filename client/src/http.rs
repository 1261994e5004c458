//! HTTP/1.1 to nodes and seeds, with connections that are kept.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: a relay waits 30 s for the next.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// Largest answer: what nodes send at most.
const ANSWER_SIZE_MAX: usize = 16 << 20;
/// Connections that are kept: two guards and some nodes that are asked directly.
const CONNECTION_COUNT_MAX: usize = 32;

/// What a request over HTTP gave, or why it gave nothing.
pub(crate) type HttpResult = Result<(u16, Bytes), String>;

type Connection = SendRequest<Full<Bytes>>;

/// A client that keeps its connections.
pub(crate) struct Http {
    tls: TlsConnector,
    nodes: BTreeMap<SocketAddrV4, Connection>,
}

impl Http {
    pub(crate) fn new() -> Self {
        Self {
            tls: TlsConnector::from(cepa_tls::node_client_config()),
            nodes: BTreeMap::new(),
        }
    }

    /// POSTs to a node. A kept connection that turns out to be dead is replaced once.
    pub(crate) async fn post_node(
        &mut self,
        address: SocketAddrV4,
        path: &'static str,
        body: Bytes,
    ) -> HttpResult {
        self.ask_node(address, (Method::POST, path), body).await
    }

    /// GETs from a node, as [`Self::post_node`].
    pub(crate) async fn get_node(
        &mut self,
        address: SocketAddrV4,
        path: &'static str,
    ) -> HttpResult {
        self.ask_node(address, (Method::GET, path), Bytes::new())
            .await
    }

    async fn ask_node(
        &mut self,
        address: SocketAddrV4,
        what: (Method, &str),
        body: Bytes,
    ) -> HttpResult {
        let host = address.to_string();
        if let Some(mut kept) = self.nodes.remove(&address)
            && let Ok(answer) = send(&mut kept, &host, what.clone(), body.clone()).await
        {
            self.keep(address, kept);
            return Ok(answer);
        }
        let mut connection = self.connect_node(address).await?;
        let answer = send(&mut connection, &host, what, body).await?;
        self.keep(address, connection);
        Ok(answer)
    }

    fn keep(&mut self, address: SocketAddrV4, connection: Connection) {
        if self.nodes.len() >= CONNECTION_COUNT_MAX {
            self.nodes.pop_first();
        }
        self.nodes.insert(address, connection);
    }

    async fn connect_node(&self, address: SocketAddrV4) -> Result<Connection, String> {
        let name = ServerName::IpAddress((*address.ip()).into());
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(describe)?;
            stream.set_nodelay(true).map_err(describe)?;
            let stream = self.tls.connect(name, stream).await.map_err(describe)?;
            start(TokioIo::new(stream)).await
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(NO_CONNECTION.to_owned()))
    }

    /// POSTs to a seed, by its URL.
    pub(crate) async fn post_seed(&self, url: &str, path: &str, body: Bytes) -> HttpResult {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let host = uri.host().ok_or("its URL names no host")?.to_owned();
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("its URL must begin with http:// or https://".to_owned()),
        };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), port))
                .await
                .map_err(describe)?;
            if !is_https {
                return start(TokioIo::new(stream)).await;
            }
            let name = ServerName::try_from(host.clone()).map_err(describe)?;
            start(TokioIo::new(
                self.tls.connect(name, stream).await.map_err(describe)?,
            ))
            .await
        };
        let connection = timeout(CONNECT_TIMEOUT, connecting).await;
        let mut connection = connection.unwrap_or_else(|_| Err(NO_CONNECTION.to_owned()))?;
        let host = format!("{host}:{port}");
        send(&mut connection, &host, (Method::POST, path), body).await
    }
}

const NO_CONNECTION: &str = "no connection in time";

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn describe(error: impl ToString) -> String {
    error.to_string()
}

async fn start<S>(stream: S) -> Result<Connection, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await.map_err(describe)?;
    // It ends when the sender is dropped, or with an error that the sender then tells.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn send(
    connection: &mut Connection,
    host: &str,
    (method, path): (Method, &str),
    body: Bytes,
) -> HttpResult {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, "WhatsApp")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(describe)?;
    let answering = async {
        connection.ready().await.map_err(describe)?;
        let answer = connection.send_request(request).await.map_err(describe)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(describe)?.to_bytes()))
    };
    timeout(ANSWER_TIMEOUT, answering)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
