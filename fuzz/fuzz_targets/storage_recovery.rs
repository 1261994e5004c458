//! Arbitrary bytes as the segments of a log: recovery ends, and the shard works afterwards.
//!
//! The first byte says how many blocks the first segment has; the rest is the second one. Built with
//! `cfg(fuzzing)` a record's checksums are not compared, so that what is behind them is met too.
#![no_main]

#[path = "../../storage/tests/support/disk.rs"]
mod disk;

use bytes::Bytes;
use cepa_storage::disk::{BLOCK_SIZE, SegmentId};
use cepa_storage::{Command, Outcome, Settings, Shard, Ticket};
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

fuzz_target!(|input: &[u8]| {
    let Some((block_count, bytes)) = input.split_first() else {
        return;
    };
    let size = (usize::from(*block_count) * BLOCK_SIZE).min(bytes.len());
    let (first, second) = bytes.split_at(size);
    let disk = TestDisk::default()
        .with_segment(SegmentId(0), first)
        .with_segment(SegmentId(1), second);
    let settings = Settings {
        segment_size: Settings::SEGMENT_SIZE_MIN,
        ..Settings::default()
    };
    let mut shard = Shard::new(disk, settings);
    shard.handle_disk(NOW);
    assert!(shard.is_recovered(), "recovery ends");

    let outcome = run(
        &mut shard,
        Command::Delete {
            mailbox: MAILBOX,
            hashes: vec![HASH],
        },
    );
    assert!(matches!(outcome, Outcome::Deleted(_)), "{outcome:?}");
    let data = Bytes::from_static(b"after the storm");
    let outcome = run(
        &mut shard,
        Command::Store {
            mailbox: MAILBOX,
            namespace: Namespace::INBOX,
            hash: HASH,
            timestamp: NOW,
            expiry: LATER,
            data: data.clone(),
        },
    );
    let stored = Outcome::Stored {
        already: false,
        expiry: LATER,
    };
    assert_eq!(outcome, stored);
    let outcome = run(
        &mut shard,
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
    assert!(
        messages
            .iter()
            .any(|message| message.hash == HASH && message.data == data),
        "what was stored is there"
    );
});

fn run(shard: &mut Shard<TestDisk>, command: Command) -> Outcome {
    shard.handle_command(Ticket(0), command, NOW);
    shard.handle_disk(NOW);
    let (_, outcome) = shard.poll_outcome().expect("a disk that completes at once");
    outcome
}
