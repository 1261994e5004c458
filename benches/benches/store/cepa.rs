//! The engine of the node, on the disk of the node: executors with `io_uring`, many clients at a time.

use core::cell::RefCell;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Barrier};

use cepa_host::log::{LogThread, MessageLog, pause, run_log};
use cepa_storage::command::Direction;
use cepa_storage::{Command, Durability, Outcome, Settings, Statistics};
use cepa_wire::Namespace;
use futures_util::future::{join_all, select};
use futures_util::stream::{FuturesUnordered, Stream as _};
use hdrhistogram::Histogram;

use crate::Arguments;
use crate::baseline::Fault;
use crate::meter::{self, Meter};
use crate::report::{EngineReport, Phase, histogram, record};
use crate::workload::{Message, Op, PAGE, Workload};

/// How long relaxed durability lets a change wait.
const RELAXED: Duration = Duration::from_millis(20);

/// How often the open loop looks whether a request is due: what it adds to a latency at most. Looking four
/// times as often costs the core so much that it is the loop which is measured.
const OPEN_TICK: Duration = Duration::from_micros(200);

/// So long the open loop runs before it counts: a fresh executor touches all of its memory for the
/// first time, which a node does once in its life.
const WARM_UP_SECONDS: f64 = 2.0;

/// What a shard's clients share.
struct Clients {
    log: MessageLog,
    workload: RefCell<Workload>,
    latencies: RefCell<Histogram<u64>>,
    left: RefCell<usize>,
    stored_bytes: RefCell<u64>,
}

/// What a shard did in a phase.
struct Done {
    workload: Workload,
    latencies: Histogram<u64>,
    stored_bytes: u64,
    statistics: Statistics,
}

#[derive(Clone, Copy)]
enum Work {
    /// Stores, or mixed operations; so many, by so many clients that each wait for their answer.
    Closed {
        is_mixed: bool,
        count: usize,
        clients: usize,
    },
    /// Mixed operations at a rate, whether the ones before are answered or not.
    Open { rate: f64, seconds: f64 },
}

fn command(op: Op) -> Command {
    match op {
        Op::Store(Message {
            mailbox,
            hash,
            timestamp,
            expiry,
            data,
        }) => Command::Store {
            mailbox,
            namespace: Namespace::INBOX,
            hash,
            timestamp,
            expiry,
            data,
        },
        Op::Retrieve(mailbox, after) => Command::Retrieve {
            mailbox,
            namespace: Namespace::INBOX,
            after,
            count_max: PAGE,
            size_max: 7_800_000,
        },
        Op::Delete(mailbox, hash) => Command::Delete {
            mailbox,
            hashes: vec![hash],
        },
        Op::Expire(mailbox, hash, expiry) => Command::Expire {
            mailbox,
            targets: vec![(hash, expiry)],
            direction: Direction::Any,
        },
    }
}

impl Clients {
    async fn carry_out(&self, op: Op, begin: std::time::Instant) {
        if let Op::Store(message) = &op {
            *self.stored_bytes.borrow_mut() += message.data.len() as u64;
        }
        let outcome = self.log.execute(command(op)).await;
        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        record(&mut self.latencies.borrow_mut(), begin.elapsed());
    }

    async fn client(&self, is_mixed: bool) {
        loop {
            {
                let mut left = self.left.borrow_mut();
                if *left == 0 {
                    return;
                }
                *left -= 1;
            }
            let op = if is_mixed {
                self.workload.borrow_mut().mixed()
            } else {
                Op::Store(self.workload.borrow_mut().store())
            };
            self.carry_out(op, meter::now()).await;
        }
    }

    /// Latencies count from when a request was due, not from when it got its turn.
    async fn open_loop(&self, rate: f64, seconds: f64) {
        let begin = meter::now();
        let mut running = FuturesUnordered::new();
        let mut due = Duration::ZERO;
        let step = Duration::from_secs_f64(1.0 / rate.max(1.0));
        while due.as_secs_f64() < seconds || !running.is_empty() {
            while due <= begin.elapsed() && due.as_secs_f64() < seconds {
                let op = self.workload.borrow_mut().mixed();
                running.push(self.carry_out(op, begin + due));
                due += step;
            }
            let drain = core::future::poll_fn(|context| {
                while let Poll::Ready(Some(())) = pin!(&mut running).poll_next(context) {}
                Poll::<()>::Pending
            });
            let tick = pin!(pause(OPEN_TICK));
            let _either = select(tick, pin!(drain)).await;
        }
    }
}

/// Opens a log, waits until all are open, and does this work.
fn start(
    shard: usize,
    dir: &Path,
    settings: Settings,
    workload: Workload,
    (work, opened): (Option<Work>, Arc<Barrier>),
) -> Result<LogThread<Done>, Fault> {
    let dir: PathBuf = dir.join(format!("log-{shard}"));
    std::fs::create_dir_all(&dir)?;
    let thread = run_log(dir, settings, shard, move |log| async move {
        let clients = Rc::new(Clients {
            log,
            workload: RefCell::new(workload),
            latencies: RefCell::new(histogram()),
            left: RefCell::new(0),
            stored_bytes: RefCell::new(0),
        });
        if let Some(Work::Open { rate, .. }) = work {
            clients.open_loop(rate, WARM_UP_SECONDS).await;
            clients.latencies.borrow_mut().clear();
            *clients.stored_bytes.borrow_mut() = 0;
        }
        opened.wait();
        match work {
            Some(Work::Closed {
                is_mixed,
                count,
                clients: client_count,
            }) => {
                *clients.left.borrow_mut() = count;
                join_all((0..client_count).map(|_| clients.client(is_mixed))).await;
            }
            Some(Work::Open { rate, seconds }) => clients.open_loop(rate, seconds).await,
            None => {
                let op = Op::Retrieve(clients.workload.borrow_mut().store().mailbox, None);
                clients.carry_out(op, meter::now()).await;
            }
        }
        let statistics = clients.log.statistics();
        let Ok(clients) = Rc::try_unwrap(clients).map_err(|_| ()) else {
            unreachable!("every client has ended");
        };
        Done {
            workload: clients.workload.into_inner(),
            latencies: clients.latencies.into_inner(),
            stored_bytes: clients.stored_bytes.into_inner(),
            statistics,
        }
    });
    thread.map_err(|error| error.to_string().into())
}

