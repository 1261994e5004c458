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
    reason = "for tests, and each uses another part of it"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cepa_storage::{Command, Outcome, Settings, Shard, StoreFault, StoredMessage, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use crate::disk::{FaultRates, Rng, TestDisk};

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
}

type Key = (Mailbox, MessageHash);

/// A command that changes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Store(Timestamp),
    Delete,
}

impl Change {
    fn apply(self, state: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Store(expiry) => Some(state.map_or(expiry, |current| current.max(expiry))),
            Self::Delete => None,
        }
    }
}

/// What the model knows of a message.
#[derive(Clone, Debug, Default)]
struct Belief {
    /// Its expiry, if it is there.
    certain: Option<Timestamp>,
    /// Its place in the order of arrival, if it is known.
    arrival: Option<u64>,
    /// In the order of submission.
    in_flight: Vec<(Ticket, Change)>,
    failed: Vec<Change>,
    /// Grows with everything that happens to it.
    version: u64,
}

impl Belief {
    /// What a crash may leave.
    fn possible(&self) -> BTreeSet<Option<Timestamp>> {
        let mut states = BTreeSet::from([self.certain]);
        let in_flight = self.in_flight.iter().map(|(_, change)| *change);
        for change in self.failed.iter().copied().chain(in_flight) {
            let changed: Vec<_> = states.iter().map(|state| change.apply(*state)).collect();
            states.extend(changed);
        }
        states
    }
}

struct Asked {
    command: Command,
    at: Timestamp,
    /// Of a retrieve: the version of every message of the box that nothing was in flight for.
    versions: BTreeMap<Key, u64>,
}

/// The world.
pub(crate) struct World {
    shard: Shard<TestDisk>,
    weather: Weather,
    rng: Rng,
    now: Timestamp,
    beliefs: BTreeMap<Key, Belief>,
    asked: BTreeMap<Ticket, Asked>,
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
}

impl core::ops::AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.torn_tails += other.torn_tails;
        self.removed_segments += other.removed_segments;
    }
}

fn mailbox(index: usize) -> Mailbox {
    Mailbox {
        prefix: 5,
        key: [u8::try_from(index).unwrap(); 32],
    }
}

fn hash(index: usize) -> MessageHash {
    let byte = u8::try_from(index).unwrap();
    MessageHash([byte.wrapping_mul(97); 32])
}

/// Everything about a message but its expiry follows from its identity.
fn namespace(hash: MessageHash) -> Namespace {
    Namespace([0, -10, 2][usize::from(hash.0[0] % 3)])
}

fn timestamp(hash: MessageHash) -> Timestamp {
    Timestamp::from_millis(u64::from(hash.0[1]) * 1000)
}

