//! Page 4: the message log.

use super::super::names::{
    DISK_FREE, DISK_SIZE, MESSAGE_DELETED, MESSAGE_DUPLICATE, MESSAGE_RETRIEVED, MESSAGE_STORED,
    STORE_CAPACITY, STORE_CHANGES_WAITING, STORE_COMMAND_SECONDS, STORE_COMMIT_CHANGES,
    STORE_COMMITTED_BYTES, STORE_COMPACTED, STORE_DISK_FAULTS, STORE_EXPIRED, STORE_FAILED,
    STORE_FAILED_READS, STORE_IN_DOUBT, STORE_INDEX_MEMORY, STORE_MAILBOXES, STORE_MESSAGE_BYTES,
    STORE_MESSAGES, STORE_READS, STORE_SEGMENTS, STORE_USED, STORE_WRITE_SECONDS,
};
use super::super::rates::Interval;
use super::super::units::Unit;
use super::alarms::{LOG_FULL_WARN, is_low};
use super::{
    Cell, LATENCY_COLUMNS, Page, Panel, Row, Tone, batch_panel, latency_row, latency_rows, ratio,
};

pub(super) fn page(interval: &Interval<'_>) -> Page {
    Page {
        title: "log",
        wide: None,
        panels: vec![
            latencies(interval),
            space(interval),
            messages(interval),
            faults(interval),
            batch_panel(interval, "changes of a commit", STORE_COMMIT_CHANGES),
        ],
    }
}

/// Commands and commits.
pub(super) fn latencies(interval: &Interval<'_>) -> Panel {
    let mut rows = vec![latency_row(interval, "commits", STORE_WRITE_SECONDS)];
    rows.extend(latency_rows(interval, STORE_COMMAND_SECONDS, "work"));
    Panel {
        title: "log",
        columns: LATENCY_COLUMNS,
        rows,
    }
}

/// How much of the capacity is used.
pub(super) fn used_row(interval: &Interval<'_>) -> Row {
    let now = interval.now();
    let used = ratio(now.sum(STORE_USED), now.sum(STORE_CAPACITY));
    let cells = vec![Cell::Number(used, Unit::Percent), Cell::Bar(used)];
    Row::new("log used", cells).toned(Tone::Warn, used.is_some_and(|used| used > LOG_FULL_WARN))
}

/// Room on the disk.
pub(super) fn disk_row(interval: &Interval<'_>) -> Row {
    let free = interval.now().sum(DISK_FREE);
    Row::number("disk free", free, Unit::Bytes).toned(Tone::Bad, is_low(free))
}

fn space(interval: &Interval<'_>) -> Panel {
    let now = |name, metric, unit| Row::number(name, interval.now().sum(metric), unit);
    Panel {
        title: "space",
        columns: &[],
        rows: vec![
            used_row(interval),
            now("used", STORE_USED, Unit::Bytes),
            now("capacity", STORE_CAPACITY, Unit::Bytes),
            disk_row(interval),
            now("disk size", DISK_SIZE, Unit::Bytes),
            now("segments", STORE_SEGMENTS, Unit::Count),
            now("index memory", STORE_INDEX_MEMORY, Unit::Bytes),
            Row::number(
                "written per s",
                interval.rate(STORE_COMMITTED_BYTES),
                Unit::Bytes,
            ),
            Row::rate("compacted per s", interval.rate(STORE_COMPACTED)),
        ],
    }
}

fn messages(interval: &Interval<'_>) -> Panel {
    let rate = |name, metric| Row::rate(name, interval.rate(metric));
    let now = |name, metric, unit| Row::number(name, interval.now().sum(metric), unit);
    Panel {
        title: "messages",
        columns: &[],
        rows: vec![
            now("messages", STORE_MESSAGES, Unit::Count),
            now("their size", STORE_MESSAGE_BYTES, Unit::Bytes),
            now("mailboxes", STORE_MAILBOXES, Unit::Count),
            rate("stored per s", MESSAGE_STORED),
            rate("duplicates per s", MESSAGE_DUPLICATE),
            rate("given out per s", MESSAGE_RETRIEVED),
            rate("deleted per s", MESSAGE_DELETED),
            rate("expired per s", STORE_EXPIRED),
            rate("reads per s", STORE_READS),
            now("changes that wait", STORE_CHANGES_WAITING, Unit::Count),
        ],
    }
}

fn faults(interval: &Interval<'_>) -> Panel {
    let rate = |name, metric| Row::rate(name, interval.rate(metric)).toned_if_any(Tone::Bad);
    let doubt = interval.now().sum(STORE_IN_DOUBT);
    Panel {
        title: "faults",
        columns: &[],
        rows: vec![
            Row::number("logs in doubt", doubt, Unit::Count).toned_if_any(Tone::Bad),
            rate("disk faults per s", STORE_DISK_FAULTS),
            rate("failed reads per s", STORE_FAILED_READS),
            rate("failed commands per s", STORE_FAILED),
        ],
    }
}
