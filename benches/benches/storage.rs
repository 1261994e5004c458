//! What the message store's engine costs: a shard over a disk in memory that completes at once. No
//! system call, no wait; the disk's part is a copy.

use core::hint::black_box;

use bytes::Bytes;
use cepa_benches::memory_disk::MemoryDisk;
use cepa_storage::{Command, Outcome, Settings, Shard, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD_SIZE: usize = 2048;
const MAILBOX_COUNT: u64 = 1000;
/// Messages expire after so many milliseconds; one passes with every batch. So the log does not
/// grow without end, and expiry and removal are measured with the rest.
const TTL: u64 = 256;

fn shard(tail_cache_size: usize) -> Shard<MemoryDisk> {
    Shard::new(
        MemoryDisk::default(),
        Settings {
            segment_size: 16 << 20,
            waiting_count_max: 4096,
            tail_cache_size,
            ..Settings::default()
        },
    )
}

fn mailbox(number: u64) -> Mailbox {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number % MAILBOX_COUNT).to_be_bytes());
    Mailbox { prefix: 5, key }
}

fn store(number: u64, now: Timestamp, data: &Bytes) -> Command {
    let mut hash = [0; 32];
    // Spread over the tree, as real hashes are.
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    Command::Store {
        mailbox: mailbox(number),
        namespace: Namespace::INBOX,
        hash: MessageHash(hash),
        timestamp: now,
        expiry: Timestamp::from_millis(now.as_millis() + TTL),
        data: data.clone(),
    }
}

fn is_stored(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored { already: false, .. })
}

fn stores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storage/store_2KiB");
    let data = Bytes::from(vec![0x5A; PAYLOAD_SIZE]);
    for batch_size in [1, 16, 64, 256] {
        group.throughput(Throughput::Elements(batch_size));
        let id = BenchmarkId::from_parameter(batch_size);
        group.bench_with_input(id, &batch_size, |bencher, batch_size| {
            let mut shard = shard(8 << 20);
            let mut number = 0;
            let mut millis = 1_000_000;
            bencher.iter(|| {
                millis += 1;
                let now = Timestamp::from_millis(millis);
                for _ in 0..*batch_size {
                    number += 1;
                    shard.handle_command(Ticket(number), store(number, now, &data), now);
                }
                shard.handle_disk(now);
                while let Some((_, outcome)) = shard.poll_outcome() {
                    assert!(is_stored(&outcome), "{outcome:?}");
                }
            });
        });
    }
    group.finish();
}

fn retrieves(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storage/retrieve_2KiB");
    let data = Bytes::from(vec![0x5A; PAYLOAD_SIZE]);
    let now = Timestamp::from_millis(1_000_000);
    for (source, tail_cache_size) in [("tail", 64 << 20), ("disk", 0)] {
        let mut shard = shard(tail_cache_size);
        for number in 0..20 * MAILBOX_COUNT {
            shard.handle_command(Ticket(number), store(number, now, &data), now);
            if number % 64 == 0 {
                shard.handle_disk(now);
            }
        }
        shard.handle_disk(now);
        while shard.poll_outcome().is_some() {}
        for count_max in [1, 20] {
            group.throughput(Throughput::Elements(count_max));
            let id = BenchmarkId::new(source, count_max);
            group.bench_with_input(id, &count_max, |bencher, count_max| {
                let mut number = 0;
                bencher.iter(|| {
                    number += 1;
                    let command = Command::Retrieve {
                        mailbox: mailbox(number),
                        namespace: Namespace::INBOX,
                        after: None,
                        count_max: usize::try_from(*count_max).unwrap_or(usize::MAX),
                        size_max: usize::MAX,
                    };
                    shard.handle_command(Ticket(number), command, now);
                    shard.handle_disk(now);
                    black_box(shard.poll_outcome())
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cepa_benches::criterion();
    targets = stores, retrieves
}
criterion_main!(benches);
