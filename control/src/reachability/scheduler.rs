//! Who is tested next, sans-IO: time is since the scheduler was made, randomness is an argument.

use core::time::Duration;
use std::collections::BTreeMap;

use cepa_wire::ServiceNode;

/// Mean and standard deviation of the seconds between two tests of peers that are not known to fail.
const INTERVAL_MEAN_S: f64 = 10.0;
const INTERVAL_DEVIATION_S: f64 = 3.0;
/// A peer waits so much longer for each test that it failed before.
const BACK_OFF: Duration = Duration::from_secs(10);
/// But never longer than this.
const BACK_OFF_MAX: Duration = Duration::from_mins(2);
/// Failing peers that are tested again in one poll: after a fault of our own there may be many.
const RETEST_COUNT_MAX: usize = 4;

/// A test that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whom to test.
    pub pubkey_legacy: [u8; 32],
    /// How often in a row it failed before.
    pub previous_failures: u32,
}

/// Who is tested next. Holds a key for each peer at most twice.
#[derive(Debug, Default)]
pub struct Scheduler {
    /// When somebody who is not known to fail is tested next.
    next_at: Duration,
    /// The rest of this round, last first.
    queue: Vec<[u8; 32]>,
    failing: BTreeMap<[u8; 32], Failing>,
}

#[derive(Debug)]
struct Failing {
    failures: u32,
    /// `None` while the test runs.
    retest_at: Option<Duration>,
}

impl Scheduler {
    /// Nobody has been tested.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tests that are due: of failing peers whose pause is over, oldest first, and now and then of
    /// one that is not failing, each once in a round of random order. Neither `us` nor who can't be
    /// reached for want of an address is tested.
    pub fn poll<'a>(
        &mut self,
        now: Duration,
        us: &[u8; 32],
        peers: &'a [ServiceNode],
        random: &mut impl FnMut() -> u64,
    ) -> Vec<(Due, &'a ServiceNode)> {
        let mut due = self.poll_failing(now, us, peers);
        due.extend(self.poll_round(now, us, peers, random));
        due
    }

    /// Takes the result of a test.
    pub fn handle_result(
        &mut self,
        now: Duration,
        due: &Due,
        passed: bool,
        random: &mut impl FnMut() -> u64,
    ) {
        if passed {
            self.failing.remove(&due.pubkey_legacy);
            return;
        }
        let pause = BACK_OFF.saturating_mul(due.previous_failures) + interval(random);
        let failing = Failing {
            failures: due.previous_failures.saturating_add(1),
            retest_at: Some(now + pause.min(BACK_OFF_MAX)),
        };
        self.failing.insert(due.pubkey_legacy, failing);
    }

    /// How many peers failed their last test.
    pub fn failing_count(&self) -> usize {
        self.failing.len()
    }

    fn poll_failing<'a>(
        &mut self,
        now: Duration,
        us: &[u8; 32],
        peers: &'a [ServiceNode],
    ) -> Vec<(Due, &'a ServiceNode)> {
        let is_due = |failing: &Failing| failing.retest_at.filter(|at| *at <= now);
        let mut keys: Vec<_> = self
            .failing
            .iter()
            .filter_map(|(key, failing)| Some((is_due(failing)?, *key)))
            .collect();
        keys.sort_unstable();
        let mut all_due = Vec::new();
        for (_, key) in keys {
            if all_due.len() == RETEST_COUNT_MAX {
                break;
            }
            let Some(peer) = find(peers, us, &key) else {
                // Oxend knows by itself of who is gone, or sends no proofs.
                self.failing.remove(&key);
                continue;
            };
            if let Some(failing) = self.failing.get_mut(&key) {
                failing.retest_at = None;
                let due = Due {
                    pubkey_legacy: key,
                    previous_failures: failing.failures,
                };
                all_due.push((due, peer));
            }
        }
        all_due
    }

    fn poll_round<'a>(
        &mut self,
        now: Duration,
        us: &[u8; 32],
        peers: &'a [ServiceNode],
        random: &mut impl FnMut() -> u64,
    ) -> Option<(Due, &'a ServiceNode)> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now + interval(random);
        let next = self.pop(us, peers).or_else(|| {
            self.queue = peers.iter().map(|peer| peer.pubkey_legacy).collect();
            shuffle(&mut self.queue, random);
            self.pop(us, peers)
        });
        let (pubkey_legacy, peer) = next?;
        let due = Due {
            pubkey_legacy,
            previous_failures: 0,
        };
        Some((due, peer))
    }

    /// The next of this round who is still there and not failing.
    fn pop<'a>(
        &mut self,
        us: &[u8; 32],
        peers: &'a [ServiceNode],
    ) -> Option<([u8; 32], &'a ServiceNode)> {
        while let Some(key) = self.queue.pop() {
            if self.failing.contains_key(&key) {
                continue;
            }
            if let Some(peer) = find(peers, us, &key) {
                return Some((key, peer));
            }
        }
        None
    }
}

