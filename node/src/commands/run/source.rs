//! Where the node's keys and its view of the network come from: a directory and a file, or the chain
//! daemon.

use core::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_control::oxend::{
    self, Bootstrap, Duties, OurNode, OxendAddress, OxendClient, OxendHandle, OxendView,
};
use cepa_control::reachability::{PeerTest, PeerTests};
use cepa_control::{Config, NetworkFile, NetworkSource, Standing};
use cepa_crypto::{Ed25519SecretKey, NodeKeys};
use cepa_edge::quic::client;
use cepa_host::NetworkView;
use cepa_relay::Counters;
use cepa_swarm::{Chain, View};
use cepa_wire::{Ed25519PublicKey, ServiceNode};
use tracing::{info, warn};

use super::identity;
use crate::failure::Failure;

/// Where the view comes from.
pub(super) enum Source {
    /// A `network.json`.
    File {
        file: NetworkFile,
        nodes: Vec<ServiceNode>,
    },
    /// The chain daemon.
    Oxend(OxendClient),
}

/// The node's keys: of its data directory, or of the chain daemon, which may keep us waiting.
pub(super) async fn find_keys(config: &Config) -> Result<NodeKeys, Failure> {
    match &config.network {
        NetworkSource::File(_) => identity::load_or_create(&config.data_dir),
        NetworkSource::Oxend(address) => {
            let address: OxendAddress = address.parse().map_err(Failure::new)?;
            info!("asking oxend for the node's keys");
            Ok(oxend::fetch_keys(&address).await)
        }
    }
}

/// Whom the node asks when its chain daemon knows too little. A lab on loopback has nobody outside.
pub(super) fn bootstrap(config: &Config) -> Bootstrap {
    let mut bootstrap = Bootstrap::of_network(config.testnet);
    match &config.bootstrap_nodes {
        Some(nodes) => bootstrap.nodes.clone_from(nodes),
        None if config.bind_ip.is_loopback() => bootstrap.nodes.clear(),
        None => {}
    }
    bootstrap
}

/// What the watch over the network needs.
pub(super) struct Watch {
    pub(super) us: OurNode,
    /// Our own key: peers are tested with it.
    pub(super) key: Ed25519SecretKey,
    /// Whether we answer QUIC, so that others should test it.
    pub(super) has_quic: bool,
    pub(super) bootstrap: Bootstrap,
    pub(super) counters: Arc<Counters>,
    pub(super) view: Arc<ArcSwap<NetworkView>>,
}

impl Source {
    /// Opens where the view comes from.
    pub(super) fn open(network: &NetworkSource) -> Result<Self, Failure> {
        match network {
            NetworkSource::File(path) => {
                let (file, network) = NetworkFile::open(path).map_err(Failure::new)?;
                let nodes = network.service_nodes;
                Ok(Self::File { file, nodes })
            }
            NetworkSource::Oxend(address) => {
                let address: OxendAddress = address.parse().map_err(Failure::new)?;
                Ok(Self::Oxend(OxendClient::new(address)))
            }
        }
    }

    /// The view to begin with: empty until the chain daemon told one.
    pub(super) fn first_view(&self, us: &Ed25519PublicKey) -> NetworkView {
        match self {
            Self::File { nodes, .. } => make_view(View::new(nodes.clone(), us)),
            Self::Oxend(_) => NetworkView::new(View::new(Vec::new(), us)),
        }
    }

    /// The chain daemon, if there is one.
    pub(super) fn oxend(&self) -> Option<OxendHandle> {
        match self {
            Self::File { .. } => None,
            Self::Oxend(client) => Some(client.handle()),
        }
    }

    /// How the node stands with the network, if a chain daemon tells.
    pub(super) fn standing(&self) -> Option<Arc<Standing>> {
        match self {
            Self::File { .. } => None,
            Self::Oxend(client) => Some(client.standing()),
        }
    }

    /// Publishes every new view until it is dropped.
    pub(super) async fn watch(self, watch: Watch) -> ! {
        let us = Ed25519PublicKey(*watch.key.public_key().as_bytes());
        let view = watch.view;
        match self {
            Self::File { file, .. } => {
                let publish = |nodes| view.store(Arc::new(make_view(View::new(nodes, &us))));
                file.watch(publish).await
            }
            Self::Oxend(client) => {
                let duties = Duties {
                    us: watch.us,
                    bootstrap: watch.bootstrap,
                    peer_tests: Some(PeerTests {
                        counters: watch.counters,
                        quic: Some(quic_test(watch.key)),
                        has_quic: watch.has_quic,
                    }),
                };
                let publish = |told: OxendView| {
                    let chain = Chain {
                        height: told.height,
                        hard_fork: told.hard_fork.into(),
                    };
                    let made = View::new(told.nodes, &us).with_chain(chain);
                    view.store(Arc::new(make_view(made)));
                };
                client.run(duties, publish).await
            }
        }
    }
}

/// Tests whether a peer answers QUIC.
fn quic_test(key: Ed25519SecretKey) -> PeerTest {
    Box::new(move |node: &ServiceNode| {
        let key = key.clone();
        let address = SocketAddr::from((node.ip, node.omq_port));
        let expected = node.pubkey_ed25519;
        Box::pin(async move {
            if client::ping(address, expected, Some(&key)).await {
                Ok(())
            } else {
                Err("it does not answer QUIC".to_owned())
            }
        })
    })
}

fn make_view(view: View) -> NetworkView {
    match view.unready_reason() {
        None => info!(nodes = view.nodes().len(), "in a swarm"),
        Some(reason) => warn!(
            reason,
            "clients are refused until a network view has this node in a swarm"
        ),
    }
    NetworkView::new(view)
}
