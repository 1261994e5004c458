//! What only a client can do that is not ours: odd bytes, early data, copies of it.

use core::sync::atomic::{AtomicBool, Ordering};

use cepa_wire::Ed25519PublicKey;
use quinn::{ClientConfig, Connection, RecvStream};
use tokio::net::UdpSocket as AsyncSocket;

use super::*;

/// What a bounded wait is bounded by.
const SOON: Duration = Duration::from_secs(20);

/// What was asked, and by which key.
type Asked = (String, Option<Ed25519PublicKey>);

/// Keeps what it was asked, and gives bodies back.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<Asked>>>);

impl Endpoints for Echo {
    async fn call(&self, peer: Peer, endpoint: String, body: Bytes) -> Reply {
        let is_silent = endpoint == "silent";
        self.0.lock().unwrap().push((endpoint, peer.key()));
        if is_silent {
            Reply::None
        } else {
            Reply::Ok(body)
        }
    }

    fn is_idempotent(&self, endpoint: &str, _body: &[u8]) -> bool {
        endpoint == "get"
    }
}

impl Echo {
    fn asked(&self) -> Vec<String> {
        let asked = self.0.lock().unwrap();
        asked.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn node() -> Ed25519SecretKey {
    Ed25519SecretKey::from_seed([7; 32])
}

fn begin(limits: Limits) -> (Running, Echo) {
    let echo = Echo::default();
    let settings = Settings {
        limits,
        ..Settings::new(Bind::Address("127.0.0.1:0".parse().unwrap()))
    };
    (start(&settings, &node(), echo.clone()).unwrap(), echo)
}

fn raw_client() -> (Endpoint, ClientConfig) {
    let own = identity::certified(&Ed25519SecretKey::from_seed([9; 32])).unwrap();
    let mut tls = identity::client_config(node().public_key(), Some(&own)).unwrap();
    tls.enable_early_data = true;
    let config = client::client_config(tls).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    (endpoint, config)
}

/// A list with its size before it.
fn framed(lists: &[&[u8]]) -> Vec<u8> {
    let frame = |list: &&[u8]| [format!("{}:", list.len()).as_bytes(), list].concat();
    lists.iter().flat_map(frame).collect()
}

async fn connect(running: &Running) -> (Endpoint, Connection) {
    let (endpoint, config) = raw_client();
    let connecting = endpoint.connect_with(config, running.local_address(), "127.0.0.1");
    let connection = timeout(SOON, connecting.unwrap()).await.unwrap().unwrap();
    (endpoint, connection)
}

async fn read_exactly(stream: &mut RecvStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    let result = timeout(SOON, stream.read_exact(&mut read)).await.unwrap();
    result.unwrap();
    assert_eq!(read, expected);
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.unwrap();
}

#[test]
fn a_prefix_is_what_one_subscriber_has() {
    let of = |text: &str| Prefix::of(text.parse().unwrap());
    assert_eq!(of("1.2.3.4"), of("::ffff:1.2.3.4"));
    assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
}

#[test]
fn a_port_in_use_is_told_with_what_to_do() {
    let first = bind(Bind::DualStack(0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let error = bind(Bind::DualStack(port)).unwrap_err().to_string();
    assert!(error.contains(&format!(":{port}: ")), "{error}");
    assert!(error.contains("ss -lunp"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_request_end_their_stream_and_no_other() {
    let limits = Limits {
        message_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let (running, _) = begin(limits);
    let (_endpoint, connection) = connect(&running).await;
    // The last is a message that never comes whole.
    for bytes in [
        &b"x"[..],
        b"0:",
        b"99999999:",
        b"2:le",
        b"10:i1ei2e",
        b"9:l1:C",
    ] {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let code = timeout(SOON, send.stopped()).await.unwrap().unwrap();
        assert_eq!(code, Some(CODE_MALFORMED));
        let rest = timeout(SOON, receive.read_to_end(100)).await.unwrap();
        assert_eq!(rest.unwrap(), b"");
    }
    let closed = running.counters().closed_for_cause.load(Ordering::Relaxed);
    assert_eq!(closed, 6);
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(&[b"l1:Ci0e1:x1:ae"])).await.unwrap();
    read_exactly(&mut receive, &framed(&[b"l1:Ri0e1:ae"])).await;
}

/// What one holds, the others of its address can't; and who takes nothing is closed.
#[tokio::test]
async fn replies_that_nobody_takes_cost_their_own_address_and_end() {
    let limits = Limits {
        held_per_prefix_size_max: 6 << 20,
        message_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let (running, _) = begin(limits);
    let (_endpoint, lazy) = connect(&running).await;
    let (mut send, receive) = lazy.open_bi().await.unwrap();
    let body = vec![b'x'; 3 << 20];
    let list = [format!("l1:Ci0e1:x{}:", body.len()).as_bytes(), &body, b"e"].concat();
    send.write_all(&framed(&[&list])).await.unwrap();
    // More than the window: the reply waits for a reader that never comes.
    let closed = timeout(SOON, lazy.closed()).await.unwrap();
    assert!(
        matches!(closed, quinn::ConnectionError::ApplicationClosed(close)
        if close.error_code == CODE_GREEDY)
    );
    drop(receive);

    let (_endpoint, other) = connect(&running).await;
    let (mut send, mut receive) = other.open_bi().await.unwrap();
    send.write_all(&framed(&[b"l1:Ci0e1:x1:ae"])).await.unwrap();
    read_exactly(&mut receive, &framed(&[b"l1:Ri0e1:ae"])).await;
    // What the first held is free again.
    let (mut send, mut receive) = other.open_bi().await.unwrap();
    send.write_all(&framed(&[&list])).await.unwrap();
    send.finish().unwrap();
    let read = timeout(SOON, receive.read_to_end(4 << 20)).await.unwrap();
    assert_eq!(read.unwrap().len(), framed(&[&list]).len() - 3);
}

#[tokio::test]
async fn what_was_asked_is_answered_after_the_stream_was_closed_behind_it() {
    let (running, echo) = begin(Limits::default());
    let (_endpoint, connection) = connect(&running).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    // A reply that nobody waits for, a command without reply, and two with one.
    let asked = framed(&[
        b"l1:Ri7e1:ae",
        b"l1:Ci0e6:silent1:ae",
        b"l1:Ci1e1:x1:be",
        b"l1:Ci2e1:\xff1:ce",
    ]);
    send.write_all(&asked).await.unwrap();
    send.finish().unwrap();
    let read = timeout(SOON, receive.read_to_end(1000))
        .await
        .unwrap()
        .unwrap();
    let mut decoder = cepa_wire::bt_stream::Decoder::new();
    decoder.handle_bytes(&read);
    let mut replies = Vec::new();
    while let Some(message) = decoder.poll_message().unwrap() {
        replies.push(String::from_utf8(message.encode()).unwrap());
    }
    replies.sort();
    let expected = [
        "11:l1:Ri1e1:be",
        "33:l1:Ei2e22:Invalid endpoint '\u{fffd}'e",
    ];
    assert_eq!(replies, expected);
    assert_eq!(echo.asked().len(), 2);
}

/// Between a client and the listener: holds back what the listener sends while it is told so, and
/// keeps what the client sends.
struct Wire {
    address: SocketAddr,
    is_held: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Wire {
    async fn new(server: SocketAddr) -> Self {
        let near = AsyncSocket::bind("127.0.0.1:0").await.unwrap();
        let far = AsyncSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(server).await.unwrap();
        let wire = Self {
            address: near.local_addr().unwrap(),
            is_held: Arc::default(),
            sent: Arc::default(),
        };
        let (is_held, sent) = (Arc::clone(&wire.is_held), Arc::clone(&wire.sent));
        tokio::spawn(async move {
            let (mut forward, mut backward) = (vec![0; 65536], vec![0; 65536]);
            let mut client = None;
            let mut held = Vec::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        if let Some(client) = client
                            && !is_held.load(Ordering::Relaxed)
                        {
                            for datagram in held.drain(..) {
                                let datagram: Vec<u8> = datagram;
                                near.send_to(&datagram, client).await.unwrap();
                            }
                        }
                    }
                    Ok((size, from)) = near.recv_from(&mut forward) => {
                        client = Some(from);
                        sent.lock().unwrap().push(forward[..size].to_vec());
                        far.send(&forward[..size]).await.unwrap();
                    }
                    Ok(size) = far.recv(&mut backward) => {
                        held.push(backward[..size].to_vec());
                    }
                }
            }
        });
        wire
    }
}

#[tokio::test]
async fn early_data_changes_nothing_before_the_handshake_and_is_good_once() {
    let limits = Limits {
        handshake_timeout: Duration::from_secs(3),
        ..Limits::default()
    };
    let (running, echo) = begin(limits);
    let wire = Wire::new(running.local_address()).await;
    let (endpoint, config) = raw_client();
    let dial = || endpoint.connect_with(config.clone(), wire.address, "127.0.0.1");

    // The first time there is no ticket; it comes behind the handshake.
    let first = timeout(SOON, dial().unwrap()).await.unwrap().unwrap();
    let (mut send, mut receive) = first.open_bi().await.unwrap();
    send.write_all(&framed(&[b"l1:Ci0e3:get1:ae"]))
        .await
        .unwrap();
    read_exactly(&mut receive, &framed(&[b"l1:Ri0e1:ae"])).await;
    first.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;

    // Nothing comes back: for the listener, this could be a copy.
    wire.is_held.store(true, Ordering::Relaxed);
    wire.sent.lock().unwrap().clear();
    let Ok((second, accepted)) = dial().unwrap().into_0rtt() else {
        panic!("no ticket")
    };
    let (mut send, mut receive) = second.open_bi().await.unwrap();
    let asked = framed(&[b"l1:Ci0e5:store1:ae", b"l1:Ci1e3:get1:be"]);
    send.write_all(&asked).await.unwrap();
    let waited = || running.counters().early_waited.load(Ordering::Relaxed);
    until(|| echo.asked().len() == 2 && waited() == 1).await;
    assert_eq!(echo.asked(), ["get", "get"]);
    // Whose key it is, the ticket tells.
    let own = Some(Ed25519SecretKey::from_seed([9; 32]).public_key());
    assert!(echo.0.lock().unwrap().iter().all(|(_, key)| *key == own));
    let copy = wire.sent.lock().unwrap().clone();

    wire.is_held.store(false, Ordering::Relaxed);
    read_exactly(&mut receive, &framed(&[b"l1:Ri1e1:be", b"l1:Ri0e1:ae"])).await;
    assert!(timeout(SOON, accepted).await.unwrap());
    assert_eq!(echo.asked(), ["get", "get", "store"]);
    second.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;

    // The copy, from another place: its ticket was used.
    let failed = || running.counters().handshake_failed.load(Ordering::Relaxed);
    let before = failed();
    let other = AsyncSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in copy {
        other
            .send_to(&datagram, running.local_address())
            .await
            .unwrap();
    }
    until(|| failed() > before).await;
    assert_eq!(echo.asked(), ["get", "get", "store"]);
}
