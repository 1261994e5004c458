//! The packet lane of a node: its keys, what control keeps new, and what host is given.

use core::future;
use core::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_control::Config;
use cepa_control::config::{PacketConfig, PacketIo, X25519Choice};
use cepa_control::packet_lane::{LaneIdentity, PacketLane};
use cepa_crypto::NodeKeys;
use cepa_crypto::x25519::{self, Backend};
use cepa_host::{NetworkView, PacketBackend, PacketSettings, clock};
use cepa_relay::packet::relay::Counted;
use cepa_wire::packet::descriptor::Ports;

use super::advice::AF_XDP_HINT;
use super::identity;
use crate::failure::Failure;

/// Bytes in a MiB.
const MIB: usize = 1024 * 1024;

/// Makes the lane, if the config wants one: the part that control keeps new, and the part of host.
/// `address` is where the network knows us, if it is known yet.
pub(super) fn make(
    config: &Config,
    keys: &NodeKeys,
    address: Option<Ipv4Addr>,
) -> Result<Option<(PacketLane, PacketSettings)>, Failure> {
    if !config.packet.is_on {
        return Ok(None);
    }
    let packet = &config.packet;
    let (link, kem) = identity::load_or_create_link(&config.data_dir)?;
    let identity = LaneIdentity {
        ed25519: keys.ed25519().clone(),
        x25519: keys.x25519_public(),
        link: *link.public_key(),
        kem,
        ports: Ports {
            https: config.https_port,
            omq: config.omq_port,
            quic: if config.quic { config.omq_port } else { 0 },
            packet: packet.port,
        },
    };
    let lane = PacketLane::new(identity, packet.epoch, clock::now(), address);
    let lane = lane.map_err(Failure::new)?;
    let replay_filter_size = usize::try_from(packet.replay_filter_mib).unwrap_or(usize::MAX);
    let settings = PacketSettings {
        port: packet.port,
        backend: backend(packet)?,
        cpu: packet.cpu,
        replay_filter_size: replay_filter_size.saturating_mul(MIB),
        link,
        hop_keys: lane.hop_keys(),
        directory: lane.directory(),
        counted: Arc::new(Counted::default()),
        board: lane.board(),
    };
    Ok(Some((lane, settings)))
}

/// Keeps the lane new until it is dropped; without one it only waits.
pub(super) async fn run(lane: Option<PacketLane>, view: Arc<ArcSwap<NetworkView>>) -> ! {
    match lane {
        Some(lane) => {
            let nodes = move || view.load().view.nodes().to_vec();
            lane.run(clock::now, nodes).await
        }
        None => future::pending().await,
    }
}

/// Chooses what computes batches of X25519, onions' too: before anything is computed.
pub(super) fn choose_x25519(choice: X25519Choice) -> Result<(), Failure> {
    match choice {
        X25519Choice::Auto => Ok(()),
        X25519Choice::Scalar => x25519::choose(Backend::Scalar).map_err(Failure::new),
    }
}

fn backend(packet: &PacketConfig) -> Result<PacketBackend, Failure> {
    Ok(match packet.io {
        PacketIo::Auto => PacketBackend::Auto,
        PacketIo::IoUring => PacketBackend::IoUring,
        PacketIo::Mmsg => PacketBackend::Mmsg,
        PacketIo::AfXdp => {
            let interface = packet.af_xdp_interface.clone();
            PacketBackend::AfXdp {
                interface: interface.ok_or_else(|| Failure::new(AF_XDP_HINT))?,
                queue: packet.af_xdp_queue,
            }
        }
    })
}
