//! What the tiles say of their logs, to the control plane and to the operator: each writes its own
//! place, nobody waits.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_meter::{Declared, Sample};
use cepa_storage::territory::Territory;
use cepa_storage::{Command, Outcome, Report, StoreFault};
use cepa_wire::Timestamp;
use glommio::spawn_local;

use crate::clock;
use crate::numbers::{ShardNumbers, ShardsSeen, shard_label};
use crate::store::LocalLog;
use crate::tile::Tile;

/// How old a report may be.
const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// How often messages of foreign mailboxes are counted: that looks at every mailbox.
const SURVEY_PERIOD: Duration = Duration::from_mins(1);

/// A place for each tile.
#[derive(Default)]
pub struct StoreBoard {
    places: Box<[Place]>,
}

/// What one tile says.
#[derive(Default)]
struct Place {
    report: ArcSwap<Report>,
    numbers: ArcSwap<ShardNumbers>,
    /// When it said it, in ticks; 0 while it has said nothing.
    told_at: AtomicU64,
    /// Goes up for as long as the tile's executor runs, many times a second.
    beats: AtomicU64,
    /// What [`StoreBoard::are_tiles_alive`] found there when it was asked last.
    beats_seen: AtomicU64,
}

impl StoreBoard {
    pub(crate) fn new(tile_count: usize) -> Self {
        Self {
            places: (0..tile_count).map(|_| Place::default()).collect(),
        }
    }

    /// All logs together, as they were a second ago at most.
    pub fn report(&self) -> Report {
        let mut sum = Report::default();
        for place in &self.places {
            sum += Report::clone(&place.report.load());
        }
        sum
    }

    /// What is declared of shards.
    pub fn declared() -> impl Iterator<Item = &'static Declared> {
        ShardNumbers::DECLARED.iter().chain(ShardsSeen::DECLARED)
    }

    /// All that shards told, and how long ago.
    pub fn samples(&self) -> Vec<Sample> {
        let mut sum = ShardNumbers::default();
        let mut seen = ShardsSeen::default();
        let now = clock::ticks();
        for (index, place) in self.places.iter().enumerate() {
            sum += ShardNumbers::clone(&place.numbers.load());
            let told = Timestamp::from_millis(place.told_at.load(Ordering::Relaxed));
            let silent = u64::try_from(now.saturating_since(told).as_millis());
            let silent = silent.unwrap_or(u64::MAX);
            let label = shard_label(index);
            seen.shard_silent_seconds.push((label, silent));
        }
        let mut samples = sum.samples();
        samples.extend(seen.samples());
        samples.extend(self.report().samples());
        samples
    }

    /// Whether every tile has run since this was asked last: ask once a second at most. For one
    /// watchdog; a second one would take the first one's answers.
    pub fn are_tiles_alive(&self) -> bool {
        self.places.iter().fold(true, |alive, place| {
            let beats = place.beats.load(Ordering::Relaxed);
            alive & (place.beats_seen.swap(beats, Ordering::Relaxed) != beats)
        })
    }

    /// A tile's executor runs.
    fn beat(&self, tile: usize) {
        if let Some(place) = self.places.get(tile) {
            place.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn write(&self, tile: usize, report: Report, numbers: ShardNumbers) {
        if let Some(place) = self.places.get(tile) {
            place.report.store(Arc::new(report));
            place.numbers.store(Arc::new(numbers));
            let now = clock::ticks().as_millis();
            place.told_at.store(now, Ordering::Relaxed);
        }
    }
}

/// What a tile tells of its logs.
pub(crate) struct Reporter {
    board: Arc<StoreBoard>,
    tile: usize,
    logs: Vec<Watched>,
    next_report: Timestamp,
    next_survey: Timestamp,
}

/// A log, and what was told of it.
struct Watched {
    log: Rc<LocalLog>,
    fault: Option<StoreFault>,
    foreign_message_count: Rc<Cell<u64>>,
}

impl Reporter {
    pub(crate) fn new(
        board: Arc<StoreBoard>,
        tile: usize,
        logs: impl Iterator<Item = Rc<LocalLog>>,
    ) -> Self {
        let watched = logs.map(|log| Watched {
            log,
            fault: None,
            foreign_message_count: Rc::default(),
        });
        Self {
            board,
            tile,
            logs: watched.collect(),
            next_report: Timestamp::ZERO,
            next_survey: Timestamp::ZERO,
        }
    }

    /// Tells what there is to tell.
    pub(crate) fn report(&mut self, tile: &Tile, territory: Option<&Territory>, now: Timestamp) {
        self.board.beat(self.tile);
        for watched in &mut self.logs {
            watched.tell_fault();
        }
        if self.next_report > now {
            return;
        }
        self.next_report = now.saturating_add(REPORT_PERIOD);
        let mut sum = Report::default();
        for watched in &self.logs {
            sum += watched.log.report(watched.foreign_message_count.get());
        }
        self.board.write(self.tile, sum, tile.numbers());
        if let Some(territory) = territory
            && self.next_survey <= now
        {
            self.next_survey = now.saturating_add(SURVEY_PERIOD);
            for watched in &self.logs {
                watched.survey(territory.clone());
            }
        }
    }
}

impl Watched {
    /// Says when stores begin to fail, and why, and when they succeed again.
    fn tell_fault(&mut self) {
        let fault = self.log.last_fault();
        if fault == self.fault {
            return;
        }
        self.fault = fault;
        let Some(fault) = fault else {
            tracing::info!("messages are stored again");
            return;
        };
        let advice = match fault {
            StoreFault::DiskFull => "make room on the disk of data_dir",
            StoreFault::StoreFull => "raise store_capacity_mib if the disk has room",
            _ => "look at the kernel's log: the disk may be dying",
        };
        tracing::error!(reason = %fault, advice, "messages are not stored; retrieves go on");
    }

    fn survey(&self, territory: Territory) {
        let (log, count) = (Rc::clone(&self.log), Rc::clone(&self.foreign_message_count));
        spawn_local(async move {
            let territories = vec![territory, Territory::everything()];
            let outcome = log.execute(Command::Survey { territories }).await;
            if let Outcome::Surveyed(counts) = outcome
                && let [ours, all] = counts.as_slice()
            {
                count.set(all.message_count.saturating_sub(ours.message_count));
            }
        })
        .detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_that_stands_still_is_not_alive() {
        let board = StoreBoard::new(2);
        assert!(!board.are_tiles_alive(), "none has run yet");
        board.beat(0);
        board.beat(1);
        assert!(board.are_tiles_alive());
        board.beat(0);
        assert!(!board.are_tiles_alive(), "the second stands still");
        board.beat(1);
        assert!(!board.are_tiles_alive(), "now the first does");
        board.beat(0);
        board.beat(1);
        assert!(board.are_tiles_alive());
    }
}
