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
use cepa_storage::command::{Direction, DumpCursor, Scope};
use cepa_storage::territory::Territory;
use cepa_storage::{
    Command, Durability, Outcome, Settings, Shard, StoreFault, StoredMessage, Ticket,
};
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

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

/// A command that changes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Store(Timestamp),
    Delete,
    Expire(Timestamp, Direction),
    /// To this expiry, if it is later.
    Lower(Timestamp),
}

impl Change {
    fn apply(self, state: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Store(expiry) => Some(state.map_or(expiry, |current| current.max(expiry))),
            Self::Delete => None,
            Self::Expire(expiry, direction) => state.map(|current| {
                if direction.allows(current, expiry) {
                    expiry
                } else {
                    current
                }
            }),
            Self::Lower(expiry) => state.map(|current| current.min(expiry)),
        }
    }
}

/// A command that changes the revocations of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rights {
    Revoke(Vec<SubaccountToken>),
    Unrevoke(Vec<SubaccountToken>),
}

impl Rights {
    fn apply(&self, tokens: &mut Vec<SubaccountToken>) {
        match self {
            Self::Revoke(added) => {
                for token in added {
                    tokens.retain(|other| other != token);
                    tokens.push(*token);
                }
                let surplus = tokens.len().saturating_sub(50);
                tokens.drain(..surplus);
            }
            Self::Unrevoke(removed) => tokens.retain(|token| !removed.contains(token)),
        }
    }
}

/// What the model knows of a mailbox's revocations. One command of them is in flight at a time.
#[derive(Clone, Debug, Default)]
struct Revoked {
    certain: Vec<SubaccountToken>,
    in_flight: Option<Rights>,
    failed: Vec<Rights>,
}

