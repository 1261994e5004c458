//! Those who begin and do not go on.

use std::io::{Read as _, Write as _};

use cepa_crypto::NodeKeys;
use cepa_crypto::curve::Connection;
use cepa_host::EdgeLimits;
use cepa_wire::request::ClientRequest;

use super::{
    HONEST, INFO, NEVER, PACE, PACE_COUNT_MAX, RUDE, SOON, ask, assert_ends, assert_serves,
    request, tcp, tls, wait_for,
};
use crate::network::{Network, account, exchange_over, retrieve, store};

/// One node whose deadlines are all far away but those that `shorten` brings near.
pub(super) fn start(shorten: impl FnOnce(&mut EdgeLimits)) -> Network {
    let mut network = Network::new(1);
    let limits = &mut network.edge_limits;
    limits.handshake_timeout = NEVER;
    limits.head_timeout = NEVER;
    limits.body_timeout = NEVER;
    limits.body_progress_timeout = NEVER;
    limits.idle_timeout = NEVER;
    limits.response_timeout = NEVER;
    shorten(limits);
    network.start(0, 1);
    network
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let network = start(|limits| limits.head_timeout = SOON);
    let port = network.nodes[0].https_port;
    let mut idle = tls(HONEST, port).unwrap();
    assert_eq!(ask(&mut idle, "/storage_rpc/v1", INFO).unwrap().0, 200);
    let mut slow = tls(RUDE, port).unwrap();
    slow.sock.set_read_timeout(Some(PACE)).unwrap();
    let mut head = b"POST /storage_rpc/v1 HTTP/1.1\r\nX: "
        .iter()
        .chain(b"y".iter().cycle());
    let ended = (0..PACE_COUNT_MAX).any(|turn| {
        if turn % 10 == 0 {
            assert_serves(&network);
        }
        let sent = slow.write_all(&[*head.next().unwrap()]);
        let read = slow.read(&mut [0; 100]);
        let waits = std::io::ErrorKind::WouldBlock;
        sent.is_err() || read.is_ok() || read.is_err_and(|error| error.kind() != waits)
    });
    assert!(ended, "a head has its time");
    assert_eq!(
        network.nodes[0].count(|counters| &counters.https_evicted),
        1
    );
    // Who asks nothing has a deadline of its own.
    assert_eq!(ask(&mut idle, "/storage_rpc/v1", INFO).unwrap().0, 200);
}

