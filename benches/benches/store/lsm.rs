//! fjall, a log-structured merge tree in Rust: messages by owner and number, hashes, and expiries, in
//! a keyspace each. Up to 64 operations share a sync, so that it gets its best.

use std::path::Path;

use cepa_wire::{Mailbox, MessageHash, Timestamp};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use crate::baseline::{Baseline, Fault};
use crate::workload::Message;

/// Owner 33, namespace 2, number 8.
type Key = [u8; 43];

pub(crate) struct Fjall {
    db: Database,
    messages: Keyspace,
    hashes: Keyspace,
    expiries: Keyspace,
    next: u64,
    is_durable: bool,
}

fn key(mailbox: &Mailbox, number: u64) -> Key {
    let mut key = [0; 43];
    key[..33].copy_from_slice(&mailbox.to_bytes());
    key[35..].copy_from_slice(&number.to_be_bytes());
    key
}

impl Fjall {
    fn persist_mode(&self) -> PersistMode {
        if self.is_durable {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        }
    }

    fn add(&mut self, batch: &mut OwnedWriteBatch, message: &Message) -> Result<(), Fault> {
        if self.hashes.get(message.hash.0)?.is_some() {
            return Ok(());
        }
        self.next += 1;
        let key = key(&message.mailbox, self.next);
        let expiry = message.expiry.as_millis().to_be_bytes();
        let times = [message.timestamp.as_millis().to_be_bytes(), expiry];
        let value = [&message.hash.0, times.as_flattened(), &message.data].concat();
        batch.insert(&self.messages, key, value);
        batch.insert(&self.hashes, message.hash.0, key);
        batch.insert(&self.expiries, [&expiry[..], &key].concat(), []);
        Ok(())
    }

    fn find(&self, hash: &MessageHash) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.hashes.get(hash.0)?.map(|key| key.to_vec()))
    }
}

impl Baseline for Fjall {
    const GROUP: usize = 64;

    fn open(dir: &Path, is_durable: bool) -> Result<Self, Fault> {
        let db = Database::builder(dir).open()?;
        let messages = db.keyspace("messages", KeyspaceCreateOptions::default)?;
        let hashes = db.keyspace("hashes", KeyspaceCreateOptions::default)?;
        let expiries = db.keyspace("expiries", KeyspaceCreateOptions::default)?;
        let next = u64::try_from(hashes.approximate_len()).unwrap_or(0) * 2;
        Ok(Self {
            db,
            messages,
            hashes,
            expiries,
            next,
            is_durable,
        })
    }

    fn preload(&mut self, messages: &[Message]) -> Result<(), Fault> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for message in messages {
            self.add(&mut batch, message)?;
        }
        batch.commit()?;
        Ok(())
    }

    fn store(&mut self, messages: &[Message]) -> Result<(), Fault> {
        let mut batch = self.db.batch().durability(Some(self.persist_mode()));
        for message in messages {
            self.add(&mut batch, message)?;
        }
        batch.commit()?;
        Ok(())
    }

    fn retrieve(
        &mut self,
        mailbox: &Mailbox,
        after: Option<&MessageHash>,
        limit: usize,
    ) -> Result<usize, Fault> {
        let first = key(mailbox, 0).to_vec();
        let last = key(mailbox, u64::MAX).to_vec();
        let mut begin = match after {
            Some(hash) => self.find(hash)?.unwrap_or(first),
            None => first,
        };
        // Behind it.
        begin.push(0);
        let mut count = 0;
        for message in self.messages.range(begin..=last).take(limit + 1) {
            let value = message.value()?;
            count += usize::from(!value.is_empty());
        }
        Ok(count)
    }

    fn delete(&mut self, _: &Mailbox, hash: &MessageHash) -> Result<(), Fault> {
        if let Some(key) = self.find(hash)? {
            let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
            batch.remove(&self.messages, key);
            batch.remove(&self.hashes, hash.0);
            batch.commit()?;
        }
        Ok(())
    }

    fn expire(&mut self, _: &Mailbox, hash: &MessageHash, expiry: Timestamp) -> Result<(), Fault> {
        let Some(key) = self.find(hash)? else {
            return Ok(());
        };
        if let Some(value) = self.messages.get(&key)? {
            let mut value = value.to_vec();
            let expiry = expiry.as_millis().to_be_bytes();
            if let Some(place) = value.get_mut(40..48) {
                place.copy_from_slice(&expiry);
            }
            let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
            batch.insert(&self.expiries, [&expiry[..], &key].concat(), []);
            batch.insert(&self.messages, key, value);
            batch.commit()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), Fault> {
        self.db.persist(self.persist_mode())?;
        Ok(())
    }
}
