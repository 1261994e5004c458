//! Passing an onion on to a server: a POST of the whole opened layer, whose answer goes back as it is
//! (`session-client.md`, 4.5).
//!
//! As the reference does: certificates of https servers are verified against the roots of the machine
//! (its libcurl is asked for nothing else), redirects are not followed, all has to be over in 25 s.
//! Unlike it: only hosts of the open internet are asked ([`guard::is_global`]), and an answer is
//! bounded. HTTP/1.1 only, and no compression: what servers answer is sealed.

pub mod guard;
mod pool;

use core::net::SocketAddr;
use core::pin::Pin;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use cepa_relay::onion::ProxyEnd;
use cepa_wire::host::Host;
use cepa_wire::onion::Proxy;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, IpAddr as ServerAddress, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::ledger::{Charge, Ledger};
use guard::Exceptions;
use pool::{Origin, Pool, Sender};

/// How long all of it may take (the reference's `ONION_URL_TIMEOUT`).
pub const TIMEOUT: Duration = Duration::from_secs(25);
/// Largest answer, as of every body.
pub const ANSWER_SIZE_MAX: usize = 10 << 20;
/// Longest `Content-Type` that is passed back, in bytes: the longest known has 40.
const CONTENT_TYPE_SIZE_MAX: usize = 256;
/// Largest head of an answer, and what is read at once.
const READ_SIZE_MAX: usize = 64 << 10;
/// Addresses of one host that are tried: two of each family, and as many again.
const ADDRESS_COUNT_MAX: usize = 8;
/// How long one of them may take to accept: with two dead ones there is time for a third.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Look-ups at once: each holds a thread for as long as a name server is silent.
const LOOKUP_COUNT_MAX: usize = 32;

/// How servers are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long all of a request may take.
    pub timeout: Duration,
    /// Servers to be asked although their address is not global: `ip:port`, or a host's name, which
    /// may then lead anywhere. For labs.
    pub exceptions: Vec<String>,
    /// Root certificates besides those of the machine. For labs.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Requests under way: each holds a socket and, at worst, 20 MiB of the bytes below.
    pub request_count_max: usize,
    /// Requests under way to one server, so that a slow one leaves room for the others.
    pub request_per_server_count_max: usize,
    /// Bytes of bodies held, of all requests and answers under way.
    pub held_size_max: usize,
    /// The reported version, in `User-Agent`.
    pub version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            exceptions: Vec::new(),
            extra_roots: Vec::new(),
            request_count_max: 512,
            request_per_server_count_max: 256,
            held_size_max: 256 << 20,
            version: "2.11.0".to_owned(),
        }
    }
}

/// Why no proxy was made: the settings are at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Neither address with port nor name.
    #[error("{0:?} is neither ip:port nor a host's name")]
    Exception(String),
    /// Not a certificate.
    #[error("an extra root certificate is unreadable: {0}")]
    Root(String),
    /// A version that can't stand in a header.
    #[error("the version {0:?} can't stand in a header")]
    Version(String),
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// What an onion asks for.
#[derive(Clone, Debug)]
pub struct ProxyRequest {
    /// The server.
    pub server: Proxy,
    /// The whole opened layer.
    pub body: Bytes,
}

/// What goes back to the client, in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAnswer {
    /// The server's status, or 502 or 504 when there is none of it.
    pub status: u16,
    /// The server's body, or a text that says what failed.
    pub body: Bytes,
    /// The server's `Content-Type`, if it gave one of visible ASCII.
    pub content_type: Option<String>,
    /// Which counter it belongs to.
    pub end: ProxyEnd,
}

/// Addresses that were looked up, on their way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Who knows the addresses of names. Asked once for each connection: what it gives is what is checked,
/// and what is connected to, so that a name that changes between the two gains nothing.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`, each with `port`.
    fn resolve<'a>(&'a self, name: &'a str, port: u16) -> Resolving<'a>;
}

/// The machine's own resolver.
#[derive(Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUP_COUNT_MAX)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move {
            let closed = |_| io::Error::other("resolver is closed");
            let permit = Arc::clone(&self.lookups).acquire_owned().await;
            let permit = permit.map_err(closed)?;
            let name = name.to_owned();
            let look_up = move || {
                // Held by the thread: who asked may have given up long before.
                let _permit = permit;
                let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port));
                found.map(Iterator::collect)
            };
            tokio::task::spawn_blocking(look_up).await?
        })
    }
}