/// The shards of the engine, and what they hold.
struct Engine<'a> {
    arguments: &'a Arguments,
    dir: &'a Path,
    settings: Settings,
    workloads: Vec<Workload>,
    statistics: Vec<Statistics>,
}

impl Engine<'_> {
    /// Runs a phase on every shard at once. A phase opens the logs anew; that is not timed.
    fn phase(&mut self, name: &str, work: Option<Work>) -> Result<Phase, Fault> {
        let workloads = core::mem::take(&mut self.workloads);
        let mut threads = Vec::new();
        let opened = Arc::new(Barrier::new(workloads.len() + 1));
        for (shard, workload) in workloads.into_iter().enumerate() {
            let work = (work, Arc::clone(&opened));
            threads.push(start(shard, self.dir, self.settings, workload, work)?);
        }
        opened.wait();
        let meter = Meter::start();
        let mut latencies = histogram();
        let mut stored_bytes = 0;
        self.statistics.clear();
        for thread in threads {
            let done = thread.join()?;
            self.workloads.push(done.workload);
            self.statistics.push(done.statistics);
            latencies.add(done.latencies)?;
            stored_bytes += done.stored_bytes;
        }
        let reading = meter.read();
        Ok(Phase::new(
            name,
            latencies.len(),
            stored_bytes,
            reading,
            &latencies,
        ))
    }

    fn closed(&self, is_mixed: bool, count: usize) -> Work {
        let shards = self.arguments.shards;
        Work::Closed {
            is_mixed,
            count: count / shards,
            clients: self.arguments.clients / shards,
        }
    }
}

fn settings(arguments: &Arguments, is_relaxed: bool) -> Settings {
    Settings {
        durability: if is_relaxed {
            Durability::Relaxed(RELAXED)
        } else {
            Durability::Durable
        },
        capacity: 1 << 40,
        tail_cache_size: arguments.cache << 20,
        commit_count_max: arguments.commits,
        waiting_count_max: 1 << 20,
        ..Settings::default()
    }
}

/// Runs every phase.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn run(
    name: &str,
    is_relaxed: bool,
    arguments: &Arguments,
    dir: &Path,
) -> Result<EngineReport, Fault> {
    let shards = arguments.shards;
    let workloads = (0..shards).map(|shard| {
        let seed = arguments.seed + shard as u64;
        let mut workload = Workload::new(seed, arguments.accounts / shards, arguments.payload);
        workload.reserve((arguments.preload + arguments.stores) / shards);
        workload
    });
    let mut engine = Engine {
        arguments,
        dir,
        settings: settings(arguments, is_relaxed),
        workloads: workloads.collect(),
        statistics: Vec::new(),
    };
    let preload = engine.closed(false, arguments.preload);
    engine.phase("preload", Some(preload))?;
    let disk = meter::disk_bytes(dir) as f64;
    let begin = meter::now();
    engine.phase("restart", None)?;
    let restart_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let held: u64 = engine.statistics.iter().map(|one| one.message_count).sum();
    let index: u64 = engine
        .statistics
        .iter()
        .map(|one| one.index_memory_bytes)
        .sum();
    let mailboxes: u64 = engine.statistics.iter().map(|one| one.mailbox_count).sum();
    let store = engine.phase("store", Some(engine.closed(false, arguments.stores)))?;
    let written = engine.statistics.clone();
    let mixed = engine.phase("mixed", Some(engine.closed(true, arguments.ops)))?;
    let half = Work::Open {
        rate: mixed.ops_per_second / 2.0 / shards as f64,
        seconds: arguments.open_seconds,
    };
    let half = engine.phase("mixed at half rate", Some(half))?;
    let sum = |field: fn(&Statistics) -> u64| written.iter().map(field).sum::<u64>() as f64;
    let payload = (arguments.stores * arguments.payload) as f64;
    let notes = vec![
        format!(
            "index {:.1} B a message, of which {:.1} B are its mailbox ({} messages, {} mailboxes)",
            index as f64 / held.max(1) as f64,
            mailboxes as f64 * 85.0 / held.max(1) as f64,
            held,
            mailboxes
        ),
        format!(
            "written a byte of payload while storing: {:.2} commits, {:.2} indexes, {:.2} zeros of \
             new segments; {:.1} records a commit",
            sum(|one| one.committed_bytes) / payload,
            sum(|one| one.index_bytes) / payload,
            sum(|one| one.prepared_bytes) / payload,
            arguments.stores as f64 / sum(|one| one.commit_count).max(1.0),
        ),
        format!(
            "{} shards, {} clients at a time, {} commits under way, {} MiB of tail in memory a shard",
            shards, arguments.clients, arguments.commits, arguments.cache
        ),
    ];
    Ok(EngineReport {
        engine: name.to_owned(),
        durability: if is_relaxed { "before" } else { "when durable" }.to_owned(),
        phases: vec![store, mixed, half],
        disk_bytes_per_message: disk / arguments.preload.max(1) as f64,
        memory_bytes_per_message: index as f64 / held.max(1) as f64,
        restart_ms,
        notes,
    })
}
