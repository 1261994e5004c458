//! The life of segments and of the space that they take: seals, indexes, compaction, quotas, purges.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use core::time::Duration;

use cepa_storage::command::{Direction, DumpCursor, Scope};
use cepa_storage::disk::{Access, BLOCK_SIZE, Operation, SegmentId};
use cepa_storage::territory::{Arc, Territory};
use cepa_storage::{Command, Durability, Outcome, Settings, Shard, StoreFault, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

use crate::disk::TestDisk;
use crate::run::*;

/// Days from now: not worth waiting for.
fn in_days(days: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_hours(24 * days))
}

/// Stores so many messages of 6,000 bytes: forty make a segment of 256 KiB.
fn fill(shard: &mut Shard<TestDisk>, numbers: core::ops::Range<u32>) {
    fill_for(shard, numbers, 10);
}

fn fill_for(shard: &mut Shard<TestDisk>, numbers: core::ops::Range<u32>, days: u64) {
    for number in numbers {
        let outcome = run_one(shard, NOW, store(number, 6000, in_days(days)));
        assert_eq!(outcome, stored(in_days(days)));
    }
}

fn read_bytes(shard: &mut Shard<TestDisk>) -> usize {
    operations(shard)
        .iter()
        .map(|operation| match operation {
            Operation::Read { size, .. } => *size,
            _ => 0,
        })
        .sum()
}

#[test]
fn of_a_sealed_segment_only_the_index_is_read() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0..150);
    assert!(shard.statistics().sealed_segment_count >= 3);
    let expected: Vec<_> = (0..150).collect();
    assert_eq!(numbers(&mut shard, NOW), expected);
    operations(&mut shard);
    let mut shard = restart(shard);
    // Three indexes of some 5 KiB, the ends of every segment, and the open one whole.
    assert!(read_bytes(&mut shard) < 400_000);
    assert_eq!(numbers(&mut shard, NOW), expected);
    assert!(!shard.statistics().is_damaged());
}

#[test]
fn a_damaged_index_or_trailer_costs_time_and_nothing_else() {
    for what in ["index", "trailer"] {
        let mut shard = shard(TestDisk::default());
        fill(&mut shard, 0..100);
        run_one(&mut shard, NOW, delete([3]));
        shard.disk_mut().edit(SegmentId(0), |bytes| {
            let trailer = bytes.len() - BLOCK_SIZE;
            let index = bytes[trailer + 16..trailer + 24].try_into().unwrap();
            let index = usize::try_from(u64::from_le_bytes(index)).unwrap();
            let at = if what == "index" {
                index + 300
            } else {
                trailer + 9
            };
            bytes[at] ^= 4;
        });
        let mut shard = restart(shard);
        let expected: Vec<_> = (0..100).filter(|number| *number != 3).collect();
        assert_eq!(numbers(&mut shard, NOW), expected, "{what}");
        // It has an index again.
        operations(&mut shard);
        let mut shard = restart(shard);
        assert!(read_bytes(&mut shard) < 400_000, "{what}");
        assert_eq!(numbers(&mut shard, NOW), expected, "{what}");
    }
}

#[test]
fn what_lives_is_copied_and_its_segment_goes() {
    let mut shard = shard(TestDisk::default());
    let tokens = vec![SubaccountToken([1; 36])];
    run_one(
        &mut shard,
        NOW,
        Command::Revoke {
            mailbox: BOB,
            tokens: tokens.clone(),
        },
    );
    let cursor = Some(DumpCursor::START);
    run_one(
        &mut shard,
        NOW,
        Command::KeepCursor {
            peer: [2; 32],
            cursor,
        },
    );
    // Of the class that states are of.
    fill_for(&mut shard, 0..120, 20);
    let kept: Vec<u32> = (0..120).filter(|number| number % 9 == 0).collect();
    let gone = (0..120).filter(|number| number % 9 != 0);
    run_one(&mut shard, NOW, delete(gone));
    let expire = Command::Expire {
        mailbox: BOB,
        targets: vec![(hash(9), in_days(30)), (hash(18), in_days(2))],
        direction: Direction::Any,
    };
    run_one(&mut shard, NOW, expire);
    for second in 0..30 {
        shard.handle_disk(after(second));
    }
    let statistics = shard.statistics();
    assert!(statistics.compacted_segment_count >= 2, "{statistics:?}");
    assert!(!segment_ids(&mut shard).contains(&0), "the first is gone");
    assert_eq!(numbers(&mut shard, after(30)), kept);
    for _ in 0..2 {
        shard = restart(shard);
        assert_eq!(numbers(&mut shard, after(30)), kept, "and nothing is back");
        let expiries = Command::Expiries {
            mailbox: BOB,
            hashes: vec![hash(9), hash(18), hash(27)],
        };
        let expected = vec![
            (hash(9), in_days(30)),
            (hash(18), in_days(2)),
            (hash(27), in_days(20)),
        ];
        assert_eq!(
            run_one(&mut shard, after(30), expiries),
            Outcome::Expiries(expected)
        );
        let revoked = run_one(&mut shard, after(30), Command::Revocations { mailbox: BOB });
        assert_eq!(revoked, Outcome::Revocations(tokens.clone()));
        let kept = run_one(&mut shard, after(30), Command::Cursor { peer: [2; 32] });
        assert_eq!(kept, Outcome::Cursor(cursor));
    }
}

