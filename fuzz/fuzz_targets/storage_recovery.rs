//! Arbitrary bytes as the segments of a log: recovery ends, and the shard works afterwards.
//!
//! The first two bytes say how many blocks the first two segments have; the rest is the third. Built
//! with `cfg(fuzzing)` checksums are not compared, so that what is behind them is met too.
#![no_main]

#[path = "../../storage/tests/support/disk.rs"]
mod disk;

use bytes::Bytes;
use cepa_storage::disk::{BLOCK_SIZE, SegmentId};
use cepa_storage::{Command, Outcome, Settings, Shard, StoredMessage, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};
use libfuzzer_sys::fuzz_target;

use crate::disk::TestDisk;

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(2_000);
const MAILBOX: Mailbox = Mailbox {
    prefix: 5,
    key: [0xF5; 32],
};
const HASH: MessageHash = MessageHash([0x5F; 32]);
const DATA: Bytes = Bytes::from_static(b"after the storm");

fuzz_target!(|input: &[u8]| {
    let Some(([first_count, second_count], bytes)) = input.split_first_chunk() else {
        return;
    };
    let cut = |bytes: &[u8], count: u8| (usize::from(count) * BLOCK_SIZE).min(bytes.len());
    let (first, bytes) = bytes.split_at(cut(bytes, *first_count));
    let (second, third) = bytes.split_at(cut(bytes, *second_count));
    let disk = TestDisk::default()
        .with_segment(SegmentId(0), first)
        .with_segment(SegmentId(1), second)
        .with_segment(SegmentId(2), third);
    let mut shard = recovered(disk);

    let outcome = run(
        &mut shard,
        Command::Delete {
            mailbox: MAILBOX,
            hashes: vec![HASH],
        },
    );
    assert!(matches!(outcome, Outcome::Deleted(_)), "{outcome:?}");
    let outcome = run(
        &mut shard,
        Command::Store {
            mailbox: MAILBOX,
            namespace: Namespace::INBOX,
            hash: HASH,
            timestamp: NOW,
            expiry: LATER,
            data: DATA,
        },
    );
    let stored = Outcome::Stored {
        already: false,
        expiry: LATER,
    };
    assert_eq!(outcome, stored);
    assert!(retrieve(&mut shard).iter().any(is_ours), "it is there");

    // Whatever stood in the log, what was answered as stored is in it now.
    let mut disk = core::mem::take(shard.disk_mut());
    disk.crash();
    let mut shard = recovered(disk);
    assert!(retrieve(&mut shard).iter().any(is_ours), "it stays");
});

fn recovered(disk: TestDisk) -> Shard<TestDisk> {
    let settings = Settings {
        segment_size: Settings::SEGMENT_SIZE_MIN,
        capacity: 64 * Settings::SEGMENT_SIZE_MIN,
        ..Settings::default()
    };
    let mut shard = Shard::new(disk, settings);
    shard.handle_disk(NOW);
    assert!(shard.is_recovered(), "recovery ends");
    shard
}

fn is_ours(message: &StoredMessage) -> bool {
    message.hash == HASH && message.data == DATA && message.expiry == LATER
}

fn retrieve(shard: &mut Shard<TestDisk>) -> Vec<StoredMessage> {
    let outcome = run(
        shard,
        Command::Retrieve {
            mailbox: MAILBOX,
            namespace: Namespace::INBOX,
            after: None,
            count_max: usize::MAX,
            size_max: usize::MAX,
        },
    );
    let Outcome::Retrieved { messages, more } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!more);
    messages
}

fn run(shard: &mut Shard<TestDisk>, command: Command) -> Outcome {
    shard.handle_command(Ticket(0), command, NOW);
    shard.handle_disk(NOW);
    let (_, outcome) = shard.poll_outcome().expect("a disk that completes at once");
    outcome
}
