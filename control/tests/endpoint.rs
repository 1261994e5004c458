//! Both endpoints over loopback, asked by a client that writes raw bytes.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::net::{Ipv4Addr, SocketAddr};

use cepa_control::{Endpoint, metrics, seed};
use cepa_meter::count;
use cepa_relay::Counters;
use cepa_wire::{Ed25519PublicKey, ServiceNode, X25519PublicKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn nodes() -> Vec<ServiceNode> {
    let node = |index: u8| ServiceNode {
        ip: Ipv4Addr::new(127, 0, 0, index),
        port: 22_021,
        omq_port: 22_020,
        pubkey_ed25519: Ed25519PublicKey([index; 32]),
        pubkey_x25519: X25519PublicKey([index; 32]),
        pubkey_legacy: [index; 32],
        swarm_id: 7,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    };
    (1..=3).map(node).collect()
}

/// Runs `ask` against a seed (`/json_rpc`) on a fresh port.
fn with_seed(ask: impl AsyncFnOnce(SocketAddr)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .unwrap();
        let address = endpoint.address();
        tokio::select! {
            _ = seed::serve(endpoint, nodes) => {}
            () = ask(address) => {}
        }
    });
}

/// Sends `request` and reads until the endpoint closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8(response).unwrap()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let size = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: seed\r\nContent-Length: {size}\r\n\r\n{body}")
        .into_bytes()
}

/// Status line, header lines in lower case, body.
fn split(response: &str) -> (&str, Vec<String>, &str) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    (
        status,
        headers.lines().map(str::to_lowercase).collect(),
        body,
    )
}

#[test]
fn the_seed_answers_what_desktop_asks() {
    with_seed(async |address| {
        let request = json!({
            "jsonrpc": "2.0",
            "method": "get_n_service_nodes",
            "params": {"active_only": true, "fields": {
                "public_ip": true, "storage_port": true, "pubkey_x25519": true,
                "pubkey_ed25519": true, "requested_unlock_height": true, "height": true,
            }},
        });
        let response = exchange(address, &post("/json_rpc", &request.to_string())).await;
        let (status, headers, body) = split(&response);
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            headers.contains(&"content-type: application/json".to_owned()),
            "{headers:?}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        let states = body["result"]["service_node_states"].as_array().unwrap();
        assert_eq!(states.len(), 3);
        for (state, node) in states.iter().zip(nodes()) {
            assert_eq!(state["public_ip"], node.ip.to_string());
            assert_eq!(state["storage_port"], node.port);
            assert_eq!(state["pubkey_ed25519"], node.pubkey_ed25519.to_hex());
            assert_eq!(state["pubkey_x25519"], node.pubkey_x25519.to_hex());
        }
    });
}

#[test]
fn what_is_not_a_question_is_refused() {
    with_seed(async |address| {
        let table = [
            (post("/", "{}"), "HTTP/1.1 404 Not Found"),
            (
                b"GET /json_rpc HTTP/1.1\r\n\r\n".to_vec(),
                "HTTP/1.1 405 Method Not Allowed",
            ),
            (b"nonsense\r\n\r\n".to_vec(), "HTTP/1.1 400 Bad Request"),
            (
                format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000)).into_bytes(),
                "HTTP/1.1 431 Request Header Fields Too Large",
            ),
            // Refused by the announced length: the body need not be sent.
            (
                b"POST /json_rpc HTTP/1.1\r\nContent-Length: 65537\r\n\r\n".to_vec(),
                "HTTP/1.1 413 Payload Too Large",
            ),
        ];
        // An unannounced body is refused when it passes the bound.
        let head = "POST /json_rpc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n";
        let chunked = format!("{head}{}\r\n0\r\n\r\n", " ".repeat(65_537)).into_bytes();
        let chunked = (chunked, "HTTP/1.1 413 Payload Too Large");
        for (request, expected) in table.into_iter().chain([chunked]) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A refusal may come before the request is written.
            drop(stream.write_all(&request).await);
            let mut status = vec![0; expected.len()];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(String::from_utf8(status).unwrap(), expected);
        }
    });
}

#[test]
fn a_full_endpoint_closes_and_recovers() {
    with_seed(async |address| {
        let mut held = Vec::new();
        for _ in 0..32 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        // The endpoint accepts in order: the 33rd finds 32 before it, and is closed unanswered.
        let mut refused = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        drop(refused.read_to_end(&mut rest).await);
        assert!(rest.is_empty());
        // One that is served makes room. What it answers shows that it is done, or the next is refused.
        let mut first = held.remove(0);
        first.write_all(&post("/json_rpc", "{}")).await.unwrap();
        first.read_to_end(&mut rest).await.unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK"));
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut response = Vec::new();
            let sent = stream.write_all(&post("/json_rpc", "{}")).await.is_ok();
            if sent && stream.read_to_end(&mut response).await.is_ok() && !response.is_empty() {
                assert!(response.starts_with(b"HTTP/1.1 200 OK"));
                break;
            }
        }
    });
}

#[test]
fn the_metrics_show_the_counters() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let counters = Counters::default();
        count(&counters.message_stored);
        let samples = move || {
            let mut report = cepa_storage::Report::default();
            report.statistics.message_count = 7;
            let mut samples = counters.snapshot();
            samples.extend(report.samples());
            samples
        };
        let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .unwrap();
        let address = endpoint.address();
        let ask = async {
            let response = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let (status, headers, body) = split(&response);
            assert_eq!(status, "HTTP/1.1 200 OK");
            let content_type = "content-type: text/plain; version=0.0.4".to_owned();
            assert!(headers.contains(&content_type), "{headers:?}");
            assert!(body.contains("\ncepa_message_stored_total 1\n"), "{body}");
            assert!(body.contains("\ncepa_store_messages 7\n"), "{body}");
            let missing = exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
        };
        tokio::select! {
            _ = metrics::serve(endpoint, samples) => {}
            () = ask => {}
        }
    });
}