#[test]
fn a_mailbox_that_is_full_does_not_hold_up_others() {
    let settings = Settings {
        mailbox_message_count_max: 3,
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    fill(&mut shard, 0..3);
    let full = Outcome::Failed(StoreFault::MailboxFull);
    assert_eq!(run_one(&mut shard, NOW, store(3, 1, LATER)), full);
    assert_eq!(
        run_one(&mut shard, NOW, store(1, 1, LATER)),
        already(in_days(10)),
        "it is there"
    );
    assert_eq!(run_one(&mut shard, NOW, other(7, 9)), stored(in_days(10)));
    run_one(&mut shard, NOW, delete([0]));
    assert_eq!(run_one(&mut shard, NOW, store(3, 1, LATER)), stored(LATER));
}

/// A message of another mailbox.
fn other(owner: u32, number: u32) -> Command {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&owner.to_be_bytes());
    let Command::Store {
        hash,
        timestamp,
        data,
        ..
    } = store(number, 100, LATER)
    else {
        unreachable!();
    };
    Command::Store {
        mailbox: Mailbox { prefix: 5, key },
        namespace: Namespace::INBOX,
        hash,
        timestamp,
        expiry: in_days(10),
        data,
    }
}

#[test]
fn a_full_store_refuses_stores_and_heals_by_deletes() {
    let settings = Settings {
        capacity: 0,
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    let count = fill_up(&mut shard, in_days(10));
    assert_eq!(
        numbers(&mut shard, NOW).len(),
        count as usize,
        "retrieves go on"
    );
    let outcome = run_one(&mut shard, NOW, delete(0..count));
    assert!(matches!(outcome, Outcome::Deleted(deleted) if deleted.len() == count as usize));
    shard.handle_disk(after(1));
    assert_eq!(
        run_one(&mut shard, after(1), store(0, 6000, in_days(10))),
        stored(in_days(10))
    );
}

#[test]
fn a_disk_without_space_is_told_and_heals() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0..30);
    shard.disk_mut().is_full = true;
    let mut number = 30;
    let refusal = loop {
        match run_one(&mut shard, NOW, store(number, 6000, in_days(10))) {
            Outcome::Stored { .. } => number += 1,
            outcome => break outcome,
        }
    };
    assert_eq!(refusal, Outcome::Failed(StoreFault::DiskFull));
    assert_eq!(shard.last_fault(), Some(StoreFault::DiskFull));
    assert_eq!(numbers(&mut shard, NOW).len(), number as usize);
    shard.disk_mut().is_full = false;
    assert_eq!(
        run_one(&mut shard, NOW, store(number, 6000, in_days(10))),
        stored(in_days(10))
    );
    assert_eq!(shard.last_fault(), None);
}

#[test]
fn a_public_outbox_keeps_its_newest_message() {
    let outbox = |number: u32| {
        let Command::Store {
            mailbox,
            hash,
            timestamp,
            expiry,
            data,
            ..
        } = store(number, 50, LATER)
        else {
            unreachable!();
        };
        let namespace = Namespace(-21);
        Command::Store {
            mailbox,
            namespace,
            hash,
            timestamp,
            expiry,
            data,
        }
    };
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, store(0, 50, LATER));
    let outcomes = run(&mut shard, NOW, [1, 2, 3].map(outbox));
    assert_eq!(outcomes, [stored(LATER), stored(LATER), stored(LATER)]);
    assert_eq!(shard.statistics().message_count, 2);
    assert_eq!(
        run_one(&mut shard, NOW, outbox(3)),
        already(LATER),
        "stays itself"
    );
    let mut shard = restart(shard);
    assert_eq!(shard.statistics().message_count, 2);
    assert_eq!(numbers(&mut shard, NOW), [0], "another box");
    assert_eq!(
        run_one(&mut shard, NOW, delete([3])),
        Outcome::Deleted(vec![hash(3)])
    );
}

