//! What the packet lane of a node is given.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_crypto::link::LinkIdentity;
use cepa_crypto::packet::HopKeys;
use cepa_relay::packet::directory::{DescriptorBoard, PacketDirectory};
use cepa_relay::packet::relay::Counted;

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
    /// `AF_XDP`.
    AfXdp {
        /// The name of the interface.
        interface: String,
        /// The queue that it takes.
        queue: u32,
    },
}

/// The packet lane of a node.
pub struct PacketSettings {
    /// UDP port, at the address that HTTPS listens on.
    pub port: u16,
    /// How datagrams are read and written.
    pub backend: PacketBackend,
    /// The core that the packet tile is pinned to.
    pub cpu: usize,
    /// Our keys of links.
    pub link: LinkIdentity,
    /// Memory of the replay filters of all epochs together, in bytes.
    pub replay_filter_size: usize,
    /// Our hop keys: control puts others in their place. A tile that keeps what it loaded keeps old keys
    /// from being erased.
    pub hop_keys: Arc<ArcSwap<HopKeys>>,
    /// Who is in the lane.
    pub directory: Arc<ArcSwap<PacketDirectory>>,
    /// What the tile counts.
    pub counted: Arc<Counted>,
    /// What HTTPS shows of it.
    pub board: Arc<ArcSwap<DescriptorBoard>>,
}
