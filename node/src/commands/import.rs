//! `cepa import`: the messages of a C++ storage server, from its `storage.db` into the message log.
//!
//! The database is read in the order of its rows, and a batch is written before the next one is read.
//! How far it got stands beside the logs, so that an import that was ended goes on. At the end every
//! message of the database is looked for in the log.

mod check;
mod judge;
mod report;
mod source;
mod state;
mod write;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use cepa_control::Config;
use cepa_control::options::Options;
use cepa_host::log::{AllLogs, run_all};
use cepa_storage::{Durability, Settings, Statistics};
use indicatif::{ProgressBar, ProgressStyle};
use tracing::{info, warn};

use self::report::Report;
use self::source::Source;
use self::state::Progress;
use super::run::{home_dir, store_settings};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Stop the old server first, and import before the new node runs: while both stand still nothing is
missed. Ended in the middle, the import goes on where it was; done twice, it changes nothing.

Examples:
  cepa import ~/.oxen/storage                              for a `cepa run` without --config
  cepa import /var/lib/oxen/storage --config /etc/cepa/cepa.toml
  cepa import backup/storage.db --data-dir /srv/cepa";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArguments {
    /// The data directory of the C++ server, or its storage.db
    #[arg(value_name = "DIRECTORY")]
    from: PathBuf,
    /// The config of the node that is to have the messages
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The data directory of the node that is to have the messages [default: that of `cepa run`]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Rows that are read, and written, at a time
    #[arg(long, hide = true, default_value_t = BATCH_ROW_COUNT_MAX,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(BATCH_ROW_COUNT_MAX)))]
    batch: u16,
}

/// Rows of a batch: half of what a log lets wait.
const BATCH_ROW_COUNT_MAX: u16 = 2048;

/// Where it goes, and how.
struct Target {
    data_dir: PathBuf,
    batch_row_count: usize,
    settings: Settings,
    /// As many logs as a new data directory is to have.
    log_count: usize,
    /// The core that does it.
    cpu: usize,
}

pub(super) fn run(arguments: &ImportArguments) -> Result<(), Failure> {
    cepa_host::requirements::check_io_uring().map_err(Failure::new)?;
    let source = Source::open(&arguments.from)?;
    let target = arguments.target()?;
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&target.data_dir);
    made.map_err(|fault| {
        let data_dir = target.data_dir.display();
        Failure::new(format!(
            "cannot make the data directory {data_dir}: {fault}"
        ))
    })?;
    info!(
        from = %source.path().display(),
        to = %target.data_dir.display(),
        "importing"
    );
    let data_dir = target.data_dir.clone();
    let (log_count, settings, cpu) = (target.log_count, target.settings, target.cpu);
    let thread = run_all(data_dir, log_count, settings, cpu, move |logs| async move {
        import(&source, &target, &logs).await
    });
    let report = thread
        .map_err(Failure::new)?
        .join()
        .map_err(Failure::new)??;
    report.print()?;
    report.verdict()
}

impl ImportArguments {
    fn target(&self) -> Result<Target, Failure> {
        let config = match &self.config {
            Some(file) => Config::read(file).map_err(Failure::new)?,
            None => self.default_config()?,
        };
        let settings = store_settings(&config);
        Ok(Target {
            batch_row_count: self.batch.into(),
            // Nobody had a limit there: what was accepted is kept. And what the state says is
            // written must be so.
            settings: Settings {
                mailbox_size_max: settings.capacity,
                mailbox_message_count_max: u32::MAX,
                durability: Durability::Durable,
                ..settings
            },
            log_count: config.shard_cpus.len(),
            cpu: config.shard_cpus.first().copied().unwrap_or(0),
            data_dir: config.data_dir,
        })
    }

    /// The config of a node that is started by options.
    fn default_config(&self) -> Result<Config, Failure> {
        let mut options = Options::default();
        if let Some(data_dir) = &self.data_dir {
            let text = data_dir.to_str().ok_or_else(|| {
                Failure::new("--data-dir must be readable text (UTF-8): use --config")
            })?;
            options.add("data-dir", text).map_err(Failure::new)?;
        }
        options.config(&home_dir()).map_err(Failure::new)
    }
}

/// Writes, then looks whether all is there.
async fn import(source: &Source, target: &Target, logs: &AllLogs) -> Result<Report, Failure> {
    let mut progress = Progress::open(&target.data_dir, source)?;
    if progress.row > 0 {
        info!(row = progress.row, "an earlier import is gone on with");
    }
    let bar = bar(source.message_count(0)?, "writing");
    bar.set_position(source.message_count(0)? - source.message_count(progress.row)?);
    // The rate is that of this run.
    bar.reset_eta();
    let batch = target.batch_row_count;
    let written = write::messages(source, logs, &mut progress, batch, &bar).await?;
    let revoked = write::revocations(source, logs).await?;
    bar.finish_and_clear();

    let bar = self::bar(source.message_count(0)?, "checking");
    let checked = check::messages(source, logs, batch, &bar).await?;
    let found_revoked = check::revocations(source, logs).await?;
    bar.finish_and_clear();
    progress.finish()?;
    let damaged = logs.statistics().iter().any(Statistics::is_damaged);
    if damaged {
        warn!("the message log was damaged before; what could be read was kept");
    }
    Ok(Report {
        written,
        checked,
        revoked,
        found_revoked,
    })
}

/// On standard error, when that is a terminal.
fn bar(count: u64, title: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(count).with_message(title);
    let template = "{msg} {bar:30} {human_pos} of {human_len} messages  {per_sec}  {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
