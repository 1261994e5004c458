//! The listener and its client, on loopback.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cepa_crypto::Ed25519SecretKey;
use cepa_edge::quic::client::{Answer, Client, ClientError, Connection, ping};
use cepa_edge::quic::{
    Bind, Endpoints, Limits, Peer, PushError, Reply, Running, Settings, reply, start,
};
use cepa_wire::Ed25519PublicKey;
use cepa_wire::bt_stream::FRAME_SIZE_MAX;
use tokio::time::timeout;

/// What a bounded wait is bounded by.
const SOON: Duration = Duration::from_secs(20);

/// Keeps who asked, and answers what its name says.
#[derive(Clone, Default)]
struct Lab {
    peers: Arc<Mutex<Vec<Peer>>>,
    hanging: Arc<AtomicUsize>,
}

impl Endpoints for Lab {
    async fn call(&self, peer: Peer, endpoint: String, body: Bytes) -> Reply {
        match endpoint.as_str() {
            "snode_ping" => Reply::Ok(reply::PONG),
            "echo" => Reply::Ok(body),
            "refuse" => reply::bare_reply(503, body),
            "key" => {
                let key = peer.key().map(Ed25519PublicKey::to_hex);
                Reply::Ok(key.unwrap_or_default().into())
            }
            "remember" => {
                self.peers.lock().unwrap().push(peer);
                Reply::Ok(Bytes::new())
            }
            "huge" => Reply::Ok(vec![0; FRAME_SIZE_MAX].into()),
            "hang" => {
                self.hanging.fetch_add(1, Ordering::Relaxed);
                let _gone = Gone(Arc::clone(&self.hanging));
                core::future::pending().await
            }
            "silent" => Reply::None,
            other => reply::no_such_endpoint(other),
        }
    }

    fn is_idempotent(&self, endpoint: &str, _body: &[u8]) -> bool {
        endpoint == "echo"
    }
}

/// Counts down when a call is given up.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn node() -> Ed25519SecretKey {
    Ed25519SecretKey::from_seed([7; 32])
}

fn begin(limits: Limits) -> (Running, Lab, SocketAddr) {
    let lab = Lab::default();
    let settings = Settings {
        limits,
        ..Settings::new(Bind::Address("127.0.0.1:0".parse().unwrap()))
    };
    let running = start(&settings, &node(), lab.clone()).unwrap();
    let address = running.local_address();
    (running, lab, address)
}

/// The client is kept: its connections end with it.
async fn connect(address: SocketAddr, own: Option<&Ed25519SecretKey>) -> (Client, Connection) {
    let client = Client::towards(address, own).unwrap();
    let connection = client.connect(address, node().public_key()).await.unwrap();
    (client, connection)
}

async fn ask(connection: &Connection, endpoint: &str, body: &[u8]) -> Answer {
    let body = Bytes::copy_from_slice(body);
    connection.request(endpoint, body).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.unwrap();
}

#[tokio::test]
async fn commands_are_answered_each_in_its_form() {
    let (running, _, address) = begin(Limits::default());
    let (_client, connection) = connect(address, None).await;
    let ok = |text: &'static str| Answer::Ok(text.into());
    let error = |text: &'static str| Answer::Error(text.into());
    assert_eq!(ask(&connection, "snode_ping", b"").await, ok("pong"));
    assert_eq!(ask(&connection, "echo", b"abc").await, ok("abc"));
    let refused = ask(&connection, "refuse", b"busy").await;
    assert_eq!(refused, error("503 Service Unavailable\n\nbusy"));
    let unknown = ask(&connection, "nothing", b"").await;
    assert_eq!(unknown, error("Invalid endpoint 'nothing'"));
    let huge = ask(&connection, "huge", b"").await;
    assert_eq!(
        huge,
        error("500 Internal Server Error\n\nreply is too large")
    );
    let large = vec![7; FRAME_SIZE_MAX - 100];
    assert_eq!(
        ask(&connection, "echo", &large).await,
        Answer::Ok(large.into())
    );
    let too_large = connection
        .request("echo", vec![7; FRAME_SIZE_MAX].into())
        .await;
    assert_eq!(too_large, Err(ClientError::Request));
    assert_eq!(running.counters().commands.load(Ordering::Relaxed), 6);
    running.join();
    assert!(connection.request("echo", Bytes::new()).await.is_err());
}

