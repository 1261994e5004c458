//! Whether what was measured is what was expected.

use cepa_load::report::Report;

use crate::failure::Failure;

/// The first expectation that did not hold.
pub(super) fn check(
    report: &Report,
    p99_ms_max: Option<u64>,
    fail_on_errors: bool,
) -> Result<(), Failure> {
    let (all, not_sent) = (&report.all, report.not_sent);
    judge(
        (all.answered, all.failed, not_sent),
        all.latency_us.p99,
        p99_ms_max,
        fail_on_errors,
    )
    .map_err(Failure::new)
}

fn judge(
    (answered, failed, not_sent): (u64, u64, u64),
    p99_us: u64,
    p99_ms_max: Option<u64>,
    fail_on_errors: bool,
) -> Result<(), String> {
    if fail_on_errors && failed + not_sent > 0 {
        return Err(format!(
            "{failed} requests failed and {not_sent} were not sent (--fail-on-errors)"
        ));
    }
    let Some(max) = p99_ms_max else {
        return Ok(());
    };
    if answered == 0 {
        return Err("nothing was answered (--expect-p99)".to_owned());
    }
    // What was not sent has waited for ever.
    let is_held = not_sent * 99 <= answered + failed && p99_us <= max.saturating_mul(1000);
    if is_held {
        return Ok(());
    }
    let micros = p99_us % 1000;
    Err(format!(
        "99% of latencies are within {}.{micros:03} ms and {not_sent} requests were not sent; expected were \
         {max} ms (--expect-p99)",
        p99_us / 1000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_hold_or_say_why_not() {
        assert_eq!(judge((100, 3, 4), 5000, None, false), Ok(()));
        assert_eq!(judge((100, 0, 0), 5000, Some(5), true), Ok(()));
        assert!(
            judge((100, 0, 0), 5001, Some(5), false)
                .unwrap_err()
                .contains("5.001 ms")
        );
        assert!(
            judge((100, 1, 0), 1, None, true)
                .unwrap_err()
                .contains("1 requests failed")
        );
        assert!(
            judge((100, 0, 1), 1, None, true)
                .unwrap_err()
                .contains("1 were not sent")
        );
        assert!(judge((0, 0, 0), 0, Some(5), false).is_err());
        assert!(judge((100, 0, 50), 1, Some(5), false).is_err());
    }
}
