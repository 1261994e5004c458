//! SIGHUP: the config is read again, and what a running node can take of it counts at once. A config that
//! is refused changes nothing. The log names keys, never what they are.

use cepa_control::Config;
use cepa_edge::proxy::ServerProxy;
use cepa_host::Tuner;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::arguments::{ConfigArguments, Problem};
use super::supervisor::Supervisor;
use super::{advise, tuning};
use crate::failure::Failure;
use crate::logging;

/// Listens for SIGHUP, which does not end the process any more; one that comes before
/// [`Reloader::watch`] is not lost. On a runtime.
pub(super) fn listen() -> Result<Signal, Failure> {
    signal(SignalKind::hangup())
        .map_err(|fault| Failure::new(format!("cannot listen for SIGHUP: {fault}")))
}

/// What it takes to read the config again.
pub(super) struct Reloader {
    pub(super) arguments: ConfigArguments,
    /// What the node runs with.
    pub(super) running: Config,
    pub(super) tuner: Tuner,
    pub(super) servers: ServerProxy,
}

impl Reloader {
    /// Reads the config again with each SIGHUP, until the future is dropped.
    pub(super) async fn watch(mut self, mut hangups: Signal, supervisor: &Supervisor) -> ! {
        loop {
            if hangups.recv().await.is_none() {
                core::future::pending::<()>().await;
            }
            supervisor.reloading();
            self.reload();
            supervisor.ready();
        }
    }

    /// Blocks for as long as it takes to read a file: nothing of a request waits for this thread.
    fn reload(&mut self) {
        let examined = self.arguments.examine();
        let (place, warnings) = (examined.level_place().to_owned(), examined.warnings.clone());
        let new = match examined.sound() {
            Ok(new) => new,
            Err(problems) => return tell_problems(&problems),
        };
        if let Err(fault) = self.take(&place, &new) {
            return warn!(%fault, "the config is refused; the node goes on with what it has");
        }
        for warning in warnings {
            warn!("{warning}");
        }
        advise(&new);
    }

    fn take(&mut self, place: &str, new: &Config) -> Result<(), Failure> {
        logging::configure(place, &new.log_level, new.log_format)?;
        let set = self.servers.set_exceptions(&new.proxy_exceptions);
        set.map_err(Failure::new)?;
        let changes = self.running.take_changes(new);
        self.tuner.set(tuning(&self.running));
        info!(taken = %list(&changes.taken), "the config was read again");
        if !changes.need_restart.is_empty() {
            warn!(
                keys = %list(&changes.need_restart),
                "these keys changed and count after a restart"
            );
        }
        Ok(())
    }
}

/// Says where a config is wrong, but neither what is there nor what is expected, which may be addresses.
fn tell_problems(problems: &[Problem]) {
    for problem in problems {
        let file = problem.file.as_ref().map(|file| file.display().to_string());
        warn!(
            file,
            line = problem.line,
            key = problem.key,
            "the config is wrong"
        );
    }
    warn!(
        problems = problems.len(),
        "the config is refused; the node goes on with what it has; `cepa check-config` tells more"
    );
}

fn list(keys: &[&str]) -> String {
    if keys.is_empty() {
        "nothing".to_owned()
    } else {
        keys.join(", ")
    }
}
