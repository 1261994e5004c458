//! A shard, its disk and a model of what it promised; a seed decides what happens.
//!
//! The model knows of every message what it is for certain, and which commands may or may not count:
//! those in flight, and those that failed and were not yet followed by a success. A crash may keep
//! any of them; everything else is exact.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::struct_excessive_bools,
    reason = "for tests, and each uses another part of it"
)]

mod ask;
mod judge;
mod model;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use cepa_storage::command::DumpCursor;
use cepa_storage::territory::Territory;
use cepa_storage::{Command, Durability, Outcome, Settings, Shard, StoredMessage, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use self::model::*;
use crate::disk::{FaultRates, Rng, TestDisk};

/// -1 is a public outbox.
const NAMESPACES: [i16; 4] = [0, -1, 2, -10];
const MAILBOX_COUNT: usize = 3;
const HASH_COUNT: usize = 24;
const HEAL_CALLS_MAX: usize = 100_000;

/// What a world does to the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) faults: FaultRates,
    /// Now and then there is no space.
    pub(crate) fills_up: bool,
    /// Now and then a bit flips. Then messages may be missing and deleted ones come back, but
    /// nothing is invented.
    pub(crate) flips_bits: bool,
    /// The disk's bug that the model must find.
    pub(crate) ignores_sync: bool,
    /// The shard's bug that the model must find.
    pub(crate) ignores_voids: bool,
    /// Now and then the disk can hardly be read when the shard begins.
    pub(crate) goes_blind: bool,
    /// Answers before anything is durable: then only the process dies.
    pub(crate) relaxed: bool,
    /// Few messages a mailbox.
    pub(crate) small_quota: bool,
    /// Few segments.
    pub(crate) small_capacity: bool,
}

/// For whom the one cursor is.
const PEER: [u8; 32] = [0xEE; 32];

type Key = (Mailbox, MessageHash);

/// The world.
pub(crate) struct World {
    shard: Shard<TestDisk>,
    weather: Weather,
    rng: Rng,
    now: Timestamp,
    beliefs: BTreeMap<Key, Belief>,
    asked: BTreeMap<Ticket, Asked>,
    revoked: BTreeMap<Mailbox, Revoked>,
    cursor: CursorBelief,
    next_ticket: u64,
    next_arrival: u64,
    pub(crate) events: Events,
}

/// What happened, summed over restarts: to see that a test tests something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    pub(crate) commits: u64,
    pub(crate) crashes: u64,
    pub(crate) torn_tails: u64,
    pub(crate) removed_segments: u64,
    pub(crate) sealed_segments: u64,
    pub(crate) compacted_segments: u64,
    pub(crate) expired: u64,
    pub(crate) dumped: u64,
    pub(crate) refused: u64,
    pub(crate) blind_lives: u64,
}