#[tokio::test]
async fn a_slow_command_does_not_hold_up_the_others() {
    let (_running, lab, address) = begin(Limits::default());
    let (_client, connection) = connect(address, None).await;
    let hang = connection.request("hang", Bytes::new());
    let other = async {
        until(|| lab.hanging.load(Ordering::Relaxed) == 1).await;
        let answer = ask(&connection, "echo", b"meanwhile").await;
        assert_eq!(answer, Answer::Ok("meanwhile".into()));
        connection.close();
    };
    let (hung, ()) = tokio::join!(hang, other);
    assert_eq!(hung, Err(ClientError::Ended));
    // What was under way for the connection is given up with it.
    until(|| lab.hanging.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn both_sides_know_the_key_of_the_other() {
    let (running, _, address) = begin(Limits::default());
    let own = Ed25519SecretKey::from_seed([9; 32]);
    let (_client, connection) = connect(address, Some(&own)).await;
    let key = Answer::Ok(own.public_key().to_hex().into());
    assert_eq!(ask(&connection, "key", b"").await, key);
    let (_other, anonymous) = connect(address, None).await;
    assert_eq!(ask(&anonymous, "key", b"").await, Answer::Ok(Bytes::new()));

    let client = Client::towards(address, None).unwrap();
    let refused = client.connect(address, own.public_key()).await;
    assert!(matches!(refused, Err(ClientError::Connect(_))));
    assert!(ping(address, node().public_key(), Some(&own)).await);
    assert!(ping(address, node().public_key(), None).await);
    assert!(!ping(address, own.public_key(), None).await);
    running.join();
    assert!(!ping(address, node().public_key(), None).await);
}

#[tokio::test]
async fn a_peer_is_told_later_and_its_end_is_known() {
    let (_running, lab, address) = begin(Limits::default());
    let (_client, connection) = connect(address, None).await;
    ask(&connection, "remember", b"").await;
    let peer = lab.peers.lock().unwrap().pop().unwrap();
    assert_eq!(peer.address().ip(), address.ip());
    for text in ["one", "two"] {
        assert_eq!(peer.push("notify", text.as_bytes()), Ok(()));
    }
    for text in ["one", "two"] {
        let push = timeout(SOON, connection.next_push()).await.unwrap();
        assert_eq!(push, Some(("notify".to_owned(), text.into())));
    }
    assert!(!peer.is_ended());
    drop(connection);
    timeout(SOON, peer.ended()).await.unwrap();
    assert_eq!(peer.push("notify", b"late"), Err(PushError::Ended));
    assert_eq!(peer.dropped_count(), 0);
}

/// What is over the budget is dropped, and told to whoever pushes; what is within it arrives.
#[tokio::test]
async fn pushes_over_the_budget_are_dropped_and_reported() {
    let limits = Limits {
        push_size_max: 10_000,
        ..Limits::default()
    };
    let (running, lab, address) = begin(limits);
    let (_client, connection) = connect(address, None).await;
    ask(&connection, "remember", b"").await;
    let peer = lab.peers.lock().unwrap().pop().unwrap();
    assert_eq!(peer.push("notify", &[0; 10_001]), Err(PushError::Full));
    assert_eq!(peer.dropped_count(), 1);
    assert_eq!(running.counters().push_dropped.load(Ordering::Relaxed), 1);
    assert_eq!(peer.push("notify", &[0; 9_000]), Ok(()));
    let (_, body) = timeout(SOON, connection.next_push())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.len(), 9_000);
}

#[tokio::test]
async fn connections_are_bounded_for_each_address() {
    let limits = Limits {
        connection_per_prefix_count_max: 2,
        ..Limits::default()
    };
    let (running, _, address) = begin(limits);
    let (_first_client, first) = connect(address, None).await;
    let (_second_client, _second) = connect(address, None).await;
    let client = Client::towards(address, None).unwrap();
    let third = client.connect(address, node().public_key()).await;
    assert!(matches!(third, Err(ClientError::Connect(_))));
    assert_eq!(running.counters().refused.load(Ordering::Relaxed), 1);
    ask(&first, "echo", b"").await;
    drop(first);
    let again = async {
        while client.connect(address, node().public_key()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn a_crowd_must_show_that_its_addresses_are_its_own() {
    let limits = Limits {
        // A quarter of it is none: everyone is asked.
        handshake_count_max: 1,
        ..Limits::default()
    };
    let (_running, _, address) = begin(limits);
    let (_client, connection) = connect(address, None).await;
    assert_eq!(ask(&connection, "echo", b"x").await, Answer::Ok("x".into()));
}

#[tokio::test]
async fn who_wants_more_bytes_than_a_connection_may_have_is_closed() {
    let limits = Limits {
        held_per_connection_size_max: 100_000,
        ..Limits::default()
    };
    let (running, _, address) = begin(limits);
    let (_client, connection) = connect(address, None).await;
    let body = Bytes::from(vec![0; 40_000]);
    assert_eq!(ask(&connection, "echo", &body).await, Answer::Ok(body));
    let greedy = connection.request("echo", vec![0; 200_000].into()).await;
    assert_eq!(greedy, Err(ClientError::Ended));
    assert_eq!(
        running.counters().closed_for_cause.load(Ordering::Relaxed),
        1
    );
}

#[tokio::test]
async fn only_so_many_requests_of_a_connection_are_under_way() {
    let limits = Limits {
        request_count_max: 2,
        ..Limits::default()
    };
    let (_running, lab, address) = begin(limits);
    let (_client, connection) = connect(address, None).await;
    let hang = || connection.request("hang", Bytes::new());
    let watch = async {
        until(|| lab.hanging.load(Ordering::Relaxed) == 2).await;
        // The third would hang too; so would this, behind it.
        let waits = timeout(
            Duration::from_millis(200),
            connection.request("echo", Bytes::new()),
        );
        assert!(waits.await.is_err());
        assert_eq!(lab.hanging.load(Ordering::Relaxed), 2);
        connection.close();
    };
    let (first, second, third, ()) = tokio::join!(hang(), hang(), hang(), watch);
    assert!([first, second, third].iter().all(Result::is_err));
}

#[tokio::test]
async fn a_dual_stack_listener_is_reached_over_both() {
    let settings = Settings::new(Bind::DualStack(0));
    let lab = Lab::default();
    let running = start(&settings, &node(), lab.clone()).unwrap();
    let port = running.local_address().port();
    let mut reached = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    if running.local_address().is_ipv6() {
        reached.push(format!("[::1]:{port}").parse().unwrap());
    }
    for address in reached {
        let (_client, connection) = connect(address, None).await;
        ask(&connection, "remember", b"").await;
        let peer = lab.peers.lock().unwrap().pop().unwrap();
        assert_eq!(peer.address().ip(), address.ip());
    }
    let Err(error) = start(&Settings::new(Bind::DualStack(port)), &node(), lab) else {
        panic!("bound twice")
    };
    assert!(error.to_string().contains("choose another one"), "{error}");
}
