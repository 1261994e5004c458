//! Whether others test this node, sans-IO: time is since the node started.

use core::time::Duration;

/// Without a test for so long, something is wrong: that chance alone left us out so often has a
/// probability of some millionths.
const SILENCE_MAX: Duration = Duration::from_mins(2);
/// How often that is said.
const REPEAT_INTERVAL: Duration = Duration::from_mins(2);

/// How a node is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `POST /ping_test/v1`
    Https,
    /// `sn.ping`
    Omq,
    /// `snode_ping`
    Quic,
}

impl Kind {
    /// In metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Omq => "omq",
            Self::Quic => "quic",
        }
    }

    /// For the operator.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Https => "HTTPS",
            Self::Omq => "OMQ",
            Self::Quic => "QUIC",
        }
    }
}

/// What an operator should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nobody tests us.
    Silent {
        /// In which way.
        kind: Kind,
        /// For how long; `None` when nobody ever did.
        minutes: Option<u64>,
    },
    /// Somebody tests us again.
    Heard {
        /// In which way.
        kind: Kind,
    },
}

/// Watches the counters of tests that came.
#[derive(Debug, Default)]
pub struct IncomingTests {
    states: [State; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    count: u64,
    heard_at: Option<Duration>,
    /// When silence was told last, while it lasts.
    told_at: Option<Duration>,
}

impl IncomingTests {
    /// Nobody has tested us yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at how many tests of each kind there were; a kind without a count is not watched.
    pub fn poll(&mut self, now: Duration, counts: [(Kind, Option<u64>); 3]) -> Vec<Notice> {
        let states = self.states.iter_mut().zip(counts);
        let notices = states.filter_map(|(state, (kind, count))| state.poll(now, kind, count?));
        notices.collect()
    }
}

impl State {
    fn poll(&mut self, now: Duration, kind: Kind, count: u64) -> Option<Notice> {
        if count != self.count {
            self.count = count;
            self.heard_at = Some(now);
        }
        let silence = now.saturating_sub(self.heard_at.unwrap_or_default());
        if silence <= SILENCE_MAX {
            let was_silent = self.told_at.take().is_some();
            return was_silent.then_some(Notice::Heard { kind });
        }
        if self
            .told_at
            .is_some_and(|at| now.saturating_sub(at) < REPEAT_INTERVAL)
        {
            return None;
        }
        self.told_at = Some(now);
        let minutes = self.heard_at.map(|_| silence.as_secs() / 60);
        Some(Notice::Silent { kind, minutes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_and_its_end() {
        let mut incoming = IncomingTests::new();
        let mut poll = |seconds, https, omq| {
            let now = Duration::from_secs(seconds);
            let counts = [
                (Kind::Https, Some(https)),
                (Kind::Omq, Some(omq)),
                (Kind::Quic, None),
            ];
            incoming.poll(now, counts)
        };
        let silent = |kind, minutes| Notice::Silent { kind, minutes };
        assert_eq!(poll(120, 0, 0), []);
        assert_eq!(poll(130, 1, 0), [silent(Kind::Omq, None)]);
        assert_eq!(poll(200, 1, 0), []);
        assert_eq!(poll(250, 2, 0), [silent(Kind::Omq, None)]);
        assert_eq!(poll(260, 2, 1), [Notice::Heard { kind: Kind::Omq }]);
        assert_eq!(poll(380, 2, 1), [silent(Kind::Https, Some(2))]);
        let expected = [silent(Kind::Https, Some(4)), silent(Kind::Omq, Some(4))];
        assert_eq!(poll(520, 2, 1), expected);
    }
}