fn data(mailbox: Mailbox, hash: MessageHash) -> Bytes {
    let mut rng = Rng::new(u64::from(hash.0[0]) << 8 | u64::from(mailbox.key[0]));
    let size = match rng.below(10) {
        0 => 0,
        1..=6 => rng.below(2000),
        7 | 8 => rng.below(20_000),
        _ => 76_800 - rng.below(2000),
    };
    (0..size.div_ceil(8))
        .flat_map(|_| rng.next().to_le_bytes())
        .take(size)
        .collect()
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = Rng::new(seed);
        let mut disk = TestDisk::new(rng.next());
        disk.is_instant = false;
        disk.ignores_sync = weather.ignores_sync;
        Self {
            shard: Shard::new(disk, settings(&mut rng)),
            weather,
            rng,
            now: Timestamp::from_millis(1_000_000),
            beliefs: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_ticket: 0,
            next_arrival: 0,
            events: Events::default(),
        }
    }

    /// Lets so many things happen, and checks at the end what is left.
    pub(crate) fn run(&mut self, step_count: usize) {
        for _ in 0..step_count {
            match self.rng.below(1000) {
                0..300 => self.ask_store(),
                300..360 => self.ask_delete(),
                360..460 => self.ask_retrieve(),
                460..470 => self.crash(),
                470..490 => self.change_weather(),
                490..540 => {
                    let span = 1 << self.rng.below(14);
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
        self.crash();
    }

    fn ask(&mut self, command: Command) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let mut versions = BTreeMap::new();
        match &command {
            Command::Store {
                mailbox,
                hash,
                expiry,
                ..
            } => self.begin_change(ticket, (*mailbox, *hash), Change::Store(*expiry)),
            Command::Delete { mailbox, hashes } => {
                for hash in hashes {
                    self.begin_change(ticket, (*mailbox, *hash), Change::Delete);
                }
            }
            Command::Retrieve {
                mailbox, namespace, ..
            } => {
                let quiet = self.beliefs.iter().filter(|(key, belief)| {
                    key.0 == *mailbox
                        && self::namespace(key.1) == *namespace
                        && belief.in_flight.is_empty()
                });
                versions.extend(quiet.map(|(key, belief)| (*key, belief.version)));
            }
            _ => {}
        }
        let asked = Asked {
            command: command.clone(),
            at: self.now,
            versions,
        };
        self.asked.insert(ticket, asked);
        self.shard.handle_command(ticket, command, self.now);
        self.hear();
    }

    fn begin_change(&mut self, ticket: Ticket, key: Key, change: Change) {
        let belief = self.beliefs.entry(key).or_default();
        belief.in_flight.push((ticket, change));
        belief.version += 1;
    }

    fn ask_store(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let hash = hash(self.rng.below(HASH_COUNT));
        let span = self.rng.next() >> (47 + self.rng.below(16));
        self.ask(Command::Store {
            mailbox,
            namespace: namespace(hash),
            hash,
            timestamp: timestamp(hash),
            expiry: Timestamp::from_millis(self.now.as_millis() + span),
            data: data(mailbox, hash),
        });
    }

    fn ask_delete(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let count = 1 + self.rng.below(4);
        let hashes: BTreeSet<_> = (0..count)
            .map(|_| hash(self.rng.below(HASH_COUNT)))
            .collect();
        self.ask(Command::Delete {
            mailbox,
            hashes: hashes.into_iter().collect(),
        });
    }

    fn ask_retrieve(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let any = hash(self.rng.below(HASH_COUNT));
        let command = Command::Retrieve {
            mailbox,
            namespace: namespace(any),
            after: self.rng.permille(300).then_some(any),
            count_max: 1 + self.rng.below(20),
            size_max: self.rng.below(200_000),
        };
        self.ask(command);
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
            self.judge(ticket, &asked, outcome);
        }
    }

    fn judge(&mut self, ticket: Ticket, asked: &Asked, outcome: Outcome) {
        match (&asked.command, outcome) {
            (
                Command::Store {
                    mailbox,
                    hash,
                    expiry,
                    ..
                },
                Outcome::Stored {
                    already,
                    expiry: answered,
                },
            ) => {
                self.forget_failed();
                let key = (*mailbox, *hash);
                self.end_change(ticket, key);
                let belief = self.beliefs.get_mut(&key).expect("asked");
                // Between asking and answering it may have expired.
                let may_live = belief.certain.is_some_and(|current| current > asked.at);
                let must_live = belief.certain.is_some_and(|current| current > self.now);
                if already {
                    assert!(may_live || self.weather.flips_bits, "{key:?} was not there");
                } else {
                    assert!(!must_live || self.weather.flips_bits, "{key:?} was there");
                    belief.certain = None;
                    belief.arrival = Some(self.next_arrival);
                    self.next_arrival += 1;
                }
                let expected = Change::Store(*expiry).apply(belief.certain);
                if !self.weather.flips_bits {
                    assert_eq!(Some(answered), expected, "the larger expiry of {key:?}");
                }
                belief.certain = Some(answered);
            }
            (Command::Delete { mailbox, hashes }, Outcome::Deleted(deleted)) => {
                self.forget_failed();
                assert!(deleted.is_sorted(), "sorted");
                assert!(
                    deleted.iter().all(|hash| hashes.contains(hash)),
                    "asked for"
                );
                for hash in hashes {
                    let key = (*mailbox, *hash);
                    self.end_change(ticket, key);
                    let belief = self.beliefs.get_mut(&key).expect("asked");
                    let may_live = belief.certain.is_some_and(|current| current > asked.at);
                    let must_live = belief.certain.is_some_and(|current| current > self.now);
                    let is_deleted = deleted.contains(hash);
                    if !self.weather.flips_bits {
                        assert!(!is_deleted || may_live, "{key:?} was not there");
                        assert!(is_deleted || !must_live, "{key:?} was there");
                    }
                    if is_deleted {
                        belief.certain = None;
                    }
                }
            }
            (Command::Retrieve { .. }, Outcome::Retrieved { messages, more }) => {
                self.judge_retrieved(asked, &messages, more);
            }
            (command, Outcome::Failed(fault)) => self.judge_failed(ticket, command, fault),
            (command, outcome) => panic!("{outcome:?} is no outcome of {command:?}"),
        }
    }

    fn judge_failed(&mut self, ticket: Ticket, command: &Command, fault: StoreFault) {
        let is_calm = self.weather.faults.write == 0 && !self.weather.fills_up;
        assert!(
            !is_calm || fault == StoreFault::Busy,
            "{fault:?} of {command:?}"
        );
        let keys: Vec<_> = match command {
            Command::Store { mailbox, hash, .. } => vec![(*mailbox, *hash)],
            Command::Delete { mailbox, hashes } => {
                hashes.iter().map(|hash| (*mailbox, *hash)).collect()
            }
            _ => vec![],
        };
        for key in keys {
            let change = self.end_change(ticket, key);
            if fault != StoreFault::Busy {
                let belief = self.beliefs.get_mut(&key).expect("asked");
                belief.failed.push(change);
            }
        }
    }

    /// It was the first of those in flight: commands are answered in their order, but those that
    /// are refused at once.
    fn end_change(&mut self, ticket: Ticket, key: Key) -> Change {
        let belief = self.beliefs.get_mut(&key).expect("asked");
        belief.version += 1;
        let index = belief
            .in_flight
            .iter()
            .position(|(other, _)| *other == ticket);
        belief.in_flight.remove(index.expect("in flight")).1
    }

    /// After a success what failed before it can never count.
    fn forget_failed(&mut self) {
        for belief in self.beliefs.values_mut() {
            belief.failed.clear();
        }
    }

    fn judge_message(&self, mailbox: Mailbox, message: &StoredMessage) {
        let hash = message.hash;
        assert_eq!(message.timestamp, timestamp(hash), "nothing is invented");
        assert!(message.data == data(mailbox, hash), "nothing is invented");
        assert!(message.expiry > self.now, "expired");
        assert!(
            self.beliefs.contains_key(&(mailbox, hash)),
            "nothing is invented"
        );
    }

    fn judge_retrieved(&self, asked: &Asked, messages: &[StoredMessage], more: bool) {
        let Command::Retrieve {
            mailbox,
            namespace,
            after,
            count_max,
            size_max,
        } = &asked.command
        else {
            return;
        };
        assert!(messages.len() <= *count_max, "count_max");
        let size: usize = messages
            .iter()
            .map(|message| message.data.len().div_ceil(3) * 4 + 100)
            .sum();
        assert!(size <= *size_max || messages.len() == 1, "size_max");
        let mut arrivals = Vec::new();
        for message in messages {
            self.judge_message(*mailbox, message);
            assert_eq!(self::namespace(message.hash), *namespace);
            let Some(belief) = self.quiet(asked, (*mailbox, message.hash)) else {
                continue;
            };
            let is_same = belief.certain == Some(message.expiry);
            assert!(is_same || self.weather.flips_bits, "deleted stays deleted");
            arrivals.extend(belief.arrival);
        }
        assert!(arrivals.is_sorted(), "in the order of arrival");
        let Some(from) = self.arrival_of_cursor(asked, *mailbox, *namespace, *after) else {
            return;
        };
        if let Some(first) = arrivals.first()
            && !self.weather.flips_bits
        {
            assert!(*first >= from, "after the cursor");
        }
        let last = arrivals.last().copied();
        let until = if more { last } else { Some(u64::MAX) };
        if self.weather.faults.read == 0 && !self.weather.flips_bits {
            self.judge_complete(asked, messages, from, until);
        }
    }

    /// Messages that arrived from then on are behind the cursor. `None` when that is not known.
    fn arrival_of_cursor(
        &self,
        asked: &Asked,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<MessageHash>,
    ) -> Option<u64> {
        let Some(hash) = after else {
            return Some(0);
        };
        let belief = self.quiet(asked, (mailbox, hash))?;
        let Some(expiry) = belief.certain else {
            return Some(0);
        };
        if expiry <= asked.at || self::namespace(hash) != namespace {
            Some(0)
        } else if expiry > self.now {
            Some(belief.arrival? + 1)
        } else {
            None
        }
    }

    /// Everything that must be in the page is.
    fn judge_complete(
        &self,
        asked: &Asked,
        messages: &[StoredMessage],
        from: u64,
        until: Option<u64>,
    ) {
        for key in asked.versions.keys() {
            let Some(belief) = self.quiet(asked, *key) else {
                continue;
            };
            let is_live = belief.certain.is_some_and(|expiry| expiry > self.now);
            let is_in_page = belief.arrival.is_some_and(|arrival| {
                arrival >= from && until.is_some_and(|until| arrival <= until)
            });
            if is_live && is_in_page {
                let is_there = messages.iter().any(|message| message.hash == key.1);
                assert!(is_there, "{key:?} is missing");
            }
        }
    }

    /// What is known of a message that nothing happened to since the question.
    fn quiet(&self, asked: &Asked, key: Key) -> Option<&Belief> {
        let belief = self.beliefs.get(&key)?;
        (asked.versions.get(&key) == Some(&belief.version)).then_some(belief)
    }

    /// The power goes, or only the process; what comes back is compared with what was promised.
    fn crash(&mut self) {
        let statistics = self.shard.statistics();
        self.events += Events {
            commits: statistics.commit_count,
            crashes: 1,
            torn_tails: u64::from(statistics.torn_tail_bytes > 0),
            removed_segments: statistics.removed_segment_count,
        };
        let mut disk = core::mem::take(self.shard.disk_mut());
        if self.rng.permille(700) {
            disk.crash();
        } else {
            disk.abandon();
        }
        disk.completed.clear();
        // A disk that can't be read for a while looks like one that lost something.
        let read = self.weather.faults.read;
        disk.faults = FaultRates::NONE;
        disk.is_full = false;
        self.weather.faults.read = 0;
        self.shard = Shard::new(disk, settings(&mut self.rng));
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
    }

    /// Every message with its expiry, in the order of arrival within its box; page by page.
    fn read_everything(&mut self) -> Vec<(Key, Timestamp)> {
        let mut found = Vec::new();
        for index in 0..MAILBOX_COUNT {
            for namespace in [0, -10, 2].map(Namespace) {
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
                .map(|(key, _)| &self.beliefs[key])
                .filter(|belief| belief.in_flight.is_empty() && belief.failed.is_empty())
                .filter_map(|belief| belief.arrival)
                .collect();
            assert!(arrivals.is_sorted() || !is_exact, "in the order of arrival");
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

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        segment_size: Settings::SEGMENT_SIZE_MIN + (rng.below(40) as u64) * 4096,
        waiting_count_max: 4 + rng.below(60),
        tail_cache_size: rng.below(200_000),
        commit_count_max: 1 + rng.below(6),
        table_key: rng.next().to_le_bytes().repeat(2).try_into().unwrap(),
        ..Settings::default()
    }
}
