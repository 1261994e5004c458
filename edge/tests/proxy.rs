//! Servers asked for real, on loopback.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use cepa_edge::proxy::{
    ProxyAnswer, ProxyRequest, Resolve, Resolving, ServerProxy, Settings, SettingsError,
};
use cepa_relay::onion::ProxyEnd;
use cepa_wire::onion::Proxy;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "server.example";

/// Always the same answer.
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _name: &'a str, _port: u16) -> Resolving<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// A server that answers each request with `answer` and keeps the connection; counts connections and
/// requests, and keeps the last request.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last: std::sync::Mutex<Vec<u8>>,
}

fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, answer: Vec<u8>) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let (shared, tls, answer) = (Arc::clone(&shared), tls.clone(), answer.clone());
            tokio::spawn(async move {
                match tls {
                    None => answer_all(stream, &shared, &answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer_all(stream, &shared, &answer).await;
                        }
                    }
                }
            });
        }
    });
    seen
}

async fn answer_all(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, answer: &[u8]) {
    let mut read = Vec::new();
    let mut buffer = vec![0; 16384];
    while let Ok(size @ 1..) = stream.read(&mut buffer).await {
        read.extend_from_slice(&buffer[..size]);
        let Some(head) = read.windows(4).position(|at| at == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        if read.len() < head + 4 + length {
            continue;
        }
        seen.requests.fetch_add(1, Ordering::Relaxed);
        *seen.last.lock().unwrap() = core::mem::take(&mut read);
        if answer.is_empty() || stream.write_all(answer).await.is_err() {
            // Says nothing, and stays.
            core::future::pending::<()>().await;
        }
    }
}

async fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let bound = listener.local_addr().unwrap();
    (listener, bound)
}

fn http(head: &str, body: &str) -> Vec<u8> {
    let size = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Length: {size}\r\n\r\n{body}").into_bytes()
}

fn lab(exceptions: &[String]) -> Settings {
    Settings {
        exceptions: exceptions.to_vec(),
        timeout: Duration::from_secs(10),
        ..Settings::default()
    }
}

fn request(protocol: &str, host: &str, port: u16) -> ProxyRequest {
    ProxyRequest {
        server: Proxy {
            host: host.to_owned(),
            target: "/oxen/v4/lsrpc".to_owned(),
            protocol: protocol.to_owned(),
            port,
        },
        body: Bytes::from_static(b"\x00\xffwhole layer"),
    }
}

fn failed(answer: &ProxyAnswer, status: u16, end: ProxyEnd) {
    let shown = String::from_utf8_lossy(&answer.body);
    assert_eq!((answer.status, answer.end), (status, end), "{shown}");
}

#[tokio::test]
async fn an_answer_comes_back_as_it_is_and_the_connection_is_used_again() {
    let (listener, address) = listen("127.0.0.1:0").await;
    let head = "418 I'm a teapot\r\nContent-Type: application/octet-stream";
    let seen = serve(listener, None, http(head, "sealed"));
    let proxy = ServerProxy::new(lab(&[address.to_string()])).unwrap();
    for count in 1..=3 {
        let answer = proxy
            .fetch(request("http", "127.0.0.1", address.port()))
            .await;
        let expected = ProxyAnswer {
            status: 418,
            body: "sealed".into(),
            content_type: Some("application/octet-stream".into()),
            end: ProxyEnd::Answered,
        };
        assert_eq!(answer, expected);
        assert_eq!(seen.requests.load(Ordering::Relaxed), count);
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    let last = seen.last.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&last).to_lowercase();
    assert!(
        text.starts_with("post /oxen/v4/lsrpc http/1.1\r\n"),
        "{text}"
    );
    assert!(text.contains(&format!("host: {address}\r\n")), "{text}");
    assert!(text.contains("user-agent: oxen storage server/2.11.0\r\n"));
    assert!(last.ends_with(b"\r\n\r\n\x00\xffwhole layer"));
}

