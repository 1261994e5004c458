//! What a shard makes of segments that a crash or a broken disk left.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use bytes::Bytes;
use cepa_storage::disk::{BLOCK_SIZE, SegmentId};
use cepa_storage::{Command, Outcome, Shard, Statistics, StoreFault};
use cepa_wire::Namespace;
use cepa_wire::record::{self, Position, Record, STORE_OVERHEAD, footprint};

use crate::disk::{FaultRates, TestDisk};
use crate::run::*;

#[test]
fn a_torn_tail_is_cut_once() {
    let mut shard = shard(TestDisk::default());
    for number in 0..3 {
        run_one(&mut shard, NOW, store(number, 5000, LATER));
    }
    // Of the last commit's two blocks the first is lost, and the second is there.
    let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
    let last = *records(segment, bytes).last().unwrap();
    shard
        .disk_mut()
        .edit(segment, |bytes| bytes[last..last + 512].fill(0));
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1]);
    let statistics = shard.statistics();
    assert!(statistics.torn_tail_bytes > 4000, "{statistics:?}");
    assert_eq!(statistics.corrupt_record_count, 0);

    // What comes after goes elsewhere, and says that the torn bytes are void.
    assert_eq!(
        run_one(&mut shard, NOW, store(2, 5000, LATER)),
        stored(LATER)
    );
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1, 2]);
    assert_eq!(shard.statistics().torn_tail_bytes, 0);
    assert!(!shard.statistics().is_damaged());
}

#[test]
fn a_tail_torn_before_anything_was_stored_after_it_stays_cut() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [store(0, 100, LATER), store(1, 100, LATER)],
    );
    run_one(&mut shard, NOW, store(2, 100, LATER));
    let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
    let last = *records(segment, bytes).last().unwrap();
    let whole = bytes[last];
    shard.disk_mut().edit(segment, |bytes| bytes[last] = 0);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1]);
    // The same is there: answered only when the torn tail is void, so that it can't come back.
    assert_eq!(
        run_one(&mut shard, NOW, store(1, 100, LATER)),
        already(LATER)
    );
    shard.disk_mut().edit(segment, |bytes| bytes[last] = whole);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1]);
}

#[test]
fn a_corrupt_record_costs_only_itself() {
    for (byte, what) in [
        (0, "magic"),
        (9, "body checksum"),
        (13, "size"),
        (90, "body"),
    ] {
        let mut shard = shard(TestDisk::default());
        run(
            &mut shard,
            NOW,
            [0, 1, 2].map(|number| store(number, 3000, LATER)),
        );
        run_one(&mut shard, NOW, store(3, 100, LATER));
        let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
        let second = records(segment, bytes)[1];
        shard
            .disk_mut()
            .edit(segment, |bytes| bytes[second + byte] ^= 0x10);
        let mut shard = restart(shard);
        assert_eq!(numbers(&mut shard, NOW), [0, 2, 3], "{what}");
        let statistics = shard.statistics();
        assert_eq!(statistics.corrupt_record_count, 1, "{what}");
        assert_eq!(statistics.torn_tail_bytes, 0, "{what}");
        assert!(statistics.is_damaged());
        // It can be stored again.
        assert_eq!(
            run_one(&mut shard, NOW, store(1, 3000, LATER)),
            stored(LATER)
        );
        let mut shard = restart(shard);
        assert_eq!(numbers(&mut shard, NOW), [0, 2, 3, 1]);
    }
}

#[test]
fn a_corrupt_segment_header_costs_nothing() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [0, 1].map(|number| store(number, 3000, LATER)),
    );
    for byte in [0, 30] {
        shard
            .disk_mut()
            .edit(SegmentId(0), |bytes| bytes[byte] ^= 0x10);
        shard = restart(shard);
        assert_eq!(numbers(&mut shard, NOW), [0, 1]);
        assert_eq!(shard.statistics().corrupt_record_count, 1);
    }
}

#[test]
fn a_segment_of_a_later_version_is_left_alone() {
    let mut header = Vec::new();
    record::SegmentHeader {
        segment: 4,
        class: 1,
        void: (0, 0),
    }
    .encode(&mut header);
    header[8] = 3;
    // CRC-32 of the 32 bytes with version 3, computed with another program.
    header[32..36].copy_from_slice(&0x39D6_6237_u32.to_le_bytes());
    let mut shard = shard(TestDisk::default().with_segment(SegmentId(4), &header));
    assert_eq!(shard.statistics().foreign_segment_count, 1);
    assert_eq!(run_one(&mut shard, NOW, store(0, 10, LATER)), stored(LATER));
    assert_eq!(segment_ids(&mut shard), [4, 5]);
    let (_, bytes) = shard.disk_mut().segments().next().unwrap();
    assert_eq!(bytes, header);
}

#[test]
fn a_record_inside_of_a_payload_is_not_found() {
    // A message that contains records for just the places that they stand at does not smuggle them
    // in, even when it is damaged.
    let inner = |offset| {
        let mut bytes = Vec::new();
        let at = Position { segment: 0, offset };
        record::Store {
            mailbox: BOB,
            namespace: Namespace::INBOX,
            hash: hash(66),
            sequence: 66,
            version: 66,
            timestamp: NOW,
            expiry: LATER,
            data: b"forged",
        }
        .encode(at, &mut bytes);
        bytes
    };
    // Behind the header block, the Commit and the message's own fields, from a multiple of eight on.
    let begin = BLOCK_SIZE + footprint(record::Commit::SIZE) + STORE_OVERHEAD;
    let first = begin.next_multiple_of(8);
    let inner_size = inner(0).len() as u64;
    let payload: Bytes = core::iter::repeat_n(0, first - begin)
        .chain((0..500).flat_map(|index| inner(first as u64 + index * inner_size)))
        .collect();
    let mut shard = shard(TestDisk::default());
    let Command::Store {
        mailbox,
        namespace,
        hash,
        timestamp,
        expiry,
        ..
    } = store(1, 0, LATER)
    else {
        unreachable!();
    };
    let command = Command::Store {
        mailbox,
        namespace,
        hash,
        timestamp,
        expiry,
        data: payload,
    };
    run(&mut shard, NOW, [command, store(2, 10, LATER)]);
    shard
        .disk_mut()
        .edit(SegmentId(0), |bytes| bytes[begin - 1] ^= 1);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [2]);
}

