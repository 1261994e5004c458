//! The driver over UDP, through relays with real links.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use cepa_crypto::link::{LinkKeys, RESPONSE_SIZE};
use cepa_wire::Timestamp;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE, PACKET_SIZE};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};
use cepa_wire::packet::{ClientId, PacketBytes, RelayId};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::super::driver::{LaneFailure, LaneHandle, LaneStart};
use super::super::{Ask, ExchangeError, ExchangeSettings};
use super::relay::{Relay, Step};
use super::{NOW, network};

/// A relay at a socket. Other relays are spoken to without a link: with bare packets.
struct Served {
    relay: Relay,
    socket: UdpSocket,
    peers: Arc<BTreeMap<RelayId, SocketAddr>>,
    clients: BTreeMap<u32, (ClientId, SocketAddr, LinkKeys)>,
}

impl Served {
    async fn run(mut self) -> ! {
        let mut datagram = [0; DATAGRAM_SIZE];
        loop {
            let (size, from) = self.socket.recv_from(&mut datagram).await.unwrap();
            if let Some(packet) = self.receive(&mut datagram[..size], from).await {
                for (count, step) in self.relay.handle(NOW, &packet).into_iter().enumerate() {
                    self.carry_out(step).await;
                    // What a relay says itself is paced: else it would fill its peers' buffers.
                    if count % 8 == 7 {
                        sleep(Duration::from_millis(2)).await;
                    }
                }
            }
        }
    }

    async fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) -> Option<PacketBytes> {
        if let Ok(packet) = PacketBytes::try_from(&*datagram) {
            return Some(packet);
        }
        let (header, _) = LinkHeader::parse(datagram).ok()?;
        if header.frame_type == FrameType::HandshakeInit {
            self.open_link(datagram, from).await;
            return None;
        }
        let (_, known, keys) = self.clients.get_mut(&header.receiver_index)?;
        keys.open(now(), &header, datagram).ok()?;
        *known = from;
        datagram
            .get(LINK_HEADER_SIZE..LINK_HEADER_SIZE + PACKET_SIZE)?
            .try_into()
            .ok()
    }

    async fn open_link(&mut self, datagram: &[u8], from: SocketAddr) {
        let identity = &self.relay.identity;
        let initiation = datagram.try_into().unwrap();
        let received = identity.read_initiation(initiation, rand()).ok().unwrap();
        let index = u32::from_le_bytes(*rand::<32>().first_chunk().unwrap());
        let client = identity.client_id(received.peer());
        let mut response = [0; RESPONSE_SIZE];
        let keys = received.respond(identity, (index, client), now(), &mut response);
        self.clients
            .insert(index, (client, from, keys.ok().unwrap()));
        self.socket.send_to(&response, from).await.unwrap();
    }

    async fn carry_out(&mut self, step: Step) {
        match step {
            Step::Send(next, packet, _) => {
                let to = self.peers[&next];
                self.socket.send_to(packet.as_slice(), to).await.unwrap();
            }
            Step::ToClient(client, packet, _) => {
                let mut clients = self.clients.values_mut();
                let found = clients.find(|(id, ..)| *id == client);
                let (_, to, keys) = found.unwrap();
                let mut datagram = [0; DATAGRAM_SIZE];
                datagram[LINK_HEADER_SIZE..][..PACKET_SIZE].copy_from_slice(packet.as_slice());
                keys.seal(now(), &mut datagram).unwrap();
                self.socket.send_to(&datagram, *to).await.unwrap();
            }
        }
    }
}

/// Links do not need to know the time as the packets do.
fn now() -> Timestamp {
    NOW
}

fn rand<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Runs relays, of which the first `silent` do not answer.
async fn serve(count: usize, silent: usize) -> (LaneStart, Vec<RelayId>) {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    }
    let addresses: Vec<_> = sockets.iter().map(|it| it.local_addr().unwrap()).collect();
    let ports: Vec<_> = addresses.iter().map(SocketAddr::port).collect();
    let (relays, _, directory) = network(&ports);
    let ids: Vec<_> = relays.iter().map(|relay| relay.id).collect();
    let peers = Arc::new(ids.iter().copied().zip(addresses).collect());
    for (relay, socket) in relays.into_iter().zip(sockets).skip(silent) {
        let served = Served {
            relay,
            socket,
            peers: Arc::clone(&peers),
            clients: BTreeMap::new(),
        };
        tokio::spawn(async { Box::pin(served.run()).await });
    }
    let start = LaneStart {
        directory: Arc::new(directory),
        settings: ExchangeSettings::default(),
        now: NOW,
    };
    (start, ids)
}

fn ask(destination: RelayId, method: &'static str, params: &[u8]) -> Ask {
    Ask {
        destination,
        method,
        params: params.to_vec(),
        block_count: 4,
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

#[test]
fn every_node_answers_over_sockets() {
    block_on(async {
        let (start, ids) = serve(5, 0).await;
        let lane = LaneHandle::open(start).await.unwrap();
        for id in &ids {
            let answer = lane.ask(ask(*id, "echo", b"hello")).await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
            assert_eq!(answer.path.last(), Some(id));
        }
        let large = lane.ask(ask(ids[2], "size", b"70000")).await.unwrap();
        assert_eq!(large.body.len(), 70_000);
        let asked = ids.iter().map(|id| lane.ask(ask(*id, "size", b"3000")));
        for id in asked.map(|asked| async { asked.await.unwrap().body.len() }) {
            assert_eq!(id.await, 3000);
        }
        let nobody = lane.ask(ask(RelayId([0; 16]), "echo", b"")).await;
        assert!(matches!(
            nobody,
            Err(LaneFailure::Exchange(ExchangeError::NoPath))
        ));
    });
}

#[test]
fn a_relay_that_does_not_answer_is_gone_around() {
    block_on(async {
        let (start, ids) = serve(8, 1).await;
        let lane = LaneHandle::open(start).await.unwrap();
        let answer = lane.ask(ask(ids[7], "echo", b"hello")).await.unwrap();
        assert_eq!(answer.body, b"hello");
    });
}
