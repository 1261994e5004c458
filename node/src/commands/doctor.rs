//! `cepa doctor`: whether this machine can run a node well, and whether the node that is set up here is
//! reached. Each check is a probe that gathers facts and a function that judges them; a module each group.

mod cgroup;
mod clock;
mod cpu;
mod disk;
mod finding;
mod hints;
mod interface;
mod kernel;
mod memory;
mod network;
mod ports;
mod reach;
mod report;
mod running;
mod setup;
mod xdp;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cepa_control::Config;
use cepa_host::probe;
use clap::ValueEnum;

use self::finding::{Finding, Verdict};
use self::report::Report;
use super::run::control_runtime;
use crate::failure::Failure;

/// Files of the system that are read: the largest, of routes, have some KiB.
const TEXT_SIZE_MAX: u64 = 1 << 20;
/// Segments of a log of the default size.
const SEGMENT_COUNT_DEFAULT: u64 = 160;

const EXAMPLES: &str = "\
Each line is ok, warn, FAIL, or -- for what was not looked at, with what to do below it. Limits are those
of this process: ask as the node's user, and for a unit with its limits
(`systemd-run -P --uid=cepa -p LimitNOFILE=262144 cepa doctor --config ...`).

Exit code:
  0  no check failed (there may be warnings)
  1  a check failed; with --strict also when one warned
  2  the command line is none

With --json one object is printed: {\"version\", \"verdict\", \"checks\": [{\"group\", \"name\", \"verdict\",
\"found\", \"advice\"}]}. A verdict is \"pass\", \"warn\", \"fail\" or \"skip\"; `advice` is null where there
is none. Names of groups and checks stay; texts are for people and may change.

Examples:
  cepa doctor                                          this machine
  cepa doctor --config /etc/cepa/cepa.toml             and the node that is set up here
  cepa doctor --config cepa.toml --only disk,ports
  cepa doctor --config cepa.toml --offline --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArguments {
    /// The node's config. Without it only the machine is looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Look at these groups only
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Ask no peer
    #[arg(long)]
    offline: bool,
    /// Warnings count as failures
    #[arg(long)]
    strict: bool,
}

/// What belongs together, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// The config: is it one, and does it look right
    Config,
    /// The node that runs
    Node,
    /// Kernel, io_uring, limits
    Kernel,
    /// Instructions, cores
    Cpu,
    /// Memory
    Memory,
    /// Clock
    Clock,
    /// Data directory, space, speed
    Disk,
    /// Ports, socket buffers
    Ports,
    /// AF_XDP and the interface
    Xdp,
    /// NUMA, interrupts, governor, huge pages
    Hints,
    /// Network file or oxend, our entry, peers, whether they reach us
    Network,
}

impl Group {
    const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Node => "node",
            Self::Kernel => "kernel",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Ports => "ports",
            Self::Xdp => "xdp",
            Self::Hints => "hints",
            Self::Network => "network",
        }
    }

    /// What is done meanwhile.
    const fn about(self) -> &'static str {
        match self {
            Self::Config => "reading the config",
            Self::Node => "asking the node",
            Self::Kernel => "trying io_uring",
            Self::Cpu => "looking at the processor",
            Self::Memory => "adding up memory",
            Self::Clock => "looking at the clock",
            Self::Disk => "writing to the disk",
            Self::Ports => "trying the ports",
            Self::Xdp => "looking at the interface",
            Self::Hints => "looking at cores and interrupts",
            Self::Network => "asking the network",
        }
    }
}

/// What all checks know.
struct Context<'a> {
    config: Option<&'a Config>,
    /// A process has the lock of the data directory.
    is_running: bool,
    /// No peer is asked.
    is_offline: bool,
}