#[test]
fn a_failed_commit_never_counts_again() {
    for seed in [7, 8, 9] {
        let mut shard = shard(TestDisk::new(seed));
        run(
            &mut shard,
            NOW,
            [0, 1].map(|number| store(number, 100, LATER)),
        );
        shard.disk_mut().faults = FaultRates {
            write: 1000,
            ..FaultRates::NONE
        };
        let failed = Outcome::Failed(StoreFault::DiskFailed);
        assert_eq!(run_one(&mut shard, NOW, delete([0])), failed);
        assert_eq!(run_one(&mut shard, NOW, store(5, 10, LATER)), failed);
        // Nothing to write, but what the Delete left is unknown.
        assert_eq!(run_one(&mut shard, NOW, store(0, 100, LATER)), failed);
        shard.disk_mut().faults = FaultRates::NONE;
        assert_eq!(numbers(&mut shard, NOW), [0, 1]);
        assert_eq!(
            run_one(&mut shard, NOW, store(0, 100, LATER)),
            already(LATER)
        );
        let mut shard = restart(shard);
        assert_eq!(numbers(&mut shard, NOW), [0, 1]);
        assert!(!shard.statistics().is_damaged());
    }
}

#[test]
fn segments_that_cannot_be_read_are_kept_and_nothing_of_them_is_void() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [0, 1].map(|number| store(number, 100, LATER)),
    );
    let mut disk = core::mem::take(shard.disk_mut());
    disk.faults.read = 1000;
    let mut shard = self::shard(disk);
    assert!(shard.statistics().unread_block_count > 0);
    shard.disk_mut().faults = FaultRates::NONE;
    assert_eq!(numbers(&mut shard, NOW), NONE);
    assert_eq!(
        run_one(&mut shard, NOW, store(2, 100, LATER)),
        stored(LATER)
    );
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW).len(), 3);
}

#[test]
fn a_log_that_cannot_be_listed_fails_commands_until_it_can() {
    let mut disk = TestDisk::default();
    disk.faults.list = 1000;
    let mut shard = Shard::new(disk, settings());
    shard.handle_disk(NOW);
    assert!(!shard.is_recovered());
    let failed = Outcome::Failed(StoreFault::DiskFailed);
    let outcomes = run(
        &mut shard,
        NOW,
        [store(0, 1, LATER), retrieve(None, 1, 1), delete([0])],
    );
    assert_eq!(outcomes, [failed.clone(), failed.clone(), failed]);
    shard.disk_mut().faults = FaultRates::NONE;
    assert_eq!(run_one(&mut shard, NOW, store(0, 1, LATER)), stored(LATER));
    assert!(shard.is_recovered());
}

#[test]
fn an_empty_shard_leaves_no_file() {
    let mut shard = shard(TestDisk::default());
    assert_eq!(
        run_one(&mut shard, NOW, delete([1])),
        Outcome::Deleted(vec![])
    );
    assert_eq!(segment_ids(&mut shard), NONE);
    let expected = Statistics {
        log_count: 1,
        capacity_bytes: 64 * 1024 * 1024,
        ..Statistics::default()
    };
    assert_eq!(shard.statistics(), expected);

    // A segment that was made and never written is removed.
    let mut shard = self::shard(TestDisk::default().with_segment(SegmentId(3), &[0; 8192]));
    shard.handle_disk(NOW);
    assert_eq!(segment_ids(&mut shard), NONE);
    run_one(&mut shard, NOW, store(0, 1, LATER));
    assert_eq!(segment_ids(&mut shard), [4]);
}

#[test]
fn a_torn_record_of_every_size_leaves_the_rest() {
    // Every prefix of the last commit, sector by sector.
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, store(0, 100, LATER));
    run(
        &mut shard,
        NOW,
        [1, 2, 3].map(|number| store(number, 2500, LATER)),
    );
    let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
    let image = bytes.to_vec();
    let commit = 2 * BLOCK_SIZE..4 * BLOCK_SIZE;
    let ends: Vec<_> = records(segment, &image)
        .into_iter()
        .skip(1)
        .map(|offset| {
            let position = Position {
                segment: segment.0,
                offset: offset as u64,
            };
            let (record, size) = record::parse(&image[offset..], position).unwrap();
            assert!(matches!(record, Record::Store(_)));
            offset + size
        })
        .collect();
    for cut in commit.clone().step_by(512) {
        let mut torn = image.clone();
        torn[cut..commit.end].fill(0);
        let mut shard = self::shard(TestDisk::default().with_segment(segment, &torn));
        let whole_count = ends.iter().filter(|end| **end <= cut).count();
        let expected: Vec<_> = (0..=u32::try_from(whole_count).unwrap()).collect();
        assert_eq!(numbers(&mut shard, NOW), expected, "cut at {cut}");
        run_one(&mut shard, NOW, store(9, 10, LATER));
        let mut shard = restart(shard);
        assert!(numbers(&mut shard, NOW).ends_with(&[9]), "cut at {cut}");
        assert!(!shard.statistics().is_damaged(), "cut at {cut}");
    }
}
