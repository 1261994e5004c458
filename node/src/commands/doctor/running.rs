//! The node that runs, if one does: its lock, and what its metrics say.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use cepa_host::clock;

use super::Context;
use super::finding::Finding;

/// How long the metrics may take: they are on this machine.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of them: there are some tens of KiB.
const SIZE_MAX: u64 = 4 << 20;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let Some(config) = context.config else {
        return Vec::new();
    };
    let mut findings = vec![judge_running(context.is_running)];
    if let Some(address) = config.admin_listen.filter(|_| context.is_running) {
        let told = fetch(address);
        findings.push(judge_metrics(address, told, now_seconds()));
    }
    findings
}

fn judge_running(is_running: bool) -> Finding {
    const NAME: &str = "running";
    if is_running {
        Finding::pass(NAME, "a node or an import has the lock of data_dir")
    } else {
        Finding::skip(NAME, "no node runs on data_dir")
    }
}

fn judge_metrics(address: SocketAddr, told: io::Result<String>, now: u64) -> Finding {
    const NAME: &str = "metrics";
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let told = match told {
        Ok(told) => told,
        Err(fault) => {
            return Finding::warn(
                NAME,
                format!("no answer at {address}: {fault}"),
                "the node may be starting, or run with another admin_listen",
            );
        }
    };
    let up = started_at(&told).map(|at| show_time(now.saturating_sub(at)));
    let up = up.map_or_else(String::new, |up| format!(", up for {up}"));
    match version(&told) {
        None => Finding::pass(NAME, format!("answered at {address}{up}")),
        Some(theirs) if theirs == OURS => Finding::pass(NAME, format!("version {theirs}{up}")),
        Some(theirs) => Finding::warn(
            NAME,
            format!("version {theirs}{up}; this binary is {OURS}"),
            "restart the node, so that it runs the binary that is installed",
        ),
    }
}

/// The body of `GET /metrics`.
fn fetch(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(SIZE_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other("it does not answer GET /metrics with 200")),
    }
}

/// The label `version` of `cepa_build_info`, if the node tells it.
fn version(metrics: &str) -> Option<&str> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("cepa_build_info{"))?;
    let (_, rest) = line.split_once("version=\"")?;
    Some(rest.split_once('"')?.0)
}

/// When the process began, in seconds since 1970, if the node tells it.
fn started_at(metrics: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("cepa_start_time_seconds "))?;
    line.trim().split('.').next()?.parse().ok()
}

fn now_seconds() -> u64 {
    clock::now().as_millis() / 1000
}

fn show_time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Pass, Skip, Warn};
    use super::*;

    #[test]
    fn a_node_that_runs_is_told() {
        assert_eq!(judge_running(true).verdict, Pass);
        assert_eq!(judge_running(false).verdict, Skip);
    }

    #[test]
    fn version_and_start_are_read_where_they_are_told() {
        let address = "127.0.0.1:9100".parse().unwrap();
        let ours = env!("CARGO_PKG_VERSION");
        let info = |version| format!("cepa_build_info{{a=\"b\",version=\"{version}\"}} 1\n");
        let start = "cepa_start_time_seconds 1000.5\n";
        let table = [
            (Ok(info(ours) + start), Pass, "up for 1 h 1 min"),
            (Ok(info(ours)), Pass, ours),
            (Ok(info("0.0.1")), Warn, "version 0.0.1; this"),
            (Ok("x 1\n".to_owned()), Pass, "answered"),
            (Err(io::ErrorKind::TimedOut.into()), Warn, "no answer"),
        ];
        for (told, verdict, found) in table {
            let finding = judge_metrics(address, told, 4670);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn times_are_shown_in_two_units() {
        assert_eq!(show_time(61), "1 min 1 s");
        assert_eq!(show_time(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(show_time(2 * 86_400 + 3600), "2 d 1 h");
    }
}
