//! Whether what was measured is what was expected.

use cepa_load::report::{Outcome, Report};

use crate::failure::Failure;

/// The first expectation that did not hold.
pub(super) fn check(
    report: &Report,
    p99_ms_max: Option<u64>,
    fail_on_errors: bool,
) -> Result<(), Failure> {
    judge(&report.all, report.not_sent, p99_ms_max, fail_on_errors).map_err(Failure::new)
}

fn judge(
    all: &Outcome,
    not_sent: u64,
    p99_ms_max: Option<u64>,
    fail_on_errors: bool,
) -> Result<(), String> {
    let failed = all.failed;
    if fail_on_errors && failed + not_sent > 0 {
        return Err(format!(
            "{failed} requests failed and {not_sent} were not sent (--fail-on-errors)"
        ));
    }
    let Some(max) = p99_ms_max else {
        return Ok(());
    };
    if all.answered == 0 {
        return Err("nothing was answered (--expect-p99)".to_owned());
    }
    match p99_of_all(all, not_sent) {
        Some(micros) if micros <= max.saturating_mul(1000) => Ok(()),
        Some(micros) => Err(format!(
            "99% of all requests are answered within {}.{:03} ms; expected were {max} ms (--expect-p99)",
            micros / 1000,
            micros % 1000
        )),
        None => Err(format!(
            "fewer than 99% of all requests are answered: {failed} failed and {not_sent} were not sent; \
             expected were {max} ms (--expect-p99)"
        )),
    }
}

/// What 99% of all that was due had at most, in microseconds. What was refused or not sent has waited for ever:
/// a node that refuses most and is quick with the rest is not quick.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn p99_of_all(all: &Outcome, not_sent: u64) -> Option<u64> {
    let timeouts = all.faults.get("timeout").map_or(0, |fault| fault.count);
    let lost = all.failed.saturating_sub(timeouts) + not_sent;
    if lost == 0 {
        return Some(all.latency_us.p99);
    }
    let known = all.answered + timeouts;
    let share = 0.99 * (known + lost) as f64 / known.max(1) as f64;
    let mut shares = all.distribution_us.iter();
    shares
        .find(|(of, _)| *of >= share)
        .map(|(_, micros)| *micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(answered: u64, failed: u64, p99: u64) -> Outcome {
        let mut all = Outcome {
            answered,
            failed,
            distribution_us: vec![(0.5, p99 / 2), (0.995, p99), (1.0, 2 * p99)],
            ..Outcome::default()
        };
        all.latency_us.p99 = p99;
        all
    }

    #[test]
    fn expectations_hold_or_say_why_not() {
        let good = outcome(100, 0, 5000);
        assert_eq!(judge(&outcome(100, 3, 5000), 4, None, false), Ok(()));
        assert_eq!(judge(&good, 0, Some(5), true), Ok(()));
        for (all, not_sent, fail_on_errors, told) in [
            (outcome(100, 0, 5001), 0, false, "5.001 ms"),
            (outcome(100, 1, 1), 0, true, "1 requests failed"),
            (outcome(100, 0, 1), 1, true, "1 were not sent"),
            (outcome(0, 0, 0), 0, false, "nothing was answered"),
            (outcome(100, 0, 1), 50, false, "50 were not sent"),
            (outcome(100, 50, 1), 0, false, "50 failed"),
        ] {
            let fault = judge(&all, not_sent, Some(5), fail_on_errors).unwrap_err();
            assert!(fault.contains(told), "{fault}");
        }
    }

    #[test]
    fn what_is_refused_is_slower_than_anything() {
        // 4 of 1000 are: 99% of all are 99.4% of those that were answered.
        assert_eq!(judge(&outcome(996, 4, 5000), 0, Some(5), false), Ok(()));
        // 8 are: it takes 99.8%, and those are not within 5 ms.
        let fault = judge(&outcome(992, 8, 5000), 0, Some(5), false).unwrap_err();
        assert!(fault.contains("within 10.000 ms"), "{fault}");
        // Timeouts have a latency already.
        let mut late = outcome(992, 8, 5000);
        late.faults.entry("timeout".into()).or_default().count = 8;
        assert_eq!(judge(&late, 0, Some(5), false), Ok(()));
    }
}
