//! What sends: a pacer that knows when requests are due, and connections that take them as they get free.
//!
//! Three threads: one makes requests ahead of time; one waits for the time of each and hands it over; the
//! third (tokio, whoever calls [`run`]) has all connections. A fourth reads the meter and tells of progress.
//! No request waits for the answer to another unless all connections are busy, and then its wait counts.

mod pacer;
mod record;

use core::cell::RefCell;
use core::future::Future;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use self::pacer::Paced;
use self::record::Recorder;
use crate::clock;
use crate::meter::{Meter, Reading};
use crate::schedule::{Gaps, Schedule};

pub use self::record::{Fault, FaultCount, KindMeasured, Point, Quantiles};

/// How long before it is due a request is made at most: nodes take a signature, and a message's time, only for
/// so long.
const AHEAD: Duration = Duration::from_secs(2);
/// Requests that are made ahead at most: a few MiB of small ones.
const AHEAD_COUNT_MAX: usize = 4096;

/// How much load for how long.
#[derive(Clone, Copy, Debug)]
pub struct LoadSettings {
    /// Requests a second.
    pub rate: f64,
    /// How far they are apart.
    pub gaps: Gaps,
    /// Requests of so long from the begin are sent, but not measured.
    pub warm_up: Duration,
    /// What is measured.
    pub duration: Duration,
    /// How long an answer is waited for once its request is sent.
    pub timeout: Duration,
    /// How many requests may wait for a free connection. What is due beyond them is not sent and is counted:
    /// the load then is not what was asked for, but memory stays bounded.
    pub waiting_count_max: usize,
}

/// A request that is ready to be sent.
pub struct Made<R> {
    /// Index into the kinds of the run.
    pub kind: usize,
    /// It.
    pub request: R,
}

/// Makes requests, on a thread of its own.
pub trait Make: Send + 'static {
    /// What a connection takes.
    type Request: Send + 'static;

    /// The next one. An error ends the run.
    fn make(&mut self) -> Result<Made<Self::Request>, String>;
}

/// Something that carries one request at a time.
pub trait Connection {
    /// What is sent.
    type Request;

    /// Sends it and gives the time when the whole answer was there, if it is a good one.
    fn ask(&mut self, request: Self::Request) -> impl Future<Output = Result<Instant, Fault>>;
}

/// How far a run is; read from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests that were due.
    pub due: AtomicU64,
    /// Requests that have ended, well or not.
    pub ended: AtomicU64,
    /// Requests that failed.
    pub failed: AtomicU64,
    /// Requests that were not sent.
    pub not_sent: AtomicU64,
    /// No more requests are sent once this is set: the run ends early, and is measured as far as it came.
    pub is_stopped: AtomicBool,
}

/// Why there was no run.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A thread can't be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A request can't be made.
    #[error("cannot make a request: {0}")]
    Make(String),
    /// One of the threads has ended.
    #[error("a thread of the generator has ended early")]
    Ended,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Each kind, in the order of the run's kinds.
    pub kinds: Vec<KindMeasured>,
    /// All kinds together.
    pub all: KindMeasured,
    /// Over time, by when requests were due.
    pub series: Vec<Point>,
    /// How late the generator itself handed requests over, in microseconds: its own fault, and part of the
    /// latencies.
    pub lag: Quantiles,
    /// Requests that were not sent since too many waited, or since the run was ended while they did.
    pub not_sent: u64,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// The meter from the end of the warm-up to the last answer, once a second.
    pub readings: Vec<Reading>,
    /// The run was ended early.
    pub is_partial: bool,
}

/// What a run goes by beside its load.
pub struct Around<'a> {
    /// How many kinds of requests there are.
    pub kind_count: usize,
    /// Read once a second.
    pub meter: Meter,
    /// Where the run is told of, and stopped.
    pub progress: &'a Arc<Progress>,
}

/// A request on its way from the pacer to a connection.
struct Due<R> {
    at: Instant,
    /// Since the end of the warm-up; `None` before.
    since: Option<Duration>,
    made: Made<R>,
}

