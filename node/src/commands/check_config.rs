//! `cepa check-config`: reads a config as `cepa run` does and tells all that is wrong with it. Nothing is
//! made, bound or changed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cepa_control::config::KEYS;
use cepa_control::{Config, Network, NetworkSource};
use rustix::fs::Access;
use serde_json::{Value, json};

use super::run::{ConfigArguments, Problem, advice};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Reads what `cepa run` with the same options would read, and tells everything that is wrong with it, not
only the first: in which file and line, which key, and what is expected there. It also looks at what the
config names: the network file, the data directory, the cores. Nothing is made, bound or changed, so that
it may run beside a node.

An error stops the start of a node. A remark is what looks like a mistake; with --strict it counts as one.

Examples:
  cepa check-config --config /etc/cepa/cepa.toml           before a start or `systemctl reload cepa`
  cepa check-config --config cepa.toml --strict            in a script that rolls configs out
  cepa check-config --config cepa.toml --print > full.toml what a node would run with, every key
  cepa check-config --config cepa.toml --json --print      the same for machines
  cepa check-config --data-dir /var/lib/oxen/storage       what the C++ server's options mean here

Exit codes: 0 nothing is wrong, 1 the config is refused, 2 the command line is none.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckConfigArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print what a node would run with: every key, its value, and whether it is set or the default, as
    /// TOML that can be read again
    #[arg(long)]
    print: bool,
    /// Print a JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Remarks are failures too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(arguments: &CheckConfigArguments) -> Result<(), Failure> {
    let findings = Findings::of(&arguments.config);
    let text = if arguments.json {
        findings.to_json(arguments.print)
    } else {
        findings.to_text(arguments.print)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|fault| Failure::new(format!("cannot print: {fault}")))?;
    findings.verdict(arguments.strict)
}

/// All that was found.
struct Findings {
    config: Option<Config>,
    set: Vec<&'static str>,
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    remarks: Vec<String>,
}

impl Findings {
    fn of(arguments: &ConfigArguments) -> Self {
        let mut examined = arguments.examine();
        let mut remarks = examined.warnings;
        let mut files = Vec::new();
        if let Some(config) = &examined.config {
            let now = cepa_host::clock::now();
            remarks.extend(advice::remarks(config, now, advice::is_root()));
            files = arguments.files_read(config);
        }
        // What has a value is looked at, whatever else is missing.
        let around = examined.draft.as_ref().map(look_around);
        examined.problems.extend(around.into_iter().flatten());
        Self {
            config: examined.config,
            set: examined.set,
            files,
            problems: examined.problems,
            remarks,
        }
    }

    fn verdict(&self, is_strict: bool) -> Result<(), Failure> {
        let (errors, remarks) = (self.problems.len(), self.remarks.len());
        match (errors, remarks) {
            (0, 0) => Ok(()),
            (0, _) if !is_strict => Ok(()),
            (0, _) => Err(Failure::new(format!(
                "{} is a failure by --strict",
                counted(remarks, "remark")
            ))),
            (_, _) => Err(Failure::new(format!(
                "a node would not start with this config: {}",
                counted(errors, "error")
            ))),
        }
    }

    fn to_text(&self, is_printed: bool) -> String {
        // What is printed can be read again: the rest stands in comments.
        let mark = if is_printed { "# " } else { "" };
        let errors = self
            .problems
            .iter()
            .map(|problem| format!("{mark}error: {}\n", one_line(&problem.message)));
        let remarks = self
            .remarks
            .iter()
            .map(|remark| format!("{mark}remark: {}\n", one_line(remark)));
        let mut text: String = errors.chain(remarks).collect();
        if self.problems.is_empty() {
            let set = counted(self.set.len(), "key");
            let others = KEYS.len().saturating_sub(self.set.len());
            let told = format!("{mark}ok: {set} set, {others} left at their defaults\n");
            text.push_str(&told);
        }
        if let Some(config) = self.config.as_ref().filter(|_| is_printed) {
            text.push_str(&config.explain(&self.set));
        }
        text
    }

    fn to_json(&self, is_printed: bool) -> String {
        let problems: Vec<Value> = self.problems.iter().map(problem_to_json).collect();
        let files = self.files.iter().map(|file| file.display().to_string());
        let mut told = json!({
            "ok": self.problems.is_empty(),
            "errors": problems,
            "remarks": self.remarks,
            "files": files.collect::<Vec<_>>(),
        });
        if let Some(config) = self.config.as_ref().filter(|_| is_printed) {
            let table = config.to_table();
            let keys = KEYS.iter().map(|key| {
                let value = json!({
                    "value": table.get(key.name),
                    "is_set": self.set.contains(&key.name),
                    "is_reloaded": key.is_reloaded,
                });
                (key.name.to_owned(), value)
            });
            let keys: serde_json::Map<_, _> = keys.collect();
            if let Some(told) = told.as_object_mut() {
                told.insert("config".to_owned(), keys.into());
            }
        }
        format!("{told:#}\n")
    }
}

