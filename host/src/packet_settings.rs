//! What the packet lane of a node is given.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_crypto::packet::HopKeys;
use cepa_relay::packet::directory::{DescriptorBoard, PacketDirectory};

/// Whether this crate carries packets yet: what is shown to others as a packet lane must be one.
pub const HAS_PACKET_TILE: bool = false;

/// How datagrams are read and written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PacketBackend {
    /// The best that needs no more than a port.
    #[default]
    Auto,
    /// `io_uring`.
    IoUring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
    /// `AF_XDP`: one queue a tile, from the first that is given.
    AfXdp {
        /// The name of the interface.
        interface: String,
        /// The queue of the first tile.
        first_queue: u32,
    },
}

/// The packet lane of a node.
pub struct PacketSettings {
    /// UDP port, at the address that HTTPS listens on.
    pub port: u16,
    /// How datagrams are read and written.
    pub backend: PacketBackend,
    /// The cores that packet tiles are pinned to: one tile each.
    pub cpus: Vec<usize>,
    /// Memory of the replay filters of all epochs together, in bytes.
    pub replay_filter_size: usize,
    /// Our hop keys: control puts others in their place. A tile that keeps what it loaded keeps old keys
    /// from being erased.
    pub hop_keys: Arc<ArcSwap<HopKeys>>,
    /// Who is in the lane.
    pub directory: Arc<ArcSwap<PacketDirectory>>,
    /// What HTTPS shows of it.
    pub board: Arc<ArcSwap<DescriptorBoard>>,
}
