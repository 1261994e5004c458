//! Messages by packets, from a client to the mailboxes of real nodes and back. While host has no packet
//! tiles, doubles stand in for them that peel, have links to clients, and send bare packets to each other.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_client::{Bootstrap, Client, ClientSettings, Cursors, Lane, lane_size};
use cepa_crypto::link::{LinkIdentity, LinkKeys, RESPONSE_SIZE};
use cepa_crypto::packet::{HopKeys, Opened, PeelError, ReplayTag, relay_id};
use cepa_host::{Entered, Entering, Gate, HAS_PACKET_TILE, clock};
use cepa_relay::packet::answers::answer_packets;
use cepa_wire::packet::fragment::Fragment;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE, PACKET_SIZE};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};
use cepa_wire::packet::reassembler::{Message, Progress, Reassembler, ReassemblerLimits};
use cepa_wire::packet::request::{PacketAnswer, PacketRequest, answer_parts};
use cepa_wire::packet::{ClientId, Command, Packet, PacketBytes, RelayId};
use futures_channel::oneshot;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::descriptors::{lane, link};
use crate::network::{Network, account};

/// A packet tile of one node.
struct Tile {
    socket: UdpSocket,
    link: LinkIdentity,
    hop_keys: Arc<ArcSwap<HopKeys>>,
    gate: Gate,
    peers: Arc<BTreeMap<RelayId, SocketAddr>>,
    clients: BTreeMap<u32, (ClientId, SocketAddr, LinkKeys)>,
    seen: BTreeSet<ReplayTag>,
    reassembler: Reassembler,
}

impl Tile {
    async fn run(mut self) -> ! {
        let mut datagram = vec![0; DATAGRAM_SIZE];
        loop {
            let (size, from) = self.socket.recv_from(&mut datagram).await.unwrap();
            if let Some(packet) = self.receive(&mut datagram[..size], from).await {
                self.handle(&packet).await;
            }
        }
    }

