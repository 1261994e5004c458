//! The HTTPS edge (`../shared/protocol/session-node.md`, 5.4).

mod socket;

use core::convert::Infallible;
use core::time::Duration;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_relay::counters::count;
use cepa_wire::answer::Answer;
use cepa_wire::request::ClientRequest;
use futures_rustls::TlsAcceptor;
use glommio::net::TcpStream;
use glommio::spawn_local;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::tile::Tile;
use crate::wait::within;
use crate::{onions, requests};
use socket::Socket;

/// A TLS handshake takes at most this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that neither sends nor takes a byte for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// A body arrives within this.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest body, as in the reference.
pub(crate) const BODY_SIZE_MAX: usize = 10 << 20;
/// Largest head of a request: clients send some hundred bytes.
const HEAD_SIZE_MAX: usize = 16 << 10;
/// Connections of one executor. Each costs some 50 KiB of buffers: 200 MiB in all.
const CONNECTION_COUNT_MAX: usize = 4096;

/// Serves a connection in a task of its own.
pub(crate) fn accept(tile: &Rc<Tile>, acceptor: &TlsAcceptor, stream: TcpStream) {
    if tile.https_count.get() >= CONNECTION_COUNT_MAX {
        count(&tile.counters.https_refused);
        return;
    }
    count(&tile.counters.https_accepted);
    tile.https_count.update(|count| count + 1);
    let (tile, acceptor) = (Rc::clone(tile), acceptor.clone());
    spawn_local(async move {
        if serve_connection(&tile, acceptor, stream).await.is_none() {
            count(&tile.counters.https_failed);
        }
        tile.https_count.update(|count| count - 1);
    })
    .detach();
}

async fn serve_connection(tile: &Rc<Tile>, acceptor: TlsAcceptor, stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(IDLE_TIMEOUT)).ok()?;
    let stream = within(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await?
        .ok()?;
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(tile, request).await) });
    http1::Builder::new()
        .max_buf_size(HEAD_SIZE_MAX)
        .keep_alive(true)
        .serve_connection(Socket::new(stream), service)
        .await
        .ok()
}

async fn answer(tile: &Rc<Tile>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key("x-loki-long-poll") {
        return text(StatusCode::GONE, "long polling is no longer supported");
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/onion_req/v2") => match read_body(tile, request).await {
            Ok(body) => {
                let returned = onions::enter(tile, &body).await;
                let mut response = response(returned.status, "text/plain", returned.body);
                let told = returned.content_type.as_deref().map(HeaderValue::from_str);
                if let Some(Ok(content_type)) = told {
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                }
                response
            }
            Err(refused) => refused,
        },
        (&Method::POST, "/storage_rpc/v1") => match read_body(tile, request).await {
            Ok(body) => respond(match ClientRequest::parse_json(&body) {
                Ok(request) => requests::serve_client(tile, request).await,
                Err(error) => requests::refuse(tile, error),
            }),
            Err(refused) => refused,
        },
        (&Method::POST, "/ping_test/v1") => pong(tile),
        (&Method::GET, "/get_stats/v1") => {
            let [major, minor, patch] = cepa_swarm::limits::VERSION;
            let body = format!("{{\"version\":\"{major}.{minor}.{patch}\"}}");
            response(200, "application/json", body.into())
        }
        (method, path) => {
            let method = method.as_str().to_ascii_lowercase();
            text(StatusCode::NOT_FOUND, &format!("{method} {path} Not Found"))
        }
    }
}

/// Reads a body within its bounds: its size, its time, and the memory that all bodies share.
async fn read_body(
    tile: &Rc<Tile>,
    request: Request<Incoming>,
) -> Result<Bytes, Response<Full<Bytes>>> {
    let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, "request body is too large");
    let announced = request.body().size_hint();
    let size_max = announced
        .upper()
        .and_then(|size| usize::try_from(size).ok());
    let size_max = size_max.unwrap_or(BODY_SIZE_MAX);
    if size_max > BODY_SIZE_MAX {
        return Err(too_large());
    }
    let Some(_reserved) = tile.reserve_body(size_max) else {
        count(&tile.counters.refused_busy);
        return Err(text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Server busy, try again later",
        ));
    };
    let body = Limited::new(request.into_body(), size_max);
    match within(BODY_TIMEOUT, body.collect()).await {
        Some(Ok(body)) => Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Some(Err(_)) => Err(text(StatusCode::BAD_REQUEST, "request body is incomplete")),
        None => Err(text(
            StatusCode::REQUEST_TIMEOUT,
            "request body is too slow",
        )),
    }
}

/// The reachability test of other nodes: proves which node answers here.
fn pong(tile: &Tile) -> Response<Full<Bytes>> {
    count(&tile.counters.ping_https);
    let mut response = response(200, "text/plain", Bytes::new());
    let key = STANDARD.encode(tile.keys.legacy_public());
    if let Ok(value) = HeaderValue::from_str(&key) {
        response.headers_mut().insert("X-Oxen-Snode-Pubkey", value);
    }
    response
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let status = answer.status;
    let (content_type, body) = answer.into_http_body();
    response(status, content_type, body)
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(
        status.as_u16(),
        "text/plain",
        Bytes::copy_from_slice(text.as_bytes()),
    )
}

fn response(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        SERVER,
        HeaderValue::from_static("Oxen Storage Server/2.11.0"),
    );
    response
}
