//! One behaviour a test, on a disk that does as it is told.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use cepa_storage::disk::{BLOCK_SIZE, Operation};
use cepa_storage::{Command, Outcome, Settings, Shard, StoreFault, Ticket};
use cepa_wire::record::{DELETE_TARGET_COUNT_MAX, STORE_OVERHEAD};
use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::{Namespace, Timestamp};

use crate::disk::{FaultRates, TestDisk};
use crate::run::*;

#[test]
fn what_is_stored_is_there_after_a_restart() {
    let mut shard = shard(TestDisk::default());
    assert_eq!(numbers(&mut shard, NOW), NONE);
    for number in 0..20 {
        let size = number as usize * 97;
        let outcome = run_one(&mut shard, NOW, store(number, size, LATER));
        assert_eq!(outcome, stored(LATER));
    }
    let expected: Vec<_> = (0..20).collect();
    assert_eq!(numbers(&mut shard, NOW), expected);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), expected);
    assert!(!shard.statistics().is_damaged());

    // It goes on in the segment that it found, in a fresh block.
    let segments = segment_ids(&mut shard);
    run_one(&mut shard, NOW, store(20, 9, LATER));
    assert_eq!(segment_ids(&mut shard), segments);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), (0..21).collect::<Vec<_>>());
}

#[test]
fn what_waits_together_is_one_durable_write() {
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, store(0, 10, LATER));
    operations(&mut shard);
    run(
        &mut shard,
        NOW,
        [1, 2, 3].map(|number| store(number, 1000, LATER)),
    );
    let operations = operations(&mut shard);
    assert_eq!(operations.len(), 1);
    assert!(matches!(
        &operations[0],
        Operation::Write { data, is_durable: true, .. } if data.len() == BLOCK_SIZE
    ));
    let statistics = shard.statistics();
    assert_eq!(statistics.commit_count, 2);
    assert_eq!(statistics.committed_bytes, 3 * BLOCK_SIZE as u64);
    assert_eq!(statistics.record_bytes, 4 * STORE_OVERHEAD as u64 + 3010);
}

#[test]
fn nothing_is_answered_or_shown_before_it_is_durable() {
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, store(0, 10, LATER));
    shard.disk_mut().faults.write = 1000;
    let outcomes = run(
        &mut shard,
        NOW,
        [store(1, 10, LATER), store(1, 10, LATER), delete([1])],
    );
    let failed = Outcome::Failed(StoreFault::DiskFailed);
    assert_eq!(outcomes, [failed.clone(), failed.clone(), failed]);
    assert_eq!(numbers(&mut shard, NOW), [0]);
}

#[test]
fn a_second_store_moves_the_expiry_up_only() {
    let mut shard = shard(TestDisk::default());
    let at = |millis: u64| Timestamp::from_millis(2_000_000 + millis);
    // In flight together, then one by one.
    let outcomes = run(
        &mut shard,
        NOW,
        [50, 30, 70].map(|millis| store(1, 10, at(millis))),
    );
    assert_eq!(outcomes, [stored(at(50)), already(at(50)), already(at(70))]);
    operations(&mut shard);
    assert_eq!(
        run_one(&mut shard, NOW, store(1, 10, at(60))),
        already(at(70))
    );
    assert_eq!(operations(&mut shard), [], "nothing to write");
    assert_eq!(
        run_one(&mut shard, NOW, store(1, 10, at(80))),
        already(at(80))
    );
    assert_eq!(operations(&mut shard).len(), 1);

    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, at(79)), [1]);
    let outcome = run_one(&mut shard, at(79), retrieve(None, 9, 999));
    assert!(
        matches!(&outcome, Outcome::Retrieved { messages, .. } if messages[0].expiry == at(80)),
        "{outcome:?}"
    );
    assert_eq!(numbers(&mut shard, at(80)), NONE);
}