/// A server may end a connection whenever it likes; what was not written yet goes to a new one.
#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_is_not_used_again() {
    let (listener, address) = listen("127.0.0.1:0").await;
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 16384];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(&http("200 OK", "once")).await.unwrap();
        }
    });
    let proxy = ServerProxy::new(lab(&[address.to_string()])).unwrap();
    for _ in 0..2 {
        let answer = proxy
            .fetch(request("http", "127.0.0.1", address.port()))
            .await;
        failed(&answer, 200, ProxyEnd::Answered);
        // Long enough to see the end of it.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.await.unwrap();
}

fn certificate(name: &str) -> (CertificateDer<'static>, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let root = made.cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    (root, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_certificate_must_be_of_a_trusted_root_and_of_the_host() {
    let (root, acceptor) = certificate(NAME);
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, Some(acceptor), http("200 OK", "sealed"));
    let resolver = || Fixed(vec![address]);
    let plain = lab(&[address.to_string()]);
    let trusting = Settings {
        extra_roots: vec![root],
        ..plain.clone()
    };

    let proxy = ServerProxy::with_resolver(trusting, resolver()).unwrap();
    assert!(proxy.root_count() > 0);
    let answer = proxy.fetch(request("https", NAME, address.port())).await;
    failed(&answer, 200, ProxyEnd::Answered);
    let answer = proxy
        .fetch(request("https", "other.example", address.port()))
        .await;
    failed(&answer, 502, ProxyEnd::Failed);
    let answer = proxy
        .fetch(request("https", "127.0.0.1", address.port()))
        .await;
    failed(&answer, 502, ProxyEnd::Failed);

    let proxy = ServerProxy::with_resolver(plain, resolver()).unwrap();
    let answer = proxy.fetch(request("https", NAME, address.port())).await;
    failed(&answer, 502, ProxyEnd::Failed);
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_gives_its_place_back() {
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, None, Vec::new());
    let settings = Settings {
        timeout: Duration::from_millis(300),
        request_per_server_count_max: 1,
        ..lab(&[address.to_string()])
    };
    let proxy = ServerProxy::new(settings).unwrap();
    let ask = || proxy.fetch(request("http", "127.0.0.1", address.port()));
    let (first, second) = tokio::join!(ask(), ask());
    failed(&first, 504, ProxyEnd::TimedOut);
    failed(&second, 502, ProxyEnd::Refused);
    failed(&ask().await, 504, ProxyEnd::TimedOut);
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_an_error_of_ours() {
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let endless = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(12)
    );
    let cases = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10485761\r\n\r\n".to_vec(),
        endless.into_bytes(),
        b"no HTTP at all\r\n\r\n".to_vec(),
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".to_vec(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        http("302 Found\r\nLocation: http://127.0.0.1:1/", ""),
    ];
    for answer in cases {
        let shown = String::from_utf8_lossy(answer.get(..40).unwrap_or(&answer)).into_owned();
        let (listener, address) = listen("127.0.0.1:0").await;
        let seen = serve(listener, None, answer);
        let proxy = ServerProxy::new(lab(&[address.to_string()])).unwrap();
        let answer = proxy
            .fetch(request("http", "127.0.0.1", address.port()))
            .await;
        assert_eq!(
            (answer.status, answer.end),
            (502, ProxyEnd::Failed),
            "{shown}"
        );
        assert_eq!(seen.requests.load(Ordering::Relaxed), 1);
    }
    // A body within the bounds of a body, but not of what may be held.
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, None, http("200 OK", &"x".repeat(100_000)));
    let settings = Settings {
        held_size_max: 50_000,
        ..lab(&[address.to_string()])
    };
    let proxy = ServerProxy::new(settings).unwrap();
    let answer = proxy
        .fetch(request("http", "127.0.0.1", address.port()))
        .await;
    failed(&answer, 502, ProxyEnd::Refused);
}

