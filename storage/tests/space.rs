//! What must not come back when segments go, and what is kept beside messages.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use cepa_storage::disk::SegmentId;
use cepa_storage::territory::{Arc, Territory};
use cepa_storage::{Command, Outcome, Shard};
use cepa_wire::record::{self, Position, Record};
use cepa_wire::{Mailbox, MessageHash, SubaccountToken, Timestamp};

use crate::disk::TestDisk;
use crate::run::*;

/// A message of 6,000 bytes that lives for ten days: forty make a segment.
fn long(number: u32) -> Command {
    store(number, 6000, after(10 * 86_400))
}

/// The same, of a mailbox that lies elsewhere on the ring.
fn elsewhere(number: u32) -> Command {
    let mut command = long(number);
    if let Command::Store { mailbox, .. } = &mut command {
        let mut key = [0; 32];
        key[24..].fill(0xFF);
        *mailbox = Mailbox { prefix: 5, key };
    }
    command
}

fn fill(shard: &mut Shard<TestDisk>, now: Timestamp, numbers: core::ops::Range<u32>) {
    for number in numbers {
        let outcome = run_one(shard, now, long(number));
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
}

/// Records on the disk that store a message, and those that delete it.
fn record_counts(shard: &mut Shard<TestDisk>, hash: MessageHash) -> (usize, usize) {
    let store_count = count(
        shard,
        |record| matches!(record, Record::Store(store) if store.hash == hash),
    );
    let delete_count = count(
        shard,
        |record| matches!(record, Record::Delete(delete) if delete.targets().any(|one| one.hash == hash)),
    );
    (store_count, delete_count)
}

fn count(shard: &mut Shard<TestDisk>, is_meant: impl Fn(Record<'_>) -> bool) -> usize {
    let names = |segment: SegmentId, bytes: &[u8], offset: usize| {
        let position = Position {
            segment: segment.0,
            offset: offset as u64,
        };
        record::parse(&bytes[offset..], position).is_ok_and(|(record, _)| is_meant(record))
    };
    let segments = shard.disk_mut().segments();
    segments
        .map(|(segment, bytes)| {
            let offsets = records(segment, bytes).into_iter();
            offsets.filter(|at| names(segment, bytes, *at)).count()
        })
        .sum()
}

#[test]
fn the_newest_fifty_revocations_are_kept_over_a_restart() {
    let token = |number: u8| SubaccountToken([number; 36]);
    let mut shard = shard(TestDisk::default());
    for number in 0..60 {
        let tokens = vec![token(number)];
        let revoke = Command::Revoke {
            mailbox: BOB,
            tokens,
        };
        let outcome = run_one(&mut shard, NOW, revoke);
        assert_eq!(outcome, Outcome::Revoked { count: 1 });
    }
    let mut shard = restart(shard);
    let outcome = run_one(&mut shard, NOW, Command::Revocations { mailbox: BOB });
    let expected = (10..60).map(token).collect();
    assert_eq!(outcome, Outcome::Revocations(expected));
}

#[test]
fn a_delete_outlives_its_segment() {
    let mut shard = shard(TestDisk::default());
    run_one(&mut shard, NOW, elsewhere(500));
    fill(&mut shard, NOW, 0..39);
    run_one(&mut shard, NOW, delete([0]));
    fill(&mut shard, NOW, 100..180);
    // All of BOB's go; the first segment holds the other mailbox's message, and message 0.
    run_one(&mut shard, NOW, delete(100..180));
    fill(&mut shard, NOW, 200..280);
    wait(&mut shard, 0, 60);
    for _ in 0..2 {
        shard = restart(shard);
        assert!(!numbers(&mut shard, after(60)).contains(&0));
    }
}

#[test]
fn what_was_purged_and_stored_again_stays_deleted() {
    let mut shard = shard(TestDisk::default());
    // The first segment stays, for another mailbox's messages.
    for number in 500..520 {
        run_one(&mut shard, NOW, elsewhere(number));
    }
    fill(&mut shard, NOW, 0..1);
    for number in 520..545 {
        run_one(&mut shard, NOW, elsewhere(number));
    }
    // BOB lies at zero.
    let ring = Territory(vec![Arc {
        from: 1,
        to: u64::MAX,
    }]);
    shard.set_territory(ring, NOW);
    wait(&mut shard, 3600, 60);
    assert_eq!(shard.statistics().purged_count, 1);
    shard.set_territory(Territory::everything(), after(3700));

    let now = after(3700);
    fill(&mut shard, now, 0..1);
    fill(&mut shard, now, 100..180);
    let outcome = run_one(&mut shard, now, delete([0]));
    assert_eq!(outcome, Outcome::Deleted(vec![hash(0)]));
    assert_eq!(record_counts(&mut shard, hash(0)), (2, 1));
    // Everything that knows of the Delete dies.
    for begin in [200, 300] {
        fill(&mut shard, now, begin..begin + 80);
        run_one(&mut shard, now, delete(begin - 100..begin));
        wait(&mut shard, 3700 + u64::from(begin), 60);
    }
    // Its first record stays for its neighbours' sake, and so must a Delete of it.
    let (store_count, delete_count) = record_counts(&mut shard, hash(0));
    assert!(store_count == 1 && delete_count > 0, "{delete_count}");
    let mut shard = restart(shard);
    assert!(!numbers(&mut shard, after(4200)).contains(&0), "it is back");
}