fn problem_to_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file.as_ref().map(|file| file.display().to_string()),
        "line": problem.line,
        "key": problem.key,
        "expected": problem.expected,
        "message": problem.message,
    })
}

fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

fn counted(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

/// What the things are like that the config names.
fn look_around(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let is_named = |path: &Path| !path.as_os_str().is_empty();
    if let NetworkSource::File(file) = &config.network
        && is_named(file)
        && let Err(fault) = Network::read(file)
    {
        problems.push(Problem {
            file: Some(file.clone()),
            key: Some("network_file".to_owned()),
            ..Problem::new(fault.to_string())
        });
    }
    if is_named(&config.data_dir)
        && let Err(reason) = usable_directory(&config.data_dir)
    {
        problems.push(Problem {
            key: Some("data_dir".to_owned()),
            ..Problem::new(format!("data_dir {}: {reason}", config.data_dir.display()))
        });
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Where the system does not tell, the start will.
    if let Some(cpus) = allowed_cpus(&status) {
        problems.extend(missing_cpus(config, &cpus));
    }
    problems
}

/// Whether a node could use the directory, or make it. The last part that is there decides.
fn usable_directory(directory: &Path) -> Result<(), String> {
    for part in directory.ancestors() {
        let shown = part.display();
        match fs::metadata(part) {
            Ok(found) if !found.is_dir() => return Err(format!("{shown} is no directory")),
            Ok(_) => {
                return rustix::fs::access(part, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|fault| format!("this user can't write to {shown}: {fault}"));
            }
            // A part above it says more.
            Err(fault)
                if matches!(
                    fault.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(fault) => return Err(format!("{shown} can't be looked at: {fault}")),
        }
    }
    Err("no part of the path is there".to_owned())
}

/// The cores that this process may run on, as ranges; `status` is the text of `/proc/self/status`.
fn allowed_cpus(status: &str) -> Option<Vec<(usize, usize)>> {
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    ranges.collect()
}

fn missing_cpus(config: &Config, allowed: &[(usize, usize)]) -> Vec<Problem> {
    let is_allowed = |cpu: usize| {
        let mut ranges = allowed.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&cpu))
    };
    let packet_cpu = config.packet.is_on.then_some(config.packet.cpu);
    let shards = config.shard_cpus.iter().map(|cpu| ("shard_cpus", *cpu));
    let packet = packet_cpu.into_iter().map(|cpu| ("packet_cpu", cpu));
    let missing = shards.chain(packet).filter(|(_, cpu)| !is_allowed(*cpu));
    let told = missing.map(|(key, cpu)| Problem {
        key: Some(key.to_owned()),
        ..Problem::new(format!(
            "{key}: there is no core {cpu} that this process may run on"
        ))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::num::NonZeroU16;

    use super::*;

    #[test]
    fn cores_are_those_of_the_system() {
        let table = [
            (
                "Name:\tx\nCpus_allowed_list:\t0-3,8\n",
                Some(vec![(0, 3), (8, 8)]),
            ),
            ("Cpus_allowed_list:\t5\n", Some(vec![(5, 5)])),
            ("Cpus_allowed_list:\tall\n", None),
            ("Name:\tx\n", None),
        ];
        for (status, expected) in table {
            assert_eq!(allowed_cpus(status), expected, "{status}");
        }
        let port = |port| NonZeroU16::new(port).unwrap();
        let network = NetworkSource::File(PathBuf::new());
        let ports = [port(1), port(2)];
        let mut config = Config::new(Ipv4Addr::LOCALHOST, ports, PathBuf::new(), network);
        config.shard_cpus = vec![0, 9];
        config.packet.cpu = 4;
        let missing = missing_cpus(&config, &[(0, 3), (8, 8)]);
        let keys: Vec<_> = missing
            .iter()
            .filter_map(|one| one.key.as_deref())
            .collect();
        assert_eq!(keys, ["shard_cpus", "packet_cpu"]);
        config.packet.is_on = false;
        assert_eq!(missing_cpus(&config, &[(0, 9)]), []);
    }

    #[test]
    fn a_directory_is_one_or_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(usable_directory(path), Ok(()));
        assert_eq!(usable_directory(&path.join("a/b/c")), Ok(()));
        assert!(!path.join("a").is_dir(), "nothing is made");
        fs::write(path.join("file"), "").unwrap();
        let refused = usable_directory(&path.join("file/b")).unwrap_err();
        assert!(refused.contains("file"), "{refused}");
        assert!(usable_directory(Path::new("")).is_err());
    }
}
