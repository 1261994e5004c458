//! Whether the generator tells the truth: a real HTTPS server whose delays are known, and what is measured
//! of it. All bounds are one-sided: a machine that is busy with other things makes latencies longer, never
//! shorter, and nothing here says that something is fast.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

mod server;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cepa_load::engine::{self, Around, LoadSettings, Made, Make, Measured, Progress};
use cepa_load::https::{HttpsConnection, Post};
use cepa_load::meter::Meter;
use cepa_load::plot;
use cepa_load::report::{Report, Settings};
use cepa_load::schedule::Gaps;
use cepa_load::source::Sources;
use tokio::runtime::Builder;

use server::{Manner, Server};

/// The histogram has three digits.
const PRECISION: f64 = 0.999;

struct Posts {
    address: SocketAddrV4,
    made: Arc<AtomicUsize>,
}

impl Make for Posts {
    type Request = Post;

    fn make(&mut self) -> Result<Made<Post>, String> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Made {
            kind: 0,
            request: Post {
                address: self.address,
                path: "/",
                body: Bytes::from_static(b"{}"),
                onion: None,
            },
        })
    }
}

fn settings(rate: f64, seconds: u64) -> LoadSettings {
    LoadSettings {
        rate,
        gaps: Gaps::Constant,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(seconds),
        timeout: Duration::from_mins(1),
        waiting_count_max: 10_000,
    }
}

fn run(address: SocketAddrV4, settings: LoadSettings, connections: usize) -> Measured {
    run_from(None, address, settings, connections)
}

fn run_from(
    sources: Option<Sources>,
    address: SocketAddrV4,
    settings: LoadSettings,
    connections: usize,
) -> Measured {
    let source = |number| sources.map(|sources| sources.nth(number));
    let connections = (0..connections).map(|number| HttpsConnection::new(source(number)));
    let around = Around {
        kind_count: 1,
        meter: Meter::default(),
        progress: &Arc::new(Progress::default()),
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let posts = Posts {
        address,
        made: Arc::default(),
    };
    let running = engine::run(settings, posts, connections.collect(), around);
    runtime.block_on(running).unwrap()
}

fn at(measured: &Measured, quantile: f64) -> Duration {
    Duration::from_micros(measured.all.latencies.value_at_quantile(quantile))
}

#[test]
fn a_constant_delay_is_measured_and_the_rate_is_held() {
    let delay = Duration::from_millis(20);
    let server = Server::start(Manner::After(delay));
    let settings = LoadSettings {
        warm_up: Duration::from_secs(1),
        ..settings(200.0, 2)
    };
    let measured = run(server.address, settings, 16);
    assert_eq!((measured.all.answered, measured.all.failed), (400, 0));
    assert_eq!(measured.not_sent, 0);
    assert_eq!(measured.kinds[0].answered, 400);
    let by_second: Vec<_> = measured.series.iter().map(|point| point.answered).collect();
    assert_eq!(by_second, [200, 200]);
    // The warm-up is sent, and not measured.
    assert_eq!(server.answered().len(), 600);
    assert!(measured.all.latencies.min() >= 20_000);
    assert!(at(&measured, 0.5) >= delay);
}

/// Whatever the delays are, the histogram lies nowhere below them.
#[test]
fn no_quantile_is_below_that_of_the_servers_own_delays() {
    let server = Server::start(Manner::Serial(Duration::from_millis(4)));
    let measured = run(server.address, settings(150.0, 2), 8);
    let delays = server.delays();
    assert_eq!(measured.all.answered, 300);
    assert_eq!(delays.len(), 300);
    for (index, delay) in delays.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (quantile, delay) = ((index + 1) as f64 / 300.0, *delay as f64);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let found = measured.all.latencies.value_at_quantile(quantile) as f64;
        assert!(
            found >= delay * PRECISION - 1.0,
            "{quantile}: {found} < {delay}"
        );
    }
}

/// The server stands still for a second. With as few connections as here hardly any request is under way
/// then, and a generator that waits for answers would see four slow ones among three hundred. But a third
/// of all requests were due in that second.
#[test]
fn a_stall_that_coordinated_omission_would_hide_is_seen() {
    const CONNECTIONS: usize = 4;
    let (begin, span) = (Duration::from_secs(1), Duration::from_secs(1));
    let server = Server::start(Manner::Stall(begin, span));
    let measured = run(server.address, settings(100.0, 3), CONNECTIONS);
    assert_eq!(measured.all.answered, 300);
    let slow = server.delays().into_iter().filter(|delay| *delay > 100_000);
    assert!(
        slow.count() <= CONNECTIONS,
        "what the server itself delayed"
    );
    // Due within the first 0.3 s of the stall: a tenth of all.
    assert!(at(&measured, 0.9) >= Duration::from_millis(650));
    assert!(at(&measured, 0.8) >= Duration::from_millis(350));
    assert!(at(&measured, 1.0) >= Duration::from_millis(950));
    let within = &measured.series[1];
    assert!(
        within.p50_us >= 450_000,
        "it shows in its second: {within:?}"
    );
}

/// A server that answers 50 a second is asked 100 times a second: each waits longer than the one before.
#[test]
fn a_server_that_is_too_slow_is_seen_to_queue() {
    let server = Server::start(Manner::Serial(Duration::from_millis(20)));
    let measured = run(server.address, settings(100.0, 2), 8);
    assert_eq!(measured.all.answered, 200);
    // The nth was due at n * 10 ms and done at n * 20 ms at the earliest.
    assert!(at(&measured, 0.5) >= Duration::from_millis(950));
    assert!(at(&measured, 1.0) >= Duration::from_millis(1950));
    let p50: Vec<_> = measured.series.iter().map(|point| point.p50_us).collect();
    assert!(p50[1] >= 1_400_000, "{p50:?}");
    assert!(measured.elapsed >= Duration::from_secs(4));
}

