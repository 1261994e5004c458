//! A peer is tested over HTTPS and OMQ, and what came of it is reported.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::net::Ipv4Addr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_control::oxend::{Bootstrap, Duties, OurNode, OxendClient};
use cepa_control::reachability::{PeerTest, PeerTests};
use cepa_crypto::curve::Connection;
use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_lab::{Chain, Listen, Oxend};
use cepa_relay::Counters;
use cepa_wire::ServiceNode;
use cepa_wire::omq::{self, Message};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Far more than anything here takes: a test that fails takes five seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// What is wrong with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    OtherHttpsKey,
    NotFound,
    Forbids,
    OtherOmqKey,
    NoQuic,
    SilentQuic,
}

fn tls() -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers each request over HTTPS, having checked it.
async fn serve_https(listener: TcpListener, peer: ServiceNode, fault: Fault) {
    let tls = tls();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap().to_lowercase();
        assert!(
            request.starts_with("post /ping_test/v1 http/1.1\r\n"),
            "{request}"
        );
        for line in [
            format!("host: {}", peer.host_name()),
            "user-agent: oxen storage server/2.11.0".to_owned(),
            "content-length: 0".to_owned(),
        ] {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
        }
        let key = match fault {
            Fault::OtherHttpsKey => [9; 32],
            _ => peer.pubkey_legacy,
        };
        let status = match fault {
            Fault::NotFound => "404 Not Found",
            _ => "200 OK",
        };
        let key = STANDARD.encode(key);
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\
             X-Oxen-Snode-Pubkey: {key}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream.shutdown().await);
    }
}

/// Answers pings over OMQ.
async fn serve_omq(listener: TcpListener, us: NodeKeys, fault: Fault) {
    let other = NodeKeys::from_seed([99; 32]);
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let keys = if fault == Fault::OtherOmqKey {
            &other
        } else {
            &us
        };
        let mut connection = Connection::server(keys.x25519(), [7; 96]);
        let mut buffer = [0; 1024];
        loop {
            stream.write_all(&connection.take_output()).await.unwrap();
            let Ok(size @ 1..) = stream.read(&mut buffer).await else {
                break;
            };
            if connection.handle_bytes(&buffer[..size]).is_err() {
                break;
            }
            while let Some(parts) = connection.poll_message() {
                let ping = Message::parse(parts).unwrap();
                let tag = Bytes::from_static(b"ask");
                let expected = Message::Command {
                    name: "sn.ping".to_owned(),
                    parts: vec![tag.clone()],
                };
                assert_eq!(ping, expected);
                let answer = if fault == Fault::Forbids {
                    vec![Bytes::from_static(b"FORBIDDEN_SN"), "REPLY".into(), tag]
                } else {
                    omq::reply(tag, [Bytes::from_static(b"pong")])
                };
                connection.send(&answer);
            }
        }
    }
}

fn quic(fault: Fault) -> Option<PeerTest> {
    match fault {
        Fault::NoQuic => Some(Box::new(|_| {
            Box::pin(async { Err("nobody listens".to_owned()) })
        })),
        Fault::SilentQuic => Some(Box::new(|_| Box::pin(core::future::pending()))),
        Fault::Nothing => Some(Box::new(|_| Box::pin(async { Ok(()) }))),
        _ => None,
    }
}

/// Node 1 tests node 2, until the daemon has its report.
async fn report_of(fault: Fault) {
    let [us, peer] = [1, 2].map(|seed| NodeKeys::from_seed([seed; 32]));
    let https = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let omq = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let entry = |keys: &NodeKeys| ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: https.local_addr().unwrap().port(),
        omq_port: omq.local_addr().unwrap().port(),
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        swarm_id: 5,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    };
    let chain = Chain::new();
    chain.add(entry(&us));
    let tested = entry(&peer);
    chain.add(tested.clone());
    let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let oxend = Oxend::start(&chain, SecretKeys::from_seed([1; 32]), listen).unwrap();
    let client = OxendClient::new(oxend.address().parse().unwrap());
    let counters = Arc::new(Counters::default());
    let duties = Duties {
        us: OurNode::new(&us, 22_021, 22_020),
        peer_tests: Some(PeerTests {
            counters: Arc::clone(&counters),
            quic: quic(fault),
            has_quic: true,
        }),
        bootstrap: Bootstrap::default(),
    };
    let reported = async {
        while oxend.reports().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let pubkey = hex::encode(tested.pubkey_legacy);
    tokio::select! {
        never = client.run(duties, drop) => never,
        () = serve_https(https, tested, fault) => unreachable!("it serves on"),
        () = serve_omq(omq, peer, fault) => unreachable!("it serves on"),
        () = reported => {}
    }
    let passed = fault == Fault::Nothing;
    let expected = json!({ "type": "storage", "pubkey": pubkey, "passed": passed });
    assert_eq!(oxend.reports()[0], expected, "{fault:?}");
    let counts = [&counters.peer_reachable, &counters.peer_unreachable];
    let counts = counts.map(|counter| counter.load(Ordering::Relaxed));
    let expected = if passed { [1, 0] } else { [0, 1] };
    assert_eq!(counts, expected, "{fault:?}");
}

#[test]
fn peers_pass_when_nothing_is_wrong_with_them() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let all = futures_util::future::join_all(
            [
                Fault::Nothing,
                Fault::OtherHttpsKey,
                Fault::NotFound,
                Fault::Forbids,
                Fault::OtherOmqKey,
                Fault::NoQuic,
                Fault::SilentQuic,
            ]
            .map(report_of),
        );
        timeout(LIMIT, all).await.unwrap();
    });
}
