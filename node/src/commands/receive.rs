//! `cepa receive`: read what others wrote to the account.

use core::time::Duration;
use std::io::{self, Write as _};

use cepa_client::state::State;
use cepa_client::{Client, ReceiveReport};
use cepa_crypto::Account;
use cepa_wire::Timestamp;
use tokio::time::sleep;

use super::network_arguments::{NetworkArguments, StateArguments};
use super::run::{control_runtime, stop_signal};
use super::send::waiting;
use crate::failure::Failure;

/// Between two polls: what other clients do while their window is open.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  cepa receive --network devnet/network.json --watch
  cepa receive --lane packet --cover 2 --watch      with two packets a second that mean nothing";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReceiveArguments {
    /// Go on polling until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    state: StateArguments,
}

pub(super) fn run(arguments: &ReceiveArguments) -> Result<(), Failure> {
    let state = arguments.state.open()?;
    let account = state.read_account().map_err(Failure::new)?;
    control_runtime()?.block_on(async {
        let spinner = waiting("finding the network");
        let mut client = arguments.network.connect().await?;
        spinner.set_message("polling the swarm");
        let polled = poll(&mut client, &state, &account).await;
        spinner.finish_and_clear();
        polled?;
        if !arguments.watch {
            return Ok(());
        }
        tokio::select! {
            failure = watch(&mut client, &state, &account) => Err(failure),
            stopped = stop_signal() => stopped,
        }
    })
}

async fn watch(client: &mut Client, state: &State, account: &Account) -> Failure {
    loop {
        sleep(POLL_INTERVAL).await;
        if let Err(failure) = poll(client, state, account).await {
            return failure;
        }
    }
}

/// Prints what is new, and only then moves the cursors: what was not shown comes again.
async fn poll(client: &mut Client, state: &State, account: &Account) -> Result<(), Failure> {
    let mut cursors = state.read_cursors().map_err(Failure::new)?;
    let report = client
        .receive(account, &mut cursors)
        .await
        .map_err(Failure::new)?;
    print(&report)?;
    state.write_cursors(&cursors).map_err(Failure::new)
}

fn print(report: &ReceiveReport) -> Result<(), Failure> {
    let mut output = io::stdout();
    for message in &report.messages {
        let (time, sender) = (show_time(message.sent), message.sender);
        let text = printable(&message.text);
        writeln!(output, "{time}  {sender}  {text}").map_err(Failure::new)?;
    }
    if report.unreadable_count > 0 {
        let count = report.unreadable_count;
        writeln!(
            io::stderr(),
            "{count} messages hold no text, or were not written for this account"
        )
        .map_err(Failure::new)?;
    }
    Ok(())
}

/// A stranger wrote it: nothing in it may steer the terminal, or look like a line of ours.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || is_bidi(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Characters that change the direction of what follows.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// RFC 3339 in UTC, to the second (the calendar of `days_from_civil`, H. Hinnant).
fn show_time(time: Timestamp) -> String {
    let seconds = time.as_millis() / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // Years begin in March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_795_407_500_705, "2026-11-23T04:18:20Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(show_time(Timestamp::from_millis(millis)), text);
        }
    }

    #[test]
    fn what_a_stranger_wrote_does_not_steer_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\r\nc\u{202e}d"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d"
        );
        assert_eq!(printable("Grüße 🧅"), "Grüße 🧅");
    }
}
