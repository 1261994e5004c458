//! The way in: rows into the log, a batch after the other.

use cepa_host::clock;
use cepa_host::log::AllLogs;
use cepa_storage::{Command, Outcome, StoreFault};
use indicatif::ProgressBar;

use super::judge::judge;
use super::source::Source;
use super::state::Progress;
use crate::failure::Failure;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Messages that were not there.
    pub(super) stored: u64,
    /// Messages that were.
    pub(super) already: u64,
    /// Rows that an earlier run had got through.
    pub(super) earlier_rows: u64,
    /// Messages that the log does not take: their mailbox has too many.
    pub(super) refused: u64,
}

/// Writes what is behind `progress`.
pub(super) async fn messages(
    source: &Source,
    logs: &AllLogs,
    progress: &mut Progress,
    batch_row_count: usize,
    bar: &ProgressBar,
) -> Result<Written, Failure> {
    let earlier_rows = source.message_count(0)? - source.message_count(progress.row)?;
    let mut written = Written {
        earlier_rows,
        ..Written::default()
    };
    loop {
        let rows = source.messages(progress.row, batch_row_count)?;
        let Some(last) = rows.last().map(|row| row.id) else {
            return Ok(written);
        };
        let count = rows.len() as u64;
        let now = clock::now();
        let mut stores = Vec::with_capacity(rows.len());
        for row in rows {
            if let Ok(wanted) = judge(source, row, now)? {
                stores.push(wanted.into_store());
            }
        }
        for outcome in logs.execute(stores).await {
            written.count(&outcome)?;
        }
        progress.advance(last)?;
        bar.inc(count);
    }
}

impl Written {
    fn count(&mut self, outcome: &Outcome) -> Result<(), Failure> {
        let counter = match outcome {
            Outcome::Stored { already: false, .. } => &mut self.stored,
            Outcome::Stored { already: true, .. } => &mut self.already,
            Outcome::Failed(StoreFault::MailboxFull) => &mut self.refused,
            other => return Err(failure(other)),
        };
        *counter += 1;
        Ok(())
    }
}

/// Writes which subaccounts are revoked; gives how many were not yet.
pub(super) async fn revocations(source: &Source, logs: &AllLogs) -> Result<u64, Failure> {
    let mut revoked = 0;
    for (mailbox, tokens) in source.revocations()?.of_mailboxes {
        let command = Command::Revoke { mailbox, tokens };
        for outcome in logs.execute(vec![command]).await {
            match outcome {
                Outcome::Revoked { count } => revoked += count as u64,
                other => return Err(failure(&other)),
            }
        }
    }
    Ok(revoked)
}

/// What ends an import; it goes on from there when it is started again.
pub(super) fn failure(outcome: &Outcome) -> Failure {
    let Outcome::Failed(fault) = outcome else {
        return Failure::new("the log answered something else than it was asked");
    };
    let advice = match fault {
        StoreFault::StoreFull => "raise store_capacity_mib in the config (give it by --config)",
        StoreFault::DiskFull => "make room on the disk of the data directory",
        _ => "look at the kernel's log: the disk may be dying",
    };
    Failure::new(format!(
        "the import stopped: {fault}; {advice}, and start the import again: it goes on where it was"
    ))
}
