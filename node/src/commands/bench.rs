//! `cepa bench`: load upon nodes of one's own, without coordinated omission, and what it costs them.

mod aim;
mod arguments;
mod expect;
mod prepare;

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cepa_load::engine::{self, Around, Connection, Make, Measured, Progress};
use cepa_load::meter::Meter;
use cepa_load::report::Report;
use cepa_load::workload::{Direct, Onions, Packets};
use cepa_load::{plot, table};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

pub(crate) use self::arguments::BenchArguments;

use self::aim::Aim;
use self::arguments::Kind;
use super::run::{control_runtime, stop_signal};
use crate::failure::Failure;

/// How often progress is shown.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);

pub(super) fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    arguments.check()?;
    let aim = Aim::take(arguments)?;
    for file in arguments.files() {
        // Before anything is measured, not after twenty minutes.
        let opened = fs::File::options().append(true).create(true).open(file);
        opened.map_err(|fault| unwritten(file, &fault))?;
    }
    let report = control_runtime()?.block_on(measure(arguments, &aim))?;
    let mut shown = table::table(&report);
    let kept = keep(arguments, &report, &mut shown);
    io::stdout()
        .write_all(shown.as_bytes())
        .map_err(Failure::new)?;
    kept?;
    expect::check(&report, arguments.expect_p99, arguments.fail_on_errors)
}

/// Writes the files that were asked for, and says so.
fn keep(arguments: &BenchArguments, report: &Report, shown: &mut String) -> Result<(), Failure> {
    if let Some(file) = &arguments.json {
        let json = report.to_json().map_err(Failure::new)?;
        write(file, &json)?;
        shown.push_str(&told(file));
    }
    if let Some(file) = &arguments.plot {
        write(file, &plot::svg(report).map_err(Failure::new)?)?;
        shown.push_str(&told(file));
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|fault| unwritten(file, &fault))
}

fn unwritten(file: &Path, fault: &io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {fault}", file.display()))
}

fn told(file: &Path) -> String {
    format!("written: {}\n", file.display())
}

async fn measure(arguments: &BenchArguments, aim: &Aim) -> Result<Report, Failure> {
    let meter = Meter::new(aim.processes(&arguments.pid)?);
    let processes = meter.processes().to_vec();
    let begun_ms = date_ms();
    let measured = drive(arguments, aim, meter).await?;
    let mix = arguments.mix();
    let names: Vec<_> = mix.iter().map(|(action, _)| action.name()).collect();
    let settings = arguments.settings(aim);
    Ok(Report::new(
        settings, &names, &processes, &measured, begun_ms,
    ))
}

/// Makes what is needed beforehand, and runs.
async fn drive(arguments: &BenchArguments, aim: &Aim, meter: Meter) -> Result<Measured, Failure> {
    let waiting = super::send::waiting("opening connections and making accounts");
    let asker = prepare::asker(arguments, aim).await?;
    match arguments.kind {
        Kind::Packet => {
            let clients = prepare::packet_clients(arguments, aim).await?;
            waiting.finish_and_clear();
            load(arguments, Packets(asker), clients, meter).await
        }
        Kind::Onion => {
            let connections = prepare::https_connections(arguments, aim).await?;
            waiting.finish_and_clear();
            let (nodes, guards) = (aim.nodes.clone(), aim.entries.clone());
            let onions = Onions::new(asker, nodes, guards, arguments.hop_count().into());
            load(arguments, onions, connections, meter).await
        }
        _ => {
            let connections = prepare::https_connections(arguments, aim).await?;
            waiting.finish_and_clear();
            load(arguments, Direct(asker), connections, meter).await
        }
    }
}

/// Runs, shows how far it is, and ends early when it is told to.
async fn load<M, C>(
    arguments: &BenchArguments,
    make: M,
    connections: Vec<C>,
    meter: Meter,
) -> Result<Measured, Failure>
where
    M: Make,
    C: Connection<Request = M::Request> + 'static,
{
    let progress = Arc::new(Progress::default());
    let around = Around {
        kind_count: arguments.mix().len(),
        meter,
        progress: &progress,
    };
    let running = engine::run(arguments.load(), make, connections, around);
    let mut running = core::pin::pin!(running);
    let bar = bar(arguments);
    let showing = async {
        loop {
            show(&bar, &progress);
            sleep(PROGRESS_PAUSE).await;
        }
    };
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        signalled = stop_signal() => {
            signalled?;
            progress.is_stopped.store(true, Ordering::Relaxed);
            running.await
        }
        () = showing => return Err(Failure::new("the progress bar has ended")),
    };
    bar.finish_and_clear();
    outcome.map_err(Failure::new)
}

fn bar(arguments: &BenchArguments) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let settings = arguments.load();
    let span = (settings.warm_up + settings.duration).as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is only shown"
    )]
    let count = (span * settings.rate) as u64;
    let bar = ProgressBar::new(count);
    let style = "{elapsed} [{bar:30}] {percent}% {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let read = |count: &core::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (due, not_sent) = (read(&progress.due), read(&progress.not_sent));
    let (ended, failed) = (read(&progress.ended), read(&progress.failed));
    let under_way = due.saturating_sub(not_sent + ended);
    bar.set_position(due);
    bar.set_message(format!(
        "{ended} ended, {under_way} under way, {failed} failed, {not_sent} not sent"
    ));
}

#[expect(clippy::disallowed_methods, reason = "the date that a report shows")]
fn date_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
