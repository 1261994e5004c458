//! Which peers are known to be down, so that a request reports them failed at once instead of
//! waiting for them. A peer that is down is probed with growing pauses until it answers.

use core::time::Duration;
use std::collections::BTreeMap;

use cepa_wire::{Ed25519PublicKey, Timestamp};

/// The pause before the first probe.
const PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause between probes: the heartbeat of OMQ links.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
struct Down {
    next_probe: Timestamp,
    pause: Duration,
}

/// What is known of peers' health. A peer that nothing is known of counts as up.
#[derive(Debug, Default)]
pub struct Health {
    /// Only peers that are down; bounded by the nodes of the view, since only those are asked.
    down: BTreeMap<Ed25519PublicKey, Down>,
}

impl Health {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// A peer answered, or its link stands.
    pub fn handle_alive(&mut self, peer: &Ed25519PublicKey) {
        self.down.remove(peer);
    }

    /// A peer did not answer in time, or its link could not be made or broke.
    pub fn handle_failure(&mut self, peer: Ed25519PublicKey, now: Timestamp) {
        let pause = self.down.get(&peer).map_or(PROBE_PAUSE_MIN, |down| {
            (down.pause * 2).min(PROBE_PAUSE_MAX)
        });
        self.down.insert(
            peer,
            Down {
                next_probe: now.saturating_add(pause),
                pause,
            },
        );
    }

    /// Whether a peer is known to be down.
    pub fn is_down(&self, peer: &Ed25519PublicKey) -> bool {
        self.down.contains_key(peer)
    }

    /// How many peers are known to be down.
    pub fn down_count(&self) -> usize {
        self.down.len()
    }

    /// A peer that wants to be probed now. Each probe is due once; its result comes back through
    /// [`Self::handle_alive`] or [`Self::handle_failure`].
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<Ed25519PublicKey> {
        let (peer, down) = self
            .down
            .iter_mut()
            .find(|(_, down)| down.next_probe <= now)?;
        down.next_probe = now.saturating_add(down.pause);
        Some(*peer)
    }

    /// Forgets peers that `keep` does not know: they left the network.
    pub fn retain(&mut self, keep: impl Fn(&Ed25519PublicKey) -> bool) {
        self.down.retain(|peer, _| keep(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ed25519PublicKey = Ed25519PublicKey([1; 32]);

    #[test]
    fn a_peer_is_down_from_its_failure_until_it_answers() {
        let mut health = Health::new();
        assert!(!health.is_down(&PEER));
        health.handle_failure(PEER, Timestamp::from_millis(0));
        assert!(health.is_down(&PEER));
        health.handle_alive(&PEER);
        assert!(!health.is_down(&PEER));
        assert_eq!(health.poll_probe(Timestamp::MAX), None);
    }

    #[test]
    fn probes_come_at_growing_pauses_up_to_the_heartbeat() {
        let mut health = Health::new();
        let mut now = Timestamp::from_millis(0);
        health.handle_failure(PEER, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let begin = now;
            while health.poll_probe(now).is_none() {
                now = now.saturating_add(Duration::from_millis(500));
            }
            pauses.push(now.saturating_since(begin).as_millis());
            health.handle_failure(PEER, now);
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 15_000, 15_000]);
    }

    #[test]
    fn a_peer_that_left_is_forgotten() {
        let mut health = Health::new();
        health.handle_failure(PEER, Timestamp::from_millis(0));
        health.retain(|_| false);
        assert!(!health.is_down(&PEER));
    }
}
