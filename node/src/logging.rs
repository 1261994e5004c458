//! The log: to standard error, of the levels that were asked for, in our words or the reference's.

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

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

type Change = Box<dyn Fn(EnvFilter) -> Result<(), Failure> + Send + Sync>;

/// Puts another filter in place; not there when the command line gave one.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// Starts the log; `given` is what the command line says.
pub(crate) fn start(given: Option<&str>) -> Result<(), Failure> {
    let level = given.unwrap_or(DEFAULT);
    let filter = filter("--log-level", level)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if given.is_some() {
        log.init();
        return Ok(());
    }
    let log = log.with_filter_reloading();
    let handle = log.reload_handle();
    let change = move |filter| handle.reload(filter).map_err(Failure::new);
    // The log is started once.
    drop(CHANGE.set(Box::new(change)));
    log.init();
    Ok(())
}

/// Takes the level that a config file gives, unless the command line gave one. `place` says where it
/// stands.
pub(crate) fn take(place: &str, level: &str) -> Result<(), Failure> {
    let filter = filter(place, level)?;
    CHANGE.get().map_or(Ok(()), |change| change(filter))
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
