//! An HTTPS server on loopback that answers as late as the test says, and writes down how late that was.

use core::convert::Infallible;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// How the server answers.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Each request after so long, however many there are.
    After(Duration),
    /// At once, but for a while nobody: from so long after the first request, for so long.
    Stall(Duration, Duration),
    /// One request after the other, each takes so long.
    Serial(Duration),
    /// At once, but each so-manieth with a 503.
    Refuse(usize),
    /// Never.
    Never,
}

/// What a request was made to wait, by the server's own clock.
#[derive(Clone, Copy)]
pub(crate) struct Answered {
    /// How late it was answered on purpose.
    pub(crate) delay: Duration,
    pub(crate) status: u16,
    pub(crate) from: Ipv4Addr,
}

#[derive(Default)]
struct State {
    first: Option<Instant>,
    /// When the last of a row is done.
    free_at: Option<Instant>,
    count: usize,
    answered: Vec<Answered>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddrV4,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Runs until the test ends.
    pub(crate) fn start(manner: Manner) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (sender, receiver) = mpsc::sync_channel(1);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let tls = acceptor();
                loop {
                    let (stream, peer) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(serve(
                        tls.clone(),
                        stream,
                        peer,
                        manner,
                        Arc::clone(&shared),
                    ));
                }
            });
        });
        let SocketAddr::V4(address) = receiver.recv().unwrap() else {
            panic!("it is bound to an IPv4 address");
        };
        Self { address, state }
    }

    /// What was answered so far.
    pub(crate) fn answered(&self) -> Vec<Answered> {
        self.state.lock().unwrap().answered.clone()
    }

    /// Delays in microseconds, ascending.
    pub(crate) fn delays(&self) -> Vec<u64> {
        let answered = self.answered();
        let micros = |it: &Answered| u64::try_from(it.delay.as_micros()).unwrap();
        let mut delays: Vec<_> = answered.iter().map(micros).collect();
        delays.sort_unstable();
        delays
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    manner: Manner,
    state: Arc<Mutex<State>>,
) {
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let SocketAddr::V4(peer) = peer else { return };
    let answer = |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            request.into_body().collect().await.unwrap();
            let (until, answered) = decide(manner, *peer.ip(), &state);
            tokio::time::sleep_until(until.into()).await;
            state.lock().unwrap().answered.push(answered);
            let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
            *response.status_mut() = answered.status.try_into().unwrap();
            Ok::<_, Infallible>(response)
        }
    };
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    // Whoever asked is gone: the test is over.
    drop(served.await);
}

#[expect(
    clippy::disallowed_methods,
    reason = "it tells delays by its own clock"
)]
fn decide(manner: Manner, from: Ipv4Addr, state: &Mutex<State>) -> (Instant, Answered) {
    let now = Instant::now();
    let mut state = state.lock().unwrap();
    let first = *state.first.get_or_insert(now);
    state.count += 1;
    let until = match manner {
        Manner::After(delay) => now + delay,
        Manner::Stall(begin, span) => {
            let (begin, end) = (first + begin, first + begin + span);
            if now >= begin { now.max(end) } else { now }
        }
        Manner::Serial(span) => {
            let until = state.free_at.map_or(now, |at| at.max(now)) + span;
            state.free_at = Some(until);
            until
        }
        Manner::Refuse(_) => now,
        Manner::Never => now + Duration::from_hours(1),
    };
    let is_refused = matches!(manner, Manner::Refuse(nth) if state.count.is_multiple_of(nth));
    let answered = Answered {
        delay: until - now,
        status: if is_refused { 503 } else { 200 },
        from,
    };
    (until, answered)
}
