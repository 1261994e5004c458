//! A node whose oxend has just started, and bootstrap nodes on loopback that know more.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::cell::Cell;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;
use cepa_control::OxendView;
use cepa_control::oxend::{Bootstrap, Duties, OurNode, OxendClient};
use cepa_crypto::curve::Connection;
use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_lab::{Chain, Listen, Oxend};
use cepa_wire::ServiceNode;
use cepa_wire::omq::{self, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.unwrap() });
}

fn node(seed: u8) -> ServiceNode {
    let keys = NodeKeys::from_seed([seed; 32]);
    ServiceNode {
        ip: Ipv4Addr::new(127, 0, 0, seed),
        port: 22_021,
        omq_port: 22_020,
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        swarm_id: 5,
        storage_server_version: [2, 11, 0],
    }
}

fn unproven(seed: u8) -> ServiceNode {
    ServiceNode {
        ip: Ipv4Addr::UNSPECIFIED,
        port: 0,
        omq_port: 0,
        ..node(seed)
    }
}

/// A bootstrap node.
struct Seed {
    listener: TcpListener,
    keys: NodeKeys,
    height: u64,
    nodes: Vec<ServiceNode>,
    asked: Cell<usize>,
}

impl Seed {
    async fn bind(number: u8, height: u64, nodes: Vec<ServiceNode>) -> Self {
        Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            keys: NodeKeys::from_seed([number; 32]),
            height,
            nodes,
            asked: Cell::new(0),
        }
    }

    fn address(&self) -> String {
        let SocketAddr::V4(address) = self.listener.local_addr().unwrap() else {
            unreachable!("it listens at IPv4")
        };
        format!("curve://{address}/{}", self.keys.x25519_public())
    }

    /// Answers whoever comes, one after the other.
    async fn serve(&self) -> ! {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            self.answer(stream).await;
        }
    }

    async fn answer(&self, mut stream: TcpStream) {
        let mut connection = Connection::server(self.keys.x25519(), [9; 96]);
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = stream.read(&mut buffer).await {
            connection.handle_bytes(&buffer[..size]).unwrap();
            while let Some(parts) = connection.poll_message() {
                let Some(Message::Command { name, parts }) = Message::parse(parts) else {
                    continue;
                };
                assert_eq!(name, "rpc.get_service_nodes");
                let [tag, params] = parts.try_into().unwrap();
                let params: Value = serde_json::from_slice(&params).unwrap();
                assert!(params.get("fields").is_some());
                self.asked.update(|count| count + 1);
                let list = Bytes::from(self.list().to_string());
                connection.send(&omq::reply(tag, [Bytes::from_static(b"200"), list]));
            }
            let output = connection.take_output();
            stream.write_all(&output).await.unwrap();
        }
    }

    fn list(&self) -> Value {
        let states = self.nodes.iter().map(ServiceNode::to_oxend_json);
        json!({
            "height": self.height,
            "block_hash": hex::encode([7; 32]),
            "hardfork": 19,
            "snode_revision": 4,
            "service_node_states": states.collect::<Vec<_>>(),
        })
    }
}

fn bootstrap(addresses: &[String]) -> Bootstrap {
    Bootstrap {
        nodes: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        node_count_min: 0,
    }
}

async fn with_client(
    chain: &Chain,
    bootstrap: Bootstrap,
    test: impl AsyncFnOnce(&Oxend, mpsc::UnboundedReceiver<OxendView>),
) {
    let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let oxend = Oxend::start(chain, SecretKeys::from_seed([1; 32]), listen).unwrap();
    let client = OxendClient::new(oxend.address().parse().unwrap());
    let (publish, published) = mpsc::unbounded_channel();
    let duties = Duties {
        us: OurNode::new(&NodeKeys::from_seed([1; 32]), 22_021, 22_020),
        peer_tests: None,
        bootstrap,
    };
    tokio::select! {
        never = client.run(duties, |view| publish.send(view).unwrap()) => never,
        () = test(&oxend, published) => {}
    }
}

