//! A message log by itself, on an executor of its own: for benchmarks and tools, which want what the
//! node has without its network.

use core::future::Future;
use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;

use cepa_storage::{Command, Outcome, Settings, Statistics};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, spawn_local};

use crate::StartError;
use crate::store::LocalLog;

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
