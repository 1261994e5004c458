//! The database of a C++ server becomes the log of a node: all of it, once, whatever happens meanwhile.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cepa_crypto::swarm_space::message_hash;
use cepa_wire::{Mailbox, Namespace};
use rusqlite::{Connection, params};

use crate::kill::{Process, kept_of, rpc};
use crate::network::{account, retrieve_from};

/// Messages of the database.
const MESSAGE_COUNT: u32 = 2000;
/// Whose they are.
const OWNER_COUNT: u8 = 7;
/// The box that some of them are in, beside the inbox.
const CONFIG_BOX: i16 = 5;

/// The tables, indices, triggers and views that the C++ server makes (version 2.8).
const SCHEMA: &str = "
    CREATE TABLE owners (id INTEGER PRIMARY KEY, type INTEGER NOT NULL, pubkey BLOB NOT NULL,
        UNIQUE(pubkey, type));
    CREATE TABLE messages (id INTEGER PRIMARY KEY, hash TEXT NOT NULL,
        owner INTEGER NOT NULL REFERENCES owners(id), namespace INTEGER NOT NULL DEFAULT 0,
        timestamp INTEGER NOT NULL, expiry INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(hash));
    CREATE TABLE revoked_subaccounts (owner INTEGER REFERENCES owners(id) ON DELETE CASCADE,
        token BLOB NOT NULL,
        timestamp INTEGER NOT NULL
            DEFAULT (CAST((julianday('now') - 2440587.5)*86400000 AS INTEGER)),
        PRIMARY KEY(owner, token));
    CREATE TRIGGER revoked_autoclean AFTER INSERT ON revoked_subaccounts
        WHEN (SELECT COUNT(*) FROM revoked_subaccounts WHERE owner = NEW.owner) > 50
        BEGIN
            DELETE FROM revoked_subaccounts WHERE owner = NEW.owner AND token NOT IN (
                SELECT token FROM revoked_subaccounts WHERE owner = NEW.owner
                ORDER BY timestamp DESC LIMIT 50);
        END;
    CREATE TRIGGER owner_autoclean AFTER DELETE ON messages FOR EACH ROW
        WHEN NOT EXISTS (SELECT * FROM messages WHERE owner = old.owner)
        BEGIN DELETE FROM owners WHERE id = old.owner; END;
    CREATE INDEX messages_expiry ON messages(expiry);
    CREATE INDEX messages_owner ON messages(owner, namespace, timestamp);
    CREATE INDEX messages_hash ON messages(hash);
    CREATE VIEW owned_messages AS SELECT owners.id AS oid, type, pubkey, messages.id AS mid, hash,
        namespace, timestamp, expiry, data FROM messages JOIN owners ON messages.owner = owners.id;
";

/// The same before there were namespaces (version 2.1).
const OLD_SCHEMA: &str = "
    CREATE TABLE owners (id INTEGER PRIMARY KEY, type INTEGER NOT NULL, pubkey BLOB NOT NULL,
        UNIQUE(pubkey, type));
    CREATE TABLE messages (id INTEGER PRIMARY KEY, hash TEXT NOT NULL,
        owner INTEGER NOT NULL REFERENCES owners(id),
        timestamp INTEGER NOT NULL, expiry INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(hash));
    CREATE TABLE revoked_subkeys (owner INTEGER REFERENCES owners(id), subkey BLOB NOT NULL);
";

fn now() -> i64 {
    i64::try_from(cepa_host::clock::now().as_millis()).unwrap()
}

fn owner(number: u32) -> u8 {
    u8::try_from(number % u32::from(OWNER_COUNT)).unwrap() + 1
}

/// A database below a directory.
struct Old {
    db: Connection,
    directory: PathBuf,
}

impl Old {
    fn new(directory: &Path, schema: &str) -> Self {
        fs::create_dir_all(directory).unwrap();
        let db = Connection::open(directory.join("storage.db")).unwrap();
        // As the server does; and what is written stays in the -wal.
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
                        PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0;";
        db.execute_batch(settings).unwrap();
        db.execute_batch(schema).unwrap();
        for number in 1..=OWNER_COUNT {
            let id = account(number).id();
            let insert = "INSERT INTO owners (id, type, pubkey) VALUES (?1, ?2, ?3)";
            db.execute(insert, params![number, id.prefix, id.key])
                .unwrap();
        }
        Self {
            db,
            directory: directory.to_owned(),
        }
    }

    fn add(&self, owner: u8, namespace: i16, hash: &str, expiry: i64, data: &[u8]) {
        let insert = "INSERT INTO messages (hash, owner, namespace, timestamp, expiry, data)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![hash, owner, namespace, now() - 1000, expiry, data];
        self.db.execute(insert, values).unwrap();
    }

