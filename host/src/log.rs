//! A message log by itself, or all logs of a data directory, on an executor of its own: for benchmarks and tools, which want what the
//! node has without its network.

use core::future::Future;
use core::time::Duration;
use std::fs::{self, File};
use std::path::PathBuf;
use std::rc::Rc;

use cepa_storage::{Command, Outcome, Settings, Statistics, StoreFault};
use futures_util::future::join_all;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, spawn_local};

use crate::lock::DataDirLock;
use crate::store::{LocalLog, log_of};
use crate::tile::log_dir;
use crate::{StartError, log_settings, make_data_dir, random, read_log_count};

/// A log of the executor that this runs on.
#[derive(Clone)]
pub struct MessageLog(Rc<LocalLog>);

impl MessageLog {
    /// Carries out a command.
    pub async fn execute(&self, command: Command) -> Outcome {
        self.0.execute(command).await
    }

    /// Counts and sizes.
    pub fn statistics(&self) -> Statistics {
        self.0.statistics()
    }
}

/// Waits, on an executor.
pub async fn pause(span: Duration) {
    glommio::timer::sleep(span).await;
}

/// An executor that runs a log.
pub struct LogThread<T: Send + 'static>(ExecutorJoinHandle<T>);

impl<T: Send + 'static> LogThread<T> {
    /// Waits for what it was to do; the error says what went wrong.
    pub fn join(self) -> Result<T, String> {
        self.0.join().map_err(|error| error.to_string())
    }
}

/// Opens the log in `dir`, which must be there and absolute, on an executor pinned to `cpu`, and when it
/// has recovered runs `work` with it. What is acknowledged then is durable as the settings say; nothing
/// else is done to close the log.
pub fn run_log<T, F, Fut>(
    dir: PathBuf,
    settings: Settings,
    cpu: usize,
    work: F,
) -> Result<LogThread<T>, StartError>
where
    T: Send + 'static,
    F: FnOnce(MessageLog) -> Fut + Send + 'static,
    Fut: Future<Output = T>,
{
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("log-{cpu}"))
        .spawn(move || async move {
            let log = LocalLog::new(dir, settings);
            spawn_local(Rc::clone(&log).run()).detach();
            while !log.is_recovered() {
                pause(Duration::from_millis(1)).await;
            }
            work(MessageLog(log)).await
        });
    executor
        .map(LogThread)
        .map_err(|error| StartError::Executor {
            cpu,
            reason: error.to_string(),
        })
}

/// All logs of a data directory, on the executor that this runs on.
#[derive(Clone)]
pub struct AllLogs(Rc<[Rc<LocalLog>]>);

impl AllLogs {
    /// Carries out commands, each at the log of its mailbox; those of a mailbox in their order. Give
    /// no more at a time than [`Settings::waiting_count_max`]. What concerns a log as a whole is
    /// refused.
    pub async fn execute(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let begun: Vec<_> = commands
            .into_iter()
            .map(|command| {
                let log = log_of(command.mailbox()?, self.0.len());
                Some(self.0.get(log)?.begin(command))
            })
            .collect();
        let outcomes = begun.into_iter().map(|outcome| async {
            match outcome {
                Some(outcome) => outcome.await,
                None => Outcome::Failed(StoreFault::Busy),
            }
        });
        join_all(outcomes).await
    }

    /// Counts and sizes of each log.
    pub fn statistics(&self) -> Vec<Statistics> {
        self.0.iter().map(|log| log.statistics()).collect()
    }
}

/// Opens all logs of a data directory on an executor pinned to `cpu`, and when they have recovered
/// runs `work` with them. Nothing else may use the directory meanwhile: it is locked, as a node locks
/// it. The directory is made if it is not there, with `log_count` logs. `settings` are as for a node:
/// the capacity is that of all logs together, and the key of the tables is drawn.
pub fn run_all<T, F, Fut>(
    data_dir: PathBuf,
    log_count: usize,
    settings: Settings,
    cpu: usize,
    work: F,
) -> Result<LogThread<T>, StartError>
where
    T: Send + 'static,
    F: FnOnce(AllLogs) -> Fut + Send + 'static,
    Fut: Future<Output = T>,
{
    let data_dir = make_data_dir(data_dir)?;
    let lock = DataDirLock::take(&data_dir)?;
    let in_data_dir = |source| StartError::DataDir {
        path: data_dir.clone(),
        source,
    };
    let log_count = read_log_count(&data_dir, log_count.max(1)).map_err(in_data_dir)?;
    let dirs: Vec<_> = (0..log_count).map(|log| log_dir(&data_dir, log)).collect();
    for dir in &dirs {
        fs::create_dir_all(dir).map_err(in_data_dir)?;
    }
    // What is acknowledged in a log is durable only when the log is.
    let synced = File::open(&data_dir).and_then(|opened| opened.sync_all());
    synced.map_err(in_data_dir)?;
    let settings = log_settings(settings, log_count, random::bytes());
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("logs")
        .spawn(move || async move {
            let logs = dirs.into_iter().map(|dir| LocalLog::new(dir, settings));
            let logs = AllLogs(logs.collect());
            for log in logs.0.iter() {
                spawn_local(Rc::clone(log).run()).detach();
            }
            for log in logs.0.iter() {
                while !log.is_recovered() {
                    pause(Duration::from_millis(1)).await;
                }
            }
            let done = work(logs).await;
            drop(lock);
            done
        });
    executor
        .map(LogThread)
        .map_err(|error| StartError::Executor {
            cpu,
            reason: error.to_string(),
        })
}
