//! A shard on a test disk, and messages that are numbers.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "for tests, and each uses another part of it"
)]

use bytes::Bytes;
use cepa_storage::disk::{BLOCK_SIZE, Operation, SegmentId};
use cepa_storage::{
    Command, Durability, Outcome, Settings, Shard, StoreFault, StoredMessage, Ticket,
};
use cepa_wire::record::{self, Position, Record};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use crate::disk::TestDisk;

/// No message.
pub(crate) const NONE: [u32; 0] = [];
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
pub(crate) const LATER: Timestamp = Timestamp::from_millis(2_000_000);
pub(crate) const BOB: Mailbox = Mailbox {
    prefix: 5,
    key: [0xB0; 32],
};

pub(crate) const fn settings() -> Settings {
    Settings {
        segment_size: 256 << 10,
        waiting_count_max: 10_000,
        commit_count_max: 4,
        tail_cache_size: 0,
        durability: Durability::Durable,
        capacity: 64 << 20,
        mailbox_size_max: 64 << 20,
        mailbox_message_count_max: 50_000,
        foreign_grace: core::time::Duration::from_hours(1),
        dead_percent_max: 50,
        table_key: [9; 16],
        has_deliberate_bug: false,
    }
}

pub(crate) fn shard(disk: TestDisk) -> Shard<TestDisk> {
    let mut shard = Shard::new(disk, settings());
    shard.handle_disk(NOW);
    assert!(shard.is_recovered());
    shard
}

/// The power goes and comes back.
pub(crate) fn restart(mut shard: Shard<TestDisk>) -> Shard<TestDisk> {
    let mut disk = core::mem::take(shard.disk_mut());
    disk.crash();
    self::shard(disk)
}

pub(crate) fn hash(number: u32) -> MessageHash {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    MessageHash(bytes)
}

pub(crate) fn data(number: u32, size: usize) -> Bytes {
    number
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(size)
        .collect()
}

pub(crate) fn store(number: u32, size: usize, expiry: Timestamp) -> Command {
    Command::Store {
        mailbox: BOB,
        namespace: Namespace::INBOX,
        hash: hash(number),
        timestamp: Timestamp::from_millis(u64::from(number)),
        expiry,
        data: data(number, size),
    }
}

pub(crate) fn delete(numbers: impl IntoIterator<Item = u32>) -> Command {
    Command::Delete {
        mailbox: BOB,
        hashes: numbers.into_iter().map(hash).collect(),
    }
}

pub(crate) fn retrieve(after: Option<u32>, count_max: usize, size_max: usize) -> Command {
    Command::Retrieve {
        mailbox: BOB,
        namespace: Namespace::INBOX,
        after: after.map(hash),
        count_max,
        size_max,
    }
}

/// So many seconds from now.
pub(crate) fn after(seconds: u64) -> Timestamp {
    NOW.saturating_add(core::time::Duration::from_secs(seconds))
}

/// Lets seconds pass, from so many after now on.
pub(crate) fn wait(shard: &mut Shard<TestDisk>, from: u64, seconds: u64) {
    for second in from..from + seconds {
        shard.handle_disk(after(second));
    }
}

/// Lets half a minute and more pass, in which everything that expired is removed.
pub(crate) fn sweep(shard: &mut Shard<TestDisk>, now: Timestamp) {
    for seconds in 0..40 {
        shard.handle_disk(now.saturating_add(core::time::Duration::from_secs(seconds)));
    }
}

/// Stores messages of 6,000 bytes until the store is full, and says how many it took.
pub(crate) fn fill_up(shard: &mut Shard<TestDisk>, expiry: Timestamp) -> u32 {
    let mut count = 0;
    let refusal = loop {
        match run_one(shard, NOW, store(count, 6000, expiry)) {
            Outcome::Stored { .. } => count += 1,
            outcome => break outcome,
        }
        assert!(count < 1000, "eight segments hold no more");
    };
    assert_eq!(refusal, Outcome::Failed(StoreFault::StoreFull));
    count
}

/// Runs commands that were submitted together; the outcomes in the order of the commands.
pub(crate) fn run<const N: usize>(
    shard: &mut Shard<TestDisk>,
    now: Timestamp,
    commands: [Command; N],
) -> [Outcome; N] {
    for (index, command) in commands.into_iter().enumerate() {
        shard.handle_command(Ticket(index as u64), command, now);
    }
    shard.handle_disk(now);
    let mut outcomes: Vec<_> = core::iter::from_fn(|| shard.poll_outcome()).collect();
    outcomes.sort_by_key(|(ticket, _)| *ticket);
    let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    outcomes.try_into().expect("an outcome for each command")
}

pub(crate) fn run_one(shard: &mut Shard<TestDisk>, now: Timestamp, command: Command) -> Outcome {
    let [outcome] = run(shard, now, [command]);
    outcome
}

pub(crate) fn stored(expiry: Timestamp) -> Outcome {
    Outcome::Stored {
        already: false,
        expiry,
    }
}

pub(crate) fn already(expiry: Timestamp) -> Outcome {
    Outcome::Stored {
        already: true,
        expiry,
    }
}

/// The numbers of all messages, each checked.
pub(crate) fn numbers(shard: &mut Shard<TestDisk>, now: Timestamp) -> Vec<u32> {
    let outcome = run_one(shard, now, retrieve(None, usize::MAX, usize::MAX));
    let Outcome::Retrieved { messages, more } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!more);
    messages.iter().map(check).collect()
}

pub(crate) fn check(message: &StoredMessage) -> u32 {
    let number = u32::from_be_bytes(message.hash.0[..4].try_into().unwrap());
    assert_eq!(message.timestamp, Timestamp::from_millis(u64::from(number)));
    assert_eq!(message.data, data(number, message.data.len()));
    number
}

/// Where the records of a segment stand, Commits and Indexes left out.
pub(crate) fn records(segment: SegmentId, bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut offset = BLOCK_SIZE;
    while offset < bytes.len() {
        let position = Position {
            segment: segment.0,
            offset: offset as u64,
        };
        if let Ok((record, size)) = record::parse(&bytes[offset..], position) {
            if !matches!(record, Record::Commit(_) | Record::Index(_)) {
                found.push(offset);
            }
            offset += record::footprint(size);
        } else {
            offset = (offset + 1).next_multiple_of(BLOCK_SIZE);
        }
    }
    found
}

pub(crate) fn segment_ids(shard: &mut Shard<TestDisk>) -> Vec<u32> {
    shard.disk_mut().segments().map(|(id, _)| id.0).collect()
}

pub(crate) fn operations(shard: &mut Shard<TestDisk>) -> Vec<Operation> {
    core::mem::take(&mut shard.disk_mut().completed)
}