#[test]
fn what_finds_no_place_to_wait_is_counted_as_not_sent() {
    let server = Server::start(Manner::Serial(Duration::from_millis(100)));
    let settings = LoadSettings {
        waiting_count_max: 5,
        ..settings(100.0, 2)
    };
    let measured = run(server.address, settings, 1);
    assert!(measured.not_sent > 100, "{}", measured.not_sent);
    assert_eq!(measured.all.answered + measured.not_sent, 200);
    let by_second: u64 = measured.series.iter().map(|point| point.not_sent).sum();
    assert_eq!(by_second, measured.not_sent);
}

/// A run that is ended as soon as `is_enough`; what was due then, and how many requests were made.
fn run_until(
    address: SocketAddrV4,
    settings: LoadSettings,
    is_enough: fn(&Progress) -> bool,
) -> (Measured, u64, usize) {
    let progress = Arc::new(Progress::default());
    let made = Arc::<AtomicUsize>::default();
    let around = Around {
        kind_count: 1,
        meter: Meter::default(),
        progress: &progress,
    };
    let posts = Posts {
        address,
        made: Arc::clone(&made),
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let running = engine::run(settings, posts, vec![HttpsConnection::new(None)], around);
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_enough(&progress) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            progress.is_stopped.store(true, Ordering::Relaxed);
        });
        runtime.block_on(running).unwrap()
    });
    let due = progress.due.load(Ordering::Relaxed);
    (measured, due, made.load(Ordering::Relaxed))
}

/// Whoever loses patience with a server that stands still does not make what waits for it disappear.
#[test]
fn what_waits_when_the_run_is_ended_is_counted() {
    let server = Server::start(Manner::Never);
    let settings = LoadSettings {
        timeout: Duration::from_millis(300),
        ..settings(100.0, 1000)
    };
    let is_enough = |progress: &Progress| progress.due.load(Ordering::Relaxed) >= 120;
    let (measured, due, _) = run_until(server.address, settings, is_enough);
    assert!(measured.is_partial);
    assert!(measured.not_sent > 0);
    assert_eq!(measured.all.sent() + measured.not_sent, due);
    let of_series = measured.series.iter();
    let of_series = of_series.map(|it| it.answered + it.failed + it.not_sent);
    assert_eq!(of_series.sum::<u64>(), due);
    assert!(measured.series.len() < 1000, "nothing was due any more");
}

/// Nodes refuse a signature of minutes ago.
#[test]
fn nothing_is_made_long_before_it_is_due() {
    let server = Server::start(Manner::After(Duration::ZERO));
    let is_enough = |progress: &Progress| progress.ended.load(Ordering::Relaxed) == 1;
    let (measured, due, made) = run_until(server.address, settings(0.001, 3000), is_enough);
    assert_eq!((measured.all.answered, due, made), (1, 1, 1));
}

#[test]
fn refusals_are_counted_by_their_status() {
    let server = Server::start(Manner::Refuse(10));
    let measured = run(server.address, settings(100.0, 2), 4);
    let refused = server
        .answered()
        .iter()
        .filter(|it| it.status == 503)
        .count();
    assert_eq!((measured.all.answered, measured.all.failed), (180, 20));
    assert_eq!(refused, 20);
    assert_eq!(measured.all.faults["status 503"].count, 20);
    assert_eq!(measured.all.latencies.len(), 180);
}

#[test]
fn what_is_never_answered_is_as_slow_as_the_patience() {
    let server = Server::start(Manner::Never);
    let settings = LoadSettings {
        timeout: Duration::from_millis(300),
        ..settings(20.0, 1)
    };
    let measured = run(server.address, settings, 2);
    assert_eq!((measured.all.answered, measured.all.failed), (0, 20));
    assert_eq!(measured.all.faults["timeout"].count, 20);
    assert!(measured.all.latencies.max() >= 300_000);
    assert!(measured.all.latencies.len() == 20);
}

#[test]
fn nobody_there_is_told_as_that() {
    // Port 1 is nobody's: nothing listens there.
    let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let measured = run(nobody, settings(50.0, 1), 2);
    assert_eq!((measured.all.answered, measured.all.failed), (0, 50));
    let counted = &measured.all.faults["connection"];
    assert_eq!(counted.count, 50);
    assert!(counted.first.contains("refused"), "{}", counted.first);
    assert!(measured.all.latencies.is_empty());
    let report = Report::new(Settings::default(), &["info"], &[], &measured, 0);
    assert!(plot::svg(&report).unwrap().starts_with("<svg"));
}

#[test]
fn connections_come_from_the_addresses_that_were_asked_for() {
    let server = Server::start(Manner::After(Duration::from_millis(50)));
    let sources = "127.0.9.0/29".parse().unwrap();
    let measured = run_from(Some(sources), server.address, settings(100.0, 1), 12);
    assert_eq!(measured.all.answered, 100);
    let seen: BTreeSet<_> = server.answered().iter().map(|it| it.from).collect();
    assert!(seen.len() > 1, "{seen:?}");
    assert!(
        seen.iter()
            .all(|ip| ip.octets()[..3] == [127, 0, 9] && ip.octets()[3] < 8)
    );
}