#[test]
fn background_work_comes_in_slices() {
    const COUNT: u32 = 40_000;
    let settings = Settings {
        segment_size: 4 << 20,
        waiting_count_max: 50_000,
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    for number in 0..COUNT {
        shard.handle_command(Ticket(0), other(number, number), NOW);
    }
    shard.handle_disk(NOW);
    while shard.poll_outcome().is_some() {}
    let statistics = shard.statistics();
    assert_eq!(statistics.mailbox_count, u64::from(COUNT));
    let per_message = statistics.index_memory_bytes / u64::from(COUNT);
    assert!(
        per_message < 64 + 24 + 56 + 2 * 12 + 8,
        "{per_message} bytes with a mailbox each"
    );

    let half = Territory(vec![Arc {
        from: 0,
        to: u64::MAX / 2,
    }]);
    let survey = Command::Survey {
        territories: vec![half.clone(), Territory::everything()],
    };
    shard.handle_command(Ticket(1), survey, NOW);
    let mut calls = 0;
    let counts = loop {
        shard.handle_disk(NOW);
        calls += 1;
        if let Some((_, Outcome::Surveyed(counts))) = shard.poll_outcome() {
            break counts;
        }
        assert_eq!(shard.poll_deadline(), Some(NOW), "there is more to do");
    };
    assert!(calls >= COUNT / 2048, "{calls} slices");
    assert_eq!(counts[1].message_count, u64::from(COUNT));
    let ours = counts[0].message_count;

    // What is not ours stays for an hour, and goes in slices.
    shard.set_territory(half, NOW);
    let mut now = after(3599);
    shard.handle_disk(now);
    assert_eq!(shard.statistics().message_count, u64::from(COUNT));
    now = after(3600);
    let mut slices = 0;
    while shard.statistics().message_count > ours {
        let before = shard.statistics().purged_count;
        shard.handle_disk(now);
        let purged = shard.statistics().purged_count - before;
        assert!(purged <= 1024, "{purged} in a slice");
        slices += 1;
        assert!(slices < 10_000, "it ends");
    }
    assert_eq!(shard.statistics().message_count, ours);
    // A purge leaves no trace: after a restart they are there, for another hour.
    let mut disk = core::mem::take(shard.disk_mut());
    disk.crash();
    let mut shard = Shard::new(disk, settings);
    shard.handle_disk(now);
    assert_eq!(shard.statistics().message_count, u64::from(COUNT));
}

#[test]
fn relaxed_changes_are_answered_at_once_and_synced_in_time() {
    let pause = Duration::from_millis(20);
    let settings = Settings {
        durability: Durability::Relaxed(pause),
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    shard.handle_disk(NOW);
    assert_eq!(run_one(&mut shard, NOW, store(0, 10, LATER)), stored(LATER));
    let is_sync = |operation: &Operation| matches!(operation, Operation::Sync { .. });
    assert!(!operations(&mut shard).iter().any(is_sync));
    let due = NOW.saturating_add(pause);
    assert!(shard.poll_deadline().unwrap() <= due);
    shard.handle_disk(due);
    assert_eq!(
        operations(&mut shard)
            .iter()
            .filter(|one| is_sync(one))
            .count(),
        1
    );
    let mut disk = core::mem::take(shard.disk_mut());
    disk.crash();
    let mut shard = Shard::new(disk, settings);
    shard.handle_disk(due);
    assert_eq!(numbers(&mut shard, due), [0]);
}

#[test]
fn a_dump_goes_on_after_a_restart() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0..100);
    let mut found: Vec<MessageHash> = Vec::new();
    let mut from = DumpCursor::START;
    let mut pages = 0;
    loop {
        let command = Command::Dump {
            from,
            territory: Territory::everything(),
            size_max: 50_000,
        };
        let outcome = run_one(&mut shard, NOW, command);
        let Outcome::Dumped { messages, next } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(messages.len() <= 9, "a page");
        found.extend(messages.iter().map(|dumped| dumped.message.hash));
        let keep = Command::KeepCursor {
            peer: [1; 32],
            cursor: next,
        };
        assert_eq!(run_one(&mut shard, NOW, keep), Outcome::CursorKept);
        shard = restart(shard);
        let Outcome::Cursor(kept) = run_one(&mut shard, NOW, Command::Cursor { peer: [1; 32] })
        else {
            panic!("no cursor");
        };
        pages += 1;
        match kept {
            Some(kept) => from = kept,
            None => break,
        }
    }
    assert!(pages > 10);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..100).map(hash).collect::<Vec<_>>());
    // Of a territory without mailboxes, nothing; and the boxes of another scope stay.
    let command = Command::Dump {
        from: DumpCursor::START,
        territory: Territory(Vec::new()),
        size_max: 1,
    };
    let nothing = Outcome::Dumped {
        messages: Vec::new(),
        next: None,
    };
    assert_eq!(run_one(&mut shard, NOW, command), nothing);
    let scope = Scope::One(Namespace(5));
    let all = Command::DeleteAll {
        mailbox: BOB,
        scope,
        before: None,
    };
    assert_eq!(
        run_one(&mut shard, NOW, all),
        Outcome::DeletedAll(Vec::new())
    );
}

#[test]
fn records_here_and_there_are_read_through_the_cache_and_files_are_not() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0..3);
    operations(&mut shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1, 2]);
    let reads = operations(&mut shard);
    assert!(
        matches!(
            &*reads,
            [Operation::Read {
                access: Access::Random,
                ..
            }]
        ),
        "neighbours come in one read"
    );
    let mut shard = restart(shard);
    let is_sequential = |operation: &Operation| {
        !matches!(
            operation,
            Operation::Read {
                access: Access::Random,
                ..
            }
        )
    };
    assert!(operations(&mut shard).iter().all(is_sequential));
}
