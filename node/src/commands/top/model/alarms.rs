//! What is wrong with a node, as far as its numbers tell.

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
/// oxend is asked each half minute.
pub(super) const VIEW_AGE_MAX: f64 = 300.0;
/// The network's patience is 65 minutes; a ping or a test in ten is late.
pub(super) const DECOMMISSION_WARN: f64 = 30.0 * 60.0;
/// Where the log begins to refuse the largest mailboxes.
pub(super) const LOG_FULL_WARN: f64 = 0.9;
/// Shares of the open files that a process may have.
pub(super) const FILES_WARN: f64 = 0.8;
/// A disk with less room than eight segments of the usual size.
pub(super) const DISK_FREE_MIN: f64 = 512.0 * 1024.0 * 1024.0;

/// All that is wrong, the worst first.
pub(super) fn find(interval: &Interval<'_>) -> Vec<Alarm> {
    let checks = [
        standing,
        store_in_doubt,
        disk_faults,
        silent_shard,
        oxend,
        disk_full,
        log_full,
        overload,
        not_ready,
        old_view,
        files,
    ];
    let mut alarms: Vec<_> = checks.iter().filter_map(|check| check(interval)).collect();
    alarms.sort_by_key(|alarm| core::cmp::Reverse(alarm.tone));
    alarms
}

fn alarm(tone: Tone, text: impl Into<String>) -> Option<Alarm> {
    let text = text.into();
    Some(Alarm { tone, text })
}

fn is(value: Option<f64>, holds: impl Fn(f64) -> bool) -> bool {
    value.is_some_and(holds)
}

fn standing(interval: &Interval<'_>) -> Option<Alarm> {
    if is(interval.now().sum(NODE_ACTIVE), |active| active < 0.5) {
        return alarm(Tone::Bad, "decommissioned");
    }
    let left = interval.now().sum(DECOMMISSION_IN)?;
    let tone = decommission_tone(left);
    let text = format!("may be voted out in {}", Unit::Age.format(Some(left)));
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

fn store_in_doubt(interval: &Interval<'_>) -> Option<Alarm> {
    let is_in_doubt = is(interval.now().sum(STORE_IN_DOUBT), |logs| logs > 0.0);
    is_in_doubt.then(|| alarm(Tone::Bad, "log in doubt"))?
}

fn disk_faults(interval: &Interval<'_>) -> Option<Alarm> {
    let has_failed = is(interval.rate(STORE_DISK_FAULTS), |rate| rate > 0.0);
    has_failed.then(|| alarm(Tone::Bad, "the disk fails"))?
}

fn silent_shard(interval: &Interval<'_>) -> Option<Alarm> {
    let is_silent = is(interval.now().largest(SHARD_SILENT), |silent| {
        silent > SHARD_SILENT_MAX
    });
    is_silent.then(|| alarm(Tone::Bad, "a shard is silent"))?
}

fn oxend(interval: &Interval<'_>) -> Option<Alarm> {
    let is_away = is(interval.now().sum(OXEND_CONNECTED), |connected| {
        connected < 0.5
    });
    is_away.then(|| alarm(Tone::Bad, "no connection to oxend"))?
}

fn disk_full(interval: &Interval<'_>) -> Option<Alarm> {
    let is_full = is(interval.now().sum(DISK_FREE), |free| free < DISK_FREE_MIN);
    is_full.then(|| alarm(Tone::Bad, "the disk is full"))?
}

fn log_full(interval: &Interval<'_>) -> Option<Alarm> {
    let now = interval.now();
    let is_full = is(
        ratio(now.sum(STORE_USED), now.sum(STORE_CAPACITY)),
        |used| used > LOG_FULL_WARN,
    );
    is_full.then(|| alarm(Tone::Warn, "the log is nearly full"))?
}

fn overload(interval: &Interval<'_>) -> Option<Alarm> {
    let is_overloaded = is(interval.now().sum(SHARDS_OVERLOADED), |shards| shards > 0.0);
    is_overloaded.then(|| alarm(Tone::Warn, "overloaded"))?
}

fn not_ready(interval: &Interval<'_>) -> Option<Alarm> {
    let is_refusing = is(interval.now().sum(READY), |ready| ready < 0.5);
    is_refusing.then(|| alarm(Tone::Bad, "not in a swarm: clients are refused"))?
}

fn old_view(interval: &Interval<'_>) -> Option<Alarm> {
    // A network file does not age: it is told when there is an oxend.
    let has_oxend = interval.now().sum(OXEND_CONNECTED).is_some();
    let is_old = has_oxend && is(interval.now().sum(VIEW_AGE), |age| age > VIEW_AGE_MAX);
    is_old.then(|| alarm(Tone::Warn, "the view is old"))?
}

fn files(interval: &Interval<'_>) -> Option<Alarm> {
    let now = interval.now();
    let used = ratio(now.sum(PROCESS_OPEN_FILES), now.sum(PROCESS_MAX_FILES));
    is(used, |used| used > FILES_WARN).then(|| alarm(Tone::Warn, "many open files"))?
}