#[test]
fn deletes_are_ordered_and_durable() {
    let mut shard = shard(TestDisk::default());
    let outcomes = run(
        &mut shard,
        NOW,
        [
            store(1, 10, LATER),
            delete([1, 7]),
            store(2, 10, LATER),
            store(1, 10, LATER),
            delete([9, 2, 2]),
        ],
    );
    assert_eq!(
        outcomes,
        [
            stored(LATER),
            Outcome::Deleted(vec![hash(1)]),
            stored(LATER),
            stored(LATER),
            Outcome::Deleted(vec![hash(2)]),
        ]
    );
    assert_eq!(numbers(&mut shard, NOW), [1]);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [1]);
    let outcome = run_one(&mut shard, NOW, delete([1, 2]));
    assert_eq!(outcome, Outcome::Deleted(vec![hash(1)]));
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), NONE);
    assert_eq!(
        run_one(&mut shard, NOW, delete([1])),
        Outcome::Deleted(vec![])
    );
}

#[test]
fn a_delete_may_be_larger_than_a_record() {
    let count = u32::try_from(2 * DELETE_TARGET_COUNT_MAX + 5).unwrap();
    let mut shard = shard(TestDisk::default());
    for number in 0..count {
        shard.handle_command(Ticket(0), store(number, 0, LATER), NOW);
    }
    shard.handle_disk(NOW);
    while shard.poll_outcome().is_some() {}
    let outcome = run_one(&mut shard, NOW, delete((1..count).rev()));
    let Outcome::Deleted(deleted) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(deleted.into_iter().eq((1..count).map(hash)), "all, sorted");
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0]);
}

#[test]
fn a_large_delete_fails_when_its_first_commit_does() {
    let count = u32::try_from(DELETE_TARGET_COUNT_MAX + 5).unwrap();
    let mut shard = Shard::new(
        TestDisk::default(),
        Settings {
            // One record of the largest size fills a segment, so that there are two commits.
            segment_size: Settings::SEGMENT_SIZE_MIN,
            ..settings()
        },
    );
    for number in 0..count {
        shard.handle_command(Ticket(0), store(number, 0, LATER), NOW);
    }
    shard.handle_disk(NOW);
    while shard.poll_outcome().is_some() {}
    shard.disk_mut().write_failure_count = 1;
    let outcome = run_one(&mut shard, NOW, delete(0..count));
    assert!(outcome == Outcome::Failed(StoreFault::DiskFailed));
    assert_eq!(numbers(&mut shard, NOW).len(), count as usize);
    let outcome = run_one(&mut shard, NOW, delete(0..count));
    assert!(matches!(outcome, Outcome::Deleted(deleted) if deleted.len() == count as usize));
    assert_eq!(numbers(&mut shard, NOW), NONE);
}

