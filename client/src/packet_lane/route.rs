//! Which relays a packet goes through.

use core::net::Ipv4Addr;

use cepa_crypto::packet::PathHop;
use cepa_wire::Timestamp;
use cepa_wire::packet::RelayId;

use super::directory::{LaneDirectory, LaneRelay};
use super::timing::delay_ms;
use super::{ExchangeSettings, draw};

/// Draws paths: relays at random, none twice, and no two in one /24 unless all are on one machine.
pub(super) struct Routes<'a> {
    pub(super) directory: &'a LaneDirectory,
    pub(super) settings: &'a ExchangeSettings,
    pub(super) now: Timestamp,
}

/// A path, and how long its hops hold the packet altogether, in milliseconds.
pub(super) struct Route {
    pub(super) hops: Vec<PathHop>,
    pub(super) delay_ms: u64,
}

impl Routes<'_> {
    /// From the guard to a destination. `None` when there are too few relays, or one has no key for now.
    pub(super) fn there(
        &self,
        guard: RelayId,
        destination: RelayId,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Route> {
        let mut path = self.between(guard, destination, random)?;
        path.insert(0, guard);
        path.push(destination);
        self.route(&path, random)
    }

    /// From a destination to the guard: the destination itself is no hop of it.
    pub(super) fn back(
        &self,
        guard: RelayId,
        destination: RelayId,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Route> {
        let mut path = self.between(guard, destination, random)?;
        path.push(guard);
        self.route(&path, random)
    }

    /// The relays of a path between its guard and its destination.
    fn between(
        &self,
        guard: RelayId,
        destination: RelayId,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Vec<RelayId>> {
        let count = self.settings.hop_count().checked_sub(2)?;
        self.middles([guard, destination], count, random)
    }

    /// From the guard to the guard, with as many relays between as a request passes and its answer.
    pub(super) fn cover(
        &self,
        guard: RelayId,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Route> {
        // Guard, at most three between, guard: a header has five hops.
        let count = self.settings.hop_count().saturating_sub(1).min(3);
        let mut middles = self.middles([guard, guard], count, random)?;
        middles.insert(0, guard);
        middles.push(guard);
        self.route(&middles, random)
    }

    fn middles(
        &self,
        ends: [RelayId; 2],
        count: usize,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Option<Vec<RelayId>> {
        let is_lab = self.directory.relays().all(|relay| relay.ip.is_loopback());
        let is_apart = |one: &LaneRelay, other: &LaneRelay| {
            one.id != other.id && (is_lab || prefix(one.ip) != prefix(other.ip))
        };
        let mut candidates: Vec<&LaneRelay> = self.directory.relays().collect();
        candidates.retain(|relay| relay.hop(self.now, 0).is_some());
        for end in ends {
            let end = self.directory.find(end)?;
            candidates.retain(|relay| is_apart(relay, end));
        }
        let mut chosen = Vec::with_capacity(count + 2);
        while chosen.len() < count {
            let bound = u64::try_from(candidates.len()).ok().filter(|it| *it > 0)?;
            // What a modulus of 64 bits favours is nothing.
            let index = usize::try_from(draw(random) % bound).ok()?;
            let relay = candidates.get(index).copied()?;
            candidates.retain(|other| is_apart(other, relay));
            chosen.push(relay.id);
        }
        Some(chosen)
    }

    fn route(&self, relays: &[RelayId], random: &mut impl FnMut(&mut [u8])) -> Option<Route> {
        let mean = self.settings.delay_mean;
        let hops = relays.iter().map(|id| {
            let delay = if mean.is_zero() {
                0
            } else {
                delay_ms(mean, draw(random))
            };
            self.directory.find(*id)?.hop(self.now, delay)
        });
        let hops: Vec<_> = hops.collect::<Option<_>>()?;
        let delay_ms = hops.iter().map(|hop| u64::from(hop.delay_ms)).sum();
        Some(Route { hops, delay_ms })
    }
}

const fn prefix(ip: Ipv4Addr) -> [u8; 3] {
    let [a, b, c, _] = ip.octets();
    [a, b, c]
}