    /// Adds a message as it should be; gives its hash.
    fn add_good(&self, owner: u8, namespace: i16, data: &[u8]) -> String {
        let hash = hash(owner, namespace, data);
        self.add(owner, namespace, &hash, now() + 3_600_000, data);
        hash
    }

    /// A copy, as the files are when the server is killed: with a part that is not merged yet.
    fn killed(&self) -> PathBuf {
        let copy = self.directory.join("killed");
        fs::create_dir_all(&copy).unwrap();
        for name in ["storage.db", "storage.db-wal"] {
            fs::copy(self.directory.join(name), copy.join(name)).unwrap();
        }
        assert!(fs::metadata(copy.join("storage.db-wal")).unwrap().len() > 0);
        copy
    }
}

fn hash(owner: u8, namespace: i16, data: &[u8]) -> String {
    message_hash(&account(owner).id(), Namespace(namespace), data).to_text()
}

fn import(from: &Path, process: &Process, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command
        .arg("import")
        .arg(from)
        .arg("--config")
        .arg(process.dir.path().join("cepa.toml"))
        .args(more);
    command
}

fn report(output: &Output) -> BTreeMap<String, u64> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (title, count) = line.trim().rsplit_once(' ').unwrap();
        (
            title.trim().to_owned(),
            count.replace(',', "").parse().unwrap(),
        )
    };
    table.lines().map(line).collect()
}

/// Fills a database; gives the hashes that the inbox and the other box of each owner are to have.
fn fill(old: &Old) -> BTreeMap<(u8, i16), Vec<String>> {
    let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
    old.db.execute_batch("BEGIN").unwrap();
    for number in 0..MESSAGE_COUNT {
        let owner = owner(number);
        let namespace = if number % 3 == 0 { CONFIG_BOX } else { 0 };
        let data = number.to_be_bytes().repeat(100);
        match number % 100 {
            // Expired; of another payload; of an owner that is gone; larger than a message may be.
            7 => old.add(
                owner,
                namespace,
                &hash(owner, namespace, &data),
                now() - 1,
                &data,
            ),
            17 => old.add(
                owner,
                namespace,
                &hash(owner, namespace, &data),
                i64::MAX,
                &data[1..],
            ),
            27 => {
                let large = vec![u8::try_from(number / 100).unwrap(); 80_000];
                old.add(
                    owner,
                    namespace,
                    &hash(owner, namespace, &large),
                    i64::MAX,
                    &large,
                );
            }
            _ => {
                let hash = old.add_good(owner, namespace, &data);
                expected.entry((owner, namespace)).or_default().push(hash);
            }
        }
    }
    // Of a public outbox the last counts.
    for text in ["first", "second", "third"] {
        old.add_good(1, -1, text.as_bytes());
    }
    let insert = "INSERT INTO revoked_subaccounts (owner, token, timestamp) VALUES (?1, ?2, ?3)";
    for number in 0..30_u8 {
        let row = params![number % 2 + 1, [number; 36], i64::from(number)];
        old.db.execute(insert, row).unwrap();
    }
    old.db.execute_batch("COMMIT").unwrap();
    expected
}

