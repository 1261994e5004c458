//! Page 2: what clients ask, and onions.

use super::super::names::{
    GATE_WAITING, HTTPS_ACCEPTED, HTTPS_CONNECTIONS, HTTPS_REFUSED, MONITOR_NOTIFIED, OMQ_ACCEPTED,
    OMQ_CONNECTIONS, OMQ_DIALLED, OMQ_REFUSED, ONION_BAD_PAYLOAD, ONION_BATCH_SIZE,
    ONION_DELIVERED, ONION_FORWARDED, ONION_HOP_LIMIT, ONION_MALFORMED, ONION_NEXT_INVALID,
    ONION_NEXT_TIMEOUT, ONION_NEXT_UNKNOWN, ONION_NEXT_UNREACHABLE, ONION_PROXIED,
    ONION_PROXY_FAILED, ONION_PROXY_REFUSED, ONION_PROXY_TIMEOUT, ONION_SECONDS,
    ONION_UNDECRYPTABLE, ONIONS_WAITING, PEER_LINKS, QUIC_ACCEPTED, QUIC_COMMANDS, QUIC_REFUSED,
    REFUSED_BUSY, REFUSED_NOT_READY, REFUSED_OVERLOADED, REFUSED_RATE_LIMITED, REQUEST_FAILED,
    REQUEST_OK, REQUEST_REFUSED, REQUEST_SECONDS, REQUEST_WRONG_SWARM, REQUESTS_RUNNING,
};
use super::super::rates::Interval;
use super::super::units::Unit;
use super::{
    Cell, LATENCY_COLUMNS, Page, Panel, Row, Tone, batch_panel, latency_row, latency_rows,
};

/// How an onion can end badly.
const FAILURES: [(&str, &str); 11] = [
    ("malformed", ONION_MALFORMED),
    ("undecryptable", ONION_UNDECRYPTABLE),
    ("bad payload", ONION_BAD_PAYLOAD),
    ("hop limit", ONION_HOP_LIMIT),
    ("next unknown", ONION_NEXT_UNKNOWN),
    ("next unreachable", ONION_NEXT_UNREACHABLE),
    ("next timeout", ONION_NEXT_TIMEOUT),
    ("next invalid", ONION_NEXT_INVALID),
    ("server refused", ONION_PROXY_REFUSED),
    ("server timeout", ONION_PROXY_TIMEOUT),
    ("server failed", ONION_PROXY_FAILED),
];

pub(super) fn page(interval: &Interval<'_>) -> Page {
    Page {
        title: "requests",
        wide: None,
        panels: vec![
            lanes(interval),
            onions(interval),
            answers(interval),
            connections(interval),
            failures(interval),
            batch_panel(interval, "onion batches", ONION_BATCH_SIZE),
        ],
    }
}

/// Requests by how they came.
pub(super) fn lanes(interval: &Interval<'_>) -> Panel {
    let mut rows = vec![latency_row(interval, "all", REQUEST_SECONDS)];
    rows.extend(latency_rows(interval, REQUEST_SECONDS, "via"));
    Panel {
        title: "requests",
        columns: LATENCY_COLUMNS,
        rows,
    }
}

/// Onions by who they came from, and what became of them.
pub(super) fn onions(interval: &Interval<'_>) -> Panel {
    let mut rows: Vec<_> = latency_rows(interval, ONION_SECONDS, "from")
        .into_iter()
        .map(|row| Row {
            name: format!("of {}s", row.name),
            ..row
        })
        .collect();
    let failures = FAILURES.map(|(_, name)| name);
    rows.extend([
        Row::rate("passed on", interval.rate(ONION_FORWARDED)),
        Row::rate("for us", interval.rate(ONION_DELIVERED)),
        Row::rate("to servers", interval.rate(ONION_PROXIED)),
        Row::rate("failed", interval.rate_of_all(&failures)).toned_if_any(Tone::Warn),
    ]);
    Panel {
        title: "onions",
        columns: LATENCY_COLUMNS,
        rows,
    }
}

fn answers(interval: &Interval<'_>) -> Panel {
    let rate = |name, metric| Row::rate(name, interval.rate(metric));
    let now = |metric| interval.now().sum(metric);
    Panel {
        title: "answers",
        columns: &["per s"],
        rows: vec![
            rate("2xx", REQUEST_OK),
            rate("4xx", REQUEST_REFUSED),
            rate("421 wrong swarm", REQUEST_WRONG_SWARM),
            rate("5xx", REQUEST_FAILED).toned_if_any(Tone::Bad),
            rate("refused: not ready", REFUSED_NOT_READY).toned_if_any(Tone::Warn),
            rate("refused: busy", REFUSED_BUSY).toned_if_any(Tone::Warn),
            rate("refused: too often", REFUSED_RATE_LIMITED).toned_if_any(Tone::Warn),
            rate("refused: overload", REFUSED_OVERLOADED).toned_if_any(Tone::Warn),
            rate("subscribers told", MONITOR_NOTIFIED),
            rate("quic commands", QUIC_COMMANDS),
            Row::number("running now", now(REQUESTS_RUNNING), Unit::Count),
            Row::number("wait for a shard", now(GATE_WAITING), Unit::Count),
            Row::number("onions that wait", now(ONIONS_WAITING), Unit::Count),
        ],
    }
}

fn connections(interval: &Interval<'_>) -> Panel {
    let row = |name, open: Option<&str>, opened: &str, refused: Option<&str>| {
        let open = open.and_then(|open| interval.now().sum(open));
        let refused = refused.map(|refused| interval.rate(refused));
        let mut cells = vec![
            Cell::Number(open, Unit::Count),
            Cell::Number(interval.rate(opened), Unit::PerSecond),
        ];
        cells.extend(refused.map(|rate| Cell::Number(rate, Unit::PerSecond)));
        let is_refusing = refused.flatten().is_some_and(|rate| rate > 0.0);
        Row::new(name, cells).toned(Tone::Warn, is_refusing)
    };
    Panel {
        title: "connections",
        columns: &["open", "new/s", "denied/s"],
        rows: vec![
            row(
                "https",
                Some(HTTPS_CONNECTIONS),
                HTTPS_ACCEPTED,
                Some(HTTPS_REFUSED),
            ),
            row(
                "omq",
                Some(OMQ_CONNECTIONS),
                OMQ_ACCEPTED,
                Some(OMQ_REFUSED),
            ),
            row("quic", None, QUIC_ACCEPTED, Some(QUIC_REFUSED)),
            row("links", Some(PEER_LINKS), OMQ_DIALLED, None),
        ],
    }
}

fn failures(interval: &Interval<'_>) -> Panel {
    let rows = FAILURES.iter();
    let rows =
        rows.map(|(name, metric)| Row::rate(*name, interval.rate(metric)).toned_if_any(Tone::Warn));
    Panel {
        title: "onions that failed",
        columns: &["per s"],
        rows: rows.collect(),
    }
}