#[test]
fn a_head_that_began_with_the_request_before_has_its_time_from_the_next_byte_on() {
    let network = start(|limits| limits.head_timeout = SOON);
    let mut slow = tls(RUDE, network.nodes[0].https_port).unwrap();
    let next = b"POST /storage_rpc/v1 HT";
    let both = [&request("/storage_rpc/v1", INFO)[..], next].concat();
    slow.write_all(&both).unwrap();
    let mut answer = Vec::new();
    // The one is answered, and the other ends when it goes on and does not come to its end.
    drop(slow.sock.set_read_timeout(Some(PACE)));
    while slow.read_to_end(&mut answer).is_err_and(|error| {
        error.kind() == std::io::ErrorKind::WouldBlock && slow.write_all(b"T").is_ok()
    }) {}
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn who_asks_nothing_is_closed() {
    let network = start(|limits| limits.idle_timeout = SOON);
    let mut asked = tls(RUDE, network.nodes[0].https_port).unwrap();
    assert_eq!(ask(&mut asked, "/storage_rpc/v1", INFO).unwrap().0, 200);
    let mut silent = tls(RUDE, network.nodes[0].https_port).unwrap();
    assert_ends(&network, &mut asked.sock);
    assert_ends(&network, &mut silent.sock);
}

#[test]
fn a_body_that_stands_still_or_trickles_is_given_up() {
    let network = start(|limits| limits.body_progress_timeout = SOON);
    let port = network.nodes[0].https_port;
    let heads = [
        "Content-Length: 100000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
    ];
    for head in heads {
        let mut slow = tls(RUDE, port).unwrap();
        let head = format!("POST /storage_rpc/v1 HTTP/1.1\r\nHost: node\r\n{head}1\r\nx\r\n");
        slow.write_all(head.as_bytes()).unwrap();
        slow.sock.set_read_timeout(Some(PACE)).unwrap();
        let mut answer = Vec::new();
        for turn in 0..PACE_COUNT_MAX {
            if turn % 10 == 0 {
                assert_serves(&network);
            }
            // Far fewer bytes than are progress.
            let sent = slow.write_all(b"1\r\nx\r\n");
            let read = slow.read_to_end(&mut answer);
            if !answer.is_empty() || sent.is_err() || read.is_ok() {
                break;
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.ends_with("request body is too slow"), "{answer}");
    }
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let network = start(|limits| limits.body_timeout = SOON);
    let mut slow = tls(RUDE, network.nodes[0].https_port).unwrap();
    let head = b"POST /onion_req/v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    slow.write_all(head).unwrap();
    slow.sock.set_read_timeout(Some(PACE)).unwrap();
    let chunk = [&b"1000\r\n"[..], &[b'x'; 0x1000], b"\r\n"].concat();
    let mut answer = Vec::new();
    for _ in 0..PACE_COUNT_MAX {
        // It makes progress all the time.
        let sent = slow.write_all(&chunk);
        let read = slow.read_to_end(&mut answer);
        if !answer.is_empty() || sent.is_err() || read.is_ok() {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_serves(&network);
}

#[test]
fn a_body_larger_than_the_largest_is_refused_when_announced_and_when_not() {
    let network = start(|_| ());
    let port = network.nodes[0].https_port;
    let head = format!("Content-Length: {}\r\n\r\n", (10 << 20) + 1);
    let head = format!("POST /storage_rpc/v1 HTTP/1.1\r\n{head}");
    let reply = exchange_over(tls(RUDE, port).unwrap(), head.as_bytes()).unwrap();
    assert_eq!(reply.text(), (413, "request body is too large".into()));

    let mut endless = tls(RUDE, port).unwrap();
    let head = b"POST /storage_rpc/v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    endless.write_all(head).unwrap();
    let chunk = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat();
    let sent = (0..2000).take_while(|_| endless.write_all(&chunk).is_ok());
    assert!(sent.count() < 2000, "it hangs up");
    assert_serves(&network);
}

#[test]
fn what_was_announced_and_never_sent_holds_no_memory() {
    let network = start(|limits| {
        limits.input_size_max = 12 << 20;
        limits.held_per_prefix_size_max = 10 << 20;
    });
    let port = network.nodes[0].https_port;
    let head = format!(
        "POST /storage_rpc/v1 HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
        10 << 20
    );
    let announce = |_| {
        let mut stream = tls(RUDE, port).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b' '; 4000]).unwrap();
        stream
    };
    let mut held: Vec<_> = (0..40).map(announce).collect();
    // A large one of another's, beside forty that would be larger.
    let large = ClientRequest::encode_json(&store(account(1).id(), &vec![7; 70_000]));
    let mut honest = tls(HONEST, port).unwrap();
    assert_eq!(ask(&mut honest, "/storage_rpc/v1", &large).unwrap().0, 200);
    let busy = || network.nodes[0].count(|counters| &counters.refused_busy);
    assert_eq!(busy(), 0);
    // Those who do send it hold one prefix's share together, and small requests need none.
    for stream in &mut held {
        stream.sock.set_write_timeout(Some(SOON)).unwrap();
        // Who is refused may find out while it writes.
        drop(stream.write_all(&vec![b' '; 8 << 20]));
        assert_serves(&network);
    }
    assert!(busy() > 0, "a share is a bound");
    assert_eq!(ask(&mut honest, "/storage_rpc/v1", &large).unwrap().0, 200);
}

#[test]
fn handshakes_by_halves_are_cut_off() {
    let network = start(|limits| limits.handshake_timeout = SOON);
    let node = &network.nodes[0];
    let mut silent = tcp(RUDE, node.https_port);
    let mut half = tcp(RUDE, node.https_port);
    // The head of a TLS record with a ClientHello of which nothing more comes.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
    let mut greeted = tcp(RUDE, node.omq_port);
    let [client, server] = [NodeKeys::from_seed([200; 32]), node.keys()];
    let server = server.x25519_public();
    let mut connection = Connection::client(client.x25519(), server, b"", [7; 48]);
    greeted.write_all(&connection.take_output()).unwrap();
    // This one says HELLO too, hears WELCOME, and stops there.
    let mut welcomed = tcp(RUDE, node.omq_port);
    let mut connection = Connection::client(client.x25519(), server, b"", [8; 48]);
    welcomed.write_all(&connection.take_output()).unwrap();
    let mut greeting = [0; 64];
    welcomed.read_exact(&mut greeting).unwrap();
    connection.handle_bytes(&greeting).unwrap();
    welcomed.write_all(&connection.take_output()).unwrap();
    for stream in [&mut silent, &mut half, &mut greeted, &mut welcomed] {
        assert_ends(&network, stream);
    }
    assert_eq!(node.count(|counters| &counters.https_evicted), 2);
    assert_eq!(node.count(|counters| &counters.omq_evicted), 2);
}

#[test]
fn who_does_not_take_an_answer_is_cut_off() {
    let network = start(|limits| limits.response_timeout = SOON);
    let port = network.nodes[0].https_port;
    let owner = account(1);
    for number in 0..20 {
        let stored = network.rpc(0, &store(owner.id(), &vec![number; 70_000]));
        assert_eq!(stored.status, 200);
    }
    // Two megabytes each: more than the sockets between us hold.
    let body = ClientRequest::encode_json(&retrieve(&owner, None));
    let mut asking = tls(RUDE, port).unwrap();
    asking.sock.set_write_timeout(Some(SOON)).unwrap();
    for _ in 0..20 {
        if asking
            .write_all(&request("/storage_rpc/v1", &body))
            .is_err()
        {
            break;
        }
    }
    wait_for(&network, |counters| &counters.https_evicted, 1);
    assert_serves(&network);
}