#[test]
fn retrieve_keeps_its_limits() {
    let mut shard = shard(TestDisk::default());
    for number in 0..10 {
        run_one(&mut shard, NOW, store(number, 300, LATER));
    }
    let mut page = |after, count_max, size_max| match run_one(
        &mut shard,
        NOW,
        retrieve(after, count_max, size_max),
    ) {
        Outcome::Retrieved { messages, more } => {
            (messages.iter().map(check).collect::<Vec<_>>(), more)
        }
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(page(None, 3, usize::MAX), (vec![0, 1, 2], true));
    assert_eq!(
        page(Some(2), 7, usize::MAX),
        (vec![3, 4, 5, 6, 7, 8, 9], false)
    );
    assert_eq!(page(Some(9), 7, usize::MAX), (vec![], false));
    assert_eq!(page(Some(99), 1, usize::MAX), (vec![0], true), "unknown");
    // 300 bytes count 400 as base64, and 100.
    assert_eq!(page(None, 99, 1000), (vec![0, 1], true));
    assert_eq!(page(None, 99, 999), (vec![0], true));
    assert_eq!(page(None, 99, 0), (vec![0], true), "the first in any case");
    assert_eq!(page(Some(8), 99, 0), (vec![9], false));
    assert_eq!(page(None, 0, 1000), (vec![0], true), "at least one");
}

#[test]
fn boxes_are_apart() {
    let mut shard = shard(TestDisk::default());
    let Command::Store { mut mailbox, .. } = store(1, 10, LATER) else {
        unreachable!();
    };
    mailbox.key[31] += 1;
    let in_box = |number, namespace, mailbox| match store(number, 10, LATER) {
        Command::Store {
            hash,
            timestamp,
            expiry,
            data,
            ..
        } => Command::Store {
            mailbox,
            namespace: Namespace(namespace),
            hash,
            timestamp,
            expiry,
            data,
        },
        command => command,
    };
    run(
        &mut shard,
        NOW,
        [
            in_box(1, -1, BOB),
            in_box(2, 0, BOB),
            in_box(3, 1, BOB),
            in_box(2, 0, mailbox),
        ],
    );
    assert_eq!(numbers(&mut shard, NOW), [2]);
    let outcome = run_one(&mut shard, NOW, delete([1, 2, 3]));
    assert_eq!(outcome, Outcome::Deleted(vec![hash(1), hash(2), hash(3)]));
    assert_eq!(shard.statistics().message_count, 1);
}

#[test]
fn expired_messages_go_in_slices() {
    let mut shard = shard(TestDisk::default());
    let expiry = Timestamp::from_millis(1_500_000);
    for number in 0..9000 {
        shard.handle_command(Ticket(0), store(number, 0, expiry), NOW);
    }
    shard.handle_disk(NOW);
    while shard.poll_outcome().is_some() {}
    assert_eq!(shard.statistics().message_count, 9000);
    assert_eq!(numbers(&mut shard, expiry), NONE, "whatever is removed yet");

    let mut now = expiry;
    let mut before = shard.statistics().expired_count;
    while shard.statistics().message_count > 0 {
        now = now.max(shard.poll_deadline().unwrap());
        shard.handle_disk(now);
        let expired_count = shard.statistics().expired_count;
        assert!(expired_count - before <= 2048, "a slice");
        before = expired_count;
    }
    assert_eq!(shard.statistics().expired_count, 9000);
    assert!(now <= expiry.saturating_add(core::time::Duration::from_mins(1)));
    // A clock that is set back brings nothing back.
    assert_eq!(
        run_one(&mut shard, NOW, store(0, 0, expiry)),
        stored(expiry)
    );
    assert_eq!(numbers(&mut shard, NOW), NONE);
}

#[test]
fn an_expired_message_may_be_stored_again() {
    let mut shard = shard(TestDisk::default());
    let expiry = Timestamp::from_millis(1_500_000);
    run(&mut shard, NOW, [store(1, 10, expiry), store(2, 10, LATER)]);
    let outcome = run_one(&mut shard, expiry, store(1, 10, LATER));
    assert_eq!(outcome, stored(LATER));
    assert_eq!(numbers(&mut shard, expiry), [2, 1], "it arrived again");
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, expiry), [2, 1]);
}

#[test]
fn dead_segments_are_removed_and_tombstones_outlive_what_they_hide() {
    let mut shard = shard(TestDisk::default());
    // Segment 0 ends with a message that lives long; segment 1 has the Delete of another.
    run_one(&mut shard, NOW, store(0, 100, LATER));
    for number in 1..=3 {
        run_one(&mut shard, NOW, store(number, 70_000, NOW));
    }
    run_one(&mut shard, NOW, store(4, 60_000, LATER));
    assert_eq!(
        run_one(&mut shard, NOW, delete([4])),
        Outcome::Deleted(vec![hash(4)])
    );
    for number in 5..=12 {
        run_one(&mut shard, NOW, store(number, 60_000, NOW));
    }
    run_one(&mut shard, NOW, delete([0]));
    sweep(&mut shard, NOW);
    assert!(shard.statistics().removed_segment_count > 0);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), NONE);
    sweep(&mut shard, NOW);
    let left = segment_ids(&mut shard);
    assert!(left.len() <= 2, "the open one and the spare: {left:?}");
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), NONE);
}

#[test]
fn a_tombstone_stays_while_an_older_segment_holds_its_target() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [store(0, 100, LATER), store(1, 100, LATER)],
    );
    for number in 2..=4 {
        run_one(&mut shard, NOW, store(number, 76_000, NOW));
    }
    // In the next segment, of which nothing else lives.
    run(&mut shard, NOW, [store(5, 76_000, NOW), delete([1])]);
    for number in 6..=12 {
        run_one(&mut shard, NOW, store(number, 76_000, NOW));
    }
    sweep(&mut shard, NOW);
    let left = segment_ids(&mut shard);
    assert_eq!(left[0], 0, "it holds message 0");
    // The Delete may have been copied elsewhere, but not lost.
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0]);
    run_one(&mut shard, NOW, delete([0]));
    let left = segment_ids(&mut shard);
    assert!(!left.contains(&0), "{left:?}");
}