impl Revoked {
    /// Whether a crash may leave these.
    fn allows(&self, observed: &[SubaccountToken]) -> bool {
        let mut states = vec![self.certain.clone()];
        for change in self.failed.iter().chain(&self.in_flight) {
            let changed: Vec<_> = states
                .iter()
                .map(|state| {
                    let mut state = state.clone();
                    change.apply(&mut state);
                    state
                })
                .collect();
            states.extend(changed);
        }
        states.iter().any(|state| state == observed)
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
    /// Failed in several steps, of which some may count already: until something is known again.
    maybe: Vec<Change>,
    /// Grows with everything that happens to it.
    version: u64,
}

impl Belief {
    /// What a crash may leave.
    fn possible(&self) -> BTreeSet<Option<Timestamp>> {
        let mut states = BTreeSet::from([self.certain]);
        let in_flight = self.in_flight.iter().map(|(_, change)| *change);
        let failed = self.maybe.iter().chain(&self.failed).copied();
        for change in failed.chain(in_flight) {
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
    revoked: BTreeMap<Mailbox, Revoked>,
    cursor: CursorBelief,
    next_ticket: u64,
    next_arrival: u64,
    pub(crate) events: Events,
}

/// What the model knows of the one cursor; one command of it is in flight at a time.
#[derive(Debug, Default)]
struct CursorBelief {
    certain: Option<DumpCursor>,
    in_flight: Option<Option<DumpCursor>>,
    failed: Vec<Option<DumpCursor>>,
    /// Where dumps have been.
    seen: Vec<DumpCursor>,
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
    Namespace(NAMESPACES[usize::from(hash.0[0] % 4)])
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
            } => {
                for key in replaced_by((*mailbox, *hash)) {
                    self.begin_change(ticket, key, Change::Delete);
                }
                self.begin_change(ticket, (*mailbox, *hash), Change::Store(*expiry));
            }
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
            Command::DeleteAll {
                mailbox,
                scope,
                before,
            } => {
                for key in in_scope(*mailbox, *scope) {
                    if before.is_none_or(|before| timestamp(key.1) <= before) {
                        self.begin_change(ticket, key, Change::Delete);
                    }
                }
            }
            Command::Expire {
                mailbox,
                targets,
                direction,
            } => {
                for (hash, expiry) in targets {
                    let change = Change::Expire(*expiry, *direction);
                    self.begin_change(ticket, (*mailbox, *hash), change);
                }
            }
            Command::ExpireAll {
                mailbox,
                scope,
                expiry,
            } => {
                for key in in_scope(*mailbox, *scope) {
                    self.begin_change(ticket, key, Change::Lower(*expiry));
                }
            }
            Command::Expiries { mailbox, .. } => {
                let quiet = self
                    .beliefs
                    .iter()
                    .filter(|(key, belief)| key.0 == *mailbox && belief.in_flight.is_empty());
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
        let span = self.span();
        self.ask(Command::Store {
            mailbox,
            namespace: namespace(hash),
            hash,
            timestamp: timestamp(hash),
            expiry: Timestamp::from_millis(self.now.as_millis() + span),
            data: data(mailbox, hash),
        });
    }

    /// How long a message lives: seconds mostly, and now and then weeks.
    fn span(&mut self) -> u64 {
        if self.rng.permille(300) {
            self.rng.next() % (40 * 24 * 3_600_000)
        } else {
            self.rng.next() >> (47 + self.rng.below(16))
        }
    }

    fn some_hashes(&mut self) -> BTreeSet<MessageHash> {
        let count = 1 + self.rng.below(4);
        (0..count)
            .map(|_| hash(self.rng.below(HASH_COUNT)))
            .collect()
    }

    fn scope(&mut self) -> Scope {
        if self.rng.permille(400) {
            Scope::All
        } else {
            Scope::One(Namespace(NAMESPACES[self.rng.below(4)]))
        }
    }

    fn ask_delete_all(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let scope = self.scope();
        let before = self.rng.permille(500).then(|| {
            let any = hash(self.rng.below(HASH_COUNT));
            timestamp(any)
        });
        self.ask(Command::DeleteAll {
            mailbox,
            scope,
            before,
        });
    }

    fn ask_expire(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let direction = [Direction::Any, Direction::Shorten, Direction::Extend][self.rng.below(3)];
        let targets = self.some_hashes();
        let targets = targets.into_iter().map(|hash| {
            let span = self.span();
            (hash, Timestamp::from_millis(self.now.as_millis() + span))
        });
        let targets = targets.collect();
        self.ask(Command::Expire {
            mailbox,
            targets,
            direction,
        });
    }

    fn ask_expire_all(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let scope = self.scope();
        let span = self.span();
        self.ask(Command::ExpireAll {
            mailbox,
            scope,
            expiry: Timestamp::from_millis(self.now.as_millis() + span),
        });
    }

    fn ask_expiries(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let hashes = self.some_hashes().into_iter().collect();
        self.ask(Command::Expiries { mailbox, hashes });
    }

    fn ask_rights(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let count = 1 + self.rng.below(30);
        let tokens: BTreeSet<_> = (0..count)
            .map(|_| SubaccountToken([u8::try_from(self.rng.below(80)).unwrap(); 36]))
            .collect();
        let tokens: Vec<_> = tokens.into_iter().collect();
        let revoked = self.revoked.entry(mailbox).or_default();
        if revoked.in_flight.is_some() {
            return;
        }
        let is_revoke = self.rng.permille(600);
        let rights = if is_revoke {
            Rights::Revoke(tokens.clone())
        } else {
            Rights::Unrevoke(tokens.clone())
        };
        revoked.in_flight = Some(rights);
        self.ask(if is_revoke {
            Command::Revoke { mailbox, tokens }
        } else {
            Command::Unrevoke { mailbox, tokens }
        });
    }

    fn ask_cursor(&mut self) {
        if self.cursor.in_flight.is_some() {
            return;
        }
        let seen = &self.cursor.seen;
        let cursor =
            (!seen.is_empty() && self.rng.permille(800)).then(|| seen[self.rng.below(seen.len())]);
        self.cursor.in_flight = Some(cursor);
        self.ask(Command::KeepCursor { peer: PEER, cursor });
    }

    fn ask_dump(&mut self) {
        let seen = &self.cursor.seen;
        let from = if seen.is_empty() || self.rng.permille(500) {
            DumpCursor::START
        } else {
            seen[self.rng.below(seen.len())]
        };
        let size_max = self.rng.below(200_000);
        self.ask(Command::Dump {
            from,
            territory: Territory::everything(),
            size_max,
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
                for other in replaced_by(key) {
                    self.end_change(ticket, other);
                    let belief = self.beliefs.get_mut(&other).expect("asked");
                    belief.certain = None;
                    belief.maybe.clear();
                }
                let belief = self.beliefs.get_mut(&key).expect("asked");
                if !belief.maybe.is_empty() {
                    // Whatever it was, it is this now.
                    belief.arrival = (!already).then_some(self.next_arrival);
                    self.next_arrival += 1;
                    belief.maybe.clear();
                    belief.certain = Some(answered);
                    return;
                }
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
                    let is_deleted = deleted.contains(hash);
                    self.judge_deleted(ticket, asked, (*mailbox, *hash), is_deleted);
                }
            }
            (
                Command::DeleteAll {
                    mailbox,
                    scope,
                    before,
                },
                Outcome::DeletedAll(deleted),
            ) => {
                self.forget_failed();
                assert!(deleted.is_sorted(), "sorted");
                for key in in_scope(*mailbox, *scope) {
                    let is_deleted = deleted.contains(&(namespace(key.1), key.1));
                    if before.is_none_or(|before| timestamp(key.1) <= before) {
                        self.judge_deleted(ticket, asked, key, is_deleted);
                    } else {
                        assert!(!is_deleted, "{key:?} is newer");
                    }
                }
            }
            (
                Command::Expire {
                    mailbox,
                    targets,
                    direction,
                },
                Outcome::Expired { updated, unchanged },
            ) => {
                self.forget_failed();
                assert!(updated.is_sorted() && unchanged.is_sorted(), "sorted");
                for (hash, expiry) in targets {
                    let is_updated = updated.contains(&(*hash, *expiry));
                    let kept = unchanged.iter().find(|(other, _)| other == hash);
                    let kept = kept.map(|(_, expiry)| *expiry);
                    let change = (*expiry, *direction);
                    self.judge_expired(
                        ticket,
                        asked,
                        (*mailbox, *hash),
                        change,
                        (is_updated, kept),
                    );
                }
            }
            (
                Command::ExpireAll {
                    mailbox,
                    scope,
                    expiry,
                },
                Outcome::ExpiredAll(updated),
            ) => {
                self.forget_failed();
                for key in in_scope(*mailbox, *scope) {
                    self.end_change(ticket, key);
                    let is_updated = updated.contains(&(namespace(key.1), key.1));
                    let belief = self.beliefs.get_mut(&key).expect("asked");
                    let current = belief.certain.filter(|_| belief.maybe.is_empty());
                    if !self.weather.flips_bits && belief.maybe.is_empty() {
                        let must = current.is_some_and(|at| at > self.now && at > *expiry);
                        assert!(is_updated || !must, "{key:?} lives longer");
                        let may = current.is_some_and(|at| at > asked.at && at > *expiry);
                        assert!(!is_updated || may, "{key:?} does not live longer");
                    }
                    if is_updated {
                        belief.certain = Some(*expiry);
                        belief.maybe.clear();
                    } else if let Some(at) = &mut belief.certain {
                        *at = (*at).min((*expiry).max(self.now));
                    }
                    belief.maybe.retain(|_| !is_updated);
                }
            }
            (Command::Expiries { mailbox, hashes }, Outcome::Expiries(found)) => {
                for hash in hashes {
                    let Some(belief) = self.quiet(asked, (*mailbox, *hash)) else {
                        continue;
                    };
                    let answered = found.iter().find(|(other, _)| other == hash);
                    let answered = answered.map(|(_, expiry)| *expiry);
                    let live = belief.certain.filter(|expiry| *expiry > self.now);
                    assert!(
                        answered == live || belief.certain == answered || self.weather.flips_bits,
                        "{hash:?} expires at {live:?}, not {answered:?}"
                    );
                }
            }
            (
                Command::Revoke { mailbox, .. } | Command::Unrevoke { mailbox, .. },
                Outcome::Revoked { .. },
            ) => {
                self.forget_failed();
                let revoked = self.revoked.get_mut(mailbox).expect("asked");
                let change = revoked.in_flight.take().expect("asked");
                change.apply(&mut revoked.certain);
            }
            (Command::KeepCursor { .. }, Outcome::CursorKept) => {
                self.forget_failed();
                self.cursor.certain = self.cursor.in_flight.take().expect("asked");
            }
            (Command::Dump { .. }, Outcome::Dumped { messages, next }) => {
                for dumped in &messages {
                    assert_eq!(namespace(dumped.message.hash), dumped.namespace);
                    self.judge_message(dumped.mailbox, &dumped.message);
                }
                self.events.dumped += messages.len() as u64;
                self.cursor.seen.extend(next);
            }
            (Command::Retrieve { .. }, Outcome::Retrieved { messages, more }) => {
                self.judge_retrieved(asked, &messages, more);
            }
            (command, Outcome::Failed(fault)) => self.judge_failed(ticket, command, fault),
            (command, outcome) => panic!("{outcome:?} is no outcome of {command:?}"),
        }
    }

