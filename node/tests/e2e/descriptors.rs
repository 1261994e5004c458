//! Descriptors of the packet lane: shown over HTTPS, gathered by the others, read by clients.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::sync::Arc;

use cepa_client::{Bootstrap, Client, ClientSettings, ExchangeSettings, Lane, lane_size};
use cepa_control::packet_lane::{LaneIdentity, PacketLane};
use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{relay_id, verify_descriptor};
use cepa_host::{PacketBackend, PacketSettings, clock};
use cepa_wire::packet::descriptor::{KEM_KEY_SIZE, Ports};
use cepa_wire::packet::descriptor_list::parse_list;
use cepa_wire::packet::epoch::EpochLength;
use tokio::time::{sleep, timeout};

use crate::network::{Network, Node, free_port, https};

const OWN: &str = "/cepa/descriptor/v1";
const ALL: &str = "/cepa/descriptors/v1";

/// The keys of a node's links, and its ML-KEM key.
fn link(node: &Node) -> (LinkIdentity, Box<[u8; KEM_KEY_SIZE]>) {
    let kem = KemSecretKey::from_seed([node.seed[0]; 64]);
    let kem_key = Box::new(*kem.public_key());
    let secret = X25519SecretKey::from_bytes(node.seed);
    (LinkIdentity::relay(secret, kem), kem_key)
}

/// A lane of a node, and what host is given of it.
pub(crate) fn lane(node: &Node, address: Option<Ipv4Addr>) -> (PacketLane, PacketSettings) {
    let keys = node.keys();
    let (link, kem) = link(node);
    let port = free_port();
    let identity = LaneIdentity {
        ed25519: keys.ed25519().clone(),
        x25519: keys.x25519_public(),
        link: *link.public_key(),
        kem,
        ports: Ports {
            packet: port,
            ..Ports::default()
        },
    };
    let lane = PacketLane::new(identity, EpochLength::DAY, clock::now(), address).unwrap();
    let settings = PacketSettings {
        port,
        backend: PacketBackend::Auto,
        cpu: 0,
        replay_filter_size: 1 << 20,
        link,
        hop_keys: lane.hop_keys(),
        directory: lane.directory(),
        counted: Arc::default(),
        board: lane.board(),
    };
    (lane, settings)
}

#[test]
fn without_a_packet_lane_onions_go_instead_when_they_may() {
    let mut network = Network::new(5);
    for index in 0..5 {
        network.start(index, 1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let nodes = Bootstrap::Nodes(network.view.clone());
        let mut client = Client::connect(nodes, ClientSettings::default())
            .await
            .unwrap();
        let node = network.view[2].clone();
        for lane in [Lane::Request, Lane::Auto, Lane::Auto] {
            client.set_lane(lane, ExchangeSettings::default());
            let info = client.info(&node).await.unwrap();
            assert!(!info.version.is_empty());
        }
        client.set_lane(Lane::Packet, ExchangeSettings::default());
        let failure = client.info(&node).await.unwrap_err().to_string();
        assert_eq!(failure, "the packet lane: no node knows of a packet lane");
    });
}

#[test]
fn nodes_learn_of_each_other_and_clients_of_all() {
    let mut network = Network::new(4);
    let mut lanes = Vec::new();
    for index in 0..3 {
        // The third does not know its address yet.
        let address = (index < 2).then_some(Ipv4Addr::LOCALHOST);
        let (lane, settings) = lane(&network.nodes[index], address);
        network.start_with(index, 1, Some(settings));
        lanes.push(lane);
    }
    network.start(3, 1);
    let ports: Vec<_> = network.nodes.iter().map(|node| node.https_port).collect();
    let status = |index: usize, path: &str| https("GET", ports[index], path, b"").text().0;
    assert_eq!([0, 2, 3].map(|index| status(index, OWN)), [200, 503, 404]);
    assert_eq!([0, 2, 3].map(|index| status(index, ALL)), [200, 503, 404]);
    assert_eq!(https("POST", ports[0], OWN, b"").text().0, 404);

    let directories: Vec<_> = lanes.iter().map(PacketLane::directory).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        for lane in lanes {
            let nodes = network.view.clone();
            tokio::spawn(async move { lane.run(clock::now, move || nodes.clone()).await });
        }
        let known = async {
            while directories.iter().any(|it| it.load().relays().len() < 2) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_mins(1), known)
            .await
            .expect("they learn of each other");
        // The fourth has no lane, and knows of none.
        for (node, count) in network.view.iter().zip([3, 3, 3, 0]) {
            assert_eq!(lane_size(node, &network.view).await, count);
        }
    });

    let keys = network.nodes[1].keys();
    let directory = directories[0].load_full();
    let second = directory.find(relay_id(&keys.ed25519_public())).unwrap();
    let shown = https("GET", ports[1], OWN, b"");
    let descriptor = verify_descriptor(&shown.body).unwrap();
    assert_eq!(descriptor.ed25519, keys.ed25519_public());
    assert_eq!(
        (second.link, second.ed25519),
        (descriptor.link, descriptor.ed25519)
    );
    assert_eq!(second.kem, Arc::new(*descriptor.kem));
    assert_eq!(second.address.port(), descriptor.ports.packet);
    let by_link = directory.find_by_link(&descriptor.link);
    assert_eq!(by_link.map(|relay| relay.id), Some(second.id));
    let list = https("GET", ports[0], ALL, b"");
    assert!(
        parse_list(&list.body)
            .unwrap()
            .contains(&shown.body.as_slice())
    );
}
