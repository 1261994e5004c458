//! A shard over a disk in memory, as in the criterion benchmark of storage.

use bytes::Bytes;
use cepa_storage::{Command, Outcome, Settings, Shard, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use crate::memory_disk::MemoryDisk;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const MAILBOX_COUNT: u64 = 100;
/// Messages of each batch, and before the first.
const BATCH: u64 = 16;
const BEFORE: u64 = 20 * MAILBOX_COUNT;

/// A shard that holds some messages.
pub struct Store {
    shard: Shard<MemoryDisk>,
    number: u64,
    data: Bytes,
}

impl Store {
    /// With a cache of so many bytes for the end of the log; with 0, everything is read from disk.
    pub fn new(tail_cache_size: usize) -> Self {
        let settings = Settings {
            segment_size: 16 << 20,
            waiting_count_max: 4096,
            tail_cache_size,
            ..Settings::default()
        };
        let mut store = Self {
            shard: Shard::new(MemoryDisk::default(), settings),
            number: 0,
            data: Bytes::from(vec![0x5A; 2048]),
        };
        while store.number < BEFORE {
            assert!(store.append(), "it stores");
        }
        store
    }

    /// Stores a batch.
    pub fn append(&mut self) -> bool {
        for _ in 0..BATCH {
            self.number += 1;
            let command = store(self.number, &self.data);
            self.shard.handle_command(Ticket(self.number), command, NOW);
        }
        self.shard.handle_disk(NOW);
        let mut count = 0;
        while let Some((_, Outcome::Stored { already: false, .. })) = self.shard.poll_outcome() {
            count += 1;
        }
        count == BATCH
    }

    /// Retrieves the messages of a mailbox.
    pub fn retrieve(&mut self) -> bool {
        let command = Command::Retrieve {
            mailbox: mailbox(3),
            namespace: Namespace::INBOX,
            after: None,
            count_max: 20,
            size_max: usize::MAX,
        };
        self.shard.handle_command(Ticket(0), command, NOW);
        self.shard.handle_disk(NOW);
        matches!(
            self.shard.poll_outcome(),
            Some((_, Outcome::Retrieved { .. }))
        )
    }
}

fn mailbox(number: u64) -> Mailbox {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number % MAILBOX_COUNT).to_be_bytes());
    Mailbox { prefix: 5, key }
}

fn store(number: u64, data: &Bytes) -> Command {
    let mut hash = [0; 32];
    // Spread over the tree, as real hashes are.
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    Command::Store {
        mailbox: mailbox(number),
        namespace: Namespace::INBOX,
        hash: MessageHash(hash),
        timestamp: NOW,
        expiry: Timestamp::from_millis(NOW.as_millis() + 1_000_000),
        data: data.clone(),
    }
}
