//! Arbitrary bytes as a sequence of commands to a shard, against a model of maps: every outcome is
//! compared exactly, and after a restart everything is as it was before.
//!
//! The disk loses nothing that was promised and never fails; what it does at its worst is the affair
//! of the storage crate's own simulation.
#![no_main]

#[path = "../../storage/tests/support/disk.rs"]
mod disk;
#[path = "storage_operations/model.rs"]
mod model;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cepa_storage::command::{Direction, DumpCursor, Scope};
use cepa_storage::territory::{Arc, Territory};
use cepa_storage::{Command, Outcome, Settings, Shard, Ticket};
use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};
use libfuzzer_sys::fuzz_target;

use crate::disk::TestDisk;
use crate::model::{Key, Model};

/// An input is taken for so many operations at most.
const OPERATION_COUNT_MAX: usize = 200;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Mailboxes far apart on the ring.
const MAILBOXES: [Mailbox; 3] = [mailbox(0x11), mailbox(0x77), mailbox(0xEE)];

const HASH_COUNT: u8 = 12;

/// The second is a public outbox.
const NAMESPACES: [Namespace; 4] = [Namespace(0), Namespace(-1), Namespace(2), Namespace(-10)];

const PEERS: [[u8; 32]; 2] = [[0x33; 32], [0x44; 32]];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Seconds that a message has left: about the bounds of the classes, and none.
const SPANS: [u64; 12] = [
    0,
    1,
    10 * MINUTE,
    2 * HOUR,
    DAY - 1,
    DAY,
    DAY + 1,
    10 * DAY,
    15 * DAY,
    16 * DAY,
    20 * DAY,
    29 * DAY,
];

/// Three of the largest fill a segment.
const SIZES: [usize; 8] = [0, 1, 100, 3000, 4096, 30_000, MESSAGE_SIZE_MAX, MESSAGE_SIZE_MAX];

/// Seconds that pass: each step is long enough for a whole sweep, and for compaction to look again.
const STEPS: [u64; 8] = [1, 2, 61, HOUR, 5 * HOUR, DAY + 2, 6 * DAY, 14 * DAY];

/// A disk that delays completes half of its operations at each turn.
const TURN_COUNT_MAX: usize = 100_000;

/// After so many turns without a command nothing is under way any more.
const IDLE_TURN_COUNT: usize = 64;

/// One of each class is open at a time.
const SEGMENT_COUNT_LEFT: u64 = 3;

const fn mailbox(byte: u8) -> Mailbox {
    let mut key = [0; 32];
    key[0] = byte;
    Mailbox { prefix: 5, key }
}

const fn hash(number: u8) -> MessageHash {
    MessageHash([number; 32])
}

fn all_hashes() -> Vec<MessageHash> {
    (0..HASH_COUNT).map(hash).collect()
}

/// Bytes that decide; `None` when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn below(&mut self, end: u8) -> Option<u8> {
        Some(self.byte()? % end)
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        Some(of[usize::from(self.byte()?) % of.len()])
    }

    fn hash(&mut self) -> Option<MessageHash> {
        self.below(HASH_COUNT).map(hash)
    }

    /// Up to seven, each maybe more than once.
    fn hashes(&mut self) -> Option<Vec<MessageHash>> {
        let count = self.below(8)?;
        (0..count).map(|_| self.hash()).collect()
    }

    fn scope(&mut self) -> Option<Scope> {
        let number = usize::from(self.below(6)?);
        Some(NAMESPACES.get(number).copied().map_or(Scope::All, Scope::One))
    }

    fn tokens(&mut self) -> Option<Vec<SubaccountToken>> {
        let (first, count) = (self.byte()?, self.below(64)?);
        let token = |number: u8| SubaccountToken([first.wrapping_add(number) % 70; 36]);
        Some((0..count).map(token).collect())
    }

    fn territory(&mut self) -> Option<Territory> {
        let point = |mailbox: Mailbox| mailbox.swarm_point();
        Some(match self.below(5)? {
            0 => Territory(Vec::new()),
            // One mailbox, and all others: over zero.
            1 => Territory(vec![Arc {
                from: point(MAILBOXES[1]),
                to: point(MAILBOXES[1]),
            }]),
            2 => Territory(vec![Arc {
                from: point(MAILBOXES[1]) + 1,
                to: point(MAILBOXES[1]) - 1,
            }]),
            _ => Territory::everything(),
        })
    }
}

