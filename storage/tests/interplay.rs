//! What happens when one thing comes while another is under way. Each was a fault once.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use core::time::Duration;

use cepa_storage::command::Direction;
use cepa_storage::disk::Operation;
use cepa_storage::{Command, Durability, Outcome, Settings, Shard, StoreFault, Ticket};
use cepa_wire::{SubaccountToken, Timestamp};

use crate::disk::{FaultRates, TestDisk};
use crate::run::*;

const DAY: u64 = 86_400;

/// Stores messages of 6,000 bytes, of which forty make a segment.
fn fill(shard: &mut Shard<TestDisk>, now: u64, numbers: core::ops::Range<u32>, life: u64) {
    for number in numbers {
        let command = store(number, 6000, after(now + life));
        let outcome = run_one(shard, after(now), command);
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

fn expire(number: u32, expiry: Timestamp) -> Command {
    Command::Expire {
        mailbox: BOB,
        targets: vec![(hash(number), expiry)],
        direction: Direction::Any,
    }
}

const fn token(number: u8) -> SubaccountToken {
    SubaccountToken([number; 36])
}

fn revoke(number: u8) -> Command {
    Command::Revoke {
        mailbox: BOB,
        tokens: vec![token(number)],
    }
}

fn revocations(shard: &mut Shard<TestDisk>, now: u64) -> Outcome {
    run_one(shard, after(now), Command::Revocations { mailbox: BOB })
}

#[test]
fn a_message_that_expired_early_does_not_come_back_after_its_successor() {
    let mut shard = shard(TestDisk::default());
    // It would live for ten days, and its segment lives on for its neighbours.
    fill(&mut shard, 0, 0..60, 10 * DAY);
    let outcome = run_one(&mut shard, NOW, expire(0, after(60)));
    assert!(matches!(outcome, Outcome::Expired { .. }));
    fill(&mut shard, 0, 100..145, 400);
    wait(&mut shard, 200, 60);
    assert!(!numbers(&mut shard, after(260)).contains(&0));
    // The same message again, for minutes and in another segment. While it is there, the segment
    // that holds the Expire is copied; then it goes and its own segment as well.
    fill(&mut shard, 300, 0..1, 300);
    wait(&mut shard, 400, 60);
    fill(&mut shard, 460, 200..245, 140);
    fill(&mut shard, 460, 300..345, 140);
    wait(&mut shard, 600, 60);
    let mut shard = restart(shard);
    let left: Vec<_> = (1..60).collect();
    assert_eq!(numbers(&mut shard, after(1100)), left);
}

#[test]
fn a_revocation_waits_for_the_one_before_it_though_a_copy_is_under_way() {
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, revoke(1));
    fill(&mut shard, 0, 0..50, 20 * DAY);
    run_one(&mut shard, NOW, delete(0..50));
    // Step by step, until the copy of the State is on its way.
    let is_copying = |shard: &mut Shard<TestDisk>| {
        let mut pending = shard.disk_mut().pending();
        pending.any(
            |operation| matches!(operation, Operation::Write { is_durable, .. } if *is_durable),
        )
    };
    let begun = (0..2000).any(|step| {
        shard.disk_mut().budget = 1;
        shard.handle_disk(after(2 + step / 10));
        is_copying(&mut shard)
    });
    assert!(begun, "the segment is worth it");
    let now = after(300);
    shard.disk_mut().budget = 0;
    shard.handle_command(Ticket(1), revoke(2), now);
    shard.handle_disk(now);
    shard.disk_mut().budget = 1;
    shard.handle_disk(now);
    shard.disk_mut().budget = 0;
    shard.handle_command(Ticket(2), revoke(3), now);
    shard.handle_disk(now);
    shard.disk_mut().budget = usize::MAX;
    shard.handle_disk(now);
    let mut shard = restart(shard);
    let expected = [1, 2, 3].map(token).to_vec();
    assert_eq!(revocations(&mut shard, 300), Outcome::Revocations(expected));
}

fn relaxed() -> Shard<TestDisk> {
    let settings = Settings {
        durability: Durability::Relaxed(Duration::from_secs(1)),
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    shard.handle_disk(NOW);
    shard
}

#[test]
fn what_is_written_while_a_sync_is_under_way_is_synced_too() {
    let mut shard = relaxed();
    run_one(&mut shard, NOW, store(0, 100, LATER));
    // The second write is under way when the first one's sync is submitted.
    shard.disk_mut().budget = 0;
    shard.handle_command(Ticket(9), store(1, 100, LATER), NOW);
    shard.handle_disk(NOW);
    shard.handle_disk(after(1));
    let pending: Vec<_> = shard.disk_mut().pending().cloned().collect();
    assert!(
        matches!(
            pending[..],
            [Operation::Write { .. }, Operation::Sync { .. }]
        ),
        "{pending:?}"
    );
    shard.disk_mut().budget = usize::MAX;
    shard.handle_disk(after(1));
    assert_eq!(shard.poll_outcome(), Some((Ticket(9), stored(LATER))));
    shard.handle_disk(after(2));
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, NOW), [0, 1]);
}