/// Runs an import and kills it when it has got so far; whether it was still under way.
fn import_and_kill(from: &Path, process: &Process, rows: i64) -> bool {
    let mut child = import(from, process, &["--batch", "4"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = process.dir.path().join("data/import_state");
    let row = || {
        let text = fs::read_to_string(&state).ok()?;
        text.lines().next()?.parse::<i64>().ok()
    };
    while child.try_wait().unwrap().is_none() && row().is_none_or(|row| row < rows) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

#[test]
fn everything_is_imported_once_though_the_import_is_killed() {
    let mut process = Process::new();
    let old = Old::new(&process.dir.path().join("old"), SCHEMA);
    let expected = fill(&old);
    let from = old.killed();
    for rows in [200, 400, 900] {
        assert!(
            import_and_kill(&from, &process, rows),
            "it was too fast to be killed"
        );
    }
    let report_of = |more: &[&str]| report(&import(&from, &process, more).output().unwrap());
    let report = report_of(&[]);
    let count = u64::from(MESSAGE_COUNT);
    // 20 of each reason, and two outbox messages that a third replaced.
    let kept = count - 60 + 1;
    assert_eq!(report["messages in the database"], count + 3);
    assert_eq!(report["messages to be kept"], kept);
    assert_eq!(report["messages found in the log"], kept);
    assert_eq!(report["replaced in a public outbox"], 2);
    for reason in [
        "expired",
        "hash does not match",
        "larger than a message may be",
    ] {
        assert_eq!(report[reason], 20, "{reason}");
    }
    assert!(report["rows that an earlier import read"] >= 900);
    assert_eq!(report["revoked subaccounts"], 30);
    assert_eq!(report["revocations found in the log"], 30);

    let again = report_of(&[]);
    assert_eq!((again["written now"], again["already there"]), (0, kept));
    assert_eq!(again["messages found in the log"], kept);

    process.start();
    for ((owner, namespace), hashes) in &expected {
        if *namespace == 0 {
            assert_eq!(
                &kept_of(&process, *owner),
                hashes,
                "in the order of the database"
            );
            continue;
        }
        let request = retrieve_from(&account(*owner), Namespace(*namespace), None);
        let reply = rpc(process.port, &request).unwrap();
        let first = reply["messages"][0]["hash"].as_str();
        assert_eq!(first, hashes.first().map(String::as_str));
    }
    let outbox = rpc(
        process.port,
        &retrieve_from(&account(1), Namespace(-1), None),
    )
    .unwrap();
    let outbox: Vec<_> = outbox["messages"].as_array().unwrap().iter().collect();
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0]["hash"], hash(1, -1, b"third"));

    let refused = import(&from, &process, &[]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.contains("is in use: another node or an import runs there"),
        "{error}"
    );
}

#[test]
fn a_database_from_before_namespaces_is_all_inbox() {
    let process = Process::new();
    let old = Old::new(&process.dir.path().join("old"), OLD_SCHEMA);
    let insert = "INSERT INTO messages (hash, owner, timestamp, expiry, data)
                  VALUES (?1, ?2, 1, ?3, ?4)";
    for number in 0..20_u8 {
        let owner = owner(number.into());
        // Text where bytes belong: such rows are there.
        let data = format!("message {number}");
        let row = params![hash(owner, 0, data.as_bytes()), owner, i64::MAX, data];
        old.db.execute(insert, row).unwrap();
    }
    let from = old.directory.join("storage.db");
    let report = report(&import(&from, &process, &[]).output().unwrap());
    assert_eq!(report["messages found in the log"], 20);
    assert!(!report.contains_key("revoked subaccounts"));
}

#[test]
fn what_is_no_database_is_refused_with_what_to_do() {
    let process = Process::new();
    let directory = |name: &str| {
        let directory = process.dir.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    };
    let with_table = |name: &str, table: &str| {
        let directory = directory(name);
        let db = Connection::open(directory.join("storage.db")).unwrap();
        db.execute_batch(table).unwrap();
        directory
    };
    let garbage = directory("garbage");
    fs::write(
        garbage.join("storage.db"),
        "no database at all, but some text".repeat(99),
    )
    .unwrap();
    let table = [
        (directory("empty"), "give its data directory"),
        (garbage, "is no database of the C++ server"),
        (
            with_table("other", "CREATE TABLE things (id INTEGER)"),
            "it has no messages",
        ),
        (
            with_table("ancient", "CREATE TABLE Data (Hash VARCHAR(128))"),
            "expired in 2021",
        ),
    ];
    for (from, expected) in table {
        let output = import(&from, &process, &[]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(output.stdout.is_empty());
    }
    let log = process.dir.path().join("data/log_count");
    assert!(
        !log.try_exists().unwrap(),
        "nothing is made before the database is read"
    );
}

#[test]
fn a_store_that_is_full_stops_the_import_and_a_larger_one_goes_on() {
    let process = Process::new();
    let old = Old::new(&process.dir.path().join("old"), SCHEMA);
    old.db.execute_batch("BEGIN").unwrap();
    for number in 0..1000_u32 {
        let mut data = vec![0; 75_000];
        data[..4].copy_from_slice(&number.to_be_bytes());
        old.add_good(owner(number), 0, &data);
    }
    old.db.execute_batch("COMMIT").unwrap();
    let config = process.dir.path().join("cepa.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}store_capacity_mib = 64\n")).unwrap();
    let output = import(&old.directory, &process, &[]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("raise store_capacity_mib"), "{error}");

    fs::write(&config, format!("{text}store_capacity_mib = 1024\n")).unwrap();
    let report = report(&import(&old.directory, &process, &[]).output().unwrap());
    assert_eq!(report["messages found in the log"], 1000);
}

#[test]
fn every_kind_of_mailbox_is_taken() {
    let process = Process::new();
    let old = Old::new(&process.dir.path().join("old"), SCHEMA);
    // A group, and an account of the testnet.
    for (id, prefix) in [(100, 3_u8), (101, 0)] {
        let mailbox = Mailbox {
            prefix,
            key: [9; 32],
        };
        let insert = "INSERT INTO owners (id, type, pubkey) VALUES (?1, ?2, ?3)";
        old.db
            .execute(insert, params![id, prefix, mailbox.key])
            .unwrap();
        let hash = message_hash(&mailbox, Namespace(11), b"x").to_text();
        old.add(id, 11, &hash, i64::MAX, b"x");
    }
    let report = report(&import(&old.directory, &process, &[]).output().unwrap());
    assert_eq!(report["messages found in the log"], 2);
}