/// A dump that is read page by page while other things happen.
struct Dump {
    cursor: DumpCursor,
    /// What was there when it began, with its number of arrival, and was not given out yet.
    missing: BTreeMap<Key, u64>,
}

struct World {
    shard: Shard<TestDisk>,
    settings: Settings,
    is_instant: bool,
    model: Model,
    now: Timestamp,
    next_ticket: u64,
    /// Outcomes that the model foretells.
    expected: BTreeMap<Ticket, Outcome>,
    dump: Option<Dump>,
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    let Some(mut world) = World::new(&mut choices) else {
        return;
    };
    for _ in 0..OPERATION_COUNT_MAX {
        if world.step(&mut choices).is_none() {
            break;
        }
    }
    world.check_all();
    world.restart(true);
    world.check_all();
    world.end();
});

impl World {
    fn new(choices: &mut Choices<'_>) -> Option<Self> {
        let (mode, seed) = (choices.byte()?, choices.byte()?);
        let is_instant = mode & 1 == 0;
        let settings = Settings {
            segment_size: Settings::SEGMENT_SIZE_MIN,
            // Never full: what is refused then is the simulation's affair.
            capacity: 1 << 30,
            tail_cache_size: if mode & 2 == 0 { 0 } else { 1 << 20 },
            commit_count_max: if mode & 4 == 0 { 4 } else { 1 },
            ..Settings::default()
        };
        let mut disk = TestDisk::new(u64::from(seed));
        disk.is_instant = is_instant;
        let mut world = Self {
            shard: Shard::new(disk, settings),
            settings,
            is_instant,
            model: Model::default(),
            now: BEGIN,
            next_ticket: 0,
            expected: BTreeMap::new(),
            dump: None,
        };
        world.recover();
        Some(world)
    }

