//! A small HTTP/1.1 endpoint for the few who ask the control plane: one request a connection, and a
//! bound on everything that a stranger could make us hold.

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::debug;

/// Connections served at once. Those above are closed unanswered: the largest answer, a list of 2,000
/// nodes, is 1 MiB, so all of them together hold 32 MiB.
const CONNECTION_COUNT_MAX: usize = 32;
/// From the accept until the headers are there.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the accept until the answer is written: a slow reader does not keep its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Headers of real clients have some hundred bytes; hyper takes no less than 8 KiB.
const HEADER_SIZE_MAX: usize = 8 * 1024;
/// A JSON-RPC request has some hundred bytes, a list of 200 keys 14 KiB.
const BODY_SIZE_MAX: usize = 64 * 1024;
/// After a failed accept (no file descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address can't be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// Which address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A listener that does not answer yet: [`crate::seed::serve`] and [`crate::metrics::serve`] do.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// What is answered to one request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Reply {
    /// An error, in plain text.
    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self {
            status,
            content_type: "text/plain",
            body: Bytes::from_static(text.as_bytes()),
        }
    }
}

impl Endpoint {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that it took.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the future is dropped; that closes every connection.
    pub(crate) async fn serve<F>(self, answer: F) -> Infallible
    where
        F: Fn(&Method, &str, &[u8]) -> Reply + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    // Above the bound the stream is dropped, and so closed.
                    Ok((stream, _)) if connections.len() < CONNECTION_COUNT_MAX => {
                        let connection = serve_connection(stream, Arc::clone(&answer));
                        connections.spawn(tokio::time::timeout(CONNECTION_TIMEOUT, connection));
                    }
                    Ok(_) => debug!("endpoint is full"),
                    Err(fault) => {
                        debug!(%fault, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve_connection<F>(stream: TcpStream, answer: Arc<F>)
where
    F: Fn(&Method, &str, &[u8]) -> Reply,
{
    let service = service_fn(|request| respond(request, answer.as_ref()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_SIZE_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(fault) = served {
        debug!(%fault, "endpoint connection failed");
    }
}

async fn respond<F>(
    request: Request<Incoming>,
    answer: &F,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(&Method, &str, &[u8]) -> Reply,
{
    const TOO_LARGE: &str = "request is too large\n";
    let (head, body) = request.into_parts();
    let reply = if body.size_hint().lower() > BODY_SIZE_MAX as u64 {
        // Refused by what it announces, before it is sent.
        Reply::text(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE)
    } else {
        match Limited::new(body, BODY_SIZE_MAX).collect().await {
            Ok(body) => answer(&head.method, head.uri.path(), &body.to_bytes()),
            Err(fault) if fault.is::<LengthLimitError>() => {
                Reply::text(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE)
            }
            Err(_) => Reply::text(StatusCode::BAD_REQUEST, "request is cut short\n"),
        }
    };
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    Ok(response)
}
