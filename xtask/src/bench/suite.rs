//! The benchmarks, in the order in which they are run.

/// Where a benchmark's figures are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the files that criterion writes.
    Criterion,
    /// In the Markdown tables that it prints.
    Tables,
}

/// A benchmark of the package `benches`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it starts the release binary.
    pub(super) needs_release: bool,
    /// What makes it short.
    pub(super) quick: &'static [&'static str],
}

const fn criterion(name: &'static str) -> Bench {
    Bench {
        name,
        kind: Kind::Criterion,
        needs_release: false,
        quick: &[
            "--warm-up-time",
            "0.2",
            "--measurement-time",
            "0.5",
            "--sample-size",
            "10",
        ],
    }
}

const fn tables(name: &'static str, quick: &'static [&'static str]) -> Bench {
    Bench {
        name,
        kind: Kind::Tables,
        needs_release: false,
        quick,
    }
}

/// All of them: parts first, then whole requests.
pub(super) const SUITE: [Bench; 13] = [
    criterion("request"),
    criterion("signature"),
    criterion("message"),
    criterion("onion"),
    criterion("x25519"),
    criterion("packet"),
    criterion("link"),
    criterion("storage"),
    tables("hop", &[]),
    tables(
        "store",
        &[
            "--accounts",
            "2000",
            "--preload",
            "20000",
            "--stores",
            "40000",
            "--ops",
            "40000",
            "--seconds",
            "5",
            "--open-seconds",
            "2",
        ],
    ),
    tables("packet_io", &[]),
    tables("packet_lane", &[]),
    Bench {
        needs_release: true,
        ..tables("node", &["--seconds", "2"])
    },
];
