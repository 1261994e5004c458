//! How this node stands with the network, for its operator: whether oxend hears of it, whether others test it,
//! and how long it has before the network votes it out.
//!
//! Only the control plane writes and reads this, a few times a second.

use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cepa_meter::{Declared, LabelValue, Sample, counters, numbers};
use cepa_wire::oxend::Registration;
use tokio::time::Instant;

use crate::reachability::Kind;

/// Whoever failed the tests of others for so long is voted out
/// (`../shared/protocol/session-node.md`, "Obligations towards `oxend`").
const UNREACHABLE_MAX: Duration = Duration::from_mins(65);
/// A proof of uptime is sent each hour while oxend gets pings, and is good for 125 minutes: after the last ping it
/// is at least the difference until the network knows none.
const UNPROVEN_MAX: Duration = Duration::from_mins(65);
/// How long a proof is good.
const PROOF_LIFETIME: Duration = Duration::from_mins(125);
/// The chain makes a block in so many seconds.
const BLOCK_SECONDS: u64 = 120;

counters! {
    /// What oxend did.
    pub(crate) struct OxendCounters, named "oxend_";
    /// Pings of ours that oxend took.
    pings_accepted,
    /// Pings of ours that oxend refused, or did not answer.
    pings_failed,
    /// Connections to oxend.
    connections,
    /// Lists of nodes that oxend gave; that there is nothing new is not counted.
    lists,
    /// Questions for the list that gave nothing.
    lists_failed,
}

numbers! {
    /// How things are now. What is not known is not told.
    struct StandingNumbers, named "";
    /// 1 while there is a connection to oxend.
    gauge oxend_connected,
    /// Seconds since oxend took a ping of ours, or since the start if it never did. Without pings it sends no proof
    /// of uptime.
    gauge oxend_ping_silent_seconds / 1000,
    /// Seconds since oxend told the list of nodes, or that there is nothing new; or since the start.
    gauge view_age_seconds / 1000,
    /// Seconds since a peer tested this node, by the kind of test, or since the start.
    gauges(kind) peer_test_silent_seconds / 1000,
    /// Peers of the view that failed our last test of them.
    gauge peers_failing,
    /// Peers of the view that can be reached, and did not fail our last test of them; some may not be tested yet.
    gauge peers_passing,
    /// 1 while the chain has this node among those that serve, 0 when it is decommissioned; not told while it is not
    /// registered.
    maybe node_active,
    /// Seconds that this node may be decommissioned for before it is deregistered: its credit, or what is left of
    /// it. From the blocks that oxend tells, at two minutes each.
    maybe decommission_credit_seconds,
    /// Seconds since the last proof of our uptime that oxend saw.
    maybe uptime_proof_age_seconds,
    /// Seconds until the network may vote this node out if nothing changes: the least of what is left of 65 minutes
    /// since oxend took a ping (it proves hourly, and a proof is good for 125), of 125 minutes since the last proof
    /// that oxend saw, and of 65 minutes since a peer tested each port. An estimate by the rules of the chain: what
    /// other nodes found is not known here. 0 when the time is over.
    maybe decommission_in_seconds / 1000,
}

/// What is known. Everything is told since a clock that knows no date.
#[derive(Debug)]
pub struct Standing {
    pub(crate) counters: OxendCounters,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    begun: Instant,
    is_connected: bool,
    pinged: Option<Instant>,
    listed: Option<Instant>,
    registration: Option<Registration>,
    tests: [Tests; 3],
    failing_count: usize,
    passing_count: usize,
}

/// Tests of one kind that came.
#[derive(Clone, Copy, Debug, Default)]
struct Tests {
    /// `None`: the kind is not watched.
    count: Option<u64>,
    heard: Option<Instant>,
}

