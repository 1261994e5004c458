//! Whether what is in the database is in the log.

use std::collections::BTreeMap;

use cepa_host::clock;
use cepa_host::log::AllLogs;
use cepa_storage::{Command, Outcome};
use cepa_wire::{Mailbox, MessageHash, Timestamp};
use indicatif::ProgressBar;

use super::judge::{Skips, judge};
use super::source::Source;
use super::write::failure;
use crate::failure::Failure;

/// What was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Rows of the database.
    pub(super) rows: u64,
    /// Those that are not to be in the log.
    pub(super) skips: Skips,
    /// Those that are to be there.
    pub(super) wanted: u64,
    /// Those of them that are.
    pub(super) found: u64,
}

/// The hashes of a mailbox that are looked for, with their expiry in the database.
type Asked = BTreeMap<Mailbox, Vec<(MessageHash, Timestamp)>>;

/// Looks for every message of the database by its hash.
pub(super) async fn messages(
    source: &Source,
    logs: &AllLogs,
    batch_row_count: usize,
    bar: &ProgressBar,
) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let mut last = 0;
    loop {
        let rows = source.messages(last, batch_row_count)?;
        let Some(row) = rows.last() else {
            return Ok(checked);
        };
        last = row.id;
        let count = rows.len() as u64;
        let now = clock::now();
        let mut asked = Asked::new();
        for row in rows {
            checked.rows += 1;
            match judge(source, row, now)? {
                Ok(wanted) => {
                    let hashes = asked.entry(wanted.mailbox).or_default();
                    hashes.push((wanted.hash, wanted.expiry));
                }
                Err(skip) => checked.skips.count(skip),
            }
        }
        checked.look(asked, logs).await?;
        bar.inc(count);
    }
}

impl Checked {
    async fn look(&mut self, asked: Asked, logs: &AllLogs) -> Result<(), Failure> {
        let commands = asked.iter().map(|(mailbox, hashes)| Command::Expiries {
            mailbox: *mailbox,
            hashes: hashes.iter().map(|(hash, _)| *hash).collect(),
        });
        let outcomes = logs.execute(commands.collect()).await;
        let now = clock::now();
        for (hashes, outcome) in asked.values().zip(outcomes) {
            let Outcome::Expiries(found) = outcome else {
                return Err(failure(&outcome));
            };
            let is_found = |hash: &MessageHash| found.iter().any(|(other, _)| other == hash);
            for (hash, expiry) in hashes {
                if is_found(hash) {
                    self.wanted += 1;
                    self.found += 1;
                } else if *expiry <= now {
                    // While it was looked for.
                    self.skips.expired += 1;
                } else {
                    self.wanted += 1;
                }
            }
        }
        Ok(())
    }
}

/// Revocations of the database, and which of them the log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CheckedRevocations {
    pub(super) wanted: u64,
    pub(super) found: u64,
    pub(super) unreadable: u64,
}

/// Looks for every revocation.
pub(super) async fn revocations(
    source: &Source,
    logs: &AllLogs,
) -> Result<CheckedRevocations, Failure> {
    let revocations = source.revocations()?;
    let mut checked = CheckedRevocations {
        unreadable: revocations.unreadable_count,
        ..CheckedRevocations::default()
    };
    for (mailbox, tokens) in revocations.of_mailboxes {
        for outcome in logs.execute(vec![Command::Revocations { mailbox }]).await {
            let Outcome::Revocations(kept) = outcome else {
                return Err(failure(&outcome));
            };
            checked.wanted += tokens.len() as u64;
            checked.found += tokens.iter().filter(|token| kept.contains(token)).count() as u64;
        }
    }
    Ok(checked)
}
