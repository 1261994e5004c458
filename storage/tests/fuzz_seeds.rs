//! Writes the seeds of the fuzz targets `record`, `storage_recovery` and `storage_operations`, from what
//! a shard really writes: `cargo test -p cepa-storage --test fuzz_seeds -- --ignored` after the format
//! changed.
#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "what fails in a test ends it, and a list is long"
)]

#[path = "support/disk.rs"]
mod disk;
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::path::PathBuf;

use cepa_storage::Command;
use cepa_storage::command::{Direction, Scope};
use cepa_storage::disk::{BLOCK_SIZE, SegmentId};
use cepa_wire::SubaccountToken;
use cepa_wire::record::{self, Position};

use crate::disk::{FaultRates, Rng, TestDisk};
use crate::run::*;

fn write(target: &str, name: &str, bytes: &[u8]) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}

/// Two segments as the target takes them: the first's blocks, counted by the first byte.
fn write_recovery(name: &str, disk: &TestDisk) {
    let mut segments = disk.segments().map(|(_, bytes)| bytes);
    let first = segments.next().unwrap_or_default();
    let second = segments.next().unwrap_or_default();
    let end = second.iter().rposition(|byte| *byte != 0);
    let second = &second[..end.map_or(0, |end| end + 1)];
    let count = u8::try_from(first.len() / BLOCK_SIZE).unwrap();
    write(
        "storage_recovery",
        name,
        &[&[count], first, second].concat(),
    );
}

fn everything(shard: &mut cepa_storage::Shard<TestDisk>) {
    run(
        shard,
        NOW,
        [0, 1, 2].map(|number| store(number, 300, LATER)),
    );
    run_one(shard, NOW, delete([1]));
    run_one(
        shard,
        NOW,
        Command::Expire {
            mailbox: BOB,
            targets: vec![(hash(0), LATER), (hash(2), NOW)],
            direction: Direction::Any,
        },
    );
    run_one(
        shard,
        NOW,
        Command::Revoke {
            mailbox: BOB,
            tokens: vec![SubaccountToken([3; 36])],
        },
    );
}

#[test]
#[ignore = "writes files of the repository"]
fn seeds() {
    let mut shard = shard(TestDisk::default());
    everything(&mut shard);
    write_recovery("every_kind", shard.disk_mut());
    let images: Vec<_> = shard
        .disk_mut()
        .segments()
        .map(|(id, bytes)| (id, bytes.to_vec()))
        .collect();
    write("record", "segment_header", &images[0].1[..BLOCK_SIZE]);
    for (id, bytes) in &images {
        for (number, offset) in records(*id, bytes).into_iter().enumerate() {
            let at = Position {
                segment: id.0,
                offset: offset as u64,
            };
            let (_, size) = record::parse(&bytes[offset..], at).unwrap();
            let name = format!("record_{}_{number}", id.0);
            write("record", &name, &bytes[offset..offset + size]);
        }
    }

    // Sealed, with an index and a trailer; the rest in a second segment.
    for number in 10..17 {
        run_one(&mut shard, NOW, store(number, 60_000, LATER));
    }
    run_one(
        &mut shard,
        NOW,
        Command::DeleteAll {
            mailbox: BOB,
            scope: Scope::All,
            before: None,
        },
    );
    write_recovery("sealed", shard.disk_mut());
    let (_, sealed) = shard.disk_mut().segments().next().unwrap();
    write("record", "trailer", &sealed[sealed.len() - BLOCK_SIZE..]);
    let index = sealed
        .chunks(BLOCK_SIZE)
        .rev()
        .skip(1)
        .find(|block| block.iter().any(|byte| *byte != 0))
        .unwrap();
    write("record", "index_block", index);
    shard.disk_mut().edit(SegmentId(0), |bytes| {
        let last = bytes.len() - BLOCK_SIZE;
        bytes[last + 3] ^= 1;
    });
    write_recovery("no_trailer", shard.disk_mut());

    // A failed commit, and the header that declares it void.
    let mut shard = self::shard(TestDisk::new(5));
    everything(&mut shard);
    shard.disk_mut().faults.write = 1000;
    run_one(&mut shard, NOW, delete([0]));
    shard.disk_mut().faults = FaultRates::NONE;
    run_one(&mut shard, NOW, store(0, 500, LATER));
    write_recovery("void", shard.disk_mut());
    shard
        .disk_mut()
        .edit(SegmentId(0), |bytes| bytes[BLOCK_SIZE + 300..].fill(0));
    write_recovery("torn", shard.disk_mut());
    write("storage_recovery", "blank", &[1; 1]);

    let mut rng = Rng::new(1);
    for size in [20, 100, 300, 1000] {
        for number in 0..3 {
            let bytes: Vec<u8> = (0..size)
                .map(|_| u8::try_from(rng.below(256)).unwrap())
                .collect();
            let name = format!("random_{size}_{number}");
            write("storage_operations", &name, &bytes);
        }
    }
    // Stores alone, restarts between, then everything deleted.
    let mut bytes = Vec::new();
    for number in 0..60_u8 {
        bytes.extend([2, number % 3, 3, number, number % 4, number, number, 20]);
        bytes.extend((number % 7 == 0).then_some(0));
    }
    bytes.extend([11, 0, 4, 1, 11, 1, 4, 1, 0]);
    write("storage_operations", "stores_and_restarts", &bytes);
}