/// What failed. The texts go to clients, and name nothing that only this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum FetchError {
    #[error("Invalid server address")]
    Host,
    // One text for both: whether a name leads inside is nobody's business.
    #[error("Could not resolve host")]
    Unresolved,
    #[error("Could not resolve host")]
    NotGlobal,
    #[error("Too many requests to this server are under way")]
    Busy,
    #[error("Could not connect to server")]
    Connect,
    #[error("The server's certificate could not be verified, or TLS failed")]
    Tls,
    #[error("The server ended the connection")]
    Ended,
    #[error("The server redirects, which is not followed")]
    Redirect,
    #[error("The server's answer is too large")]
    TooLarge,
    #[error("The server's answer is malformed")]
    Malformed,
    #[error("Timeout was reached")]
    Timeout,
}

impl FetchError {
    fn answer(self) -> ProxyAnswer {
        let (status, end) = match self {
            Self::Timeout => (504, ProxyEnd::TimedOut),
            Self::Host | Self::NotGlobal | Self::Busy => (502, ProxyEnd::Refused),
            _ => (502, ProxyEnd::Failed),
        };
        ProxyAnswer {
            status,
            body: self.to_string().into(),
            content_type: Some("text/plain".to_owned()),
            end,
        }
    }
}

/// Asks servers. Cheap to clone; its futures run on a tokio runtime.
#[derive(Clone)]
pub struct ServerProxy {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    exceptions: ArcSwap<Exceptions>,
    resolver: Box<dyn Resolve>,
    tls: TlsConnector,
    root_count: usize,
    user_agent: HeaderValue,
    pool: Arc<Pool>,
    held: Arc<Ledger>,
}

impl ServerProxy {
    /// One that resolves names as the machine does. Reads the machine's root certificates.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        Self::with_resolver(settings, SystemResolver::default())
    }

    /// One that resolves names with `resolver`.
    pub fn with_resolver(
        settings: Settings,
        resolver: impl Resolve,
    ) -> Result<Self, SettingsError> {
        let exceptions = read_exceptions(&settings.exceptions)?;
        let (tls, root_count) = tls_config(&settings.extra_roots)?;
        let user_agent = format!("Oxen Storage Server/{}", settings.version);
        let user_agent = HeaderValue::try_from(user_agent)
            .map_err(|_| SettingsError::Version(settings.version.clone()))?;
        let shared = Shared {
            exceptions: ArcSwap::from_pointee(exceptions),
            resolver: Box::new(resolver),
            tls: TlsConnector::from(Arc::new(tls)),
            root_count,
            user_agent,
            pool: Arc::default(),
            held: Ledger::new(settings.held_size_max),
            settings,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Changes which servers may be asked although their address is not global: of connections that
    /// are made from now on.
    pub fn set_exceptions(&self, exceptions: &[String]) -> Result<(), SettingsError> {
        let exceptions = read_exceptions(exceptions)?;
        self.shared.exceptions.store(Arc::new(exceptions));
        Ok(())
    }

    /// How many root certificates https servers are verified by. With none, every https server fails:
    /// say so at start (`apt-get install ca-certificates`, or `SSL_CERT_FILE`).
    pub fn root_count(&self) -> usize {
        self.shared.root_count
    }

    /// Asks a server. Ends within the settings' timeout, and always in an answer.
    pub async fn fetch(&self, request: ProxyRequest) -> ProxyAnswer {
        let fetched = timeout(self.shared.settings.timeout, self.shared.fetch(request)).await;
        let fetched = fetched.unwrap_or(Err(FetchError::Timeout));
        fetched.unwrap_or_else(|error| {
            debug!(%error, "an onion's server could not be asked");
            error.answer()
        })
    }
}

fn read_exceptions(texts: &[String]) -> Result<Exceptions, SettingsError> {
    Exceptions::read(texts).map_err(|text| SettingsError::Exception(text.to_owned()))
}

fn tls_config(extra: &[CertificateDer<'static>]) -> Result<(ClientConfig, usize), SettingsError> {
    let mut roots = RootCertStore::empty();
    let machine = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(machine.certs);
    for root in extra {
        let added = roots.add(root.clone());
        added.map_err(|error| SettingsError::Root(error.to_string()))?;
    }
    let count = roots.len();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, count))
}