impl core::ops::AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.torn_tails += other.torn_tails;
        self.removed_segments += other.removed_segments;
        self.sealed_segments += other.sealed_segments;
        self.compacted_segments += other.compacted_segments;
        self.expired += other.expired;
        self.dumped += other.dumped;
        self.refused += other.refused;
        self.blind_lives += other.blind_lives;
    }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = Rng::new(seed);
        let mut disk = TestDisk::new(rng.next());
        disk.is_instant = false;
        disk.ignores_sync = weather.ignores_sync;
        Self {
            shard: Shard::new(disk, settings(&mut rng, weather)),
            weather,
            rng,
            now: Timestamp::from_millis(1_000_000),
            beliefs: BTreeMap::new(),
            asked: BTreeMap::new(),
            revoked: BTreeMap::new(),
            cursor: CursorBelief::default(),
            next_ticket: 0,
            next_arrival: 0,
            events: Events::default(),
        }
    }

    /// Lets so many things happen, and checks at the end what is left.
    pub(crate) fn run(&mut self, step_count: usize) {
        for _ in 0..step_count {
            match self.rng.below(1000) {
                0..280 => self.ask_store(),
                280..330 => self.ask_delete(),
                330..340 => self.ask_delete_all(),
                340..370 => self.ask_expire(),
                370..380 => self.ask_expire_all(),
                380..390 => self.ask_expiries(),
                390..410 => self.ask_rights(),
                410..420 => self.ask_cursor(),
                420..430 => self.ask_dump(),
                430..500 => self.ask_retrieve(),
                500..510 => self.crash(),
                510..530 => self.change_weather(),
                530..570 => {
                    // Now and then hours, so that what lives long dies too.
                    let most = if self.rng.permille(50) { 27 } else { 14 };
                    let span = 1 << self.rng.below(most);
                    self.now = self
                        .now
                        .saturating_add(core::time::Duration::from_millis(span));
                }
                _ => self.turn(),
            }
        }
        // Once in the middle of things, and once with everything answered.
        self.crash();
        self.ask_store();
        self.heal();
        self.dump_everything();
        self.crash();
        self.settle();
        self.dump_everything();
    }

    fn change_weather(&mut self) {
        let is_bad = self.rng.permille(400);
        let disk = self.shard.disk_mut();
        disk.faults = if is_bad {
            self.weather.faults
        } else {
            FaultRates::NONE
        };
        disk.is_full = self.weather.fills_up && is_bad;
        if self.weather.flips_bits {
            disk.flip_bit();
        }
    }

    fn turn(&mut self) {
        self.shard.handle_disk(self.now);
        self.hear();
    }

    /// Runs until everything asked is answered.
    fn settle(&mut self) {
        for _ in 0..HEAL_CALLS_MAX {
            self.turn();
            if self.asked.is_empty() && self.shard.is_recovered() {
                return;
            }
        }
        panic!("{} commands are never answered", self.asked.len());
    }

    /// Ends what was begun, on a disk that heals.
    fn heal(&mut self) {
        self.shard.disk_mut().faults = FaultRates::NONE;
        self.shard.disk_mut().is_full = false;
        self.settle();
    }

    fn hear(&mut self) {
        while let Some((ticket, outcome)) = self.shard.poll_outcome() {
            let asked = self.asked.remove(&ticket).expect("asked once, not twice");
            trace::line(format_args!(
                "{} {:?} -> {outcome:?}",
                self.now.as_millis(),
                asked.command
            ));
            self.judge(ticket, &asked, outcome);
        }
    }

    /// The power goes, or only the process; what comes back is compared with what was promised.
    fn crash(&mut self) {
        let statistics = self.shard.statistics();
        self.events += Events {
            commits: statistics.commit_count,
            crashes: 1,
            torn_tails: u64::from(statistics.torn_tail_bytes > 0),
            removed_segments: statistics.removed_segment_count,
            sealed_segments: statistics.sealed_segment_count,
            compacted_segments: statistics.compacted_segment_count,
            expired: statistics.expired_count,
            ..Events::default()
        };
        let mut disk = self.take_disk();
        trace::line(format_args!(
            "{} crash, after {statistics:?}",
            self.now.as_millis()
        ));
        trace::segments(&disk);
        if self.weather.goes_blind && self.rng.permille(300) {
            disk = self.live_blind(disk);
            trace::line(format_args!(
                "{} crash, of a blind one",
                self.now.as_millis()
            ));
            trace::segments(&disk);
        }
        // A disk that can't be read for a while looks like one that lost something.
        let read = self.weather.faults.read;
        disk.faults = FaultRates::NONE;
        disk.is_full = false;
        self.weather.faults.read = 0;
        self.shard = Shard::new(disk, settings(&mut self.rng, self.weather));
        self.asked.clear();
        if self.weather.flips_bits {
            self.shard.disk_mut().faults.read = read;
        }
        while !self.shard.is_recovered() {
            self.shard.handle_disk(self.now);
        }
        self.shard.disk_mut().faults = FaultRates::NONE;
        let found = self.read_everything();
        self.weather.faults.read = read;
        self.compare(&found);
        self.compare_states();
    }

    /// The disk as the power or the process leaves it.
    fn take_disk(&mut self) -> TestDisk {
        let mut disk = core::mem::take(self.shard.disk_mut());
        if self.rng.permille(700) && !self.weather.relaxed {
            disk.crash();
        } else {
            disk.abandon();
        }
        disk.completed.clear();
        disk
    }

    /// A life in which the disk can hardly be read, so that the shard does not know what it holds.
    /// Nobody asks for anything, and nothing may be lost or come back by it.
    fn live_blind(&mut self, mut disk: TestDisk) -> TestDisk {
        let permille = [30, 200, 600][self.rng.below(3)];
        disk.faults = FaultRates {
            read: permille,
            shorten: permille,
            ..FaultRates::NONE
        };
        disk.is_full = false;
        self.shard = Shard::new(disk, settings(&mut self.rng, self.weather));
        for _ in 0..200 {
            self.shard.handle_disk(self.now);
            let pause = core::time::Duration::from_millis(1 << self.rng.below(11));
            self.now = self.now.saturating_add(pause);
        }
        trace::line(format_args!("blind: {:?}", self.shard.statistics()));
        self.events.blind_lives += 1;
        self.take_disk()
    }

    /// Asks something that is answered from memory, or by reading on a disk without faults.
    fn ask_now(&mut self, command: Command) -> Outcome {
        self.shard
            .handle_command(Ticket(u64::MAX), command, self.now);
        for _ in 0..HEAL_CALLS_MAX {
            self.shard.handle_disk(self.now);
            match self.shard.poll_outcome() {
                Some((Ticket(u64::MAX), outcome)) => return outcome,
                Some((ticket, outcome)) => {
                    let asked = self.asked.remove(&ticket).expect("asked once, not twice");
                    self.judge(ticket, &asked, outcome);
                }
                None => {}
            }
        }
        panic!("never answered");
    }

    /// Compares what is kept beside messages with what may be.
    fn compare_states(&mut self) {
        for index in 0..MAILBOX_COUNT {
            let mailbox = mailbox(index);
            let outcome = self.ask_now(Command::Revocations { mailbox });
            let Outcome::Revocations(tokens) = outcome else {
                panic!("{outcome:?}");
            };
            let revoked = self.revoked.entry(mailbox).or_default();
            let is_possible = revoked.allows(&tokens) || self.weather.flips_bits;
            assert!(is_possible, "{tokens:?} of {revoked:?}");
            *revoked = Revoked {
                certain: tokens,
                ..Revoked::default()
            };
        }
        let outcome = self.ask_now(Command::Cursor { peer: PEER });
        let Outcome::Cursor(cursor) = outcome else {
            panic!("{outcome:?}");
        };
        let belief = &self.cursor;
        let mut possible = belief.failed.iter().chain(&belief.in_flight);
        let is_possible = cursor == belief.certain || possible.any(|one| *one == cursor);
        assert!(
            is_possible || self.weather.flips_bits,
            "{cursor:?} of {belief:?}"
        );
        self.cursor = CursorBelief {
            certain: cursor,
            seen: core::mem::take(&mut self.cursor.seen),
            ..CursorBelief::default()
        };
    }

    /// A dump from the beginning to the end, on a quiet shard, finds what is there and nothing else;
    /// and so do the counts.
    fn dump_everything(&mut self) {
        let mut found = BTreeMap::new();
        let mut from = DumpCursor::START;
        loop {
            let outcome = self.ask_now(Command::Dump {
                from,
                territory: Territory::everything(),
                size_max: 50_000,
            });
            let Outcome::Dumped { messages, next } = outcome else {
                panic!("{outcome:?}");
            };
            for dumped in messages {
                self.judge_message(dumped.mailbox, &dumped.message);
                found.insert((dumped.mailbox, dumped.message.hash), dumped.message.expiry);
            }
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        if self.weather.flips_bits {
            return;
        }
        for (key, belief) in self
            .beliefs
            .iter()
            .filter(|(_, belief)| belief.maybe.is_empty())
        {
            let live = belief.certain.filter(|expiry| *expiry > self.now);
            assert_eq!(found.get(key).copied(), live, "{key:?} in a dump");
        }
        let outcome = self.ask_now(Command::Survey {
            territories: vec![Territory::everything(), Territory(vec![])],
        });
        let Outcome::Surveyed(counts) = outcome else {
            panic!("{outcome:?}");
        };
        let statistics = self.shard.statistics();
        assert_eq!(counts[0].message_count, statistics.message_count);
        assert_eq!(counts[0].size, statistics.message_bytes);
        assert_eq!(counts[1].mailbox_count, 0);
        let by_namespace = self.shard.namespaces().values().map(|tally| tally.count);
        assert_eq!(by_namespace.sum::<u64>(), statistics.message_count);
        assert!(
            statistics.message_count >= found.len() as u64,
            "and expired ones"
        );
    }

    /// Every message with its expiry, in the order of arrival within its box; page by page.
    fn read_everything(&mut self) -> Vec<(Key, Timestamp)> {
        let mut found = Vec::new();
        for index in 0..MAILBOX_COUNT {
            for namespace in NAMESPACES.map(Namespace) {
                let mut after = None;
                loop {
                    let (messages, more) = self.read_page(mailbox(index), namespace, after);
                    after = messages.last().map(|message| message.hash);
                    for message in messages {
                        found.push(((mailbox(index), message.hash), message.expiry));
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        found
    }

    fn read_page(
        &mut self,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<MessageHash>,
    ) -> (Vec<StoredMessage>, bool) {
        let command = Command::Retrieve {
            mailbox,
            namespace,
            after,
            count_max: 5,
            size_max: usize::MAX,
        };
        self.shard
            .handle_command(Ticket(u64::MAX), command, self.now);
        for _ in 0..HEAL_CALLS_MAX {
            self.shard.handle_disk(self.now);
            if let Some((_, outcome)) = self.shard.poll_outcome() {
                let Outcome::Retrieved { messages, more } = outcome else {
                    panic!("{outcome:?} on a disk without faults");
                };
                for message in &messages {
                    self.judge_message(mailbox, message);
                }
                assert!(!messages.is_empty() || !more, "no empty page with more");
                return (messages, more);
            }
        }
        panic!("never answered");
    }

    /// Compares what was found with what may be, and takes it as certain from now on.
    fn compare(&mut self, found: &[(Key, Timestamp)]) {
        let expiries: BTreeMap<_, _> = found.iter().copied().collect();
        assert_eq!(expiries.len(), found.len(), "each message once");
        let is_exact = !self.weather.flips_bits;
        let boxes =
            found.chunk_by(|((a, x), _), ((b, y), _)| a == b && namespace(*x) == namespace(*y));
        for one_box in boxes {
            let arrivals: Vec<_> = one_box
                .iter()
                .map(|(key, _)| (&self.beliefs[key], key))
                .filter(|(belief, _)| belief.in_flight.is_empty() && belief.failed.is_empty())
                .filter(|(belief, _)| belief.maybe.is_empty())
                .filter_map(|(belief, key)| Some((belief.arrival?, key)))
                .collect();
            let is_sorted = arrivals.is_sorted_by_key(|(arrival, _)| *arrival);
            assert!(
                is_sorted || !is_exact,
                "the order of arrival of {arrivals:?}"
            );
        }
        for (key, belief) in &mut self.beliefs {
            let live = |expiry: &Timestamp| *expiry > self.now;
            let observed = expiries.get(key).copied();
            let possible: BTreeSet<_> = belief
                .possible()
                .into_iter()
                .map(|state| state.filter(live))
                .collect();
            assert!(
                possible.contains(&observed) || !is_exact,
                "{key:?} is {observed:?}, and may be {possible:?}"
            );
            *belief = Belief {
                certain: observed,
                version: belief.version + 1,
                ..Belief::default()
            };
        }
        for (key, _) in found {
            let belief = self.beliefs.get_mut(key).expect("judged");
            belief.arrival = Some(self.next_arrival);
            self.next_arrival += 1;
        }
    }
}

fn settings(rng: &mut Rng, weather: Weather) -> Settings {
    let segment_size = Settings::SEGMENT_SIZE_MIN + (rng.below(40) as u64) * 4096;
    Settings {
        segment_size,
        waiting_count_max: 4 + rng.below(60),
        tail_cache_size: rng.below(200_000),
        commit_count_max: 1 + rng.below(6),
        table_key: rng.next().to_le_bytes().repeat(2).try_into().unwrap(),
        dead_percent_max: [5, 20, 50][rng.below(3)],
        durability: if weather.relaxed {
            Durability::Relaxed(core::time::Duration::from_millis(50))
        } else {
            Durability::Durable
        },
        mailbox_message_count_max: if weather.small_quota { 5 } else { 1000 },
        capacity: if weather.small_capacity {
            segment_size * 7
        } else {
            1 << 30
        },
        has_deliberate_bug: weather.ignores_voids,
        ..Settings::default()
    }
}
