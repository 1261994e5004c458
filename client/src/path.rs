//! Which relays a request goes through (`../shared/protocol/session-client.md`, section 5).

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use cepa_wire::{Ed25519PublicKey, ServiceNode};

/// Relays of a path: a guard and two more. The destination is none of them.
pub const PATH_SIZE: usize = 3;
/// So many strikes drop a node.
pub const STRIKE_COUNT_MAX: u8 = 3;

/// The nodes that a client knows, and what it holds against them.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    nodes: Vec<ServiceNode>,
    strikes: BTreeMap<Ed25519PublicKey, u8>,
}

impl Pool {
    /// A pool of nodes with nothing against them. Nodes that can't be reached (port or address 0)
    /// are left out.
    pub fn new(mut nodes: Vec<ServiceNode>) -> Self {
        nodes.retain(|node| node.port != 0 && node.ip != Ipv4Addr::UNSPECIFIED);
        nodes.sort_by_key(|node| node.pubkey_ed25519);
        nodes.dedup_by_key(|node| node.pubkey_ed25519);
        Self {
            nodes,
            strikes: BTreeMap::new(),
        }
    }

    /// All nodes that are not dropped.
    pub fn nodes(&self) -> &[ServiceNode] {
        &self.nodes
    }

    /// Finds a node.
    pub fn find(&self, key: &Ed25519PublicKey) -> Option<&ServiceNode> {
        self.nodes.iter().find(|node| node.pubkey_ed25519 == *key)
    }

    /// Drops a node: the network does not know it.
    pub fn drop_node(&mut self, key: &Ed25519PublicKey) {
        self.nodes.retain(|node| node.pubkey_ed25519 != *key);
        self.strikes.remove(key);
    }

    /// Holds a failure against a node; the third drops it.
    pub fn strike(&mut self, key: &Ed25519PublicKey) {
        let strikes = self.strikes.entry(*key).or_default();
        *strikes += 1;
        if *strikes >= STRIKE_COUNT_MAX {
            self.drop_node(key);
        }
    }

    /// A node did well: what was held against it is forgotten.
    pub fn forgive(&mut self, key: &Ed25519PublicKey) {
        self.strikes.remove(key);
    }

    /// Chooses a path to `destination`: no node twice, never the destination, and no two in one /24
    /// (the destination's counts too) unless the whole network is on one machine. `guard` is kept as
    /// the first hop if it still may be. `below` gives a random number below its argument.
    pub fn choose_path<E>(
        &self,
        guard: Option<&Ed25519PublicKey>,
        destination: &Ed25519PublicKey,
        mut below: impl FnMut(usize) -> Result<usize, E>,
    ) -> Result<Option<Vec<ServiceNode>>, E> {
        let is_loopback = self.nodes.iter().all(|node| node.ip.is_loopback());
        let mut candidates: Vec<&ServiceNode> = self
            .nodes
            .iter()
            .filter(|node| node.pubkey_ed25519 != *destination)
            .collect();
        let mut path: Vec<ServiceNode> = Vec::with_capacity(PATH_SIZE);
        if let Some(found) = self.find(destination) {
            keep_apart(&mut candidates, found, is_loopback);
        }
        while path.len() < PATH_SIZE {
            if candidates.is_empty() {
                return Ok(None);
            }
            let kept = guard.filter(|_| path.is_empty()).and_then(|guard| {
                candidates
                    .iter()
                    .position(|node| node.pubkey_ed25519 == *guard)
            });
            let index = match kept {
                Some(index) => index,
                None => below(candidates.len())?,
            };
            let Some(chosen) = candidates.get(index).copied() else {
                return Ok(None);
            };
            keep_apart(&mut candidates, chosen, is_loopback);
            path.push(chosen.clone());
        }
        Ok(Some(path))
    }
}

/// Removes what may not be in a path together with `chosen`.
fn keep_apart(candidates: &mut Vec<&ServiceNode>, chosen: &ServiceNode, is_loopback: bool) {
    candidates.retain(|node| {
        node.pubkey_ed25519 != chosen.pubkey_ed25519
            && (is_loopback || prefix(node.ip) != prefix(chosen.ip))
    });
}

