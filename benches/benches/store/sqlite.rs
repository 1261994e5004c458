//! `SQLite` as the reference uses it: its tables, indexes, trigger and pragmas
//! (session-storage-server 2.8.0, `oxenss/storage/database.cpp`); each store looks its owner and its
//! hash up and inserts, in a transaction of its own.

use std::path::Path;

use cepa_wire::{Mailbox, MessageHash, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::baseline::{Baseline, Fault};
use crate::workload::Message;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS owners (
    id INTEGER PRIMARY KEY, type INTEGER NOT NULL, pubkey BLOB NOT NULL, UNIQUE(pubkey, type)
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL, owner INTEGER NOT NULL REFERENCES owners(id),
    namespace INTEGER NOT NULL DEFAULT 0, timestamp INTEGER NOT NULL, expiry INTEGER NOT NULL,
    data BLOB NOT NULL, UNIQUE(hash)
);
CREATE TRIGGER IF NOT EXISTS owner_autoclean AFTER DELETE ON messages FOR EACH ROW
    WHEN NOT EXISTS (SELECT * FROM messages WHERE owner = old.owner)
    BEGIN DELETE FROM owners WHERE id = old.owner; END;
CREATE INDEX IF NOT EXISTS messages_expiry ON messages(expiry);
CREATE INDEX IF NOT EXISTS messages_owner ON messages(owner, namespace, timestamp);
CREATE INDEX IF NOT EXISTS messages_hash ON messages(hash);
";

const FIND_OWNER: &str = "SELECT id FROM owners WHERE pubkey = ? AND type = ?";

pub(crate) struct Sqlite {
    db: Connection,
}

fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn store_in(db: &Transaction<'_>, message: &Message) -> rusqlite::Result<()> {
    let key = params![message.mailbox.key, message.mailbox.prefix];
    let owner: Option<i64> = db
        .prepare_cached(FIND_OWNER)?
        .query_row(key, |row| row.get(0))
        .optional()?;
    let owner = match owner {
        Some(owner) => owner,
        None => db
            .prepare_cached("INSERT INTO owners (pubkey, type) VALUES (?, ?) RETURNING id")?
            .query_row(key, |row| row.get(0))?,
    };
    let hash = message.hash.to_text();
    let existing: Option<(i64, i64)> = db
        .prepare_cached("SELECT id, expiry FROM messages WHERE hash = ?")?
        .query_row(params![hash], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((id, expiry)) = existing {
        if expiry < millis(message.expiry) {
            db.prepare_cached("UPDATE messages SET expiry = ? WHERE id = ?")?
                .execute(params![millis(message.expiry), id])?;
        }
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO messages (owner, hash, namespace, timestamp, expiry, data) \
         VALUES (?, ?, 0, ?, ?, ?)",
    )?
    .execute(params![
        owner,
        hash,
        millis(message.timestamp),
        millis(message.expiry),
        &*message.data
    ])?;
    Ok(())
}

impl Baseline for Sqlite {
    const GROUP: usize = 1;

    fn open(dir: &Path, is_durable: bool) -> Result<Self, Fault> {
        let db = Connection::open(dir.join("storage.db"))?;
        db.set_prepared_statement_cache_capacity(64);
        db.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = if is_durable { "FULL" } else { "NORMAL" };
        db.pragma_update(None, "synchronous", synchronous)?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        db.execute_batch(SCHEMA)?;
        Ok(Self { db })
    }

    fn preload(&mut self, messages: &[Message]) -> Result<(), Fault> {
        let transaction = self.db.transaction()?;
        for message in messages {
            store_in(&transaction, message)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn store(&mut self, messages: &[Message]) -> Result<(), Fault> {
        self.preload(messages)
    }

    fn retrieve(
        &mut self,
        mailbox: &Mailbox,
        after: Option<&MessageHash>,
        limit: usize,
    ) -> Result<usize, Fault> {
        let owner: Option<i64> = self
            .db
            .prepare_cached(FIND_OWNER)?
            .query_row(params![mailbox.key, mailbox.prefix], |row| row.get(0))
            .optional()?;
        let Some(owner) = owner else {
            return Ok(0);
        };
        let last: Option<i64> = match after {
            Some(hash) => self
                .db
                .prepare_cached(
                    "SELECT id FROM messages WHERE owner = ? AND namespace = 0 AND hash = ?",
                )?
                .query_row(params![owner, hash.to_text()], |row| row.get(0))
                .optional()?,
            None => None,
        };
        let mut statement = self.db.prepare_cached(
            "SELECT hash, namespace, timestamp, expiry, data FROM messages \
             WHERE owner = ? AND namespace = 0 AND id > ? ORDER BY id LIMIT ?",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![owner, last.unwrap_or(0), limit + 1])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let _hash: String = row.get(0)?;
            let _expiry: i64 = row.get(3)?;
            let data: Vec<u8> = row.get(4)?;
            count += usize::from(!data.is_empty());
        }
        Ok(count)
    }

    fn delete(&mut self, mailbox: &Mailbox, hash: &MessageHash) -> Result<(), Fault> {
        let mut statement = self.db.prepare_cached(
            "DELETE FROM messages \
             WHERE owner = (SELECT id FROM owners WHERE pubkey = ? AND type = ?) AND hash = ? \
             RETURNING hash",
        )?;
        let mut rows = statement.query(params![mailbox.key, mailbox.prefix, hash.to_text()])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn expire(
        &mut self,
        mailbox: &Mailbox,
        hash: &MessageHash,
        expiry: Timestamp,
    ) -> Result<(), Fault> {
        self.db
            .prepare_cached(
                "UPDATE messages SET expiry = ? WHERE hash = ? \
                 AND owner = (SELECT id FROM owners WHERE pubkey = ? AND type = ?)",
            )?
            .execute(params![
                millis(expiry),
                hash.to_text(),
                mailbox.key,
                mailbox.prefix
            ])?;
        Ok(())
    }

    /// Every change was a transaction.
    fn end_group(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
