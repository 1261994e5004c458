//! What is wrong with a node, as far as its numbers tell.

use core::cmp::Reverse;

use super::super::names::{
    DECOMMISSION_IN, DISK_FREE, NODE_ACTIVE, OXEND_CONNECTED, PROCESS_MAX_FILES,
    PROCESS_OPEN_FILES, READY, SHARD_SILENT, SHARDS_OVERLOADED, STORE_CAPACITY, STORE_DISK_FAULTS,
    STORE_IN_DOUBT, STORE_USED, VIEW_AGE,
};
use super::super::rates::Interval;
use super::super::units::Unit;
use super::{Alarm, Tone, ratio};

/// A shard tells something each second.
pub(super) const SHARD_SILENT_MAX: f64 = 10.0;
/// oxend is asked each half minute: ten times nothing.
const VIEW_AGE_MAX: f64 = 300.0;
/// The network's patience is 65 minutes: less than half of it is left.
const DECOMMISSION_WARN: f64 = 30.0 * 60.0;
/// So full, the limit of a mailbox has sunk far: the largest are refused.
pub(super) const LOG_FULL_WARN: f64 = 0.9;
/// Share of the files that the process may have open.
pub(super) const FILES_WARN: f64 = 0.8;
/// A disk with less room than eight segments of the usual size.
const DISK_FREE_MIN: f64 = 512.0 * 1024.0 * 1024.0;

/// All that is wrong, the worst first.
pub(super) fn find(interval: &Interval<'_>) -> Vec<Alarm> {
    let now = |name| interval.now().sum(name);
    let used = |part, whole| ratio(now(part), now(whole));
    let is_off = |name| now(name).is_some_and(|value| value < 0.5);
    let is_any = |value: Option<f64>| value.is_some_and(|value| value > 0.0);
    let silent = interval.now().largest(SHARD_SILENT);
    // Told with an oxend only: a network file has no age.
    let view_age = now(VIEW_AGE);
    let checks = [
        (is_off(NODE_ACTIVE), Tone::Bad, "decommissioned"),
        (is_off(READY), Tone::Bad, "in no swarm: clients are refused"),
        (is_any(now(STORE_IN_DOUBT)), Tone::Bad, "log in doubt"),
        (
            is_any(interval.rate(STORE_DISK_FAULTS)),
            Tone::Bad,
            "the disk fails",
        ),
        (
            silent > Some(SHARD_SILENT_MAX),
            Tone::Bad,
            "a shard is silent",
        ),
        (is_off(OXEND_CONNECTED), Tone::Bad, "no connection to oxend"),
        (is_low(now(DISK_FREE)), Tone::Bad, "the disk is full"),
        (
            used(STORE_USED, STORE_CAPACITY) > Some(LOG_FULL_WARN),
            Tone::Warn,
            "the log is nearly full",
        ),
        (is_any(now(SHARDS_OVERLOADED)), Tone::Warn, "overloaded"),
        (view_age > Some(VIEW_AGE_MAX), Tone::Warn, "the view is old"),
        (
            used(PROCESS_OPEN_FILES, PROCESS_MAX_FILES) > Some(FILES_WARN),
            Tone::Warn,
            "many open files",
        ),
    ];
    let wrong = checks.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    let mut alarms: Vec<_> = wrong
        .map(|(_, tone, text)| Alarm {
            tone,
            text: text.to_owned(),
        })
        .collect();
    alarms.extend(decommission(now(DECOMMISSION_IN)));
    alarms.sort_by_key(|alarm| Reverse(alarm.tone));
    alarms
}

/// Whether a disk is full, as far as one knows.
pub(super) fn is_low(free: Option<f64>) -> bool {
    free.is_some_and(|free| free < DISK_FREE_MIN)
}

fn decommission(left: Option<f64>) -> Option<Alarm> {
    let tone = decommission_tone(left?);
    let text = format!("may be voted out in {}", Unit::Age.format(left));
    (tone > Tone::Plain).then_some(Alarm { tone, text })
}

/// How near the end is.
pub(super) fn decommission_tone(seconds: f64) -> Tone {
    match seconds {
        seconds if seconds < DECOMMISSION_WARN / 3.0 => Tone::Bad,
        seconds if seconds < DECOMMISSION_WARN => Tone::Warn,
        _ => Tone::Plain,
    }
}