const fn prefix(ip: Ipv4Addr) -> [u8; 3] {
    let [a, b, c, _] = ip.octets();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use cepa_wire::X25519PublicKey;

    use super::*;

    fn node(number: u8, ip: [u8; 4]) -> ServiceNode {
        ServiceNode {
            ip: ip.into(),
            port: 1,
            omq_port: 2,
            pubkey_ed25519: Ed25519PublicKey([number; 32]),
            pubkey_x25519: X25519PublicKey([number; 32]),
            pubkey_legacy: [number; 32],
            swarm_id: 0,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    fn choose(pool: &Pool, guard: Option<u8>, destination: u8, seed: usize) -> Option<Vec<u8>> {
        let mut state = seed;
        let below = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Ok::<_, Infallible>((state >> 33) % bound)
        };
        let guard = guard.map(|number| Ed25519PublicKey([number; 32]));
        let destination = Ed25519PublicKey([destination; 32]);
        let Ok(path) = pool.choose_path(guard.as_ref(), &destination, below);
        path.map(|path| path.iter().map(|node| node.pubkey_ed25519.0[0]).collect())
    }

    #[test]
    fn paths_have_three_relays_apart_from_each_other_and_the_destination() {
        let nodes = (1..=12).map(|n| node(n, [10, 0, n / 2, n]));
        let pool = Pool::new(nodes.collect());
        for seed in 0..500 {
            let path = choose(&pool, None, 5, seed).unwrap();
            assert_eq!(path.len(), 3);
            let mut nets: Vec<u8> = path.iter().chain([&5]).map(|n| n / 2).collect();
            nets.sort_unstable();
            nets.dedup();
            assert_eq!(nets.len(), 4, "{path:?}");
        }
    }

    #[test]
    fn one_machine_is_one_net_and_still_has_paths() {
        let pool = Pool::new((1..=4).map(|n| node(n, [127, 0, 0, 1])).collect());
        for seed in 0..100 {
            let mut path = choose(&pool, None, 2, seed).unwrap();
            path.sort_unstable();
            assert_eq!(path, [1, 3, 4]);
        }
        let small = Pool::new((1..=3).map(|n| node(n, [127, 0, 0, 1])).collect());
        assert_eq!(choose(&small, None, 2, 0), None);
    }

    #[test]
    fn the_guard_is_kept_unless_it_is_the_destination_or_dropped() {
        let mut pool = Pool::new((1..=6).map(|n| node(n, [127, 0, 0, 1])).collect());
        for seed in 0..50 {
            assert_eq!(choose(&pool, Some(3), 2, seed).unwrap()[0], 3);
            assert!(!choose(&pool, Some(3), 3, seed).unwrap().contains(&3));
        }
        pool.drop_node(&Ed25519PublicKey([3; 32]));
        assert!(!choose(&pool, Some(3), 2, 0).unwrap().contains(&3));
    }

    #[test]
    fn three_strikes_drop_a_node_and_success_forgives() {
        let mut pool = Pool::new((1..=6).map(|n| node(n, [127, 0, 0, 1])).collect());
        let key = Ed25519PublicKey([1; 32]);
        pool.strike(&key);
        pool.strike(&key);
        pool.forgive(&key);
        pool.strike(&key);
        pool.strike(&key);
        assert!(pool.find(&key).is_some());
        pool.strike(&key);
        assert!(pool.find(&key).is_none());
    }

    #[test]
    fn nodes_without_an_address_are_left_out() {
        let unreachable = ServiceNode {
            port: 0,
            ..node(2, [127, 0, 0, 1])
        };
        let pool = Pool::new(vec![
            node(1, [0, 0, 0, 0]),
            unreachable,
            node(3, [127, 0, 0, 1]),
        ]);
        assert_eq!(pool.nodes().len(), 1);
    }
}