#[test]
fn an_expire_record_stays_while_its_message_lives() {
    let mut shard = shard(TestDisk::default());
    let until = Timestamp::from_millis(3_000_000);
    run_one(&mut shard, NOW, store(0, 100, LATER));
    for number in 1..=3 {
        run_one(&mut shard, NOW, store(number, 76_000, NOW));
    }
    run(
        &mut shard,
        NOW,
        [store(4, 76_000, NOW), store(0, 100, until)],
    );
    for number in 5..=12 {
        run_one(&mut shard, NOW, store(number, 76_000, NOW));
    }
    sweep(&mut shard, NOW);
    assert_eq!(segment_ids(&mut shard)[..2], [0, 1]);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, LATER), [0]);
    sweep(&mut shard, until);
    let left = segment_ids(&mut shard);
    assert!(!left.contains(&0) && !left.contains(&1), "{left:?}");
}

#[test]
fn a_damaged_record_is_skipped_by_a_retrieve_and_can_be_stored_again() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [0, 1, 2].map(|number| store(number, 100, LATER)),
    );
    let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
    let second = records(segment, bytes)[1];
    shard
        .disk_mut()
        .edit(segment, |bytes| bytes[second + 150] ^= 1);
    assert_eq!(numbers(&mut shard, NOW), [0, 2]);
    assert_eq!(shard.statistics().failed_read_count, 1);
    assert_eq!(
        run_one(&mut shard, NOW, store(1, 100, LATER)),
        stored(LATER)
    );
    assert_eq!(numbers(&mut shard, NOW), [0, 2, 1]);
}

#[test]
fn a_page_of_damaged_records_is_stepped_over() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [0, 1, 2, 3].map(|number| store(number, 100, LATER)),
    );
    let (segment, bytes) = shard.disk_mut().segments().next().unwrap();
    let records = records(segment, bytes);
    shard.disk_mut().edit(segment, |bytes| {
        bytes[records[0] + 150] ^= 1;
        bytes[records[1] + 150] ^= 1;
    });
    let outcome = run_one(&mut shard, NOW, retrieve(None, 2, usize::MAX));
    let Outcome::Retrieved { messages, more } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(messages.iter().map(check).collect::<Vec<_>>(), [2, 3]);
    assert!(!more);
}

#[test]
fn reads_that_the_disk_fails_are_failures_and_nothing_is_forgotten() {
    let mut shard = shard(TestDisk::default());
    run(
        &mut shard,
        NOW,
        [0, 1].map(|number| store(number, 100, LATER)),
    );
    shard.disk_mut().faults.read = 1000;
    let outcome = run_one(&mut shard, NOW, retrieve(None, 9, 9999));
    assert_eq!(outcome, Outcome::Failed(StoreFault::DiskFailed));
    shard.disk_mut().faults = FaultRates::NONE;
    assert_eq!(numbers(&mut shard, NOW), [0, 1]);
}

#[test]
fn neighbours_are_read_together_and_the_tail_not_at_all() {
    let mut shard = Shard::new(
        TestDisk::default(),
        Settings {
            tail_cache_size: 20_000,
            ..settings()
        },
    );
    for number in 0..10 {
        run_one(&mut shard, NOW, store(number, 3000, LATER));
    }
    operations(&mut shard);
    assert_eq!(numbers(&mut shard, NOW), (0..10).collect::<Vec<_>>());
    let operations = operations(&mut shard);
    assert_eq!(operations.len(), 1, "{operations:?}");
    assert_eq!(shard.statistics().tail_read_count, 4, "of 4 KiB each");
}

