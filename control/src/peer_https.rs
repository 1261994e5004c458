//! HTTPS to the other nodes.

use bytes::Bytes;
use cepa_wire::ServiceNode;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::http::request;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a peer's answer may take of memory, and hyper asks for at least: 8 KiB of headers.
const HEAD_SIZE_MAX: usize = 8 << 10;

/// What all connections to peers share.
pub(crate) struct PeerHttps {
    tls: TlsConnector,
}

impl PeerHttps {
    pub(crate) fn new() -> Self {
        Self {
            tls: TlsConnector::from(cepa_tls::node_client_config()),
        }
    }

    /// POSTs nothing; gives the head of the answer. The error says why there is none.
    pub(crate) async fn post(
        &self,
        peer: &ServiceNode,
        path: &str,
    ) -> Result<Response<()>, String> {
        let request = Request::post(path).header(CONTENT_LENGTH, 0);
        let answer = async |answer: Response<Incoming>| Ok(answer.map(drop));
        self.exchange(peer, request, answer).await
    }

    /// GETs a path; gives the status and a body of at most `size_max` bytes.
    pub(crate) async fn get(
        &self,
        peer: &ServiceNode,
        path: &str,
        size_max: usize,
    ) -> Result<(StatusCode, Bytes), String> {
        let answer = async |answer: Response<Incoming>| {
            let status = answer.status();
            let body = Limited::new(answer.into_body(), size_max).collect().await;
            Ok((status, body.map_err(describe)?.to_bytes()))
        };
        self.exchange(peer, Request::get(path), answer).await
    }

    async fn exchange<T>(
        &self,
        peer: &ServiceNode,
        request: request::Builder,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, String>,
    ) -> Result<T, String> {
        let stream = TcpStream::connect((peer.ip, peer.port))
            .await
            .map_err(describe)?;
        stream.set_nodelay(true).map_err(describe)?;
        let name = ServerName::IpAddress(peer.ip.into());
        let stream = self.tls.connect(name, stream).await.map_err(describe)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_SIZE_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(describe)?;
        let [major, minor, patch] = ServiceNode::VERSION_DEFAULT;
        let agent = format!("Oxen Storage Server/{major}.{minor}.{patch}");
        let request = request
            .header(HOST, peer.host_name())
            .header(USER_AGENT, agent)
            .body(Empty::<Bytes>::new())
            .map_err(describe)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(describe)?;
            read(answer).await
        };
        tokio::pin!(answered);
        tokio::select! {
            biased;
            answered = &mut answered => answered,
            // It may have ended because it had answered.
            ended = connection => match ended {
                Ok(()) => answered.await,
                Err(fault) => Err(describe(fault)),
            },
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn describe(fault: impl ToString) -> String {
    fault.to_string()
}