fn find<'a>(peers: &'a [ServiceNode], us: &[u8; 32], key: &[u8; 32]) -> Option<&'a ServiceNode> {
    let peer = peers.iter().find(|peer| peer.pubkey_legacy == *key)?;
    (key != us && peer.is_contactable()).then_some(peer)
}

/// Fisher and Yates.
fn shuffle(keys: &mut [[u8; 32]], random: &mut impl FnMut() -> u64) {
    for end in (1..keys.len()).rev() {
        let bound = u64::try_from(end + 1).unwrap_or(u64::MAX);
        keys.swap(end, usize::try_from(random() % bound).unwrap_or(end));
    }
}

/// A normally distributed pause (Box and Muller), never below zero.
fn interval(random: &mut impl FnMut() -> u64) -> Duration {
    // In (0, 1): 32 bits are plenty for seconds.
    let mut uniform =
        || (f64::from(u32::try_from(random() >> 32).unwrap_or(0)) + 0.5) / 2_f64.powi(32);
    let radius = (-2.0 * uniform().ln()).sqrt();
    let normal = radius * (core::f64::consts::TAU * uniform()).cos();
    let seconds = INTERVAL_DEVIATION_S.mul_add(normal, INTERVAL_MEAN_S);
    Duration::from_secs_f64(seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::collections::BTreeSet;

    use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

    use super::*;

    const US: [u8; 32] = [0; 32];

    fn peers(count: u8) -> Vec<ServiceNode> {
        let peer = |index| ServiceNode {
            ip: Ipv4Addr::LOCALHOST,
            port: 1,
            omq_port: 2,
            pubkey_ed25519: Ed25519PublicKey([index; 32]),
            pubkey_x25519: X25519PublicKey([index; 32]),
            pubkey_legacy: [index; 32],
            swarm_id: 7,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        };
        (0..count).map(peer).collect()
    }

    /// splitmix64
    fn seeded(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    #[test]
    fn intervals_are_distributed_normally() {
        let mut random = seeded(1);
        let mut seconds: Vec<f64> = (0..20_000)
            .map(|_| interval(&mut random).as_secs_f64())
            .collect();
        let count = f64::from(20_000);
        let mean = seconds.iter().sum::<f64>() / count;
        let squares = seconds.iter().map(|one| (one - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        assert!((9.9..10.1).contains(&mean), "{mean}");
        assert!((2.9..3.1).contains(&deviation), "{deviation}");
        seconds.sort_unstable_by(f64::total_cmp);
        assert!((9.9..10.1).contains(&seconds[10_000]), "it is symmetric");
        assert_eq!(interval(&mut || 0), interval(&mut || 0));
        assert!(interval(&mut || u64::MAX) < Duration::from_mins(1));
    }

    #[test]
    fn each_peer_is_tested_once_in_a_round_and_nobody_else() {
        let mut random = seeded(2);
        let mut peers = peers(20);
        peers[5].ip = Ipv4Addr::UNSPECIFIED;
        peers[6].omq_port = 0;
        let expected: BTreeSet<u8> = (1..20).filter(|index| ![5, 6].contains(index)).collect();
        let mut scheduler = Scheduler::new();
        let mut orders = BTreeSet::new();
        let mut now = Duration::ZERO;
        for _ in 0..5 {
            let mut round = Vec::new();
            while round.len() < expected.len() {
                now += Duration::from_millis(200);
                for (due, peer) in scheduler.poll(now, &US, &peers, &mut random) {
                    assert_eq!(
                        (due.pubkey_legacy, due.previous_failures),
                        (peer.pubkey_legacy, 0)
                    );
                    scheduler.handle_result(now, &due, true, &mut random);
                    round.push(due.pubkey_legacy[0]);
                }
            }
            assert_eq!(round.iter().copied().collect::<BTreeSet<_>>(), expected);
            orders.insert(round);
        }
        assert_eq!(orders.len(), 5, "the order is random");
        // 85 tests, 10 s from one to the next.
        assert!((700..1000).contains(&now.as_secs()), "{now:?}");
    }

    /// What the scheduler should do with failing peers, told in other words: when each may be tested.
    #[derive(Default)]
    struct Model {
        failing: BTreeMap<[u8; 32], (u32, Duration)>,
    }

    impl Model {
        fn handle_test(&mut self, now: Duration, due: &Due) {
            match self.failing.get(&due.pubkey_legacy) {
                Some((failures, since)) => {
                    assert_eq!(due.previous_failures, *failures);
                    let waited = now.saturating_sub(*since).as_secs_f64();
                    let linear = f64::from(failures - 1) * 10.0;
                    // Six deviations above and below, a tick, and what others of the same tick cost.
                    let least = linear.min(120.0 - 18.0).min(120.0);
                    assert!(
                        waited >= (least - 8.0).max(0.0),
                        "{waited} after {failures}"
                    );
                    assert!(
                        waited <= (linear + 28.0).min(120.0) + 5.0,
                        "{waited} after {failures}"
                    );
                }
                None => assert_eq!(due.previous_failures, 0),
            }
        }

        fn handle_result(&mut self, now: Duration, due: &Due, passed: bool) {
            if passed {
                self.failing.remove(&due.pubkey_legacy);
            } else {
                let failures = due.previous_failures + 1;
                self.failing.insert(due.pubkey_legacy, (failures, now));
            }
        }
    }

    #[test]
    fn failing_peers_are_retested_with_growing_pauses() {
        for seed in 0..20 {
            let mut random = seeded(seed);
            let peers = peers(12);
            let mut scheduler = Scheduler::new();
            let mut model = Model::default();
            let mut running: Vec<(Duration, Due, bool)> = Vec::new();
            let mut most_failures = 0;
            for tick in 0..40_000 {
                let now = Duration::from_millis(200) * tick;
                let (done, rest) = running.drain(..).partition(|(end, ..)| *end <= now);
                running = rest;
                let done: Vec<(Duration, Due, bool)> = done;
                for (_, due, passed) in done {
                    scheduler.handle_result(now, &due, passed, &mut random);
                    model.handle_result(now, &due, passed);
                }
                let all_due = scheduler.poll(now, &US, &peers, &mut random);
                assert!(all_due.len() <= RETEST_COUNT_MAX + 1);
                for (due, _) in all_due {
                    model.handle_test(now, &due);
                    let is_running = |(_, other, _): &(_, Due, _)| {
                        other.pubkey_legacy == due.pubkey_legacy && other.previous_failures > 0
                    };
                    assert!(!running.iter().any(is_running), "one retest at a time");
                    most_failures = most_failures.max(due.previous_failures);
                    // Peers 1 to 3 never answer; the others do, but for one time in eight.
                    let passed = due.pubkey_legacy[0] > 3 && !random().is_multiple_of(8);
                    let took = Duration::from_millis(random() % 1000);
                    running.push((now + took, due, passed));
                }
            }
            assert!(most_failures > 40, "{most_failures}");
        }
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let mut random = seeded(3);
        let peers = peers(9);
        let mut scheduler = Scheduler::new();
        for index in 1..9 {
            let due = Due {
                pubkey_legacy: [index; 32],
                previous_failures: 0,
            };
            scheduler.handle_result(Duration::ZERO, &due, false, &mut random);
        }
        let later = Duration::from_mins(3);
        let first = scheduler.poll(later, &US, &peers[..8], &mut random);
        assert_eq!(first.len(), RETEST_COUNT_MAX);
        let second = scheduler.poll(later, &US, &peers[..8], &mut random);
        assert_eq!(second.len(), 3, "the rest, without the one that left");
        assert_eq!(scheduler.failing.len(), 7);
        assert!(
            scheduler
                .poll(later, &US, &peers[..8], &mut random)
                .is_empty()
        );
    }
}