#[test]
fn a_full_disk_fails_stores_only_and_only_while_it_is_full() {
    let mut shard = shard(TestDisk::default());
    shard.disk_mut().is_full = true;
    let mut number = 0;
    let full = Outcome::Failed(StoreFault::DiskFull);
    assert_eq!(run_one(&mut shard, NOW, store(0, 70_000, LATER)), full);
    shard.disk_mut().is_full = false;
    assert_eq!(
        run_one(&mut shard, NOW, store(0, 70_000, LATER)),
        stored(LATER)
    );
    shard.disk_mut().is_full = true;
    let outcome = loop {
        number += 1;
        assert!(number < 100, "the disk is full some time");
        let outcome = run_one(&mut shard, NOW, store(number, 70_000, LATER));
        if outcome != stored(LATER) {
            break outcome;
        }
    };
    assert_eq!(outcome, full);
    assert_eq!(numbers(&mut shard, NOW), (0..number).collect::<Vec<_>>());
    // What fits into the open segment is still taken.
    let outcome = run_one(&mut shard, NOW, delete([0]));
    assert_eq!(outcome, Outcome::Deleted(vec![hash(0)]));
    shard.disk_mut().is_full = false;
    assert_eq!(
        run_one(&mut shard, NOW, store(number, 70_000, LATER)),
        stored(LATER)
    );
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), (1..=number).collect::<Vec<_>>());
}

#[test]
fn too_many_and_too_large_are_refused() {
    let mut shard = Shard::new(
        TestDisk::default(),
        Settings {
            waiting_count_max: 2,
            ..settings()
        },
    );
    let outcomes = run(
        &mut shard,
        NOW,
        [
            store(0, MESSAGE_SIZE_MAX, LATER),
            store(1, MESSAGE_SIZE_MAX + 1, LATER),
            retrieve(None, 9, 9999),
            store(2, 1, LATER),
        ],
    );
    assert_eq!(outcomes[0], stored(LATER));
    assert_eq!(outcomes[1], Outcome::Failed(StoreFault::TooLarge));
    assert!(matches!(outcomes[2], Outcome::Retrieved { .. }));
    assert_eq!(outcomes[3], Outcome::Failed(StoreFault::Busy));
    assert_eq!(run_one(&mut shard, NOW, store(2, 1, LATER)), stored(LATER));
}

#[test]
fn messages_are_fetched_by_hash_from_any_box() {
    let mut shard = shard(TestDisk::default());
    let boxed = |number, namespace| match store(number, 900, after(600)) {
        Command::Store {
            mailbox,
            hash,
            timestamp,
            expiry,
            data,
            ..
        } => Command::Store {
            mailbox,
            namespace: Namespace(namespace),
            hash,
            timestamp,
            expiry,
            data,
        },
        other => other,
    };
    for (number, namespace) in [(1, 0), (2, 5), (3, -10), (4, 0)] {
        run_one(&mut shard, NOW, boxed(number, namespace));
    }
    run_one(&mut shard, NOW, store(5, 900, after(20)));
    run_one(&mut shard, NOW, delete([4]));
    let fetch = |numbers: &[u32]| Command::Fetch {
        mailbox: BOB,
        hashes: numbers.iter().map(|number| hash(*number)).collect(),
    };
    let fetched = |shard: &mut Shard<TestDisk>, now, numbers: &[u32]| {
        let Outcome::Fetched(messages) = run_one(shard, now, fetch(numbers)) else {
            panic!("not fetched");
        };
        let rows: Vec<_> = messages
            .iter()
            .map(|dumped| {
                assert_eq!(dumped.mailbox, BOB);
                (check(&dumped.message), dumped.namespace.0)
            })
            .collect();
        rows
    };
    let all = [3, 9, 2, 4, 1, 5];
    for _ in 0..2 {
        let rows = fetched(&mut shard, NOW, &all);
        assert_eq!(rows, [(3, -10), (2, 5), (1, 0), (5, 0)]);
        let rows = fetched(&mut shard, after(30), &all);
        assert_eq!(rows, [(3, -10), (2, 5), (1, 0)], "one has expired");
        assert_eq!(fetched(&mut shard, NOW, &[]), []);
        // Then from the disk instead of memory.
        shard = restart(shard);
    }
}
