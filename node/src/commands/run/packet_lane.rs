//! The packet lane of a node: what its tile is given, and what control keeps new for it.

use std::sync::Arc;

use cepa_control::Config;
use cepa_control::config::{PacketConfig, PacketIo, X25519Choice};
use cepa_control::packet_lane::{LaneIdentity, PacketLane};
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::x25519::{self, Backend};
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_host::{NetworkView, PacketBackend, PacketSettings};
use cepa_relay::packet::relay::Counted;
use cepa_wire::packet::descriptor::Ports;
use tracing::info;

use super::identity;
use crate::failure::Failure;

/// The lane, before the node runs.
pub(super) struct OpenLane {
    /// What control keeps new.
    pub(super) control: PacketLane,
    /// What the tile is given.
    pub(super) settings: PacketSettings,
    /// What the tile counts.
    pub(super) counted: Arc<Counted>,
}

/// Makes what the lane needs, if the configuration wants one.
pub(super) fn open(
    config: &Config,
    keys: &NodeKeys,
    view: &NetworkView,
) -> Result<Option<OpenLane>, Failure> {
    let packet = &config.packet;
    if !packet.is_on {
        return Ok(None);
    }
    let link = identity::load_or_create_link(&config.data_dir)?;
    let kem = KemSecretKey::from_seed(*link.kem);
    let secret = X25519SecretKey::from_bytes(*link.x25519);
    let identity = LaneIdentity {
        ed25519: keys.ed25519().clone(),
        x25519: keys.x25519_public(),
        link: secret.public_key(),
        kem: Box::new(*kem.public_key()),
        ports: Ports {
            https: config.https_port,
            omq: config.omq_port,
            quic: config.omq_port,
            packet: packet.port,
        },
    };
    let us = keys.ed25519_public();
    let our_node = view.view.nodes().iter();
    let address = our_node
        .clone()
        .find(|node| node.pubkey_ed25519 == us)
        .map(|node| node.ip);
    let control = PacketLane::new(identity, packet.epoch, cepa_host::clock::now(), address)
        .map_err(|fault| Failure::new(format!("the system gives no randomness: {fault}")))?;
    let counted = Arc::new(Counted::default());
    let settings = PacketSettings {
        port: packet.port,
        backend: backend(packet),
        cpu: packet.cpu,
        link: LinkIdentity::relay(secret, kem),
        replay_filter_size: replay_filter_size(packet),
        hop_keys: control.hop_keys(),
        directory: control.directory(),
        counted: Arc::clone(&counted),
        board: control.board(),
    };
    Ok(Some(OpenLane {
        control,
        settings,
        counted,
    }))
}

/// Chooses what computes batches of X25519, onions' too: before anything is computed.
pub(super) fn choose_x25519(packet: &PacketConfig) -> Result<(), Failure> {
    let backend = match packet.x25519 {
        X25519Choice::Auto => x25519::available(),
        X25519Choice::Scalar => Backend::Scalar,
    };
    x25519::choose(backend).map_err(|fault| Failure::new(format!("x25519: {fault}")))?;
    info!(back_end = ?backend, "X25519 is chosen");
    Ok(())
}

fn backend(packet: &PacketConfig) -> PacketBackend {
    match (packet.io, &packet.af_xdp_interface) {
        (PacketIo::AfXdp, Some(interface)) => PacketBackend::AfXdp {
            interface: interface.clone(),
            queue: packet.af_xdp_queue,
        },
        (PacketIo::IoUring, _) => PacketBackend::IoUring,
        (PacketIo::Mmsg, _) => PacketBackend::Mmsg,
        (PacketIo::Auto | PacketIo::AfXdp, _) => PacketBackend::Auto,
    }
}

fn replay_filter_size(packet: &PacketConfig) -> usize {
    usize::try_from(packet.replay_filter_mib.saturating_mul(super::MIB)).unwrap_or(usize::MAX)
}
