//! OMQ by hand: the probes of `golden.json` against a running node, and a link that asks back.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use cepa_crypto::curve::Connection;
use cepa_crypto::{Account, NodeKeys};
use cepa_swarm::monitor::signed_text;
use cepa_wire::monitor::{Subscription, Watched};
use cepa_wire::{Namespace, X25519PublicKey, bt};
use serde_json::Value;

use crate::network::{Network, STATS_SEED, account, store};

/// A blocking OMQ peer.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) connection: Connection,
}

impl Peer {
    fn connect(network: &Network, keys: &NodeKeys) -> Self {
        let port = network.nodes[0].omq_port;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        Self::over(stream, network, keys)
    }

    /// A link to the first node over a connection that stands.
    pub(crate) fn over(stream: TcpStream, network: &Network, keys: &NodeKeys) -> Self {
        Self::with(stream, network.nodes[0].keys().x25519_public(), keys)
    }

    /// A link to the node with the key `server` that listens on a port.
    pub(crate) fn dial(port: u16, server: X25519PublicKey, keys: &NodeKeys) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        Self::with(stream, server, keys)
    }

    fn with(stream: TcpStream, server: X25519PublicKey, keys: &NodeKeys) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut identity = vec![b'L'];
        identity.extend_from_slice(keys.x25519_public().as_bytes());
        let connection = Connection::client(keys.x25519(), server, &identity, [7; 48]);
        let mut peer = Self { stream, connection };
        while !peer.connection.is_ready() {
            peer.pump();
        }
        peer
    }

    fn pump(&mut self) {
        self.stream
            .write_all(&self.connection.take_output())
            .unwrap();
        if self.connection.is_ready() {
            return;
        }
        self.read();
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let size = self
            .stream
            .read(&mut buffer)
            .expect("the node answers in time");
        assert_ne!(size, 0, "the node hung up");
        self.connection.handle_bytes(&buffer[..size]).unwrap();
        self.stream
            .write_all(&self.connection.take_output())
            .unwrap();
    }

    fn send(&mut self, parts: &[Bytes]) {
        self.connection.send(parts);
        self.pump();
    }

    pub(crate) fn receive(&mut self) -> Vec<Bytes> {
        loop {
            if let Some(message) = self.connection.poll_message() {
                return message;
            }
            self.read();
        }
    }

    pub(crate) fn ask(&mut self, parts: &[&[u8]]) -> Vec<Bytes> {
        let parts: Vec<Bytes> = parts
            .iter()
            .map(|part| Bytes::copy_from_slice(part))
            .collect();
        self.send(&parts);
        self.receive()
    }
}

fn probes() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../wire/tests/vectors/golden.json"
    );
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let events = file["events"].as_array().unwrap();
    events
        .iter()
        .filter(|event| event["kind"] == "probe")
        .cloned()
        .collect()
}

fn parts(value: &Value) -> Vec<Bytes> {
    let parts = value.as_array().unwrap().iter();
    parts
        .map(|part| Bytes::from(hex::decode(part.as_str().unwrap()).unwrap()))
        .collect()
}

/// The same text with every number of a clock or a version taken out: what differs between two runs
/// of one node, too.
fn shape(part: &Bytes) -> String {
    let text = String::from_utf8_lossy(part);
    text.chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect::<String>()
        .replace("##", "#")
}

/// The reply to this names the lab's own nodes; `swarm/tests/golden.rs` holds it to the byte.
const NOT_COMPARED: &str = "storage.get_swarm bt";

#[test]
fn probes_are_answered_as_by_the_recorded_node() {
    let mut network = Network::new(2);
    network.start(0, 1);
    let member = network.nodes[1].keys();
    let stranger = NodeKeys::from_seed([200; 32]);
    let mut compared = 0;
    for probe in probes() {
        let name = probe["name"].as_str().unwrap();
        if name == NOT_COMPARED {
            continue;
        }
        let is_node = name.starts_with("sn.") && !name.ends_with("non-SN");
        let keys = if is_node { &member } else { &stranger };
        let mut peer = Peer::connect(&network, keys);
        peer.send(&parts(&probe["sent"]));
        let recorded = probe["replies"].as_array().unwrap();
        for reply in recorded {
            let expected: Vec<String> = parts(reply).iter().map(shape).collect();
            let got: Vec<String> = peer.receive().iter().map(shape).collect();
            assert_eq!(got, expected, "{name}");
        }
        // Nothing more, and nothing at all where nothing was recorded: the next thing heard is this.
        assert_eq!(peer.ask(&[b"HI"]), [Bytes::from_static(b"HELLO")], "{name}");
        compared += 1;
    }
    assert_eq!(compared, 23);
}

