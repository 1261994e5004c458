//! Page 5: the swarm, how the node stands with the network, and the process.

use super::super::names::{
    DECOMMISSION_CREDIT, DECOMMISSION_IN, HANDOVER_GIVEN, HANDOVER_PENDING, HANDOVER_RUNNING,
    MEMBER_FORWARDED, MEMBER_SECONDS, MEMBER_TIMEOUT, MEMBERS_DOWN, MISSED_BYTES, MISSED_ENTRIES,
    NODE_ACTIVE, OXEND_CONNECTED, OXEND_PING_SILENT, PEER_TEST_SILENT, PEERS_DOWN, PEERS_FAILING,
    PEERS_PASSING, PROCESS_CPU, PROCESS_MAX_FILES, PROCESS_MEMORY, PROCESS_OPEN_FILES,
    PROCESS_THREADS, SHARD_SILENT, SWARM_MEMBERS, UPTIME_PROOF_AGE, VIEW_NODES,
};
use super::super::rates::Interval;
use super::super::units::Unit;
use super::alarms::{FILES_WARN, SHARD_SILENT_MAX, decommission_tone};
use super::{Cell, LATENCY_COLUMNS, Page, Panel, Row, Tone, latency_row, ratio};

/// A core that has so little left makes requests wait.
const BUSY_WARN: f64 = 0.9;

pub(super) fn page(interval: &Interval<'_>) -> Page {
    Page {
        title: "network",
        wide: None,
        panels: vec![
            swarm(interval),
            standing(interval),
            cores(interval),
            process(interval),
            members(interval),
            missed(interval),
        ],
    }
}

fn swarm(interval: &Interval<'_>) -> Panel {
    let now = |name, metric| Row::number(name, interval.now().sum(metric), Unit::Count);
    Panel {
        title: "swarm and peers",
        columns: &[],
        rows: vec![
            now("members", SWARM_MEMBERS),
            members_down_row(interval),
            now("nodes of the view", VIEW_NODES),
            Row::number(
                "nodes down",
                interval.now().largest(PEERS_DOWN),
                Unit::Count,
            ),
            now("peers reachable", PEERS_PASSING),
            peers_failing_row(interval),
        ],
    }
}

/// Each shard finds out by itself who is down: the one that knows of most counts.
pub(super) fn members_down_row(interval: &Interval<'_>) -> Row {
    let down = interval.now().largest(MEMBERS_DOWN);
    Row::number("members down", down, Unit::Count).toned_if_any(Tone::Warn)
}

pub(super) fn peers_failing_row(interval: &Interval<'_>) -> Row {
    let failing = interval.now().sum(PEERS_FAILING);
    Row::number("peers unreachable", failing, Unit::Count)
}

/// What is left until the network may vote this node out.
pub(super) fn decommission_row(interval: &Interval<'_>) -> Row {
    let left = interval.now().sum(DECOMMISSION_IN);
    let tone = left.map_or(Tone::Plain, decommission_tone);
    Row::number("decommission in", left, Unit::Age).toned(tone, true)
}

fn standing(interval: &Interval<'_>) -> Panel {
    let now = |name, metric, unit| Row::number(name, interval.now().sum(metric), unit);
    let is_nought = |metric| interval.now().sum(metric).is_some_and(|value| value < 0.5);
    let mut rows = vec![
        decommission_row(interval),
        now("active", NODE_ACTIVE, Unit::Count).toned(Tone::Bad, is_nought(NODE_ACTIVE)),
        now("credit", DECOMMISSION_CREDIT, Unit::Age),
        now("uptime proof", UPTIME_PROOF_AGE, Unit::Age),
        now("oxend connected", OXEND_CONNECTED, Unit::Count)
            .toned(Tone::Bad, is_nought(OXEND_CONNECTED)),
        now("oxend ping", OXEND_PING_SILENT, Unit::Age),
    ];
    let tests = interval.now().family(PEER_TEST_SILENT).iter();
    rows.extend(tests.map(|series| {
        let name = format!("tested by {}", series.label("kind"));
        Row::number(name, Some(series.value), Unit::Age)
    }));
    Panel {
        title: "standing",
        columns: &[],
        rows,
    }
}

/// What each tile takes of its core.
pub(super) fn cores(interval: &Interval<'_>) -> Panel {
    let busy = interval.rates(PROCESS_CPU, "tile").into_iter();
    let mut rows: Vec<_> = busy
        .map(|(tile, busy)| {
            let cells = vec![
                Cell::Number(Some(busy), Unit::Percent),
                Cell::Bar(Some(busy)),
            ];
            Row::new(tile, cells).toned(Tone::Warn, busy > BUSY_WARN)
        })
        .collect();
    let all = interval.rate(PROCESS_CPU);
    rows.push(Row::number("process", all, Unit::Percent));
    Panel {
        title: "cores",
        columns: &["busy"],
        rows,
    }
}

pub(super) fn memory_row(interval: &Interval<'_>) -> Row {
    Row::number("memory", interval.now().sum(PROCESS_MEMORY), Unit::Bytes)
}

pub(super) fn files_row(interval: &Interval<'_>) -> Row {
    let now = interval.now();
    let open = now.sum(PROCESS_OPEN_FILES);
    let is_much = ratio(open, now.sum(PROCESS_MAX_FILES)).is_some_and(|used| used > FILES_WARN);
    Row::number("open files", open, Unit::Count).toned(Tone::Warn, is_much)
}

fn process(interval: &Interval<'_>) -> Panel {
    let now = |name, metric| Row::number(name, interval.now().sum(metric), Unit::Count);
    let silent = interval.now().largest(SHARD_SILENT);
    Panel {
        title: "process",
        columns: &[],
        rows: vec![
            memory_row(interval),
            files_row(interval),
            now("files at most", PROCESS_MAX_FILES),
            now("threads", PROCESS_THREADS),
            Row::number("shards silent for", silent, Unit::Age).toned(
                Tone::Bad,
                silent.is_some_and(|silent| silent > SHARD_SILENT_MAX),
            ),
        ],
    }
}

fn members(interval: &Interval<'_>) -> Panel {
    Panel {
        title: "members",
        columns: LATENCY_COLUMNS,
        rows: vec![
            latency_row(interval, "answered", MEMBER_SECONDS),
            Row::rate("forwarded", interval.rate(MEMBER_FORWARDED)),
            Row::rate("timed out", interval.rate(MEMBER_TIMEOUT)).toned_if_any(Tone::Warn),
        ],
    }
}

fn missed(interval: &Interval<'_>) -> Panel {
    let now = |name, metric, unit| Row::number(name, interval.now().sum(metric), unit);
    Panel {
        title: "what others miss",
        columns: &[],
        rows: vec![
            now("changes kept", MISSED_ENTRIES, Unit::Count),
            now("their size", MISSED_BYTES, Unit::Bytes),
            now("handovers running", HANDOVER_RUNNING, Unit::Count),
            now("handovers pending", HANDOVER_PENDING, Unit::Count),
            Row::rate("handed over per s", interval.rate(HANDOVER_GIVEN)),
        ],
    }
}
