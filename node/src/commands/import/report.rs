//! What an import did, as a table, and whether that is all.

use std::io::{self, Write as _};

use indicatif::HumanCount;

use super::check::{Checked, CheckedRevocations};
use super::write::Written;
use crate::failure::Failure;

/// What was done and found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    pub(super) written: Written,
    pub(super) checked: Checked,
    /// Revocations that were new to the log.
    pub(super) revoked: u64,
    pub(super) found_revoked: CheckedRevocations,
}

impl Report {
    /// Lines of the table, each with its number. What is none of a reason is left out.
    fn lines(&self) -> Vec<(&'static str, u64)> {
        let Self {
            written, checked, ..
        } = self;
        let skips = checked.skips;
        let reasons = [
            ("  expired", skips.expired),
            ("  hash does not match", skips.hash_mismatch),
            ("  larger than a message may be", skips.too_large),
            ("  replaced in a public outbox", skips.replaced),
            ("  unreadable", skips.unreadable),
        ];
        let mut lines = vec![("messages in the database", checked.rows)];
        lines.extend(reasons.into_iter().filter(|(_, count)| *count > 0));
        lines.push(("messages to be kept", checked.wanted));
        lines.push(("  written now", written.stored));
        let rest = [
            ("  already there", written.already),
            ("  refused: the mailbox is full", written.refused),
            ("rows that an earlier import read", written.earlier_rows),
        ];
        lines.extend(rest.into_iter().filter(|(_, count)| *count > 0));
        lines.push(("messages found in the log", checked.found));
        let revocations = self.found_revoked;
        if revocations.wanted + revocations.unreadable > 0 {
            lines.push(("revoked subaccounts", revocations.wanted));
            lines.push(("  written now", self.revoked));
            lines.push(("revocations found in the log", revocations.found));
        }
        lines
    }

    /// Prints the table.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let mut out = io::stdout();
        for (title, count) in self.lines() {
            let count = HumanCount(count).to_string();
            writeln!(out, "{title:34}{count:>14}")
                .map_err(|fault| Failure::new(format!("cannot print: {fault}")))?;
        }
        Ok(())
    }

    /// Whether all is there that should be.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let checked = self.checked;
        assert_eq!(
            checked.rows,
            checked.wanted + checked.skips.sum(),
            "every row is wanted or skipped"
        );
        let missing = checked.wanted - checked.found;
        let revoked = self.found_revoked;
        if self.written.refused > 0 {
            return Err(Failure::new(format!(
                "{missing} messages are not in the log: their mailboxes have more than a mailbox \
                 may have, or the log is full; raise store_capacity_mib and import again"
            )));
        }
        if missing > 0 || revoked.found < revoked.wanted {
            return Err(Failure::new(format!(
                "{missing} messages and {} revocations are not in the log: import again, and if \
                 that does not help keep the old database and tell us",
                revoked.wanted - revoked.found
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_failure() {
        let mut report = Report::default();
        report.checked.rows = 5;
        report.checked.skips.expired = 1;
        report.checked.wanted = 4;
        report.checked.found = 4;
        report.verdict().unwrap();
        let titles: Vec<_> = report.lines().into_iter().map(|(title, _)| title).collect();
        let expected = [
            "messages in the database",
            "  expired",
            "messages to be kept",
            "  written now",
            "messages found in the log",
        ];
        assert_eq!(titles, expected);
        report.checked.found = 3;
        let told = report.verdict().unwrap_err().to_string();
        assert!(told.starts_with("1 messages and 0 revocations"), "{told}");
        report.written.refused = 1;
        let told = report.verdict().unwrap_err().to_string();
        assert!(told.contains("store_capacity_mib"), "{told}");
    }
}