#[test]
fn a_node_asks_back_on_the_link_that_its_peer_opened() {
    let mut network = Network::new(2);
    network.start(0, 1);
    let member = network.nodes[1].keys();
    let mut peer = Peer::connect(&network, &member);
    assert_eq!(peer.ask(&[b"sn.ping", b"tag"]).last().unwrap(), "pong");
    // Nobody listens at the member's own port: the store can only come over this link.
    std::thread::scope(|scope| {
        let storing = scope.spawn(|| {
            network
                .rpc(0, &store(account(1).id(), b"asked back"))
                .json()
        });
        let request = peer.receive();
        assert_eq!(
            (&request[0][..], &request[2][..]),
            (&b"sn.storage_cc"[..], &b"store"[..])
        );
        let reply = Bytes::from_static(b"d4:hash1:xe");
        peer.send(&[Bytes::from_static(b"REPLY"), request[1].clone(), reply]);
        let stored = storing.join().unwrap();
        let entry = &stored["swarm"][&member.ed25519_public().to_hex()];
        assert_eq!(entry["hash"], "x");
    });
    assert_eq!(network.nodes[0].count(|counters| &counters.omq_dialled), 0);
}

#[test]
fn transferred_messages_arrive_in_the_namespace_that_their_hash_tells() {
    use crate::network::retrieve;
    use cepa_crypto::swarm_space::message_hash;
    use cepa_wire::Namespace;
    use cepa_wire::transfer::{self, Transferred};

    let mut network = Network::new(2);
    network.start(0, 1);
    let owner = account(1);
    let message = |namespace: i16, data: &'static [u8]| Transferred {
        mailbox: owner.id(),
        namespace: Namespace::INBOX,
        hash: message_hash(&owner.id(), Namespace(namespace), data),
        timestamp: crate::network::ago(60),
        expiry: cepa_host::clock::now().saturating_add(Duration::from_mins(10)),
        data: Bytes::from_static(data),
    };
    let forged = Transferred {
        data: Bytes::from_static(b"not what its hash says"),
        ..message(0, b"x")
    };
    let blob = transfer::encode(&[message(0, b"inbox"), message(5, b"groups"), forged]);
    let mut peer = Peer::connect(&network, &network.nodes[1].keys());
    let reply = peer.ask(&[b"sn.data", b"tag", &blob]);
    assert_eq!(
        reply,
        [Bytes::from_static(b"REPLY"), Bytes::from_static(b"tag")]
    );
    let inbox = network.rpc(0, &retrieve(&owner, None)).json();
    let inbox = inbox["messages"].as_array().unwrap();
    assert_eq!(
        inbox.len(),
        1,
        "the other is in namespace 5, the third nowhere"
    );
    assert_eq!(inbox[0]["data"], "aW5ib3g=");
    let node = &network.nodes[0];
    assert_eq!(node.count(|counters| &counters.message_stored), 2);
    assert_eq!(node.count(|counters| &counters.transfer_refused), 1);
}