    fn judge_deleted(&mut self, ticket: Ticket, asked: &Asked, key: Key, is_deleted: bool) {
        self.end_change(ticket, key);
        let belief = self.beliefs.get_mut(&key).expect("asked");
        let may_live = belief.certain.is_some_and(|current| current > asked.at);
        let must_live = belief.certain.is_some_and(|current| current > self.now);
        if !self.weather.flips_bits && belief.maybe.is_empty() {
            assert!(!is_deleted || may_live, "{key:?} was not there");
            assert!(is_deleted || !must_live, "{key:?} was there");
        }
        if is_deleted || !belief.maybe.is_empty() {
            belief.certain = None;
            belief.maybe.clear();
        }
    }

    fn judge_expired(
        &mut self,
        ticket: Ticket,
        asked: &Asked,
        key: Key,
        (expiry, direction): (Timestamp, Direction),
        (is_updated, kept): (bool, Option<Timestamp>),
    ) {
        self.end_change(ticket, key);
        let belief = self.beliefs.get_mut(&key).expect("asked");
        if !self.weather.flips_bits && belief.maybe.is_empty() {
            let current = belief.certain.filter(|current| *current > asked.at);
            let must_live = current.is_some_and(|current| current > self.now);
            let allows = current.is_some_and(|current| direction.allows(current, expiry));
            assert!(!is_updated || allows, "{key:?} may not move");
            assert!(is_updated || !(must_live && allows), "{key:?} must move");
            assert!(
                kept.is_none() || kept == current && !allows,
                "{key:?} stays"
            );
            assert!(
                kept.is_some() || !(must_live && !allows),
                "{key:?} is there"
            );
        }
        if is_updated {
            belief.certain = Some(expiry);
            belief.maybe.clear();
        } else if kept.is_some() {
            belief.certain = kept;
            belief.maybe.clear();
        }
    }

