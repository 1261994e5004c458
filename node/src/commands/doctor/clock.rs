//! The clock: requests are refused by their timestamps when it is wrong.

use core::time::Duration;
use std::io;

use cepa_host::probe::{self, ClockState};

use super::finding::Finding;

/// An error of the clock that is worth a word.
const ERROR_WARN: Duration = Duration::from_secs(1);
/// A store that says to come from so far ahead is refused (`../shared/protocol/session-client.md`).
const OFFSET_FAIL_MS: i64 = 10_000;
/// Far less than what is refused, and more than a clock that is set is off.
const OFFSET_WARN_MS: i64 = 2_000;

const ADVICE: &str = "let chrony or systemd-timesyncd set the clock (timedatectl set-ntp true)";

pub(super) fn check() -> Vec<Finding> {
    vec![judge_state(probe::clock_state())]
}

fn judge_state(state: io::Result<ClockState>) -> Finding {
    const NAME: &str = "synchronised";
    match state {
        Err(fault) => Finding::warn(NAME, format!("the kernel does not tell: {fault}"), ADVICE),
        Ok(state) if !state.is_synchronised => Finding::warn(
            NAME,
            "nobody says that he sets this clock",
            format!(
                "{ADVICE}; in a container or a virtual machine the host may do it all the same"
            ),
        ),
        Ok(state) if state.error_max > ERROR_WARN => Finding::warn(
            NAME,
            format!("by up to {} ms wrong", state.error_max.as_millis()),
            ADVICE,
        ),
        Ok(state) => Finding::pass(
            NAME,
            format!("right within {} ms", state.error_max.as_millis()),
        ),
    }
}

/// What the clocks of peers are ahead of ours, in milliseconds, of those that told it.
pub(super) fn judge_offsets(mut offsets: Vec<i64>, asked_count: usize) -> Finding {
    const NAME: &str = "clock_offset";
    offsets.sort_unstable();
    let Some(median) = offsets.get(offsets.len() / 2).copied() else {
        return Finding::warn(
            NAME,
            format!("none of {asked_count} peers told its time"),
            "see that this machine reaches the network: firewall, routes",
        );
    };
    let direction = if median < 0 { "ahead of" } else { "behind" };
    let off = median.saturating_abs();
    let found = format!("{off} ms {direction} the median of {} peers", offsets.len());
    if off >= OFFSET_FAIL_MS {
        Finding::fail(NAME, found, ADVICE)
    } else if off >= OFFSET_WARN_MS {
        Finding::warn(NAME, found, ADVICE)
    } else {
        Finding::pass(NAME, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Pass, Warn};
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_warned_of() {
        let state = |is_synchronised, millis| {
            let error_max = Duration::from_millis(millis);
            judge_state(Ok(ClockState {
                is_synchronised,
                error_max,
            }))
        };
        assert_eq!(state(true, 20).verdict, Pass);
        assert_eq!(state(true, 1500).verdict, Warn);
        assert_eq!(state(false, 16_000).verdict, Warn);
        let refused = judge_state(Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.verdict, Warn);
    }

    #[test]
    fn the_median_of_the_peers_counts() {
        let table: [(&[i64], _, &str); 7] = [
            (&[], Warn, "none of 5"),
            (&[30], Pass, "30 ms behind"),
            (&[-30, -20, -25], Pass, "25 ms ahead of"),
            // One that lies moves nothing.
            (&[1, 2, 90_000], Pass, "2 ms"),
            (&[2000, 2100, 1], Warn, "2000 ms"),
            (&[-10_000, -10_001, 0], Fail, "10000 ms ahead"),
            (&[i64::MIN], Fail, "ahead"),
        ];
        for (offsets, verdict, found) in table {
            let finding = judge_offsets(offsets.to_vec(), 5);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }
}