#[test]
fn a_stranger_may_use_client_methods_and_nothing_else() {
    let mut network = Network::new(1);
    network.start(0, 1);
    let mut peer = Peer::connect(&network, &NodeKeys::from_seed([201; 32]));
    for command in ["sn.ping", "sn.data", "sn.onion_request", "sn.storage_cc"] {
        let refused = peer.ask(&[command.as_bytes(), b"t"]);
        assert_eq!(refused[0], "FORBIDDEN_SN", "{command}");
    }
    let info = peer.ask(&[b"storage.info", b"t"]);
    assert_eq!(
        &info[..2],
        [Bytes::from_static(b"REPLY"), Bytes::from_static(b"t")]
    );
    // A handshake by halves and plain garbage: the node goes on answering others.
    let mut garbage = TcpStream::connect((Ipv4Addr::LOCALHOST, network.nodes[0].omq_port)).unwrap();
    garbage.write_all(&[0xff; 512]).unwrap();
    let half = TcpStream::connect((Ipv4Addr::LOCALHOST, network.nodes[0].omq_port)).unwrap();
    assert_eq!(peer.ask(&[b"storage.info", b"u"])[1], "u");
    drop(half);
}

#[test]
fn statistics_are_for_those_who_may_have_them() {
    let mut network = Network::new(1);
    network.start(0, 1);
    network.rpc(0, &store(account(1).id(), b"counted"));
    let mut friend = Peer::connect(&network, &NodeKeys::from_seed(STATS_SEED));
    let reply = friend.ask(&[b"service.get_stats", b"tag"]);
    let stats: Value = serde_json::from_slice(reply.last().unwrap()).unwrap();
    assert_eq!(stats["version"], "2.11.0");
    assert_eq!(stats["total_store_requests"], 1);
}

pub(crate) fn subscription(owner: &Account, namespaces: &[i16], want_data: bool) -> Subscription {
    let mut subscription = Subscription {
        watched: Watched::Account(owner.ed25519().public_key()),
        subaccount: None,
        want_data,
        namespaces: namespaces.iter().copied().map(Namespace).collect(),
        signature: cepa_wire::Signature([0; 64]),
        signed_at: i64::try_from(cepa_host::clock::now().as_millis() / 1000).unwrap(),
    };
    let text = signed_text(&owner.id(), &subscription);
    subscription.signature = owner.ed25519().sign(text.as_bytes());
    subscription
}

#[test]
fn subscribers_hear_of_new_messages_whichever_shard_has_the_mailbox() {
    let mut network = Network::new(1);
    network.start(0, 2);
    let mut client = Peer::connect(&network, &NodeKeys::from_seed([200; 32]));
    for number in 1..10 {
        let owner = account(number);
        let request = subscription(&owner, &[0, 5], number % 2 == 0).encode();
        let reply = client.ask(&[b"monitor.messages", b"tag", &request]);
        assert_eq!(reply[2], "d7:successi1ee");
        let data = [number; 9];
        let stored = network.rpc(0, &store(owner.id(), &data)).json();
        let told = client.receive();
        assert_eq!(told[0], "notify.message");
        let notification = bt::Value::parse(&told[1]).unwrap().as_dict().unwrap();
        let hash = notification.get(b"h").unwrap().as_bytes().unwrap();
        assert_eq!(hash, stored["hash"].as_str().unwrap().as_bytes());
        let told_data = notification.get(b"~").and_then(|data| data.as_bytes());
        assert_eq!(told_data, (number % 2 == 0).then_some(&data[..]));
        // The same again is no news.
        network.rpc(0, &store(owner.id(), &data));
    }
    assert_eq!(client.ask(&[b"HI"]), [Bytes::from_static(b"HELLO")]);
    let node = &network.nodes[0];
    assert_eq!(node.count(|counters| &counters.monitor_notified), 9);
}

#[test]
fn subscriptions_are_refused_and_end_as_they_should() {
    let mut network = Network::new(2);
    network.start(0, 1);
    let mut client = Peer::connect(&network, &NodeKeys::from_seed([200; 32]));
    let owner = account(1);
    let good = subscription(&owner, &[0], false);
    let cases = [
        (
            Subscription {
                signature: cepa_wire::Signature([9; 64]),
                ..good.clone()
            },
            5,
        ),
        (
            Subscription {
                signed_at: good.signed_at - 15 * 86_400,
                ..good.clone()
            },
            4,
        ),
        (
            Subscription {
                signed_at: good.signed_at + 2 * 86_400,
                ..good.clone()
            },
            4,
        ),
    ];
    let list: Vec<u8> = cases.iter().flat_map(|(case, _)| case.encode()).collect();
    let list = [b"l", &list[..], &good.encode(), b"e"].concat();
    let reply = client.ask(&[b"monitor.messages", b"tag", &list]);
    let replies = bt::Value::parse(&reply[2]).unwrap().as_list().unwrap();
    let codes: Vec<_> = replies
        .iter()
        .map(|reply| {
            reply
                .as_dict()
                .unwrap()
                .get(b"errcode")
                .map(|code| code.as_i64().unwrap())
        })
        .collect();
    let expected: Vec<_> = cases
        .iter()
        .map(|(_, code)| Some(*code))
        .chain([None])
        .collect();
    assert_eq!(codes, expected);
}

