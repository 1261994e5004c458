//! Page 3: the packet lane.

use super::super::names::{
    PACKET_ANSWERED, PACKET_ANSWERS_WAITING, PACKET_BATCH_SIZE, PACKET_CLIENTS, PACKET_DELAYED,
    PACKET_DELIVERED, PACKET_DROPPED, PACKET_EPOCH_LEFT, PACKET_FORWARDED, PACKET_FRAGMENTS,
    PACKET_HALF_OPEN, PACKET_HANDSHAKES, PACKET_IO_KERNEL_DROPPED, PACKET_IO_RECEIVED,
    PACKET_IO_SEND_FAILED, PACKET_IO_SEND_FULL, PACKET_IO_SENT, PACKET_PEELED, PACKET_QUEUED,
    PACKET_RELAYS, PACKET_RELAYS_KNOWN, PACKET_REPLAY_FILL, PACKET_REPLIED, PACKET_STEP_SECONDS,
    PACKET_WAITING,
};
use super::super::rates::Interval;
use super::super::units::Unit;
use super::{Cell, Page, Panel, Row, Tone, batch_panel};

/// So full, the replay filter drops every twentieth packet that is new.
const REPLAY_FILL_WARN: f64 = 0.4;

pub(super) fn page(interval: &Interval<'_>) -> Page {
    Page {
        title: "packets",
        wide: None,
        panels: vec![
            flow(interval),
            drops(interval),
            links(interval),
            turns(interval),
            batch_panel(interval, "packet batches", PACKET_BATCH_SIZE),
            datagrams(interval),
        ],
    }
}

fn flow(interval: &Interval<'_>) -> Panel {
    let rate = |name, metric| Row::rate(name, interval.rate(metric));
    Panel {
        title: "packets",
        columns: &["per s"],
        rows: vec![
            rate("peeled", PACKET_PEELED),
            rate("to relays", PACKET_FORWARDED),
            rate("to clients", PACKET_REPLIED),
            rate("for us", PACKET_DELIVERED),
            rate("of our answers", PACKET_ANSWERED),
            rate("delayed", PACKET_DELAYED),
            rate("dropped", PACKET_DROPPED).toned_if_any(Tone::Warn),
        ],
    }
}

/// Those reasons that there were, the most frequent first.
fn drops(interval: &Interval<'_>) -> Panel {
    let mut reasons = interval.rates(PACKET_DROPPED, "reason");
    reasons.retain(|(_, rate)| *rate > 0.0);
    reasons.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut rows: Vec<_> = reasons
        .into_iter()
        .map(|(reason, rate)| Row::rate(reason.replace('_', " "), Some(rate)))
        .map(|row| row.toned(Tone::Warn, true))
        .collect();
    if rows.is_empty() {
        let told = interval.rate(PACKET_DROPPED);
        rows.push(Row::rate("none", told));
    }
    Panel {
        title: "drops by reason",
        columns: &["per s"],
        rows,
    }
}

fn links(interval: &Interval<'_>) -> Panel {
    let now = |name, metric| Row::number(name, interval.now().sum(metric), Unit::Count);
    Panel {
        title: "links",
        columns: &[],
        rows: vec![
            now("relays known", PACKET_RELAYS_KNOWN),
            now("relays linked", PACKET_RELAYS),
            now("clients", PACKET_CLIENTS),
            now("half open", PACKET_HALF_OPEN),
            Row::rate("handshakes per s", interval.rate(PACKET_HANDSHAKES)),
            now("wait for a link", PACKET_QUEUED),
        ],
    }
}

fn turns(interval: &Interval<'_>) -> Panel {
    let now = |name, metric| Row::number(name, interval.now().sum(metric), Unit::Count);
    let steps = interval.histogram(PACKET_STEP_SECONDS, None);
    let quantile = |quantile| steps.as_ref().and_then(|steps| steps.quantile(quantile));
    let fill = interval.now().largest(PACKET_REPLAY_FILL);
    let fill_cells = vec![Cell::Number(fill, Unit::Percent), Cell::Bar(fill)];
    Panel {
        title: "tile",
        columns: &[],
        rows: vec![
            now("delay wheel", PACKET_WAITING),
            now("pieces that wait", PACKET_FRAGMENTS),
            now("answers that wait", PACKET_ANSWERS_WAITING),
            Row::number("turn p50", quantile(0.5), Unit::Latency),
            Row::number("turn p99", quantile(0.99), Unit::Latency),
            Row::number(
                "epoch ends in",
                interval.now().sum(PACKET_EPOCH_LEFT),
                Unit::Age,
            ),
            Row::new("replay filter", fill_cells)
                .toned(Tone::Warn, fill.is_some_and(|fill| fill > REPLAY_FILL_WARN)),
        ],
    }
}

fn datagrams(interval: &Interval<'_>) -> Panel {
    let rate = |name, metric| Row::rate(name, interval.rate(metric));
    Panel {
        title: "datagrams",
        columns: &["per s"],
        rows: vec![
            rate("received", PACKET_IO_RECEIVED),
            rate("sent", PACKET_IO_SENT),
            rate("dropped by kernel", PACKET_IO_KERNEL_DROPPED).toned_if_any(Tone::Warn),
            rate("no room to send", PACKET_IO_SEND_FULL).toned_if_any(Tone::Warn),
            rate("failed to send", PACKET_IO_SEND_FAILED).toned_if_any(Tone::Warn),
        ],
    }
}