impl Context<'_> {
    /// Shards of the config, or those that a config without `shard_cpus` has.
    fn shard_count(&self) -> usize {
        self.config
            .map_or_else(|| probe::allowed_cpus().len(), |one| one.shard_cpus.len())
    }

    /// Segment files that the log may have.
    fn segment_count(&self) -> u64 {
        let count = self.config.and_then(|config| {
            config
                .store_capacity_mib
                .checked_div(config.segment_size_mib)
        });
        count.unwrap_or(SEGMENT_COUNT_DEFAULT)
    }
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let is_wanted = |group: &Group| arguments.only.is_empty() || arguments.only.contains(group);
    let groups: Vec<_> = Group::value_variants()
        .iter()
        .filter(|group| is_wanted(group))
        .collect();
    let mut report = Report::new(arguments.json, groups.len());
    let (config, of_config) = setup::read(arguments.config.as_deref());
    let is_running = config
        .as_ref()
        .is_some_and(|config| probe::is_data_dir_in_use(&config.data_dir).unwrap_or(false));
    let context = Context {
        config: config.as_ref(),
        is_running,
        is_offline: arguments.offline,
    };
    // A config that is none is never passed over in silence.
    let is_broken = of_config
        .iter()
        .any(|finding| finding.verdict == Verdict::Fail);
    if is_broken && !is_wanted(&Group::Config) {
        report.add(Group::Config, of_config.clone())?;
    }
    for group in groups {
        report.begin(*group);
        let findings = match group {
            Group::Config => of_config.clone(),
            other => check(*other, &context)?,
        };
        report.add(*group, findings)?;
    }
    report.finish()?;
    outcome(&report, arguments.strict)
}

fn check(group: Group, context: &Context<'_>) -> Result<Vec<Finding>, Failure> {
    Ok(match group {
        Group::Config => Vec::new(),
        Group::Node => running::check(context),
        Group::Kernel => kernel::check(context),
        Group::Cpu => cpu::check(context),
        Group::Memory => memory::check(context),
        Group::Clock => clock::check(),
        Group::Disk => disk::check(context),
        Group::Ports => ports::check(context),
        Group::Xdp => xdp::check(context),
        Group::Hints => hints::check(context),
        Group::Network => control_runtime()?.block_on(network::check(context)),
    })
}

/// Decides the exit code.
fn outcome(report: &Report, is_strict: bool) -> Result<(), Failure> {
    let (what, names) = match report.verdict() {
        Verdict::Fail => ("failed", report.names(Verdict::Fail)),
        Verdict::Warn if is_strict => ("warned", report.names(Verdict::Warn)),
        _ => return Ok(()),
    };
    let count = names.len();
    let checks = if count == 1 { "check" } else { "checks" };
    let names = names.join(", ");
    Err(Failure::new(format!("{count} {checks} {what}: {names}")))
}

/// A file of the system, without the white space around it; none if it is not there or no text.
fn read_text(path: impl AsRef<Path>) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(TEXT_SIZE_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// A file of the system that holds a number.
fn read_number(path: &str) -> Option<u64> {
    read_text(path)?.parse().ok()
}

/// Cores as `0-2, 4`.
fn show_cpus(cpus: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => runs.push((*cpu, *cpu)),
        }
    }
    let shown = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::num::NonZeroU16;

    use cepa_control::NetworkSource;

    use super::*;

    /// What a config says that says nothing.
    pub(super) fn config() -> Config {
        let ports = [22_021, 22_020].map(|port| NonZeroU16::new(port).unwrap());
        let network = NetworkSource::File("network.json".into());
        Config::new(Ipv4Addr::UNSPECIFIED, ports, "data".into(), network)
    }

    #[test]
    fn cores_are_shown_in_runs() {
        let show = |cpus: &[usize]| show_cpus(&cpus.iter().copied().collect());
        assert_eq!(show(&[]), "");
        assert_eq!(show(&[3]), "3");
        assert_eq!(show(&[0, 1, 2, 4, 6, 7]), "0-2, 4, 6-7");
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let mut config = config();
        config.shard_cpus = vec![0, 1, 2];
        let context = |config| Context {
            config,
            is_running: false,
            is_offline: true,
        };
        assert_eq!(context(Some(&config)).shard_count(), 3);
        assert_eq!(
            context(Some(&config)).segment_count(),
            SEGMENT_COUNT_DEFAULT
        );
        assert_eq!(context(None).segment_count(), SEGMENT_COUNT_DEFAULT);
        assert!(context(None).shard_count() > 0);
    }

    #[test]
    fn names_of_groups_are_those_of_the_command_line() {
        for group in Group::value_variants() {
            let value = group.to_possible_value().unwrap();
            assert_eq!(value.get_name(), group.name());
        }
    }
}