impl Shared {
    async fn fetch(&self, request: ProxyRequest) -> Result<ProxyAnswer, FetchError> {
        let ProxyRequest { server, body } = request;
        let is_https = match server.protocol.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(FetchError::Host),
        };
        let parsed = Host::parse_with_port(&server.host, server.port);
        let (host, port) = parsed.ok_or(FetchError::Host)?;
        let origin = Origin {
            is_https,
            host,
            port,
        };
        let (max, per_server_max) = (
            self.settings.request_count_max,
            self.settings.request_per_server_count_max,
        );
        let under_way = self.pool.begin(&origin, max, per_server_max);
        let _under_way = under_way.ok_or(FetchError::Busy)?;
        let mut charge = self.held.charge(body.len()).ok_or(FetchError::Busy)?;
        let request = self.request(&origin, &server.target, body)?;
        let (response, sender) = self.send(&origin, request).await?;
        let answer = read_answer(response, &mut charge).await?;
        self.pool.put(&origin, sender, Instant::now());
        Ok(answer)
    }

    fn request(
        &self,
        origin: &Origin,
        target: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let path = target.starts_with('/').then_some(target);
        Request::post(path.ok_or(FetchError::Host)?)
            .header(HOST, origin.authority())
            .header(USER_AGENT, self.user_agent.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(body))
            .map_err(|_| FetchError::Host)
    }

    /// Sends on a connection that stands, or on a new one. What was written is never sent again: it
    /// may have been carried out.
    async fn send(
        &self,
        origin: &Origin,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), FetchError> {
        while let Some(mut sender) = self.pool.take(origin, Instant::now()) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => request = error.take_message().ok_or(FetchError::Ended)?,
            }
        }
        let mut sender = self.connect(origin).await?;
        let sent = sender.send_request(request).await;
        Ok((sent.map_err(|error| read_fault(&error))?, sender))
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, FetchError> {
        let addresses = match &origin.host {
            Host::Address(address) => vec![SocketAddr::new(*address, origin.port)],
            Host::Name(name) => {
                let found = self.resolver.resolve(name, origin.port).await;
                found.map_err(|_| FetchError::Unresolved)?
            }
        };
        if addresses.is_empty() {
            return Err(FetchError::Unresolved);
        }
        let mut error = FetchError::NotGlobal;
        let exceptions = self.exceptions.load_full();
        let allowed = addresses
            .into_iter()
            .filter(|address| exceptions.allow(&origin.host, *address));
        for address in allowed.take(ADDRESS_COUNT_MAX) {
            error = FetchError::Connect;
            // The very address that was checked.
            let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else {
                continue;
            };
            let set = stream.set_nodelay(true);
            set.map_err(|_| FetchError::Connect)?;
            if !origin.is_https {
                return handshake(stream).await;
            }
            let name = server_name(&origin.host).ok_or(FetchError::Host)?;
            let stream = self.tls.connect(name, stream).await;
            return handshake(stream.map_err(|_| FetchError::Tls)?).await;
        }
        Err(error)
    }
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        Host::Address(address) => Some(ServerName::IpAddress(ServerAddress::from(*address))),
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, FetchError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_SIZE_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| FetchError::Ended)?;
    // It ends when its sender is dropped or the server closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection to an onion's server ended");
        }
    });
    Ok(sender)
}

fn read_fault(error: &hyper::Error) -> FetchError {
    if error.is_parse() {
        FetchError::Malformed
    } else {
        FetchError::Ended
    }
}

async fn read_answer(
    response: Response<Incoming>,
    charge: &mut Charge,
) -> Result<ProxyAnswer, FetchError> {
    let status = response.status();
    if status.is_redirection() && response.headers().contains_key(LOCATION) {
        return Err(FetchError::Redirect);
    }
    // What has another number is no status that relays pass back.
    if !(200..=599).contains(&status.as_u16()) {
        return Err(FetchError::Malformed);
    }
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|size| size.to_str().ok())
        .and_then(|size| size.parse::<usize>().ok());
    if announced.is_some_and(|size| size > ANSWER_SIZE_MAX) {
        return Err(FetchError::TooLarge);
    }
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.len() <= CONTENT_TYPE_SIZE_MAX)
        .map(str::to_owned);
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| read_fault(&error))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if body.len() + piece.len() > ANSWER_SIZE_MAX {
            return Err(FetchError::TooLarge);
        }
        if !charge.grow(piece.len()) {
            return Err(FetchError::Busy);
        }
        body.extend_from_slice(&piece);
    }
    Ok(ProxyAnswer {
        status: status.as_u16(),
        body: body.freeze(),
        content_type,
        end: ProxyEnd::Answered,
    })
}