#[tokio::test]
async fn nothing_inside_is_connected_to() {
    let (listener, address) = listen("127.0.0.1:0").await;
    let seen = serve(listener, None, http("200 OK", "inside"));
    let port = address.port();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    for found in [address, mapped] {
        let proxy = ServerProxy::with_resolver(lab(&[]), Fixed(vec![found])).unwrap();
        for host in [
            NAME,
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "[::1]",
        ] {
            let answer = proxy.fetch(request("http", host, port)).await;
            failed(&answer, 502, ProxyEnd::Refused);
        }
        for host in [
            "2130706433",
            "0x7f.1",
            "127.1",
            "a@127.0.0.1",
            "127.0.0.1\r\nX: y",
        ] {
            failed(
                &proxy.fetch(request("http", host, port)).await,
                502,
                ProxyEnd::Refused,
            );
        }
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 0);
}

/// Gives what is allowed first and another address afterwards.
struct Rebinding {
    addresses: [SocketAddr; 2],
    count: AtomicUsize,
}

impl Resolve for Rebinding {
    fn resolve<'a>(&'a self, _name: &'a str, _port: u16) -> Resolving<'a> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(vec![self.addresses[count.min(1)]]) })
    }
}

/// The first server stands for a global one: it is an exception by its address. It closes after each
/// answer, so that the second request looks the name up again.
#[tokio::test]
async fn a_name_that_turns_inside_after_its_first_look_up_gains_nothing() {
    let (outside, outside_address) = listen("127.0.0.1:0").await;
    let port = outside_address.port();
    let (inside, inside_address) = listen(&format!("127.0.0.2:{port}")).await;
    let outside = serve(
        outside,
        None,
        http("200 OK\r\nConnection: close", "outside"),
    );
    let inside = serve(inside, None, http("200 OK", "inside"));
    let resolver = Rebinding {
        addresses: [outside_address, inside_address],
        count: AtomicUsize::new(0),
    };
    let settings = lab(&[outside_address.to_string()]);
    let proxy = ServerProxy::with_resolver(settings, resolver).unwrap();
    let first = proxy.fetch(request("http", NAME, port)).await;
    failed(&first, 200, ProxyEnd::Answered);
    let second = proxy.fetch(request("http", NAME, port)).await;
    failed(&second, 502, ProxyEnd::Refused);
    assert_eq!(outside.requests.load(Ordering::Relaxed), 1);
    assert_eq!(inside.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_name_of_a_lab_leads_anywhere_past_what_is_dead() {
    let (dead, dead_address) = listen("127.0.0.1:0").await;
    drop(dead);
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, None, http("200 OK", "lab"));
    let resolver = Fixed(vec![dead_address, address]);
    let proxy = ServerProxy::with_resolver(lab(&[NAME.to_owned()]), resolver).unwrap();
    let answer = proxy
        .fetch(request("http", "Server.Example.", address.port()))
        .await;
    failed(&answer, 200, ProxyEnd::Answered);
}

#[tokio::test]
async fn bad_settings_are_told_by_name() {
    let settings = lab(&["http://x".to_owned()]);
    let Err(error) = ServerProxy::new(settings) else {
        panic!("taken")
    };
    assert_eq!(error, SettingsError::Exception("http://x".to_owned()));
}

#[tokio::test]
async fn exceptions_may_change_meanwhile() {
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, None, http("200 OK", "lab"));
    let proxy = ServerProxy::new(lab(&[])).unwrap();
    let ask = || proxy.fetch(request("http", "127.0.0.1", address.port()));
    assert_ne!(ask().await.end, ProxyEnd::Answered);
    assert!(proxy.set_exceptions(&["http://x".to_owned()]).is_err());
    assert_ne!(ask().await.end, ProxyEnd::Answered);
    proxy.set_exceptions(&[address.to_string()]).unwrap();
    assert_eq!(ask().await.end, ProxyEnd::Answered);
}
