//! `cepa top`: a live view of one node, from its admin endpoint.

mod keys;
mod live;
mod model;
mod names;
mod plain;
mod rates;
mod reading;
mod scrape;
mod screen;
mod target;
mod units;
mod watch;

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use self::scrape::scrape;
use self::watch::Watch;
use super::run::control_runtime;
use crate::failure::Failure;

/// How often a node can be asked.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_mins(10);

const EXAMPLES: &str = "\
Keys: q quit, p pause, + and - the interval, tab or 1 to 5 the pages, ? help.

Examples:
  cepa top                              the node of /etc/cepa/cepa.toml, or of ./cepa.toml
  cepa top --admin 127.0.0.1:9100
  cepa top --once | grep 'commits'      one table after one interval; also where there is no terminal

The node must have `admin_listen` in its config. It is on loopback, for it has no password: watch a
node elsewhere through `ssh -L 9100:127.0.0.1:9100`.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArguments {
    /// The node's admin endpoint, as `admin_listen` in its config
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config",
          value_parser = target::parse_address)]
    admin: Option<String>,
    /// The node's config, which names its admin endpoint [default: /etc/cepa/cepa.toml, or cepa.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How often the node is asked, as in 2s or 500ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print one table after one interval, and end
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &TopArguments) -> Result<(), Failure> {
    let address = target::find(arguments.admin.as_deref(), arguments.config.as_deref())?;
    let is_once = arguments.once || !io::stdout().is_terminal();
    control_runtime()?.block_on(async {
        let first = scrape(&address)
            .await
            .map_err(|fault| failed(&address, &fault))?;
        let watch = Watch::new(address.clone(), arguments.interval, first);
        if is_once {
            print_once(&address, watch).await
        } else {
            live::run(&address, watch).await
        }
    })
}

fn failed(address: &str, fault: &str) -> Failure {
    Failure::new(format!(
        "cannot watch {address}: {fault}; it must be the admin_listen of a node that runs"
    ))
}

async fn print_once(address: &str, mut watch: Watch) -> Result<(), Failure> {
    tokio::time::sleep(watch.pace()).await;
    let second = scrape(address)
        .await
        .map_err(|fault| failed(address, &fault))?;
    watch.handle_answer(Ok(second));
    let view = watch
        .view()
        .ok_or_else(|| failed(address, "no time passed"))?;
    let text = plain::text(address, view);
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|fault| Failure::new(format!("cannot print: {fault}")))
}

/// `2s`, `500ms`, `1m`; a number alone is of seconds.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let number = digits.parse::<f64>().ok();
    let seconds = number.and_then(|number| match unit {
        "ms" => Some(number / 1000.0),
        "" | "s" => Some(number),
        "m" | "min" => Some(number * 60.0),
        _ => None,
    });
    let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    interval
        .filter(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval))
        .ok_or_else(|| "it must be a time from 100ms to 10m, as in 2s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units_and_bounds() {
        let table = [
            ("1s", Some(1000)),
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("250ms", Some(250)),
            ("1m", Some(60_000)),
            ("", None),
            ("s", None),
            ("1h", None),
            ("99ms", None),
            ("11m", None),
            ("-1s", None),
            ("1s1", None),
        ];
        for (text, millis) in table {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(parse_interval(text).ok(), expected, "{text}");
        }
    }
}