#[test]
fn a_segment_that_is_being_removed_is_not_synced() {
    let mut shard = relaxed();
    fill(&mut shard, 0, 0..45, DAY / 2);
    run_one(&mut shard, NOW, expire(44, after(2 * DAY)));
    shard.disk_mut().budget = 0;
    shard.handle_command(Ticket(9), delete(0..44), NOW);
    shard.handle_disk(NOW);
    let is_removing = (0..100).any(|_| {
        shard.disk_mut().budget = 1;
        shard.handle_disk(NOW);
        let mut pending = shard.disk_mut().pending();
        pending.any(|operation| matches!(operation, Operation::Remove { .. }))
    });
    assert!(is_removing);
    shard.disk_mut().budget = 0;
    shard.handle_disk(after(2));
    shard.disk_mut().budget = usize::MAX;
    shard.disk_mut().faults.remove = 1000;
    shard.handle_disk(after(2));
    assert_eq!(shard.statistics().failed_sync_count, 0);
    assert!(matches!(
        shard.poll_outcome(),
        Some((Ticket(9), Outcome::Deleted(_)))
    ));
    assert_eq!(numbers(&mut shard, after(3)), [44]);
}

#[test]
fn a_full_store_survives_failed_writes_and_makes_room() {
    let settings = Settings {
        capacity: 0,
        ..settings()
    };
    let mut shard = Shard::new(TestDisk::default(), settings);
    let count = fill_up(&mut shard, after(10 * DAY));
    for _ in 0..6 {
        shard.disk_mut().write_failure_count = 1;
        let outcome = run_one(&mut shard, NOW, delete([0]));
        assert_eq!(outcome, Outcome::Failed(StoreFault::DiskFailed));
    }
    // Of each segment most: what is left must be copied.
    for number in (0..count).filter(|number| number % 5 > 0) {
        let outcome = run_one(&mut shard, NOW, delete([number]));
        assert_eq!(outcome, Outcome::Deleted(vec![hash(number)]));
    }
    wait(&mut shard, 1, 120);
    fill(&mut shard, 130, 10_000..10_010, 10 * DAY);
    let kept = (0..count).filter(|number| number % 5 == 0);
    let kept: Vec<_> = kept.chain(10_000..10_010).collect();
    assert_eq!(numbers(&mut shard, after(200)), kept);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, after(200)), kept);
}

#[test]
fn a_segment_whose_last_commit_failed_is_copied_like_any_other() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0, 0..20, 10 * DAY);
    shard.disk_mut().write_failure_count = 1;
    let outcome = run_one(&mut shard, NOW, delete(0..20));
    assert_eq!(outcome, Outcome::Failed(StoreFault::DiskFailed));
    let outcome = run_one(&mut shard, NOW, delete(0..19));
    assert!(matches!(outcome, Outcome::Deleted(deleted) if deleted.len() == 19));
    wait(&mut shard, 1, 30);
    assert!(!segment_ids(&mut shard).contains(&0), "19 of 20 are dead");
    assert_eq!(numbers(&mut shard, after(31)), [19]);
    let mut shard = restart(shard);
    assert_eq!(numbers(&mut shard, after(31)), [19]);
}

#[test]
fn a_revocation_alone_does_not_keep_a_segment() {
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, revoke(7));
    fill(&mut shard, 0, 0..50, 20 * DAY);
    run_one(&mut shard, NOW, delete(0..50));
    wait(&mut shard, 1, 60);
    assert!(!segment_ids(&mut shard).contains(&0));
    let expected = Outcome::Revocations(vec![token(7)]);
    assert_eq!(revocations(&mut shard, 61), expected);
    let mut shard = restart(shard);
    assert_eq!(revocations(&mut shard, 61), expected);
}

#[test]
fn questions_to_a_log_that_cannot_be_listed_fail_and_it_is_listed_again() {
    let mut disk = TestDisk::default();
    disk.faults = FaultRates {
        list: 1000,
        ..FaultRates::NONE
    };
    let settings = Settings {
        waiting_count_max: 4,
        ..settings()
    };
    let mut shard = Shard::new(disk, settings);
    for _ in 0..10 {
        for command in [
            Command::Revocations { mailbox: BOB },
            Command::Survey {
                territories: Vec::new(),
            },
        ] {
            shard.handle_command(Ticket(0), command, NOW);
        }
        shard.handle_disk(NOW);
    }
    let outcomes: Vec<_> = core::iter::from_fn(|| shard.poll_outcome()).collect();
    assert_eq!(outcomes.len(), 20);
    let is_failed = |(_, outcome): &(Ticket, Outcome)| matches!(outcome, Outcome::Failed(_));
    assert!(outcomes.iter().all(is_failed), "{outcomes:?}");
    shard.disk_mut().faults = FaultRates::NONE;
    run_one(&mut shard, NOW, store(0, 10, LATER));
    assert_eq!(numbers(&mut shard, NOW), [0]);
}

#[test]
fn of_two_expiries_in_one_command_the_second_counts_for_ever() {
    let mut shard = shard(TestDisk::default());
    fill(&mut shard, 0, 0..100, DAY);
    let targets = (0..100).chain([0]).zip(1..);
    let targets = targets.map(|(number, hours)| (hash(number), after(3600 * hours)));
    let command = Command::Expire {
        mailbox: BOB,
        targets: targets.collect(),
        direction: Direction::Any,
    };
    run_one(&mut shard, NOW, command);
    let question = || Command::Expiries {
        mailbox: BOB,
        hashes: vec![hash(0)],
    };
    let expected = Outcome::Expiries(vec![(hash(0), after(3600 * 101))]);
    assert_eq!(run_one(&mut shard, NOW, question()), expected);
    let mut shard = restart(shard);
    assert_eq!(run_one(&mut shard, NOW, question()), expected);
}