impl Standing {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            begun: Instant::now(),
            is_connected: false,
            pinged: None,
            listed: None,
            registration: None,
            tests: Default::default(),
            failing_count: 0,
            passing_count: 0,
        };
        Self {
            counters: OxendCounters::default(),
            inner: Mutex::new(inner),
        }
    }

    /// What is declared here.
    pub fn declared() -> impl Iterator<Item = &'static Declared> {
        let counters = OxendCounters::DECLARED.iter();
        counters.chain(StandingNumbers::DECLARED)
    }

    /// All of it. `now_unix` is the date in seconds since 1970.
    pub fn samples(&self, now_unix: u64) -> Vec<Sample> {
        let mut samples = self.counters.snapshot();
        let numbers = self.lock().numbers(Instant::now(), now_unix);
        samples.extend(numbers.samples());
        samples
    }

    pub(crate) fn handle_connected(&self, is_connected: bool) {
        if is_connected {
            cepa_meter::count(&self.counters.connections);
        }
        self.lock().is_connected = is_connected;
    }

    pub(crate) fn handle_ping(&self, is_accepted: bool) {
        if is_accepted {
            cepa_meter::count(&self.counters.pings_accepted);
            self.lock().pinged = Some(Instant::now());
        } else {
            cepa_meter::count(&self.counters.pings_failed);
        }
    }

    /// Oxend told what there is, or that it is as before.
    pub(crate) fn handle_listed(&self) {
        self.lock().listed = Some(Instant::now());
    }

    pub(crate) fn handle_registration(&self, registration: Option<Registration>) {
        self.lock().registration = registration;
    }

    pub(crate) fn handle_tests(&self, counts: [(Kind, Option<u64>); 3]) {
        let mut inner = self.lock();
        let now = Instant::now();
        for (tests, (_, count)) in inner.tests.iter_mut().zip(counts) {
            let is_more = count > tests.count.or(Some(0));
            tests.count = count;
            if is_more {
                tests.heard = Some(now);
            }
        }
    }

    pub(crate) fn handle_peers(&self, failing_count: usize, passing_count: usize) {
        let mut inner = self.lock();
        (inner.failing_count, inner.passing_count) = (failing_count, passing_count);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn numbers(&self, now: Instant, now_unix: u64) -> StandingNumbers {
        let since = |at: Option<Instant>| {
            let at = at.unwrap_or(self.begun);
            now.saturating_duration_since(at)
        };
        let kinds = [Kind::Https, Kind::Omq, Kind::Quic].into_iter();
        let tests = kinds
            .zip(self.tests)
            .filter(|(_, tests)| tests.count.is_some());
        let silent: Vec<_> = tests
            .map(|(kind, tests)| (label(kind), millis(since(tests.heard))))
            .collect();
        let registration = self.registration;
        let proof = registration.and_then(|registration| registration.last_proof);
        let proof_age = proof.map(|at| now_unix.saturating_sub(at));
        let left = |limit: Duration, passed: u64| millis(limit).saturating_sub(passed);
        let by_tests = silent
            .iter()
            .map(|(_, silent)| left(UNREACHABLE_MAX, *silent));
        let by_proof = proof_age.map(|age| left(PROOF_LIFETIME, age.saturating_mul(1000)));
        let by_ping = left(UNPROVEN_MAX, millis(since(self.pinged)));
        // Nobody votes on who does not serve.
        let is_active = registration.is_some_and(|registration| registration.is_active);
        let all = by_tests.chain(by_proof).chain([by_ping]);
        StandingNumbers {
            oxend_connected: u64::from(self.is_connected),
            oxend_ping_silent_seconds: millis(since(self.pinged)),
            view_age_seconds: millis(since(self.listed)),
            decommission_in_seconds: all.min().filter(|_| is_active),
            peer_test_silent_seconds: silent,
            peers_failing: wide(self.failing_count),
            peers_passing: wide(self.passing_count),
            node_active: registration.map(|registration| u64::from(registration.is_active)),
            decommission_credit_seconds: registration
                .and_then(|registration| registration.credit_blocks)
                .map(|blocks| blocks.saturating_mul(BLOCK_SECONDS)),
            uptime_proof_age_seconds: proof_age,
        }
    }
}

fn label(kind: Kind) -> LabelValue {
    kind.label().into()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn told(standing: &Standing, after: Duration) -> StandingNumbers {
        let inner = standing.lock();
        inner.numbers(inner.begun + after, NOW)
    }

    #[test]
    fn the_nearest_end_is_told() {
        let standing = Standing::new();
        let minutes = Duration::from_mins;
        assert_eq!(told(&standing, minutes(5)).decommission_in_seconds, None);
        let active = Registration {
            is_active: true,
            credit_blocks: Some(60),
            last_proof: None,
        };
        standing.handle_registration(Some(active));
        let numbers = told(&standing, minutes(5));
        assert_eq!(numbers.decommission_in_seconds, Some(60 * 60 * 1000));
        assert_eq!(numbers.decommission_credit_seconds, Some(7200));
        let begun = standing.lock().begun;
        standing.lock().pinged = Some(begun + minutes(10));
        let ends = |after| told(&standing, minutes(after)).decommission_in_seconds;
        assert_eq!(ends(15), Some(60 * 60 * 1000));
        // Nobody has tested the one port that is watched.
        let counts = [
            (Kind::Https, Some(0)),
            (Kind::Omq, None),
            (Kind::Quic, None),
        ];
        standing.handle_tests(counts);
        assert_eq!(ends(15), Some(50 * 60 * 1000));
        assert_eq!(ends(66), Some(0));
        let proof = Registration {
            last_proof: Some(NOW - 124 * 60),
            ..active
        };
        standing.handle_registration(Some(proof));
        assert_eq!(ends(15), Some(60 * 1000));
        let idle = Registration {
            is_active: false,
            ..proof
        };
        standing.handle_registration(Some(idle));
        assert_eq!(ends(15), None);
        assert_eq!(told(&standing, minutes(15)).node_active, Some(0));
    }

    #[test]
    fn a_test_that_came_is_heard() {
        let standing = Standing::new();
        let counts = |https| {
            [
                (Kind::Https, Some(https)),
                (Kind::Omq, Some(0)),
                (Kind::Quic, None),
            ]
        };
        standing.handle_tests(counts(0));
        assert!(
            standing
                .lock()
                .tests
                .iter()
                .all(|tests| tests.heard.is_none())
        );
        standing.handle_tests(counts(1));
        let heard = standing.lock().tests.map(|tests| tests.heard.is_some());
        assert_eq!(heard, [true, false, false]);
        let kinds = told(&standing, Duration::ZERO).peer_test_silent_seconds;
        let kinds: Vec<_> = kinds.iter().map(|(kind, _)| kind.as_ref()).collect();
        assert_eq!(kinds, ["https", "omq"]);
    }
}
