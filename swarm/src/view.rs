//! The picture of the network that requests are judged by. Immutable: control makes a new one.

use cepa_crypto::swarm_space::{nearest_swarm, swarm_space};
use cepa_storage::territory::{Arc, Territory};
use cepa_wire::{Ed25519PublicKey, Mailbox, ServiceNode, X25519PublicKey};

use crate::limits::{HARD_FORK, HARD_FORK_MIN};

/// All service nodes and their swarms, at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    nodes: Box<[ServiceNode]>,
    /// Ascending, without [`ServiceNode::NO_SWARM`].
    swarm_ids: Box<[u64]>,
    by_x25519: Box<[(X25519PublicKey, u32)]>,
    us: Option<usize>,
    chain: Chain,
}

/// What is known of the chain that the nodes are registered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its height.
    pub height: u64,
    /// Hard fork and revision.
    pub hard_fork: [u16; 2],
}

impl Default for Chain {
    /// For a view that comes from a file.
    fn default() -> Self {
        Self {
            height: 1,
            hard_fork: HARD_FORK,
        }
    }
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
            chain: Chain::default(),
        }
    }

    /// The same nodes at this point of the chain.
    #[must_use]
    pub fn with_chain(self, chain: Chain) -> Self {
        Self { chain, ..self }
    }

    /// The chain that the nodes are registered on.
    pub const fn chain(&self) -> Chain {
        self.chain
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

    /// The mailboxes that this node keeps; `None` while it is in no swarm.
    pub fn territory(&self) -> Option<Territory> {
        let us = self.us()?;
        let at = self.swarm_ids.binary_search(&us.swarm_id).ok()?;
        Some(Territory(vec![arc_of(&self.swarm_ids, at)]))
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
            Some(us) if us.swarm_id != ServiceNode::NO_SWARM => {
                let is_early = self.chain.hard_fork < HARD_FORK_MIN;
                is_early.then_some("not yet on hardfork 19.3")
            }
            _ => Some("not in any swarm"),
        }
    }
}

/// The points of the ring that are nearest to the swarm at `at`: from behind the middle between it and
/// the one below up to the middle between it and the one above, whose points go to the lower one.
pub(crate) fn arc_of(swarm_ids: &[u64], at: usize) -> Arc {
    let id = swarm_ids.get(at).copied().unwrap_or_default();
    if swarm_ids.len() < 2 {
        return Arc::RING;
    }
    let below = at.checked_sub(1).and_then(|left| swarm_ids.get(left));
    let below = below.or_else(|| swarm_ids.last()).copied().unwrap_or(id);
    let above = swarm_ids.get(at + 1).or_else(|| swarm_ids.first());
    let above = above.copied().unwrap_or(id);
    Arc {
        from: below
            .wrapping_add(id.wrapping_sub(below) / 2)
            .wrapping_add(1),
        to: id.wrapping_add(above.wrapping_sub(id) / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arc_holds_what_is_nearest() {
        let rings: [&[u64]; 6] = [
            &[7],
            &[0, u64::MAX - 1],
            &[10, 11],
            &[10, 12, 17, 30],
            &[1 << 62, 1 << 63, (1 << 63) + 1],
            &[5, u64::MAX / 2, u64::MAX - 3],
        ];
        for ids in rings {
            let near = ids
                .iter()
                .flat_map(|id| (0..9).map(|by| id.wrapping_add(by)));
            let middles = ids.windows(2).flat_map(|pair| {
                let middle = pair[0] + (pair[1] - pair[0]) / 2;
                (0..5).map(move |by| middle.wrapping_add(by).wrapping_sub(2))
            });
            let over_zero = ids[0].wrapping_sub(ids[ids.len() - 1]) / 2;
            let last = ids[ids.len() - 1].wrapping_add(over_zero);
            let over_zero = (0..5).map(|by| last.wrapping_add(by).wrapping_sub(2));
            for point in near.chain(middles).chain(over_zero).chain([0, u64::MAX]) {
                for (at, id) in ids.iter().enumerate() {
                    let is_nearest = nearest_swarm(point, ids) == Some(*id);
                    let arc = arc_of(ids, at);
                    assert_eq!(
                        arc.contains(point),
                        is_nearest,
                        "{point} of {id} in {ids:?}"
                    );
                }
            }
        }
    }
}