/// Sends load over `connections` and measures it.
pub async fn run<M, C>(
    settings: LoadSettings,
    make: M,
    connections: Vec<C>,
    around: Around<'_>,
) -> Result<Measured, LoadError>
where
    M: Make,
    C: Connection<Request = M::Request> + 'static,
{
    let Around {
        kind_count,
        meter,
        progress,
    } = around;
    let end = settings.warm_up + settings.duration;
    let schedule = Schedule::new(settings.rate, settings.gaps, end, 1);
    let (due, queue) = channel(settings.waiting_count_max.max(1));
    let begun = clock::now();
    let made = start_making(make, begun, schedule.clone(), Arc::clone(progress))?;
    let measured_from = begun + settings.warm_up;
    let pacing = {
        let paced = Paced::new(settings, Arc::clone(progress));
        spawn("pacer", move || paced.run(begun, schedule, &made, &due))?
    };
    let is_done = Arc::new(AtomicBool::new(false));
    let reading = {
        let is_done = Arc::clone(&is_done);
        spawn("meter", move || read_meter(meter, measured_from, &is_done))?
    };
    let recorder = Rc::new(RefCell::new(Recorder::new(kind_count, settings.duration)));
    answer_all((settings, begun), connections, queue, &recorder, progress).await;
    let elapsed = clock::now().saturating_duration_since(measured_from);
    is_done.store(true, Ordering::Relaxed);
    reading.thread().unpark();
    let paced = pacing.join().map_err(|_| LoadError::Ended)?;
    let readings = reading.join().map_err(|_| LoadError::Ended)?;
    let is_partial = progress.is_stopped.load(Ordering::Relaxed);
    if let Some(fault) = paced.fault {
        return Err(fault);
    }
    let mut recorder = recorder.borrow_mut();
    recorder.add_not_sent(&paced.not_sent);
    let not_sent = paced.not_sent.iter().sum::<u64>() + recorder.ended_count();
    let (kinds, all, mut series) = recorder.finish();
    if is_partial {
        // Nothing was due any more.
        series.retain(|point| point.second <= elapsed.as_secs());
    }
    Ok(Measured {
        kinds,
        all,
        series,
        lag: Quantiles::of(&paced.lag),
        not_sent,
        elapsed,
        readings,
        is_partial,
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, LoadError> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map_err(LoadError::Thread)
}

type MadeQueue<R> = mpsc::Receiver<Result<Made<R>, String>>;

/// Makes requests ahead, but none long before it is due. Ends with the schedule, or when nobody takes them.
fn start_making<M: Make>(
    mut make: M,
    begun: Instant,
    schedule: Schedule,
    progress: Arc<Progress>,
) -> Result<MadeQueue<M::Request>, LoadError> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD_COUNT_MAX);
    spawn("maker", move || {
        let is_stopped = || progress.is_stopped.load(Ordering::Relaxed);
        for due in schedule {
            clock::wait_until(begun + due.saturating_sub(AHEAD), is_stopped);
            if is_stopped() {
                return;
            }
            let made = make.make();
            let is_last = made.is_err();
            if sender.send(made).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Until the pacer has ended and all that it gave is answered.
async fn answer_all<C>(
    (settings, begun): (LoadSettings, Instant),
    connections: Vec<C>,
    queue: Receiver<Due<C::Request>>,
    recorder: &Rc<RefCell<Recorder>>,
    progress: &Arc<Progress>,
) where
    C: Connection + 'static,
    C::Request: 'static,
{
    let queue = Rc::new(Mutex::new(queue));
    let local = LocalSet::new();
    let mut workers = JoinSet::new();
    for connection in connections {
        let worker = work(
            settings,
            begun,
            connection,
            Rc::clone(&queue),
            Rc::clone(recorder),
            Arc::clone(progress),
        );
        workers.spawn_local_on(worker, &local);
    }
    local
        .run_until(async { while workers.join_next().await.is_some() {} })
        .await;
}

/// One connection: takes the request that is due the longest, one after the other.
async fn work<C: Connection>(
    settings: LoadSettings,
    begun: Instant,
    mut connection: C,
    queue: Rc<Mutex<Receiver<Due<C::Request>>>>,
    recorder: Rc<RefCell<Recorder>>,
    progress: Arc<Progress>,
) {
    let give_up = begun + settings.warm_up + settings.duration + settings.timeout;
    loop {
        // Who waits the longest has the queue; the others wait for it in their order.
        let Some(due) = queue.lock().await.recv().await else {
            return;
        };
        if progress.is_stopped.load(Ordering::Relaxed) {
            // It has waited, and is not forgotten: a run that is ended since nothing is answered shows that.
            progress.not_sent.fetch_add(1, Ordering::Relaxed);
            if let Some(since) = due.since {
                recorder.borrow_mut().record_not_sent(since);
            }
            continue;
        }
        // What waits for longer after the end than an answer may take would keep the run for as long again.
        let outcome = if clock::now() < give_up {
            let asked = timeout(settings.timeout, connection.ask(due.made.request)).await;
            asked.unwrap_or(Err(Fault::Timeout))
        } else {
            Err(Fault::Timeout)
        };
        let ended = outcome.as_ref().map_or_else(|_| clock::now(), |at| *at);
        let latency = ended.saturating_duration_since(due.at);
        progress.ended.fetch_add(1, Ordering::Relaxed);
        if outcome.is_err() {
            progress.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(since) = due.since {
            let outcome = outcome.as_ref().map(|_| ());
            let mut recorder = recorder.borrow_mut();
            recorder.record(since, due.made.kind, latency, outcome);
        }
    }
}

/// Reads the meter at the end of the warm-up, then each second, and at the end.
fn read_meter(mut meter: Meter, from: Instant, is_done: &AtomicBool) -> Vec<Reading> {
    /// Of a day. What is longer is read less often.
    const READING_COUNT_MAX: usize = 86_400;
    let is_over = || is_done.load(Ordering::Relaxed);
    let mut readings = Vec::new();
    let mut next = from;
    let step = Duration::from_secs(1);
    loop {
        clock::wait_until(next, is_over);
        if readings.len() < READING_COUNT_MAX || is_over() {
            readings.push(meter.read(clock::now().saturating_duration_since(from)));
        }
        if is_over() {
            return readings;
        }
        next += step;
    }
}
