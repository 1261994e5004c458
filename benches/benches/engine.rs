//! Stores that are durable before they are answered (fdatasync on a real file system), and reads.

use core::hint::black_box;
use core::time::Duration;

use bytes::Bytes;
use cepa_benches::{FileDisk, NOW, PAYLOAD_SIZE};
use cepa_storage::{Command, Outcome, Settings, Shard, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

struct Engine {
    shard: Shard<FileDisk>,
    next: u64,
    _dir: TempDir,
}

impl Engine {
    #[expect(
        clippy::expect_used,
        reason = "without a directory there is nothing to measure"
    )]
    fn new(tail_cache_size: usize) -> Self {
        // On the file system of the build, not on a tmpfs that syncs for nothing.
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let settings = Settings {
            tail_cache_size,
            ..Settings::default()
        };
        let mut shard = Shard::new(FileDisk::new(dir.path().to_owned()), settings);
        shard.handle_disk(NOW);
        assert!(shard.is_recovered());
        Self {
            shard,
            next: 0,
            _dir: dir,
        }
    }

    fn mailbox(number: u64) -> Mailbox {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number % 1000).to_le_bytes());
        Mailbox {
            prefix: Mailbox::ACCOUNT,
            key,
        }
    }

    /// Stores `count` messages that share one commit.
    fn store(&mut self, count: u64, payload: &Bytes) {
        for _ in 0..count {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&self.next.to_le_bytes());
            let command = Command::Store {
                mailbox: Self::mailbox(self.next),
                namespace: Namespace::INBOX,
                hash: MessageHash(hash),
                timestamp: NOW,
                expiry: NOW.saturating_add(Duration::from_hours(1)),
                data: payload.clone(),
            };
            self.shard.handle_command(Ticket(self.next), command, NOW);
            self.next += 1;
        }
        let mut stored = 0;
        while stored < count {
            self.shard.handle_disk(NOW);
            while let Some((_, outcome)) = self.shard.poll_outcome() {
                assert!(matches!(outcome, Outcome::Stored { already: false, .. }));
                stored += 1;
            }
        }
    }

    fn retrieve(&mut self, mailbox: u64, count_max: usize) -> Outcome {
        let command = Command::Retrieve {
            mailbox: Self::mailbox(mailbox),
            namespace: Namespace::INBOX,
            after: None,
            count_max,
            size_max: 7_800_000,
        };
        self.shard.handle_command(Ticket(u64::MAX), command, NOW);
        loop {
            self.shard.handle_disk(NOW);
            if let Some((_, outcome)) = self.shard.poll_outcome() {
                return outcome;
            }
        }
    }
}

fn stores(criterion: &mut Criterion) {
    let payload = Bytes::from(vec![7; PAYLOAD_SIZE]);
    let mut group = criterion.benchmark_group("store 2 KiB, durable");
    for batch in [1_u64, 64] {
        let mut engine = Engine::new(0);
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("stores a commit", batch), |bencher| {
            bencher.iter(|| engine.store(batch, &payload));
        });
    }
    group.finish();
}

fn retrieves(criterion: &mut Criterion) {
    let payload = Bytes::from(vec![7; PAYLOAD_SIZE]);
    let mut group = criterion.benchmark_group("retrieve 2 KiB");
    for (name, tail_cache_size) in [
        ("from the file, cached", 0),
        ("from the tail in memory", 256 << 20),
    ] {
        let mut engine = Engine::new(tail_cache_size);
        for _ in 0..500 {
            engine.store(100, &payload);
        }
        for count in [1, 50] {
            let mut mailbox = 0;
            group.throughput(Throughput::Elements(count));
            let count_max = usize::try_from(count).unwrap_or(usize::MAX);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    mailbox += 1;
                    black_box(engine.retrieve(mailbox, count_max))
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
