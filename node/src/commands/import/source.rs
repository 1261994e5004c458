//! The database of the C++ server (`oxenss/storage/database.cpp`), read and never changed.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::{Mailbox, SubaccountToken};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use crate::failure::Failure;

/// The file's name in the data directory.
const FILE_NAME: &str = "storage.db";

/// Bytes of payloads of a batch.
const BATCH_SIZE_MAX: usize = 32 << 20;

/// An open database. All of it is read as it was when it was opened.
pub(super) struct Source {
    db: Connection,
    path: PathBuf,
    /// Databases before 2.2.0 have one box a mailbox.
    has_namespace: bool,
    /// Those before 2.6.0 revoke nothing.
    has_revocations: bool,
}

/// A row of the table of messages, as it is there. Columns of another type than they should have are
/// `None`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MessageRow {
    pub(super) id: i64,
    pub(super) mailbox: Option<Mailbox>,
    pub(super) namespace: Option<i64>,
    pub(super) hash: Option<String>,
    pub(super) timestamp: Option<i64>,
    pub(super) expiry: Option<i64>,
    /// Not read when it is larger than any message may be.
    pub(super) data: Payload,
}

/// The payload of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    TooLarge,
    /// No bytes stand there.
    None,
}

impl Source {
    /// Opens the database in a directory, or the file itself.
    pub(super) fn open(from: &Path) -> Result<Self, Failure> {
        let path = if from.is_dir() {
            from.join(FILE_NAME)
        } else {
            from.to_owned()
        };
        let path = fs::canonicalize(&path).map_err(|fault| {
            let path = path.display();
            Failure::new(format!(
                "there is no database of the C++ server at {path}: {fault}; give its data \
                 directory, the one with {FILE_NAME}"
            ))
        })?;
        let db = connect(&path)?;
        let mut source = Self {
            db,
            path,
            has_namespace: false,
            has_revocations: false,
        };
        source.look()?;
        Ok(source)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Holds the database as it is, and looks which version of it this is.
    fn look(&mut self) -> Result<(), Failure> {
        self.ask(|db| db.execute_batch("BEGIN"))?;
        let has_table = |name: &str| {
            let select = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
            let found = self.ask(|db| db.query_row(select, [name], |_| Ok(())).optional())?;
            Ok::<_, Failure>(found.is_some())
        };
        let path = self.path.display();
        if !has_table("messages")? || !has_table("owners")? {
            return Err(Failure::new(if has_table("Data")? {
                format!(
                    "{path} was written by a version before 2.1.0: whatever is in it expired in \
                     2021; start the node without it"
                )
            } else {
                format!("{path} is no database of the C++ server: it has no messages")
            }));
        }
        let select = "SELECT 1 FROM pragma_table_info('messages') WHERE name = 'namespace'";
        let column = self.ask(|db| db.query_row(select, [], |_| Ok(())).optional())?;
        let has_revocations = has_table("revoked_subaccounts")?;
        self.has_namespace = column.is_some();
        self.has_revocations = has_revocations;
        Ok(())
    }

    /// What tells this database from another, and from itself when it was written to.
    pub(super) fn identity(&self) -> Result<String, Failure> {
        let select = "SELECT count(*), coalesce(max(id), 0) FROM messages";
        let (count, last): (i64, i64) =
            self.ask(|db| db.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))))?;
        let inode = fs::metadata(&self.path).map_or(0, |file| file.ino());
        let path = hex::encode(self.path.as_os_str().as_bytes());
        Ok(format!("{path} {inode} {count} {last}"))
    }

    /// How many messages there are behind a row.
    pub(super) fn message_count(&self, row: i64) -> Result<u64, Failure> {
        let select = "SELECT count(*) FROM messages WHERE id > ?1";
        let count: i64 = self.ask(|db| db.query_row(select, [row], |row| row.get(0)))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The messages behind a row, in the order of their arrival: so many, or less when they are large.
    pub(super) fn messages(&self, row: i64, count_max: usize) -> Result<Vec<MessageRow>, Failure> {
        let namespace = if self.has_namespace {
            "m.namespace"
        } else {
            "0"
        };
        let select = format!(
            "SELECT m.id, o.type, o.pubkey, {namespace}, m.hash, m.timestamp, m.expiry, m.data \
             FROM messages m LEFT JOIN owners o ON o.id = m.owner \
             WHERE m.id > ?1 ORDER BY m.id LIMIT ?2"
        );
        self.ask(|db| {
            let mut statement = db.prepare_cached(&select)?;
            let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![row, limit])?;
            let (mut messages, mut size) = (Vec::new(), 0);
            while size < BATCH_SIZE_MAX
                && let Some(row) = rows.next()?
            {
                let message = MessageRow::read(row)?;
                if let Payload::Bytes(bytes) = &message.data {
                    size += bytes.len();
                }
                messages.push(message);
            }
            Ok(messages)
        })
    }

    /// Whether a message of the same box came after a row.
    pub(super) fn has_later(&self, row: i64) -> Result<bool, Failure> {
        if !self.has_namespace {
            return Ok(false);
        }
        let select = "SELECT 1 FROM messages m JOIN messages later \
                      ON later.owner = m.owner AND later.namespace = m.namespace \
                      WHERE m.id = ?1 AND later.id > m.id LIMIT 1";
        let found = self.ask(|db| {
            let mut statement = db.prepare_cached(select)?;
            statement.query_row([row], |_| Ok(())).optional()
        })?;
        Ok(found.is_some())
    }

    /// The subaccounts that are revoked, each mailbox with its own in the order of their revocation;
    /// and how many of the table are none. There are at most 50 a mailbox.
    pub(super) fn revocations(&self) -> Result<Revocations, Failure> {
        let mut revocations = Revocations::default();
        if !self.has_revocations {
            return Ok(revocations);
        }
        let select = "SELECT o.type, o.pubkey, r.token FROM revoked_subaccounts r \
                      LEFT JOIN owners o ON o.id = r.owner ORDER BY r.owner, r.timestamp";
        self.ask(|db| {
            let mut statement = db.prepare(select)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let mailbox = mailbox(row.get_ref(0)?, row.get_ref(1)?);
                let token = bytes(row.get_ref(2)?).and_then(SubaccountToken::from_slice);
                revocations.add(mailbox.zip(token));
            }
            Ok(())
        })?;
        Ok(revocations)
    }

    /// Asks the database; the error says what to do.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        question(&self.db).map_err(|fault| unreadable(&self.path, &fault))
    }
}

