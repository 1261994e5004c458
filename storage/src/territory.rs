//! Which mailboxes are ours: arcs of the ring of swarms.

use std::collections::VecDeque;

use cepa_wire::{Mailbox, Timestamp};

/// A part of the ring, both ends in it. It goes on over zero when `from` is larger than `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arc {
    /// The first point.
    pub from: u64,
    /// The last point.
    pub to: u64,
}

impl Arc {
    /// The whole ring.
    pub const RING: Self = Self {
        from: 0,
        to: u64::MAX,
    };

    /// Whether the point lies on it.
    pub const fn contains(self, point: u64) -> bool {
        if self.from <= self.to {
            self.from <= point && point <= self.to
        } else {
            point >= self.from || point <= self.to
        }
    }
}

/// Mailboxes, by their points on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Territory(pub Vec<Arc>);

impl Territory {
    /// Every mailbox.
    pub fn everything() -> Self {
        Self(vec![Arc::RING])
    }

    /// Whether a mailbox belongs to it.
    pub fn contains(&self, mailbox: &Mailbox) -> bool {
        let point = mailbox.swarm_point();
        self.0.iter().any(|arc| arc.contains(point))
    }
}

/// Which territories were ours lately: a mailbox is purged only when it has been in none of them for
/// as long as the grace period.
#[derive(Debug)]
pub(crate) struct Territories {
    current: Territory,
    /// Former ones and when they ended, ascending.
    former: VecDeque<(Territory, Timestamp)>,
    grace_millis: u64,
}

/// Arcs of one territory; with more it is taken for the whole ring.
const ARC_COUNT_MAX: usize = 1024;

/// More changes than this within a grace period are not told apart: the oldest stays longer.
const FORMER_COUNT_MAX: usize = 64;

impl Territories {
    /// Everything is ours until somebody says otherwise.
    pub(crate) fn new(grace_millis: u64) -> Self {
        Self {
            current: Territory::everything(),
            former: VecDeque::new(),
            grace_millis,
        }
    }

    pub(crate) const fn set_grace(&mut self, grace_millis: u64) {
        self.grace_millis = grace_millis;
    }

    pub(crate) fn set(&mut self, territory: Territory, now: Timestamp) {
        if territory == self.current {
            return;
        }
        let former = core::mem::replace(&mut self.current, territory);
        if self.former.len() == FORMER_COUNT_MAX {
            // Merged into its neighbour, whose end is later.
            if let Some((oldest, _)) = self.former.pop_front()
                && let Some((next, _)) = self.former.front_mut()
            {
                next.0.extend(oldest.0);
                if next.0.len() > ARC_COUNT_MAX {
                    *next = Territory::everything();
                }
            }
        }
        self.former.push_back((former, now));
    }

    /// Forgets what ended more than a grace period ago. Tells whether something was forgotten: then
    /// there may be mailboxes to purge.
    pub(crate) fn forget(&mut self, now: Timestamp) -> bool {
        let count = self.former.len();
        let grace = core::time::Duration::from_millis(self.grace_millis);
        while self
            .former
            .front()
            .is_some_and(|(_, ended)| ended.saturating_add(grace) <= now)
        {
            self.former.pop_front();
        }
        self.former.len() < count
    }

    /// Whether the mailbox is ours, or was until lately.
    pub(crate) fn keeps(&self, mailbox: &Mailbox) -> bool {
        let former = self.former.iter().map(|(territory, _)| territory);
        core::iter::once(&self.current)
            .chain(former)
            .any(|territory| territory.contains(mailbox))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(point: u64) -> Mailbox {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&point.to_be_bytes());
        Mailbox { prefix: 5, key }
    }

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_arc_may_go_over_zero() {
        let arc = Arc { from: 9, to: 3 };
        let inside = [9, u64::MAX, 0, 3];
        assert!(inside.into_iter().all(|point| arc.contains(point)));
        assert!(![4, 8].into_iter().any(|point| arc.contains(point)));
        assert!(Arc::RING.contains(0) && Arc::RING.contains(u64::MAX));
    }

    #[test]
    fn a_mailbox_is_kept_for_the_grace_period() {
        let mut territories = Territories::new(100);
        let low = Territory(vec![Arc { from: 0, to: 9 }]);
        let high = Territory(vec![Arc { from: 10, to: 19 }]);
        assert!(territories.keeps(&mailbox(77)));
        territories.set(low, at(0));
        territories.set(high, at(50));
        assert!(!territories.forget(at(99)));
        assert!(territories.keeps(&mailbox(77)));
        assert!(territories.forget(at(100)));
        assert!(!territories.keeps(&mailbox(77)));
        assert!(territories.keeps(&mailbox(5)), "ours until lately");
        assert!(territories.forget(at(150)));
        assert!(!territories.keeps(&mailbox(5)));
        assert!(territories.keeps(&mailbox(15)));
    }

    #[test]
    fn another_grace_counts_at_once() {
        let mut territories = Territories::new(100);
        territories.set(Territory(vec![Arc { from: 0, to: 9 }]), at(0));
        territories.set_grace(200);
        assert!(!territories.forget(at(150)));
        territories.set_grace(10);
        assert!(territories.forget(at(150)));
        assert!(!territories.keeps(&mailbox(77)));
    }

    #[test]
    fn many_changes_are_bounded_and_nobody_is_purged_early() {
        let mut territories = Territories::new(1000);
        for point in 0..200 {
            let one = Territory(vec![Arc {
                from: point,
                to: point,
            }]);
            territories.set(one, at(point));
        }
        assert!(territories.former.len() <= FORMER_COUNT_MAX);
        assert!((0..200).all(|point| territories.keeps(&mailbox(point))));
    }
}