    async fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) -> Option<PacketBytes> {
        if let Ok(packet) = PacketBytes::try_from(&*datagram) {
            return Some(packet);
        }
        let (header, _) = LinkHeader::parse(datagram).ok()?;
        if header.frame_type == FrameType::HandshakeInit {
            let received = self
                .link
                .read_initiation((&*datagram).try_into().unwrap(), random());
            let received = received.ok().unwrap();
            let client = self.link.client_id(received.peer());
            let index = u32::from_le_bytes(*random::<32>().first_chunk().unwrap());
            let mut response = [0; RESPONSE_SIZE];
            let told = (index, client);
            let keys = received.respond(&self.link, told, clock::now(), &mut response);
            self.clients
                .insert(index, (client, from, keys.ok().unwrap()));
            self.socket.send_to(&response, from).await.unwrap();
            return None;
        }
        let (_, _, keys) = self.clients.get_mut(&header.receiver_index)?;
        keys.open(clock::now(), &header, datagram).ok()?;
        datagram
            .get(LINK_HEADER_SIZE..LINK_HEADER_SIZE + PACKET_SIZE)?
            .try_into()
            .ok()
    }

    async fn handle(&mut self, packet: &PacketBytes) {
        let mut packet = Box::new(*packet);
        let mut opened: [Result<Opened, _>; 1] = [Err(PeelError::BadTag)];
        self.hop_keys
            .load()
            .open_many(clock::now(), &[*packet], &mut opened);
        let [opened] = opened;
        let opened = opened.unwrap_or_else(|error| panic!("{error}"));
        if !self.seen.insert(*opened.replay_tag()) {
            return;
        }
        match opened.peel(&mut packet).unwrap().command {
            Command::Forward(next) => {
                self.socket
                    .send_to(packet.as_slice(), self.peers[&next])
                    .await
                    .unwrap();
            }
            Command::Reply(client) => self.send_to_client(client, &packet).await,
            Command::Deliver => {
                let fragment = Fragment::parse(Packet::new(&packet).content()).unwrap();
                let progress = self.reassembler.handle_fragment(clock::now(), &fragment);
                if let Progress::Complete(message) = progress {
                    self.run_request(message).await;
                }
            }
        }
    }

    async fn send_to_client(&mut self, client: ClientId, packet: &PacketBytes) {
        let found = self.clients.values_mut().find(|(id, ..)| *id == client);
        let (_, to, keys) = found.unwrap();
        let mut datagram = vec![0; DATAGRAM_SIZE];
        datagram[LINK_HEADER_SIZE..][..PACKET_SIZE].copy_from_slice(packet);
        let sealed = datagram.as_mut_slice().try_into().unwrap();
        keys.seal(clock::now(), sealed).unwrap();
        self.socket.send_to(&datagram, *to).await.unwrap();
    }

    async fn run_request(&mut self, message: Message) {
        let request = PacketRequest::parse(&message.bytes).unwrap();
        let (reply, answer) = oneshot::channel();
        let entered = Entered {
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request: Entering::Client {
                method: request.method().to_owned(),
                params: request.params().to_vec().into(),
                reply,
            },
        };
        assert!(self.gate.enter(entered));
        let (answer, encoding) = answer.await.unwrap();
        let (status, encoding, body) = answer_parts(answer, encoding);
        let answered = PacketAnswer::Body {
            status,
            encoding,
            body: &body,
        };
        for built in answer_packets(message.id, &request, &answered) {
            self.socket
                .send_to(&built.bytes, self.peers[&built.first])
                .await
                .unwrap();
        }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Starts nodes with their lanes and tiles.
async fn start(network: &mut Network) {
    let mut parts = Vec::new();
    let mut peers = BTreeMap::new();
    for index in 0..network.nodes.len() {
        let node = &network.nodes[index];
        let id = relay_id(&node.keys().ed25519_public());
        let (lane, settings) = lane(node, Some(Ipv4Addr::LOCALHOST));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        peers.insert(id, address);
        let (link, _) = link(node);
        parts.push((lane, link, Arc::clone(&settings.hop_keys), address));
        network.start_with(index, 1, Some(settings));
    }
    let peers = Arc::new(peers);
    for (index, (lane, link, hop_keys, address)) in parts.into_iter().enumerate() {
        let nodes = network.view.clone();
        tokio::spawn(async move { lane.run(clock::now, move || nodes.clone()).await });
        if HAS_PACKET_TILE {
            continue;
        }
        let tile = Tile {
            socket: UdpSocket::bind(address).await.unwrap(),
            link,
            hop_keys,
            gate: network.gate(index),
            peers: Arc::clone(&peers),
            clients: BTreeMap::new(),
            seen: BTreeSet::new(),
            reassembler: Reassembler::new(ReassemblerLimits::TILE),
        };
        tokio::spawn(async { Box::pin(tile.run()).await });
    }
    let known = async {
        for node in &network.view {
            while lane_size(node, &network.view).await < network.view.len() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    timeout(Duration::from_mins(1), known)
        .await
        .expect("all know all");
}

#[test]
fn messages_go_by_packets_and_come_by_packets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let mut network = Network::new(5);
        start(&mut network).await;
        let settings = ClientSettings {
            lane: Lane::Packet,
            ..ClientSettings::default()
        };
        let connect = || Client::connect(Bootstrap::Nodes(network.view.clone()), settings);
        let mut client = connect().await.unwrap();
        let [one, other] = [1, 2].map(account);
        for text in ["short".to_owned(), "long ".repeat(800)] {
            let sent = client.send_text(&one, &other.id(), &text).await.unwrap();
            assert_eq!((sent.signed_count, sent.member_count), (5, 5));
            assert_eq!(sent.path.len(), 3);
        }
        // More than one page of them.
        let mut reader = connect().await.unwrap();
        for _ in 0..6 {
            let text = "x".repeat(5000);
            client.send_text(&one, &other.id(), &text).await.unwrap();
        }
        let received = reader
            .receive(&other, &mut Cursors::default())
            .await
            .unwrap();
        assert_eq!((received.messages.len(), received.unreadable_count), (8, 0));
        assert_eq!(received.messages[0].text, "short");
        assert_eq!(received.messages[1].text, "long ".repeat(800));
        let hashes = [client
            .send_text(&one, &other.id(), "gone")
            .await
            .unwrap()
            .hash];
        let deleted = reader.delete(&other, &hashes).await.unwrap();
        assert_eq!(deleted.signed_count, 5);
        let info = reader.info(&network.view[3]).await.unwrap();
        assert!(!info.version.is_empty());
    });
}