/// What [`Source::revocations`] finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revocations {
    pub(super) of_mailboxes: Vec<(Mailbox, Vec<SubaccountToken>)>,
    pub(super) unreadable_count: u64,
}

impl Revocations {
    fn add(&mut self, revocation: Option<(Mailbox, SubaccountToken)>) {
        let Some((mailbox, token)) = revocation else {
            self.unreadable_count += 1;
            return;
        };
        match self.of_mailboxes.last_mut() {
            Some((last, tokens)) if *last == mailbox => tokens.push(token),
            _ => self.of_mailboxes.push((mailbox, vec![token])),
        }
    }
}

impl MessageRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let data = match bytes(row.get_ref(7)?) {
            None => Payload::None,
            Some(bytes) if bytes.len() > MESSAGE_SIZE_MAX => Payload::TooLarge,
            Some(bytes) => Payload::Bytes(bytes.to_vec()),
        };
        let hash = bytes(row.get_ref(4)?).and_then(|hash| core::str::from_utf8(hash).ok());
        Ok(Self {
            id: row.get(0)?,
            mailbox: mailbox(row.get_ref(1)?, row.get_ref(2)?),
            namespace: integer(row.get_ref(3)?),
            hash: hash.map(ToOwned::to_owned),
            timestamp: integer(row.get_ref(5)?),
            expiry: integer(row.get_ref(6)?),
            data,
        })
    }
}

fn mailbox(prefix: ValueRef<'_>, key: ValueRef<'_>) -> Option<Mailbox> {
    Some(Mailbox {
        prefix: u8::try_from(integer(prefix)?).ok()?,
        key: bytes(key)?.try_into().ok()?,
    })
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

/// SQLite keeps what it was given: some versions gave text where bytes belong.
fn bytes(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

/// Opens it for reading. What the old server had written and not merged yet stands in `storage.db-wal`;
/// SQLite reads that as well, but needs a file beside it, `storage.db-shm`. Where that can't be made
/// and there is nothing to be merged, the database is opened as one that nobody writes to.
fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |name: &str, flags| -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(name, flags)?;
        db.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(db)
    };
    let name = path.to_str().ok_or_else(|| {
        let path = path.display();
        Failure::new(format!("{path} must be readable text (UTF-8): rename it"))
    })?;
    let fault = match open(name, flags) {
        Ok(db) => return Ok(db),
        Err(fault) => fault,
    };
    let has_wal = fs::metadata(format!("{name}-wal")).is_ok_and(|wal| wal.len() > 0);
    let is_refused = matches!(
        fault.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    );
    if !is_refused {
        return Err(unreadable(path, &fault));
    }
    if has_wal {
        return Err(Failure::new(format!(
            "{name} has a part that is not merged yet (-wal), and SQLite can't make its files \
             beside it ({fault}): copy storage.db and storage.db-wal to a directory of yours and \
             import that"
        )));
    }
    let uri = format!("file:{}?immutable=1", escaped(name));
    open(&uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(|fault| unreadable(path, &fault))
}

/// A path within a URI.
fn escaped(path: &str) -> String {
    let escape = |letter: char| match letter {
        '%' => "%25".to_owned(),
        '?' => "%3f".to_owned(),
        '#' => "%23".to_owned(),
        letter => letter.to_string(),
    };
    path.chars().map(escape).collect()
}

fn unreadable(path: &Path, fault: &rusqlite::Error) -> Failure {
    let path = path.display();
    Failure::new(match fault.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            format!("{path} is in use ({fault}): stop the C++ server first")
        }
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => format!(
            "{path} is damaged ({fault}): `sqlite3 storage.db .recover | sqlite3 new/storage.db` \
             saves what can be read; import that"
        ),
        Some(rusqlite::ErrorCode::NotADatabase) => {
            format!("{path} is no database of the C++ server ({fault})")
        }
        _ => format!("cannot read {path}: {fault}"),
    })
}