#[test]
fn missing_contacts_come_from_bootstrap_nodes_and_stay() {
    run(async {
        let chain = Chain::new();
        chain.add(node(1));
        chain.add(unproven(2));
        chain.add(unproven(3));
        let mut liar = node(1);
        liar.ip = Ipv4Addr::new(127, 9, 9, 9);
        let mut moved = node(2);
        moved.swarm_id = 77;
        // One that does not know all, one that knows other things too.
        let seeds = [
            Seed::bind(21, 1, vec![moved, unproven(3)]).await,
            Seed::bind(22, 1, vec![liar, node(3), node(4)]).await,
        ];
        let addresses: Vec<String> = seeds.iter().map(Seed::address).collect();
        let test = with_client(&chain, bootstrap(&addresses), async |_, mut published| {
            let view = published.recv().await.unwrap();
            let mut expected = [node(1), node(2), node(3)];
            expected.sort_unstable_by_key(|node| node.pubkey_legacy);
            // Addresses alone are taken, and only those that are missing.
            assert_eq!(view.nodes, expected);
            // The daemon does not know them with the next block either; they stay, and nobody is
            // asked again.
            let mut next = None;
            while next.is_none() {
                chain.advance();
                next = timeout(Duration::from_secs(1), published.recv()).await.ok();
            }
            assert_eq!(next.unwrap().unwrap().nodes, expected);
        });
        tokio::select! {
            () = test => {}
            never = seeds[0].serve() => never,
            never = seeds[1].serve() => never,
        }
        assert_eq!([seeds[0].asked.get(), seeds[1].asked.get()], [1, 1]);
    });
}

#[test]
fn a_daemon_that_is_behind_is_waited_for() {
    run(async {
        let chain = Chain::new();
        chain.add(node(1));
        chain.add(unproven(2));
        let seed = Seed::bind(21, 4, vec![node(1), node(2), node(3)]).await;
        let test = with_client(
            &chain,
            bootstrap(&[seed.address()]),
            async |oxend, mut published| {
                while seed.asked.get() == 0 || oxend.pings().is_empty() {
                    sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(chain.advance(), 2);
                let early = timeout(Duration::from_millis(500), published.recv()).await;
                assert!(early.is_err(), "it is two blocks behind");
                // A node that the daemon learns of meanwhile is reached as the bootstrap node said.
                chain.add(unproven(3));
                let mut view = None;
                while view.is_none() {
                    chain.advance();
                    view = timeout(Duration::from_secs(1), published.recv()).await.ok();
                }
                let view = view.unwrap().unwrap();
                assert!(view.height >= 4);
                assert_eq!(view.nodes.len(), 3);
                assert!(
                    [1, 2, 3]
                        .iter()
                        .all(|seed| view.nodes.contains(&node(*seed)))
                );
            },
        );
        tokio::select! {
            () = test => {}
            never = seed.serve() => never,
        }
    });
}

#[test]
fn without_an_answer_the_node_goes_on_with_what_it_has() {
    run(async {
        let chain = Chain::new();
        chain.add(node(1));
        chain.add(unproven(2));
        // Nobody listens at the one, and the other has another key than it should.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gone = format!("curve://{}/{}", free.local_addr().unwrap(), "ab".repeat(32));
        drop(free);
        let (seed, stranger) = (
            Seed::bind(21, 1, vec![node(2)]).await,
            NodeKeys::from_seed([22; 32]).x25519_public(),
        );
        let address = seed.listener.local_addr().unwrap();
        let addresses = [gone, format!("curve://{address}/{stranger}")];
        with_client(&chain, bootstrap(&addresses), async |_, mut published| {
            let view = published.recv().await.unwrap();
            assert_eq!(view.nodes, chain.nodes());
        })
        .await;
        assert_eq!(seed.asked.get(), 0);
    });
}

#[test]
fn a_list_that_is_whole_asks_nobody() {
    run(async {
        let chain = Chain::new();
        chain.add(node(1));
        let seed = Seed::bind(21, 9, vec![node(2)]).await;
        let test = with_client(
            &chain,
            bootstrap(&[seed.address()]),
            async |_, mut published| {
                assert_eq!(published.recv().await.unwrap().nodes, [node(1)]);
            },
        );
        tokio::select! {
            () = test => {}
            never = seed.serve() => never,
        }
        assert_eq!(seed.asked.get(), 0);
    });
}
