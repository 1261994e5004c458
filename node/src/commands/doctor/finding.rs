//! What a check found.

use serde_json::{Value, json};

/// How a check ended; the worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Not looked at; what was found says why.
    Skip,
    /// As it should be.
    Pass,
    /// The node works, and could work better or longer.
    Warn,
    /// The node does not work so.
    Fail,
}

impl Verdict {
    /// As `--json` and the lines have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at; stable, no two of one group are the same.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What is there, for a person.
    pub(super) found: String,
    /// What to do; there whenever the verdict is a warning or a failure.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn pass(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Pass, found, None)
    }

    pub(super) fn skip(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skip, why, None)
    }

    pub(super) fn warn(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Warn, found, Some(advice.into()))
    }

    pub(super) fn fail(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Fail, found, Some(advice.into()))
    }

    fn new(
        name: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        advice: Option<String>,
    ) -> Self {
        Self {
            name: name.into(),
            verdict,
            found: found.into(),
            advice,
        }
    }

    /// An entry of `checks`.
    pub(super) fn to_json(&self, group: &str) -> Value {
        json!({
            "group": group,
            "name": self.name,
            "verdict": self.verdict.name(),
            "found": self.found,
            "advice": self.advice,
        })
    }
}
