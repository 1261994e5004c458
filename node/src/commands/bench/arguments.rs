//! What `cepa bench` is asked for.

use core::time::Duration;
use std::path::{Path, PathBuf};

use cepa_load::engine::LoadSettings;
use cepa_load::report::Settings;
use cepa_load::schedule::Gaps;
use cepa_load::source::Sources;
use cepa_load::workload::{Action, MIXED, Mix};

use super::aim::Aim;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cepa bench info --network devnet/network.json --rate 500
  cepa bench store --rate 200 --body-size 4096 --json store.json --plot store.svg
  cepa bench onion --hops 3 --inside retrieve --rate 50 --expect-p99 250 --fail-on-errors
  cepa bench packet --rate 20 --connections 8
  cepa bench mixed --rate 300 --duration 20m --json soak.json --plot soak.svg

Latency counts from when a request was due, not from when it was sent: what waits behind a slow answer has
waited. Signatures and onions are made ahead of that time, packets within it.

Only this machine is aimed at, and hosts that the key `bench_hosts` of --config lists.

Exit codes: 0 measured, and what was expected held; 1 refused, not reached, or an expectation did not hold
(the report is written all the same); 2 a command line that is none.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArguments {
    /// What is sent
    #[arg(value_enum)]
    pub(super) kind: Kind,
    /// The network [default: the one that `CEPA_NETWORK` names, or ./devnet/network.json; none with --node]
    #[arg(long, value_name = "FILE")]
    pub(super) network: Option<PathBuf>,
    /// Ask only this node first, or these: with --network one of its nodes, without it a node that alone is
    /// asked
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) node: Vec<String>,
    /// A cepa.toml whose `bench_hosts` lists hosts that may be aimed at beside this machine
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Requests a second
    #[arg(long, default_value_t = 100.0, value_parser = read_rate)]
    rate: f64,
    /// How far requests are apart
    #[arg(long, value_enum, default_value_t = GapsName::Constant)]
    gaps: GapsName,
    /// How long is measured, such as 30s, 20m or 2h
    #[arg(long, default_value = "10s", value_parser = read_span)]
    duration: Duration,
    /// How long is sent before, unmeasured
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = read_span)]
    warm_up: Duration,
    /// How many requests may be under way. Each keeps a connection to each node that it asks first; for
    /// packets each is a client with guards of its own
    #[arg(long, value_name = "COUNT", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) connections: u16,
    /// Nodes on the way, the one that answers with them: onions 1 to 3, packets 2 to 5 [default: 3]
    #[arg(long, value_name = "COUNT")]
    hops: Option<u8>,
    /// What onions and packets ask for where they end [default: info]
    #[arg(long, value_enum)]
    inside: Option<Inside>,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 2048,
          value_parser = clap::value_parser!(u32).range(8..=76_800))]
    body_size: u32,
    /// How long a message is kept, so that long runs neither fill the disk nor measure an empty one
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = read_span)]
    ttl: Duration,
    /// How many accounts messages are for
    #[arg(long, value_name = "COUNT", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) accounts: u16,
    /// Addresses that connections come from, one after the other, such as 127.0.1.0/24: a node limits what one
    /// address may ask. Not for packets
    #[arg(long, value_name = "RANGE")]
    pub(super) source: Option<Sources>,
    /// How long an answer is waited for once its request is sent
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = read_span)]
    pub(super) timeout: Duration,
    /// How many requests may wait for a free connection; what is due beyond is not sent, and counted
    #[arg(long, value_name = "COUNT", default_value_t = 8192,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    waiting: u32,
    /// Read CPU and memory of these processes [default: those that listen on the network's ports here]
    #[arg(long, value_name = "PID")]
    pub(super) pid: Vec<u32>,
    /// Write everything that was measured, and all settings, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Draw latency, rate, CPU and memory
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Fail unless 99% of all requests are answered within so many milliseconds: one that failed or was not
    /// sent is slower than any
    #[arg(long, value_name = "MS")]
    pub(super) expect_p99: Option<u64>,
    /// Fail if a request failed or could not be sent
    #[arg(long)]
    pub(super) fail_on_errors: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// A node says its version: the least that it can be asked
    Info,
    /// Messages are stored in their swarms
    Store,
    /// Accounts fetch one message each, signed
    Retrieve,
    /// 70% retrieve, 25% store, 3% delete, 2% expire
    Mixed,
    /// Requests in onions
    Onion,
    /// Requests over the packet lane
    Packet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Inside {
    /// As `bench info`
    Info,
    /// As `bench store`
    Store,
    /// As `bench retrieve`
    Retrieve,
    /// As `bench mixed`
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GapsName {
    /// All the same
    Constant,
    /// At random, as independent clients come
    Exponential,
}

const INFO: Mix = &[(Action::Info, 1)];
const STORE: Mix = &[(Action::Store, 1)];
const RETRIEVE: Mix = &[(Action::Retrieve, 1)];
const HOP_COUNT: u8 = 3;
/// The shortest that a node keeps a message.
const TTL_MIN: Duration = Duration::from_secs(10);
/// The longest.
const TTL_MAX: Duration = Duration::from_hours(14 * 24);
/// More than any machine sends.
const RATE_MAX: f64 = 1e6;

impl BenchArguments {
    /// What can be told without a look at the network.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let is_wrapped = matches!(self.kind, Kind::Onion | Kind::Packet);
        let hops = match self.kind {
            Kind::Onion => 1..=3,
            Kind::Packet => 2..=5,
            _ => 1..=1,
        };
        let is_too_far = self.hops.is_some_and(|count| !hops.contains(&count));
        if is_too_far || (self.hops.is_some() && !is_wrapped) {
            return Err(Failure::new(
                "--hops: onions have 1 to 3, packets 2 to 5, and nothing else has any",
            ));
        }
        if self.inside.is_some() && !is_wrapped {
            return Err(Failure::new("--inside is for onions and packets"));
        }
        if self.kind == Kind::Packet && (self.source.is_some() || !self.node.is_empty()) {
            return Err(Failure::new(
                "--source and --node are not for packets: clients choose their guards",
            ));
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return Err(Failure::new("--duration and --timeout must be above 0"));
        }
        if !(TTL_MIN..=TTL_MAX).contains(&self.ttl) {
            return Err(Failure::new("--ttl: nodes keep messages for 10s to 336h"));
        }
        Ok(())
    }

    /// The files that are written.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.json, &self.plot].into_iter().flatten();
        files.map(PathBuf::as_path)
    }

    pub(super) fn mix(&self) -> Mix {
        let inside = match self.kind {
            Kind::Info => Inside::Info,
            Kind::Store => Inside::Store,
            Kind::Retrieve => Inside::Retrieve,
            Kind::Mixed => Inside::Mixed,
            Kind::Onion | Kind::Packet => self.inside.unwrap_or(Inside::Info),
        };
        match inside {
            Inside::Info => INFO,
            Inside::Store => STORE,
            Inside::Retrieve => RETRIEVE,
            Inside::Mixed => MIXED,
        }
    }

    pub(super) fn hop_count(&self) -> u8 {
        match self.kind {
            Kind::Onion | Kind::Packet => self.hops.unwrap_or(HOP_COUNT),
            _ => 1,
        }
    }

    /// Whether the node that is asked first is the one that answers.
    pub(super) fn is_direct(&self) -> bool {
        self.kind != Kind::Packet && self.hop_count() == 1
    }

    pub(super) fn body_size(&self) -> usize {
        usize::try_from(self.body_size).unwrap_or(0)
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// As long as anything is sent, and somewhat longer.
    pub(super) fn whole_span(&self) -> Duration {
        let span = self.warm_up + self.duration + self.timeout + Duration::from_mins(2);
        span.min(TTL_MAX)
    }

    pub(super) fn load(&self) -> LoadSettings {
        LoadSettings {
            rate: self.rate,
            gaps: match self.gaps {
                GapsName::Constant => Gaps::Constant,
                GapsName::Exponential => Gaps::Exponential,
            },
            warm_up: self.warm_up,
            duration: self.duration,
            timeout: self.timeout,
            waiting_count_max: usize::try_from(self.waiting).unwrap_or(1),
        }
    }

    pub(super) fn settings(&self, aim: &Aim) -> Settings {
        let load = self.load();
        let client_work = if self.kind == Kind::Packet {
            "requests are signed ahead; packets are built and answers opened within the latency"
        } else {
            "requests, signatures and onions are made ahead; TLS is within the latency, the opening of an \
             onion's answer is not"
        };
        let inside = match self.mix() {
            [(action, _)] => action.name(),
            _ => "mixed",
        };
        let targets = aim.entries.iter();
        Settings {
            kind: format!("{:?}", self.kind).to_ascii_lowercase(),
            inside: inside.to_owned(),
            hops: self.hop_count(),
            rate: load.rate,
            gaps: format!("{:?}", self.gaps).to_ascii_lowercase(),
            duration_s: load.duration.as_secs_f64(),
            warm_up_s: load.warm_up.as_secs_f64(),
            connections: self.connections.into(),
            sources: self.source.map(|sources| sources.to_string()),
            body_size: self.body_size(),
            ttl_s: self.ttl.as_secs_f64(),
            accounts: self.accounts.into(),
            timeout_s: self.timeout.as_secs_f64(),
            waiting_count_max: load.waiting_count_max,
            targets: targets.map(|it| format!("{}:{}", it.ip, it.port)).collect(),
            network_size: aim.nodes.len(),
            client_work: client_work.to_owned(),
        }
    }
}

fn read_rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| *rate > 0.0 && *rate <= RATE_MAX)
        .ok_or_else(|| format!("it must be a number above 0, at most {RATE_MAX}"))
}

/// `500ms`, `30s`, `20m`, `2h`; a number alone is of seconds.
fn read_span(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "it must be a whole number with its unit: ms, s, m or h, such as 20m";
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    let span = number.checked_mul(millis).map(Duration::from_millis);
    span.filter(|span| *span <= Duration::from_hours(24 * 365))
        .ok_or_else(|| "that is longer than a year".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let read = |text| read_span(text).ok();
        assert_eq!(read("20m"), Some(Duration::from_mins(20)));
        assert_eq!(read("90"), Some(Duration::from_secs(90)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(read("2h"), Some(Duration::from_hours(2)));
        for text in [
            "",
            "m",
            "1.5s",
            "-1s",
            "1d",
            "5 s",
            "99999999999999999999s",
            "9000h",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_above_zero() {
        assert!(read_rate("0.5").is_ok());
        for text in ["0", "-1", "nan", "inf", "2e6", ""] {
            assert!(read_rate(text).is_err(), "{text}");
        }
    }
}