/// How many of these subscriptions are made, all in one request.
fn made(client: &mut Peer, list: &[u8]) -> usize {
    let reply = client.ask(&[b"monitor.messages", b"tag", list]);
    let replies = bt::Value::parse(&reply[2]).unwrap().as_list().unwrap();
    let is_made = |reply: bt::Value<'_>| reply.as_dict().unwrap().get(b"success").is_some();
    replies.iter().filter(|reply| is_made(*reply)).count()
}

#[test]
fn a_link_that_goes_at_once_leaves_no_subscription() {
    const COUNT: u8 = 40;
    let mut network = Network::new(1);
    network.monitor_count_max = usize::from(COUNT);
    network.start(0, 2);
    // As many as the node holds: in their midst, it lets others have their turn.
    let items = (1..=COUNT).flat_map(|number| subscription(&account(number), &[0], false).encode());
    let list = Bytes::from([&b"l"[..], &items.collect::<Vec<u8>>(), b"e"].concat());
    let word = Bytes::from_static;
    let subscribe = [word(b"monitor.messages"), word(b"tag"), list.clone()];
    // Whoever says BYE goes on listening: no write fails that would tell the node once more.
    let mut listening = Vec::new();
    for round in 0..30 {
        let keys = NodeKeys::from_seed([100 + round; 32]);
        let mut client = Peer::connect(&network, &keys);
        client.connection.send(&subscribe);
        // The link is gone in the midst of them, by word or without one, or after the last.
        match round % 3 {
            0 => client.send(&[word(b"BYE")]),
            1 => {
                client.pump();
                continue;
            }
            _ => {
                client.pump();
                client.receive();
                client.send(&[word(b"BYE")]);
            }
        }
        listening.push(client);
    }
    // A leaked one would take room for an hour.
    let mut count = 0;
    for _ in 0..300 {
        // Each time another, who renews nothing.
        let mut client = Peer::connect(&network, &NodeKeys::from_seed([200; 32]));
        count = made(&mut client, &list);
        if count == usize::from(COUNT) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("only {count} of {COUNT} subscriptions are made");
}

#[test]
fn a_subscription_ends_when_the_mailbox_moves_away() {
    let mut network = Network::new(2);
    network.start(0, 1);
    let mut client = Peer::connect(&network, &NodeKeys::from_seed([200; 32]));
    let owner = account(1);
    let good = subscription(&owner, &[0], false);
    let reply = client.ask(&[b"monitor.messages", b"tag", &good.encode()]);
    assert_eq!(reply[2], "d7:successi1ee");
    // Who listened is told, and who asks again is shown the way.
    network.view[0].swarm_id = owner.id().swarm_point().wrapping_add(1 << 63);
    network.view[1].swarm_id = owner.id().swarm_point();
    network.publish();
    let told = client.receive();
    assert_eq!(told[0], "notify.monitor_ended");
    assert!(
        told[1]
            .windows(33)
            .any(|window| window == owner.id().to_bytes())
    );
    let reply = client.ask(&[b"monitor.messages", b"tag", &good.encode()]);
    let reply = bt::Value::parse(&reply[2]).unwrap().as_dict().unwrap();
    assert_eq!(reply.get(b"errcode").unwrap().as_i64(), Some(6));
    let swarm = reply.get(b"swarm").unwrap().as_dict().unwrap();
    assert_eq!(
        swarm
            .get(b"snodes")
            .unwrap()
            .as_list()
            .unwrap()
            .iter()
            .count(),
        1
    );
}
