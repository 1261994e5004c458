//! Who of the network can be reached (`../shared/protocol/session-node.md`, "Obligations towards
//! `oxend`"): this node tests the others, one after the other, and reports each result to oxend; and it
//! says when nobody tests it.

mod https;
mod incoming;
mod omq;
mod scheduler;

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use cepa_meter::count;
use cepa_relay::Counters;
use cepa_wire::ServiceNode;
use cepa_wire::oxend::OxendView;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use crate::oxend::{OurNode, OxendHandle};
use crate::peer_https::PeerHttps;
use crate::standing::Standing;
pub use incoming::{IncomingTests, Kind, Notice};
pub use scheduler::{Due, Scheduler};

/// How often it is looked whether a test is due.
const TICK: Duration = Duration::from_millis(200);
/// How long a peer may take for each test.
const TEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Tests that run at once: four failing peers and one more in each tick, for as long as a test takes,
/// are 125; with fewer they are only tested later.
const RUNNING_COUNT_MAX: usize = 64;
/// From this hard fork on a peer must be reachable over QUIC.
const QUIC_HARD_FORK: (u16, u16) = (19, 4);

/// A test that runs: it ends with nothing when the peer passed, or with why it failed.
pub type RunningTest = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A test of a peer, which comes from another crate. Given up after five seconds.
pub type PeerTest = Box<dyn Fn(&ServiceNode) -> RunningTest + Send>;

/// How peers are tested.
pub struct PeerTests {
    /// Where tests are counted: ours of peers, and those of peers that host has seen.
    pub counters: Arc<Counters>,
    /// The test over QUIC; without one, no peer fails for it.
    pub quic: Option<PeerTest>,
    /// Whether this node listens on QUIC, and says so when nobody tests that.
    pub has_quic: bool,
}

/// Tests peers until the future is dropped.
pub(crate) async fn run(
    handle: &OxendHandle,
    us: &OurNode,
    tests: PeerTests,
    (views, standing): (watch::Receiver<Option<Arc<OxendView>>>, &Standing),
) -> ! {
    let begun = Instant::now();
    let https = PeerHttps::new();
    let mut scheduler = Scheduler::new();
    let mut incoming = IncomingTests::new();
    let mut running = FuturesUnordered::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            Some((due, passed)) = running.next(), if !running.is_empty() => {
                scheduler.handle_result(begun.elapsed(), &due, passed, &mut random);
            }
            _ = ticks.tick() => {
                let Some(view) = views.borrow().clone() else { continue };
                let us_there = view.nodes.iter().find(|node| node.pubkey_legacy == us.pubkey_legacy);
                // Nobody tests whoever is not registered.
                let Some(us_there) = us_there else { continue };
                let wants_quic = view.hard_fork >= QUIC_HARD_FORK;
                let counts = counts(&tests, wants_quic);
                standing.handle_tests(counts);
                standing.handle_peers(scheduler.failing_count(), passing_count(&view, &scheduler));
                for notice in incoming.poll(begun.elapsed(), counts) {
                    tell(&notice);
                }
                let is_decommissioned = us_there.swarm_id == ServiceNode::NO_SWARM;
                if is_decommissioned || running.len() >= RUNNING_COUNT_MAX {
                    continue;
                }
                let now = begun.elapsed();
                let all_due = scheduler.poll(now, &us.pubkey_legacy, &view.nodes, &mut random);
                for (due, peer) in all_due {
                    let quic = tests.quic.as_ref().filter(|_| wants_quic);
                    let quic = quic.map(|quic| quic(peer));
                    let tested = test(&https, us, peer.clone(), quic);
                    let counters = &tests.counters;
                    running.push(async move {
                        let passed = tested.await;
                        report(handle, counters, &due, passed).await;
                        (due, passed)
                    });
                }
            }
        }
    }
}

/// Peers that can be tested and did not fail.
fn passing_count(view: &OxendView, scheduler: &Scheduler) -> usize {
    let contactable = view.nodes.iter().filter(|node| node.is_contactable());
    // We are one of them.
    let others = contactable.count().saturating_sub(1);
    others.saturating_sub(scheduler.failing_count())
}

/// Tests of this node that were seen, of each kind; `None` for what it does not listen on.
fn counts(tests: &PeerTests, wants_quic: bool) -> [(Kind, Option<u64>); 3] {
    let counters = &tests.counters;
    let quic = counters.ping_quic.load(Ordering::Relaxed);
    [
        (
            Kind::Https,
            Some(counters.ping_https.load(Ordering::Relaxed)),
        ),
        (Kind::Omq, Some(counters.ping_omq.load(Ordering::Relaxed))),
        (Kind::Quic, (wants_quic && tests.has_quic).then_some(quic)),
    ]
}

/// Runs all tests of one peer at once; it passes when it passes each.
async fn test(
    peer_https: &PeerHttps,
    us: &OurNode,
    peer: ServiceNode,
    quic: Option<RunningTest>,
) -> bool {
    let quic = async {
        match quic {
            Some(quic) => quic.await,
            None => Ok(()),
        }
    };
    let results = tokio::join!(
        within(https::test(peer_https, &peer)),
        within(omq::test(&us.x25519, &peer)),
        within(quic),
    );
    let results = [
        ("HTTPS", results.0),
        ("OMQ", results.1),
        ("QUIC", results.2),
    ];
    let mut passed = true;
    for (kind, result) in results {
        if let Err(fault) = result {
            debug!(peer = %peer.address(), kind, fault, "peer failed a test");
            passed = false;
        }
    }
    passed
}

async fn within(test: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(TEST_TIMEOUT, test)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn report(handle: &OxendHandle, counters: &Counters, due: &Due, passed: bool) {
    count(if passed {
        &counters.peer_reachable
    } else {
        &counters.peer_unreachable
    });
    match handle.report_peer_status(&due.pubkey_legacy, passed).await {
        Ok(status) if status == "OK" => {}
        Ok(status) => warn!(status, "oxend does not take the report of a test"),
        Err(fault) => debug!(%fault, "a test could not be reported"),
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Silent {
            kind,
            minutes: None,
        } => warn!(
            kind = kind.name(),
            "no peer has tested this node yet: if its port can't be reached it is decommissioned"
        ),
        Notice::Silent {
            kind,
            minutes: Some(minutes),
        } => warn!(
            kind = kind.name(),
            minutes,
            "no peer tests this node any more: if its port can't be reached it is decommissioned"
        ),
        Notice::Heard { kind } => info!(kind = kind.name(), "peers test this node again"),
    }
}

/// Randomness of the system; nothing here must be unpredictable, so that 0 will do without it.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
