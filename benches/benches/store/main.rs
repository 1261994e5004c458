//! The message store beside others: `cargo bench -p benches --bench store -- --help`.
//!
//! Each engine runs in a process of its own, so that memory and what the kernel counts are its own.

mod baseline;
mod cepa;
mod lsm;
mod meter;
mod report;
mod sqlite;
mod workload;

use core::time::Duration;
use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use mimalloc::MiMalloc;

use crate::baseline::Fault;
use crate::report::EngineReport;

/// The allocator of the node.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Message stores side by side: same messages, same operations, same disk
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct Arguments {
    /// Accounts, drawn evenly
    #[arg(long, default_value_t = 20_000)]
    pub(crate) accounts: usize,
    /// Messages stored before anything is timed
    #[arg(long, default_value_t = 200_000)]
    pub(crate) preload: usize,
    /// Stores that are timed; the slow engines end earlier, after --seconds
    #[arg(long, default_value_t = 400_000)]
    pub(crate) stores: usize,
    /// Mixed operations that are timed: 70 % retrieve, 25 % store, 5 % delete and expire
    #[arg(long, default_value_t = 400_000)]
    pub(crate) ops: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 1024)]
    pub(crate) payload: usize,
    /// The longest that a timed phase of a slow engine takes
    #[arg(long, default_value_t = 20.0)]
    pub(crate) seconds: f64,
    /// How long the open loop runs, at half the rate of the mixed phase
    #[arg(long, default_value_t = 10.0)]
    pub(crate) open_seconds: f64,
    /// 200,000 accounts and 2,000,000 messages preloaded
    #[arg(long)]
    full: bool,
    /// Which engines, in which order
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sqlite-full,sqlite-normal,fjall,cepa,cepa-relaxed"
    )]
    engines: Vec<String>,
    /// Shards of cepa, each pinned to a core
    #[arg(long, default_value_t = 1)]
    pub(crate) shards: usize,
    /// Clients of cepa that wait for an answer at a time
    #[arg(long, default_value_t = 256)]
    pub(crate) clients: usize,
    /// Commits of cepa under way at a time
    #[arg(long, default_value_t = 2)]
    pub(crate) commits: usize,
    /// MiB of a shard's tail in memory
    #[arg(long, default_value_t = 8)]
    pub(crate) cache: usize,
    /// Where the stores are made, in a fresh directory; on the disk that is to be measured
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Also writes the results there
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, hide = true)]
    child: Option<String>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn phase_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// How long the disk is left alone between two engines.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// A bar on standard error.
pub(crate) fn progress(name: &str, count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64).with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg:15} preload {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.full {
        arguments.accounts = 200_000;
        arguments.preload = 2_000_000;
    }
    let result = match arguments.child.clone() {
        Some(engine) => run_child(&engine, &arguments),
        None => run_all(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            drop(writeln!(io::stderr(), "store: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn run_child(engine: &str, arguments: &Arguments) -> Result<(), Fault> {
    let dir: &Path = &arguments.dir;
    let report = match engine {
        "sqlite-full" => baseline::run::<sqlite::Sqlite>(engine, true, arguments, dir),
        "sqlite-normal" => baseline::run::<sqlite::Sqlite>(engine, false, arguments, dir),
        "fjall" => baseline::run::<lsm::Fjall>(engine, true, arguments, dir),
        "fjall-relaxed" => baseline::run::<lsm::Fjall>(engine, false, arguments, dir),
        "cepa" => cepa::run(engine, false, arguments, dir),
        "cepa-relaxed" => cepa::run(engine, true, arguments, dir),
        other => Err(format!(
            "there is no engine {other}: sqlite-full, sqlite-normal, fjall, fjall-relaxed, cepa, \
             cepa-relaxed"
        )
        .into()),
    }?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}

fn run_all(arguments: &Arguments) -> Result<(), Fault> {
    let mut reports: Vec<EngineReport> = Vec::new();
    for engine in &arguments.engines {
        writeln!(io::stderr(), "{engine} ...")?;
        let dir = tempfile::TempDir::new_in(&arguments.dir)?;
        let output = Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .arg("--child")
            .arg(engine)
            .arg("--dir")
            .arg(dir.path())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{engine} failed: {}", output.status).into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().unwrap_or_default();
        reports.push(serde_json::from_str(line)?);
        // The next engine shall find the disk idle, not busy with what this one left.
        dir.close()?;
        rustix::fs::sync();
        std::thread::park_timeout(SETTLE_TIME);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "Measured on {}.", meter::machine(&arguments.dir))?;
    writeln!(
        out,
        "{} accounts, {} messages of {} B preloaded.\n",
        arguments.accounts, arguments.preload, arguments.payload
    )?;
    write!(out, "{}", report::tables(&reports))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&reports)?)?;
    }
    Ok(())
}
