//! The HTTPS edge (`../shared/protocol/session-node.md`, 5.4).

mod body;
mod descriptors;
mod socket;

use core::convert::Infallible;
use core::pin::pin;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_meter::count;
use cepa_relay::counters::Via;
use cepa_wire::answer::Answer;
use futures_rustls::TlsAcceptor;
use futures_util::future::{Either, select};
use glommio::net::TcpStream;
use glommio::spawn_local;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use rustls::ServerConnection;

use crate::connections::{Phase, Seat};
use crate::door::Refused;
use crate::tile::Tile;
use crate::{onions, requests};
use body::{Body, SMALL_SIZE};
use socket::Socket;

/// Largest head of a request: clients send some hundred bytes.
const HEAD_SIZE_MAX: usize = 16 << 10;

/// Records of TLS that wait for the socket: two.
const TLS_OUTPUT_SIZE_MAX: usize = 32 << 10;

/// Serves a connection in a task of its own.
pub(crate) fn accept(tile: &Rc<Tile>, acceptor: &TlsAcceptor, stream: TcpStream) {
    // Who hung up already has no address.
    let Ok(address) = stream.peer_addr() else {
        return;
    };
    let caller = tile.caller(address);
    if !tile.door.admits_connection(caller) {
        count(&tile.counters.refused_overloaded);
        return;
    }
    let Some(seat) = tile.door.https.seat(caller).map(Rc::new) else {
        count(&tile.counters.https_refused);
        return;
    };
    count(&tile.counters.https_accepted);
    let (tile, acceptor) = (Rc::clone(tile), acceptor.clone());
    spawn_local(async move {
        let serving = serve_connection(&tile, &seat, acceptor, stream);
        match select(pin!(serving), pin!(seat.ended())).await {
            Either::Left((Some(()), _)) => {}
            Either::Left((None, _)) => count(&tile.counters.https_failed),
            Either::Right(_) => count(&tile.counters.https_evicted),
        }
    })
    .detach();
}

/// Every wait in here ends with the connection's seat.
async fn serve_connection(
    tile: &Rc<Tile>,
    seat: &Rc<Seat>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let bounded = |tls: &mut ServerConnection| tls.set_buffer_limit(Some(TLS_OUTPUT_SIZE_MAX));
    let stream = acceptor.accept_with(stream, bounded).await.ok()?;
    seat.enter(Phase::Idle);
    let service = service_fn(|request| async move {
        seat.handle_head();
        let response = answer(tile, seat, request).await;
        Ok::<_, Infallible>(hold_answer(tile, seat, response))
    });
    http1::Builder::new()
        .max_buf_size(HEAD_SIZE_MAX)
        .keep_alive(true)
        .serve_connection(Socket::new(stream, Rc::clone(seat)), service)
        .await
        .ok()
}

async fn answer(tile: &Rc<Tile>, seat: &Seat, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key("x-loki-long-poll") {
        return text(StatusCode::GONE, "long polling is no longer supported");
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/onion_req/v2") => match take_body(tile, seat, request).await {
            Ok(body) => {
                let returned = onions::enter(tile, &body.bytes).await;
                let mut response = response(returned.status, "text/plain", returned.body);
                let told = returned.content_type.as_deref().map(HeaderValue::from_str);
                if let Some(Ok(content_type)) = told {
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                }
                response
            }
            // What an onion is told when its guard has no time for it, whatever the reason.
            Err((429, _)) => refuse(Refused::Busy.reply()),
            Err(refused) => refuse(refused),
        },
        (&Method::POST, "/storage_rpc/v1") => match take_body(tile, seat, request).await {
            Ok(body) => respond(requests::serve_json(tile, Via::Https, &body.bytes).await),
            Err(refused) => refuse(refused),
        },
        (&Method::POST, "/ping_test/v1") => pong(tile),
        (&Method::GET, "/get_stats/v1") => {
            let [major, minor, patch] = cepa_swarm::limits::VERSION;
            let body = format!("{{\"version\":\"{major}.{minor}.{patch}\"}}");
            response(200, "application/json", body.into())
        }
        (&Method::GET, descriptors::OWN) => descriptors::own(tile, seat),
        (&Method::GET, descriptors::ALL) => descriptors::all(tile, seat),
        (method, path) => not_found(method, path),
    }
}

/// The body of a request that is let in; else status and text. Who is not let in costs no memory.
async fn take_body(
    tile: &Tile,
    seat: &Seat,
    request: Request<Incoming>,
) -> Result<Body, (u16, &'static str)> {
    tile.admit_client(seat).map_err(Refused::reply)?;
    let body = body::read(tile, seat, request.into_body()).await?;
    seat.enter(Phase::Serving);
    Ok(body)
}

/// Counts an answer's memory until it is taken; without room for it the client is told to come back.
fn hold_answer(tile: &Tile, seat: &Seat, response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if response.status().is_success() {
        seat.handle_served();
    }
    let size = response.body().size_hint().exact().unwrap_or(0);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut held = tile.door.output.hold(seat.caller.share());
    let is_held = size <= SMALL_SIZE || held.resize(size);
    seat.handle_answer(Some(held));
    if is_held {
        return response;
    }
    count(&tile.counters.refused_busy);
    refuse(Refused::Busy.reply())
}

fn refuse((status, reason): (u16, &'static str)) -> Response<Full<Bytes>> {
    response(status, "text/plain", Bytes::from_static(reason.as_bytes()))
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

fn not_found(method: &Method, path: &str) -> Response<Full<Bytes>> {
    let method = method.as_str().to_ascii_lowercase();
    text(StatusCode::NOT_FOUND, &format!("{method} {path} Not Found"))
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
