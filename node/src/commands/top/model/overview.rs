//! Page 1: what one wants to see at a glance.

use super::super::names::{HTTPS_CONNECTIONS, OMQ_CONNECTIONS, ONION_BATCH_SIZE, PEER_LINKS};
use super::super::rates::{Interval, Trails};
use super::super::units::Unit;
use super::log::{disk_row, latencies, used_row};
use super::network::{cores, decommission_row, files_row, members_down_row, memory_row};
use super::requests::{lanes, onions};
use super::{Cell, Page, Panel, Row, TRAILS, Trailed};

pub(super) fn page(interval: &Interval<'_>, trails: &Trails) -> Page {
    Page {
        title: "overview",
        wide: Some(activity(interval, trails)),
        panels: vec![
            lanes(interval),
            node(interval),
            onions(interval),
            cores(interval),
            latencies(interval),
        ],
    }
}

fn activity(interval: &Interval<'_>, trails: &Trails) -> Panel {
    let rows = TRAILS.iter().map(|Trailed { name, find, unit }| {
        let cells = vec![
            Cell::Number(find(interval), *unit),
            Cell::Trail(trails.of(name)),
        ];
        Row::new(*name, cells)
    });
    Panel {
        title: "per second",
        columns: &[],
        rows: rows.collect(),
    }
}

fn node(interval: &Interval<'_>) -> Panel {
    let now = |name, metric| Row::number(name, interval.now().sum(metric), Unit::Count);
    let batches = interval.histogram(ONION_BATCH_SIZE, None);
    let batch = batches.and_then(|batches| batches.mean);
    Panel {
        title: "node",
        columns: &[],
        rows: vec![
            used_row(interval),
            disk_row(interval),
            memory_row(interval),
            files_row(interval),
            members_down_row(interval),
            super::network::peers_failing_row(interval),
            decommission_row(interval),
            now("https connections", HTTPS_CONNECTIONS),
            now("omq connections", OMQ_CONNECTIONS),
            now("links", PEER_LINKS),
            Row::number("onion batch, mean", batch, Unit::Mean),
        ],
    }
}
