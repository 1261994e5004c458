//! Strangers who ask too much, too often, too slowly: each is told or cut off, and meanwhile everybody
//! else is answered. Each stranger has an address of its own below 127.0.0.0/8; that of the nodes, which
//! is never limited, is 127.0.0.1.

mod crowd;
mod floods;
mod links;
mod slow;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cepa_relay::Counters;
use socket2::{Domain, Socket, Type};

use crate::network::{Network, Reply, Tls, exchange_over, tls_over};

/// Whom everybody else's doings must not disturb.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 7, 7, 7);
/// Who does them.
const RUDE: Ipv4Addr = Ipv4Addr::new(127, 6, 6, 6);
/// A deadline that tests wait for.
const SOON: Duration = Duration::from_millis(300);
/// A deadline that must not come.
const NEVER: Duration = Duration::from_hours(1);
/// The pause between two bytes of who is slow.
const PACE: Duration = Duration::from_millis(20);
/// So many pauses are more than any deadline here, on a busy machine too.
const PACE_COUNT_MAX: usize = 3000;

const INFO: &[u8] = br#"{"method":"info","params":{}}"#;

/// A connection from an address.
fn tcp(source: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddrV4::new(source, 0).into()).unwrap();
    let node = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket.connect(&node.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// A TLS connection from an address, its handshake done.
fn tls(source: Ipv4Addr, port: u16) -> std::io::Result<Tls> {
    let mut stream = tls_over(tcp(source, port));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A request on a connection that stays: status and body.
fn ask(stream: &mut Tls, path: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    stream.write_all(&request(path, body))?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let size = stream.read(&mut piece)?;
        if size == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&piece[..size]);
        if let Some(whole) = read_answer(&String::from_utf8_lossy(&answer)) {
            return Ok(whole);
        }
    }
}

/// Status and body of an answer, once it is whole.
fn read_answer(text: &str) -> Option<(u16, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (_, length) = head.split_once("content-length: ")?;
    let length: usize = length.lines().next()?.parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() == length).then(|| (status, body.to_owned()))
}

/// A client asks for `info` on a connection of its own.
fn info(network: &Network, source: Ipv4Addr) -> Reply {
    let port = network.nodes[0].https_port;
    let head = "POST /storage_rpc/v1 HTTP/1.1\r\nHost: node\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n", INFO.len());
    let stream = tls(source, port).expect("the node takes a connection");
    exchange_over(stream, &[request.as_bytes(), INFO].concat()).expect("the node answers")
}

fn assert_serves(network: &Network) {
    let reply = info(network, HONEST);
    assert_eq!(reply.status, 200, "{:?}", reply.text());
}

/// Whether a connection has ended, looking for as long as a pause between two bytes.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PACE)).unwrap();
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(size) => size == 0,
        Err(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}

/// Waits until a connection ends, while others are served.
fn assert_ends(network: &Network, stream: &mut TcpStream) {
    for turn in 0..PACE_COUNT_MAX {
        if turn % 10 == 0 {
            assert_serves(network);
        }
        if has_ended(stream) {
            return;
        }
    }
    panic!("the connection stands");
}

/// Waits until a counter of the first node is at least this.
fn wait_for(network: &Network, counter: fn(&Counters) -> &AtomicU64, at_least: u64) {
    for _ in 0..PACE_COUNT_MAX {
        if network.nodes[0].count(counter) >= at_least {
            return;
        }
        std::thread::park_timeout(PACE);
    }
    panic!("it did not happen");
}