    fn judge_failed(&mut self, ticket: Ticket, command: &Command, fault: StoreFault) {
        let faults = self.weather.faults;
        let is_calm = faults.write == 0 && faults.create == 0 && !self.weather.fills_up;
        let is_expected = match fault {
            StoreFault::Busy => true,
            StoreFault::MailboxFull => self.weather.small_quota,
            StoreFault::StoreFull => self.weather.small_capacity,
            _ => !is_calm,
        };
        let is_question = matches!(command, Command::Retrieve { .. } | Command::Dump { .. });
        assert!(
            is_expected || is_question && self.weather.faults.shorten > 0,
            "{fault:?} of {command:?}"
        );
        self.events.refused += u64::from(matches!(
            fault,
            StoreFault::MailboxFull | StoreFault::StoreFull
        ));
        let was_judged = fault != StoreFault::Busy;
        if let Command::Revoke { mailbox, .. } | Command::Unrevoke { mailbox, .. } = command {
            let revoked = self.revoked.get_mut(mailbox).expect("asked");
            let change = revoked.in_flight.take();
            revoked.failed.extend(change.filter(|_| was_judged));
        }
        if let Command::KeepCursor { .. } = command {
            let change = self.cursor.in_flight.take();
            self.cursor.failed.extend(change.filter(|_| was_judged));
        }
        let is_stepwise = is_stepwise(command);
        for key in keys_of(command) {
            let change = self.end_change(ticket, key);
            let belief = self.beliefs.get_mut(&key).expect("asked");
            if was_judged && is_stepwise {
                belief.maybe.push(change);
            } else if was_judged {
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
        for revoked in self.revoked.values_mut() {
            revoked.failed.clear();
        }
        self.cursor.failed.clear();
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
        if !self.weather.flips_bits {
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
        let is_same = asked.versions.get(&key) == Some(&belief.version);
        (is_same && belief.maybe.is_empty()).then_some(belief)
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
        let mut disk = core::mem::take(self.shard.disk_mut());
        if self.rng.permille(700) && !self.weather.relaxed {
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
        let by_namespace = self.shard.namespaces().map(|(_, tally)| tally.count);
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
                .map(|(key, _)| &self.beliefs[key])
                .filter(|belief| belief.in_flight.is_empty() && belief.failed.is_empty())
                .filter(|belief| belief.maybe.is_empty())
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

/// The messages that a store into a public outbox replaces.
fn replaced_by(key: Key) -> Vec<Key> {
    let box_namespace = namespace(key.1);
    if !box_namespace.is_public_outbox() {
        return Vec::new();
    }
    let mut others = in_scope(key.0, Scope::One(box_namespace));
    others.retain(|other| *other != key);
    others
}

/// Every message that there may be in these boxes.
fn in_scope(mailbox: Mailbox, scope: Scope) -> Vec<Key> {
    (0..HASH_COUNT)
        .map(hash)
        .filter(|hash| scope.contains(namespace(*hash)))
        .map(|hash| (mailbox, hash))
        .collect()
}

/// What a command changes.
fn keys_of(command: &Command) -> Vec<Key> {
    match command {
        Command::Store { mailbox, hash, .. } => {
            let mut keys = replaced_by((*mailbox, *hash));
            keys.push((*mailbox, *hash));
            keys
        }
        Command::Delete { mailbox, hashes } => {
            hashes.iter().map(|hash| (*mailbox, *hash)).collect()
        }
        Command::Expire {
            mailbox, targets, ..
        } => targets.iter().map(|(hash, _)| (*mailbox, *hash)).collect(),
        Command::DeleteAll {
            mailbox,
            scope,
            before,
        } => {
            let mut keys = in_scope(*mailbox, *scope);
            keys.retain(|key| before.is_none_or(|before| timestamp(key.1) <= before));
            keys
        }
        Command::ExpireAll { mailbox, scope, .. } => in_scope(*mailbox, *scope),
        _ => Vec::new(),
    }
}

/// Whether it goes through several commits, so that a part may count when it fails.
fn is_stepwise(command: &Command) -> bool {
    match command {
        Command::Store { hash, .. } => namespace(*hash).is_public_outbox(),
        Command::DeleteAll { .. } | Command::ExpireAll { .. } => true,
        _ => false,
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