    /// One operation; `None` when the bytes end.
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        match choices.below(32)? {
            0..8 => {
                let command = self.store(choices)?;
                self.change(command);
            }
            8..17 => {
                let command = self.some_change(choices)?;
                self.change(command);
            }
            17..20 => self.retrieve(choices)?,
            20 => self.expiries(choices)?,
            21 => self.states(choices)?,
            22 => self.dump_all(choices.territory()?, usize::from(choices.byte()?) * 1024 + 1),
            23..26 => self.dump_on(usize::from(choices.byte()?) * 1024 + 1),
            26 => self.survey([choices.territory()?, choices.territory()?]),
            27..30 => self.pass(choices.one_of(&STEPS)?),
            30 => self.flush(),
            _ => self.restart(choices.byte()? & 1 == 0),
        }
        Some(())
    }

    fn store(&mut self, choices: &mut Choices<'_>) -> Option<Command> {
        let (mailbox, namespace) = (choices.one_of(&MAILBOXES)?, choices.one_of(&NAMESPACES)?);
        let hash = choices.hash()?;
        let span = choices.one_of(&SPANS)?;
        let choice = choices.byte()?;
        let size = match choice {
            // Not taken at all.
            255 => MESSAGE_SIZE_MAX + 1,
            _ => SIZES[usize::from(choice) % SIZES.len()],
        };
        Some(Command::Store {
            mailbox,
            namespace,
            hash,
            timestamp: self.timestamp(choices)?,
            expiry: self.now.saturating_add(Duration::from_secs(span)),
            data: Bytes::from(vec![choice ^ hash.0[0]; size]),
        })
    }

    fn timestamp(&self, choices: &mut Choices<'_>) -> Option<Timestamp> {
        let age = u64::from(choices.below(16)?);
        Some(self.now.saturating_sub(Duration::from_secs(age * 100)))
    }

    fn some_change(&mut self, choices: &mut Choices<'_>) -> Option<Command> {
        let mailbox = choices.one_of(&MAILBOXES)?;
        let expiry = |now: Timestamp, choices: &mut Choices<'_>| {
            let span = choices.one_of(&SPANS)?;
            Some(now.saturating_add(Duration::from_secs(span)))
        };
        Some(match choices.below(8)? {
            0..2 => Command::Delete {
                mailbox,
                hashes: choices.hashes()?,
            },
            2 => Command::DeleteAll {
                mailbox,
                scope: choices.scope()?,
                before: match choices.below(2)? {
                    0 => None,
                    _ => Some(self.timestamp(choices)?),
                },
            },
            3..5 => {
                let count = choices.below(8)?;
                let target =
                    |choices: &mut Choices<'_>| Some((choices.hash()?, expiry(self.now, choices)?));
                Command::Expire {
                    mailbox,
                    targets: (0..count).map(|_| target(choices)).collect::<Option<_>>()?,
                    direction: choices.one_of(&[
                        Direction::Any,
                        Direction::Shorten,
                        Direction::Extend,
                    ])?,
                }
            }
            5 => Command::ExpireAll {
                mailbox,
                scope: choices.scope()?,
                expiry: expiry(self.now, choices)?,
            },
            6 => match choices.below(2)? {
                0 => Command::Revoke {
                    mailbox,
                    tokens: choices.tokens()?,
                },
                _ => Command::Unrevoke {
                    mailbox,
                    tokens: choices.tokens()?,
                },
            },
            _ => Command::KeepCursor {
                peer: choices.one_of(&PEERS)?,
                cursor: match choices.below(3)? {
                    0 => None,
                    1 => Some(DumpCursor::START),
                    _ => self.dump.as_ref().map(|dump| dump.cursor),
                },
            },
        })
    }

    /// Submits a change; its outcome comes with the next flush, so that several share a commit.
    fn change(&mut self, command: Command) {
        let outcome = self.model.change(&command, self.now);
        let ticket = self.submit(command);
        self.expected.insert(ticket, outcome);
    }

    fn submit(&mut self, command: Command) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.shard.handle_command(ticket, command, self.now);
        ticket
    }

    /// Until every change was answered, as the model says.
    fn flush(&mut self) {
        for _ in 0..TURN_COUNT_MAX {
            if self.expected.is_empty() {
                return;
            }
            self.shard.handle_disk(self.now);
            while let Some((ticket, outcome)) = self.shard.poll_outcome() {
                let expected = self.expected.remove(&ticket);
                assert_eq!(Some(outcome), expected, "{ticket:?}");
            }
        }
        panic!("{:?} are never answered", self.expected.keys());
    }

    /// Asks what changes nothing.
    fn ask(&mut self, command: Command) -> Outcome {
        self.flush();
        let asked = self.submit(command);
        for _ in 0..TURN_COUNT_MAX {
            self.shard.handle_disk(self.now);
            if let Some((ticket, outcome)) = self.shard.poll_outcome() {
                assert_eq!(ticket, asked);
                return outcome;
            }
        }
        panic!("a question is never answered");
    }

    fn idle(&mut self) {
        self.flush();
        let turn_count = if self.is_instant { 1 } else { IDLE_TURN_COUNT };
        for _ in 0..turn_count {
            self.shard.handle_disk(self.now);
        }
        assert_eq!(self.shard.poll_outcome(), None);
    }

    fn pass(&mut self, seconds: u64) {
        self.flush();
        self.now = self.now.saturating_add(Duration::from_secs(seconds));
        self.idle();
        self.model.sweep(self.now);
    }

    fn retrieve(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (mailbox, namespace) = (choices.one_of(&MAILBOXES)?, choices.one_of(&NAMESPACES)?);
        let after = match choices.below(3)? {
            0 => Some(choices.hash()?),
            _ => None,
        };
        let count_max = choices.one_of(&[usize::MAX, 0, 1, 2, 5, usize::MAX])?;
        let size_max = choices.one_of(&[usize::MAX, 0, 100, 101, 304, 10_000, 100_000, 210_000])?;
        self.check_retrieve((mailbox, namespace), after, count_max, size_max);
        Some(())
    }

    fn check_retrieve(
        &mut self,
        (mailbox, namespace): (Mailbox, Namespace),
        after: Option<MessageHash>,
        count_max: usize,
        size_max: usize,
    ) {
        let outcome = self.ask(Command::Retrieve {
            mailbox,
            namespace,
            after,
            count_max,
            size_max,
        });
        let limits = (count_max, size_max);
        let expected = self
            .model
            .retrieve(mailbox, namespace, after, limits, self.now);
        assert_eq!(outcome, expected);
    }

    fn expiries(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let mailbox = choices.one_of(&MAILBOXES)?;
        let hashes = choices.hashes()?;
        self.check_expiries(mailbox, hashes);
        Some(())
    }

    fn check_expiries(&mut self, mailbox: Mailbox, hashes: Vec<MessageHash>) {
        let expected = self.model.expiries(mailbox, &hashes, self.now);
        let outcome = self.ask(Command::Expiries { mailbox, hashes });
        assert_eq!(outcome, Outcome::Expiries(expected));
    }

    fn states(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        if choices.below(2)? == 0 {
            self.check_revocations(choices.one_of(&MAILBOXES)?);
        } else {
            self.check_cursor(choices.one_of(&PEERS)?);
        }
        Some(())
    }

    fn check_revocations(&mut self, mailbox: Mailbox) {
        let outcome = self.ask(Command::Revocations { mailbox });
        let expected = self.model.revocations(mailbox);
        assert_eq!(outcome, Outcome::Revocations(expected));
    }

    fn check_cursor(&mut self, peer: [u8; 32]) {
        let outcome = self.ask(Command::Cursor { peer });
        assert_eq!(outcome, Outcome::Cursor(self.model.cursor(peer)));
    }

    /// One page: whatever it gives is there, and within its size. Tells where to go on.
    fn page(
        &mut self,
        from: DumpCursor,
        territory: &Territory,
        size_max: usize,
        mut sink: impl FnMut(Key),
    ) -> Option<DumpCursor> {
        let outcome = self.ask(Command::Dump {
            from,
            territory: territory.clone(),
            size_max,
        });
        let Outcome::Dumped { messages, next } = outcome else {
            panic!("{outcome:?}");
        };
        let size: usize = messages.iter().map(|one| one.message.data.len()).sum();
        assert!(size <= size_max || messages.len() == 1, "a page's size");
        assert!(next.is_none() || !messages.is_empty(), "it goes on");
        for dumped in messages {
            assert!(territory.contains(&dumped.mailbox));
            let key = (dumped.mailbox, dumped.message.hash);
            let live = self.model.live(key, self.now).expect("nothing is back");
            assert_eq!(dumped.namespace, live.namespace);
            assert_eq!(dumped.message, live.given(key.1));
            sink(key);
        }
        next
    }

    /// A whole dump with nothing between its pages.
    fn dump_all(&mut self, territory: Territory, size_max: usize) {
        let mut found = BTreeSet::new();
        let mut cursor = Some(DumpCursor::START);
        while let Some(from) = cursor {
            cursor = self.page(from, &territory, size_max, |key| {
                found.insert(key);
            });
        }
        let live = self.model.all_live(self.now).map(|(key, _)| key);
        let live: BTreeSet<_> = live.filter(|key| territory.contains(&key.0)).collect();
        assert_eq!(found, live, "a dump visits every message");
    }

    /// The next page of the dump that goes on meanwhile, or the first of a new one.
    fn dump_on(&mut self, size_max: usize) {
        self.flush();
        let mut dump = self.dump.take().unwrap_or_else(|| Dump {
            cursor: DumpCursor::START,
            missing: self
                .model
                .all_live(self.now)
                .map(|(key, message)| (key, message.arrival))
                .collect(),
        });
        let next = self.page(dump.cursor, &Territory::everything(), size_max, |key| {
            dump.missing.remove(&key);
        });
        if let Some(cursor) = next {
            self.dump = Some(Dump { cursor, ..dump });
            return;
        }
        for (key, arrival) in dump.missing {
            let live = self.model.live(key, self.now);
            let is_same = live.is_some_and(|message| message.arrival == arrival);
            assert!(!is_same, "{key:?} was there all the time");
        }
    }

    fn survey(&mut self, territories: [Territory; 2]) {
        // What expired is counted until it is swept.
        self.pass(1);
        let expected = territories
            .iter()
            .map(|territory| self.model.survey(territory, self.now));
        let expected = Outcome::Surveyed(expected.collect());
        let outcome = self.ask(Command::Survey {
            territories: territories.to_vec(),
        });
        assert_eq!(outcome, expected);
    }

    /// The power goes, or only the process.
    fn restart(&mut self, is_power_lost: bool) {
        self.idle();
        let mut disk = core::mem::take(self.shard.disk_mut());
        if is_power_lost {
            disk.crash();
        } else {
            disk.abandon();
        }
        self.shard = Shard::new(disk, self.settings);
        self.recover();
        let statistics = self.shard.statistics();
        assert!(!statistics.is_damaged(), "{statistics:?}");
        self.model.sweep(self.now);
        self.adopt_forgotten();
        self.check_all();
    }

    fn recover(&mut self) {
        for _ in 0..TURN_COUNT_MAX {
            self.shard.handle_disk(self.now);
            if self.shard.is_recovered() {
                self.idle();
                return;
            }
        }
        panic!("recovery ends");
    }

    /// A State that was forgotten for its age may be back.
    fn adopt_forgotten(&mut self) {
        for mailbox in MAILBOXES {
            let outcome = self.ask(Command::Revocations { mailbox });
            let Outcome::Revocations(tokens) = outcome else {
                panic!("{outcome:?}");
            };
            self.model.adopt_revocations(mailbox, &tokens);
        }
    }

    fn check_all(&mut self) {
        for mailbox in MAILBOXES {
            self.check_expiries(mailbox, all_hashes());
            for namespace in NAMESPACES {
                self.check_retrieve((mailbox, namespace), None, usize::MAX, usize::MAX);
            }
            self.check_revocations(mailbox);
        }
        for peer in PEERS {
            self.check_cursor(peer);
        }
        self.dump_all(Territory::everything(), 100_000);
    }

    /// When everything is gone, so are the segments.
    fn end(&mut self) {
        // What is open now is full afterwards, and sealed.
        for span in [HOUR, 10 * DAY, 20 * DAY] {
            for number in 0..8 {
                self.change(Command::Store {
                    mailbox: MAILBOXES[0],
                    namespace: NAMESPACES[0],
                    hash: hash(HASH_COUNT + number),
                    timestamp: self.now,
                    expiry: self.now.saturating_add(Duration::from_secs(span)),
                    data: Bytes::from_static(&[0; MESSAGE_SIZE_MAX]),
                });
            }
            for mailbox in MAILBOXES {
                self.change(Command::DeleteAll {
                    mailbox,
                    scope: Scope::All,
                    before: None,
                });
            }
            self.flush();
        }
        for _ in 0..40 {
            self.pass(DAY);
        }
        self.check_all();
        let count = self.shard.statistics().segment_count;
        assert!(count <= SEGMENT_COUNT_LEFT, "{count} segments for nothing");
    }
}
