//! Where lines of the log go and how they look.

use core::fmt;
use std::env;
use std::io::{self, IsTerminal as _};

use cepa_control::config::LogFormat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format, layer};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::failure::Failure;

/// What takes the lines.
pub(super) type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// Opens what takes lines of a format.
pub(super) fn open(wanted: LogFormat) -> Result<Output, Failure> {
    Ok(match wanted {
        LogFormat::Text if is_journal() => {
            let event = format().without_time().with_ansi(false);
            let lines = layer().event_format(WithPriority(event)).with_ansi(false);
            Box::new(lines.with_writer(io::stderr))
        }
        LogFormat::Text => {
            let is_terminal = io::stderr().is_terminal();
            Box::new(layer().with_writer(io::stderr).with_ansi(is_terminal))
        }
        LogFormat::Json => {
            let objects = layer().json().flatten_event(true);
            let objects = objects.with_current_span(false).with_span_list(false);
            Box::new(objects.with_writer(io::stderr).with_ansi(false))
        }
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(|fault| {
                Failure::new(format!(
                    "cannot reach systemd's journal: {fault}; use the log format text or json"
                ))
            })?;
            Box::new(journal.with_syslog_identifier("cepa".to_owned()))
        }
    })
}

/// Whether standard error is a stream of systemd's journal, which has the time of each line already and
/// reads its priority from the beginning (`sd-daemon(3)`).
pub(crate) fn is_journal() -> bool {
    let stream = rustix::fs::fstat(io::stderr()).ok();
    let told = env::var("JOURNAL_STREAM").ok();
    is_stream(
        told.as_deref(),
        stream.map(|stat| (stat.st_dev, stat.st_ino)),
    )
}

/// Whether `DEVICE:INODE`, as the journal tells it, is this file. A process that redirected its output
/// has inherited the words all the same.
fn is_stream(told: Option<&str>, file: Option<(u64, u64)>) -> bool {
    let told = told.and_then(|told| {
        let (device, inode) = told.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    });
    told.is_some() && told == file
}

/// The number of a level, as in `syslog(3)`.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Lines with their priority at the beginning.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let table = [
            (Some("8:123"), Some((8, 123)), true),
            (Some("8:123"), Some((8, 124)), false),
            (Some("8:123"), None, false),
            (Some("8"), Some((8, 123)), false),
            (Some("x:y"), Some((8, 123)), false),
            (None, Some((8, 123)), false),
            (None, None, false),
        ];
        for (told, file, expected) in table {
            assert_eq!(is_stream(told, file), expected, "{told:?}");
        }
    }

    #[test]
    fn priorities_are_those_of_syslog() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
        assert_eq!(levels.map(priority), [3, 4, 6, 7]);
    }
}
