//! What the unit tests of several modules need.

use core::net::Ipv4Addr;

use cepa_crypto::NodeKeys;
use cepa_wire::ServiceNode;

/// A node on loopback with these keys.
pub(crate) fn service_node(keys: &NodeKeys) -> ServiceNode {
    ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port: 1,
        omq_port: 2,
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: [0; 32],
        swarm_id: 0,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    }
}
