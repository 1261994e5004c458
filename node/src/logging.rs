//! The log: of the levels that were asked for, in our words or the reference's, as text, as JSON or in
//! systemd's journal. The rule for what stands in it: no line at info or above has an address, an
//! account or a message's hash.

mod output;

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Write as _};
use std::sync::OnceLock;

use cepa_control::config::LogFormat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use self::output::Output;
use crate::failure::Failure;

/// What is logged when nothing is said.
const DEFAULT: &str = "info";

/// What the command line said counts, whatever a config file says.
const EXPECTED: &str = "off, error, warn, info, debug or trace, or a list such as info,db=debug";

/// Names of levels, ours first.
const LEVELS: [(&str, &str); 15] = [
    ("off", "off"),
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
    // Those of the reference.
    ("warning", "warn"),
    ("err", "error"),
    ("critical", "error"),
    ("crit", "error"),
    ("none", "off"),
    ("disabled", "off"),
    ("notice", "info"),
    ("verbose", "debug"),
    ("fatal", "error"),
];

/// The reference's categories, and what does the same here.
const CATEGORIES: [(&str, &str); 13] = [
    ("daemon", "cepa"),
    ("logging", "cepa"),
    ("utils", "cepa"),
    ("crypto", "cepa_crypto"),
    ("db", "cepa_storage"),
    ("snode", "cepa_swarm"),
    ("rpc", "cepa_host"),
    ("server", "cepa_host"),
    ("http", "cepa_host"),
    ("omq", "cepa_host"),
    ("oxenmq", "cepa_host"),
    ("quic", "cepa_edge"),
    ("ssquic", "cepa_edge"),
];

/// quinn names addresses and what strangers sent at warn. Who asks for more of it gets it.
const QUIET: &str = "quinn_udp=off,quinn_proto=error";

type Change<T> = Box<dyn Fn(T) -> Result<(), Failure> + Send + Sync>;

/// What puts another filter or another output in place of those that there are.
struct Log {
    filter: Change<EnvFilter>,
    output: Change<Output>,
    /// What the command line said.
    level: Option<String>,
    format: Option<LogFormat>,
}

/// The log of this process, once it is started.
static LOG: OnceLock<Log> = OnceLock::new();

/// Whether lines are JSON objects now.
static IS_JSON: AtomicBool = AtomicBool::new(false);

fn note_format(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Starts the log, as the command line has it or else with the defaults.
pub(crate) fn start(level: Option<&str>, format: Option<LogFormat>) -> Result<(), Failure> {
    let filter = filter("--log-level", level.unwrap_or(DEFAULT))?;
    let output = output::open(format.unwrap_or_default())?;
    let (filter, filters) = reload::Layer::new(filter);
    let (output, outputs) = reload::Layer::new(output);
    tracing_subscriber::registry()
        .with(output)
        .with(filter)
        .init();
    let log = Log {
        filter: Box::new(move |filter| filters.reload(filter).map_err(Failure::new)),
        output: Box::new(move |output| outputs.reload(output).map_err(Failure::new)),
        level: level.map(ToOwned::to_owned),
        format,
    };
    note_format(format.unwrap_or_default());
    // The log is started once.
    drop(LOG.set(log));
    Ok(())
}

/// Takes what a config says, but for what the command line said otherwise. `place` says where the level
/// stands. What is refused changes nothing.
pub(crate) fn configure(place: &str, level: &str, format: LogFormat) -> Result<(), Failure> {
    let Some(log) = LOG.get() else {
        return Ok(());
    };
    let level = log.level.as_deref().unwrap_or(level);
    let filter = filter(place, level)?;
    let format = log.format.unwrap_or(format);
    (log.output)(output::open(format)?)?;
    note_format(format);
    (log.filter)(filter)
}

/// Why a level is none, if it is none.
pub(crate) fn check_level(place: &str, level: &str) -> Result<(), Failure> {
    filter(place, level).map(drop)
}

/// Says why the process ends. Nobody is left to tell if that fails.
pub(crate) fn tell_failure(failure: &Failure) {
    if IS_JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR) {
        return tracing::error!("{failure}");
    }
    let priority = if output::is_journal() { "<3>" } else { "" };
    drop(writeln!(io::stderr(), "{priority}error: {failure}"));
}

fn filter(place: &str, level: &str) -> Result<EnvFilter, Failure> {
    let refused = || Failure::new(format!("{place} {level}: it must be {EXPECTED}"));
    let directives = translate(level).ok_or_else(refused)?;
    EnvFilter::builder()
        .parse(format!("{QUIET},{directives}"))
        .map_err(|_| refused())
}

/// A level or a list of `category=level`, as the filter has it.
fn translate(text: &str) -> Option<String> {
    let items = text.split(',').map(|item| match item.rsplit_once('=') {
        // Spans and fields are the filter's own language.
        _ if item.contains('[') => Some(item.to_owned()),
        None => level_of(item).map(ToOwned::to_owned),
        Some((category, level)) => {
            let level = level_of(level)?;
            Some(match category.trim() {
                "" => return None,
                "*" => level.to_owned(),
                category => format!("{}={level}", target_of(category)),
            })
        }
    });
    Some(items.collect::<Option<Vec<_>>>()?.join(","))
}

fn level_of(text: &str) -> Option<&'static str> {
    let text = text.trim().to_ascii_lowercase();
    let found = LEVELS.iter().find(|(name, _)| *name == text);
    found.map(|(_, level)| *level)
}

fn target_of(category: &str) -> &str {
    let found = CATEGORIES.iter().find(|(name, _)| *name == category);
    found.map_or(category, |(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ours_or_the_references() {
        let table = [
            ("info", Some("info")),
            ("warning", Some("warn")),
            ("Critical", Some("error")),
            ("none", Some("off")),
            ("info,cepa_host=debug", Some("info,cepa_host=debug")),
            ("warning, db=trace", Some("warn,cepa_storage=trace")),
            ("*=critical,quic=debug", Some("error,cepa_edge=debug")),
            ("info,[request]=trace", Some("info,[request]=trace")),
            ("cepa=loud", None),
            ("loud", None),
            ("", None),
            ("=info", None),
            ("info,,debug", None),
        ];
        for (text, expected) in table {
            assert_eq!(translate(text).as_deref(), expected, "{text}");
            assert_eq!(
                filter("--log-level", text).is_ok(),
                expected.is_some(),
                "{text}"
            );
        }
        let refusal = filter("--log-level", "loud").unwrap_err().to_string();
        assert!(
            refusal.starts_with("--log-level loud: it must be off"),
            "{refusal}"
        );
    }
}
