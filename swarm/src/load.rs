//! Whether an executor has more to do than it can: then strangers wait at the door, so that those who
//! are being served go on being served.
//!
//! Two signs: how late a task runs that wanted to run at a certain moment (everything else that waits
//! runs as late), and how many requests are under way.

use core::time::Duration;

/// How much of a sample counts: one in eight, so that about eight samples agree before it says so.
const SMOOTHING: u32 = 8;
/// One sample counts at most as so many times the limit: one long stop alone, such as a machine that
/// slept, is no overload.
const SAMPLE_FACTOR_MAX: u32 = 4;

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLimit {
    /// A task that runs so late, on average, runs on an executor that can't keep up. None: it is never
    /// overloaded.
    pub lag_max: Option<Duration>,
    /// Requests under way that are too many.
    pub running_count_max: usize,
}

/// The load of one executor. Overload begins at a limit and ends at half of it, so that it does not
/// flicker.
#[derive(Debug)]
pub struct Load {
    limit: LoadLimit,
    lag: Duration,
    is_overloaded: bool,
}

impl Load {
    /// Nothing to do yet.
    pub const fn new(limit: LoadLimit) -> Self {
        Self {
            limit,
            lag: Duration::ZERO,
            is_overloaded: false,
        }
    }

    /// A task ran `late` after its time, while `running_count` requests were under way.
    pub fn handle_sample(&mut self, late: Duration, running_count: usize) {
        let Some(lag_max) = self.limit.lag_max else {
            return;
        };
        let late = late.min(lag_max * SAMPLE_FACTOR_MAX);
        self.lag = (self.lag * (SMOOTHING - 1) + late) / SMOOTHING;
        let lag_max = if self.is_overloaded {
            lag_max / 2
        } else {
            lag_max
        };
        let count_max = self.limit.running_count_max;
        let count_max = if self.is_overloaded {
            count_max / 2
        } else {
            count_max
        };
        self.is_overloaded = self.lag >= lag_max || running_count >= count_max;
    }

    /// Whether strangers are to wait.
    pub const fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// Whether a request is taken: those of peers always, those of others unless there is too much to
    /// do and this is the first on its connection.
    pub const fn admits(&self, is_peer: bool, was_served: bool) -> bool {
        is_peer || was_served || !self.is_overloaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: LoadLimit = LoadLimit {
        lag_max: Some(Duration::from_millis(200)),
        running_count_max: 100,
    };

    fn samples(load: &mut Load, late: u64, running_count: usize, count: usize) {
        for _ in 0..count {
            load.handle_sample(Duration::from_millis(late), running_count);
        }
    }

    #[test]
    fn an_executor_that_is_late_for_long_is_overloaded_until_it_is_not() {
        let mut load = Load::new(LIMIT);
        samples(&mut load, 150, 0, 1000);
        assert!(!load.is_overloaded(), "late, but not too late");
        samples(&mut load, 300, 0, 50);
        assert!(load.is_overloaded());
        samples(&mut load, 110, 0, 1000);
        assert!(load.is_overloaded(), "it ends at half of the limit");
        samples(&mut load, 90, 0, 1000);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn one_long_stop_is_no_overload() {
        let mut load = Load::new(LIMIT);
        samples(&mut load, 3_600_000, 0, 1);
        assert!(!load.is_overloaded());
        samples(&mut load, 3_600_000, 0, 3);
        assert!(load.is_overloaded(), "but one after the other is");
    }

    #[test]
    fn many_requests_are_overload_at_once() {
        let mut load = Load::new(LIMIT);
        samples(&mut load, 0, 99, 100);
        assert!(!load.is_overloaded());
        samples(&mut load, 0, 100, 1);
        assert!(load.is_overloaded());
        samples(&mut load, 0, 50, 1);
        assert!(load.is_overloaded());
        samples(&mut load, 0, 49, 1);
        assert!(!load.is_overloaded());
    }

    #[test]
    fn peers_and_who_was_served_go_on() {
        let mut load = Load::new(LIMIT);
        assert!(load.admits(false, false));
        samples(&mut load, 0, 100, 1);
        assert!(!load.admits(false, false));
        assert!(load.admits(true, false));
        assert!(load.admits(false, true));
        let mut never = Load::new(LoadLimit {
            lag_max: None,
            ..LIMIT
        });
        samples(&mut never, 1_000_000, 1000, 100);
        assert!(!never.is_overloaded());
    }
}
