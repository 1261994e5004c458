//! The picture of the network that requests are judged by. Immutable: control makes a new one.

use cepa_crypto::swarm_space::{nearest_swarm, swarm_space};
use cepa_wire::{Ed25519PublicKey, Mailbox, ServiceNode, X25519PublicKey};

/// All service nodes and their swarms, at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: Box<[ServiceNode]>,
    /// Ascending, without [`ServiceNode::NO_SWARM`].
    swarm_ids: Box<[u64]>,
    by_x25519: Box<[(X25519PublicKey, u32)]>,
    us: Option<usize>,
}

impl View {
    /// A view of `nodes` as seen by the node with the key `us`.
    pub fn new(nodes: Vec<ServiceNode>, us: &Ed25519PublicKey) -> Self {
        let mut swarm_ids: Vec<u64> = nodes
            .iter()
            .map(|node| node.swarm_id)
            .filter(|id| *id != ServiceNode::NO_SWARM)
            .collect();
        swarm_ids.sort_unstable();
        swarm_ids.dedup();
        let mut by_x25519: Vec<_> = nodes
            .iter()
            .map(|node| node.pubkey_x25519)
            .zip(0_u32..)
            .collect();
        by_x25519.sort_unstable();
        let us = nodes.iter().position(|node| node.pubkey_ed25519 == *us);
        Self {
            nodes: nodes.into(),
            swarm_ids: swarm_ids.into(),
            by_x25519: by_x25519.into(),
            us,
        }
    }

    /// All nodes; a node's index here is its index in everything made from this view.
    pub fn nodes(&self) -> &[ServiceNode] {
        &self.nodes
    }

    /// This node, if it is in the view.
    pub fn us(&self) -> Option<&ServiceNode> {
        self.us.and_then(|index| self.nodes.get(index))
    }

    /// The index of the node with this CURVE key.
    pub fn find_x25519(&self, key: &X25519PublicKey) -> Option<usize> {
        let at = self
            .by_x25519
            .binary_search_by_key(key, |(key, _)| *key)
            .ok()?;
        self.by_x25519
            .get(at)
            .and_then(|(_, index)| usize::try_from(*index).ok())
    }

    /// The swarm that keeps this mailbox; `None` while there is no swarm at all.
    pub fn swarm_of(&self, mailbox: &Mailbox) -> Option<u64> {
        nearest_swarm(swarm_space(mailbox), &self.swarm_ids)
    }

    /// Whether this node keeps this mailbox.
    pub fn is_ours(&self, mailbox: &Mailbox) -> bool {
        self.us()
            .is_some_and(|us| self.swarm_of(mailbox) == Some(us.swarm_id))
    }

    /// The members of a swarm, with their indices.
    pub fn members(&self, swarm_id: u64) -> impl Iterator<Item = (usize, &ServiceNode)> {
        self.nodes
            .iter()
            .enumerate()
            .filter(move |(_, node)| node.swarm_id == swarm_id)
    }

    /// Why this node may not work yet, in the words of the 503 answer; `None` when it may.
    pub fn unready_reason(&self) -> Option<&'static str> {
        match self.us() {
            None => Some("not in the service node list"),
            Some(us) if us.swarm_id == ServiceNode::NO_SWARM => Some("not in a swarm"),
            Some(_) => None,
        }
    }
}
