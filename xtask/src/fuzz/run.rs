//! Runs targets, several at a time.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::libfuzzer::{Crash, Report};
use super::targets::Target;
use crate::fault::{Fault, Outcome};
use crate::machine;

/// What is done with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Each seed is run once.
    Seeds,
    /// All seeds are run for what they cover.
    Corpus,
    /// It is fuzzed for so long.
    Time(Duration),
    /// It is fuzzed until it crashes, for so long at most.
    Canary(Duration),
}

impl Job {
    /// For the bar.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Corpus => "coverage",
            Self::Time(_) | Self::Canary(_) => "fuzzing",
        }
    }
}

/// An input that takes longer than so many seconds is a fault. The slowest takes a tenth of one.
const INPUT_SECONDS_MAX: u64 = 25;
/// An input that takes more memory than so many MiB is a fault.
const MEMORY_MAX: u64 = 2048;

/// Where everything lies.
pub(super) struct Runner {
    binaries: PathBuf,
    fuzz: PathBuf,
}

impl Runner {
    /// With the binaries that were built into a directory.
    pub(super) fn new(binaries: PathBuf) -> Outcome<Self> {
        let fuzz = machine::root().join("fuzz");
        let seeds = fuzz.join("seeds");
        if !seeds.is_dir() {
            return Err(Fault::of(&seeds, "not there"));
        }
        Ok(Self { binaries, fuzz })
    }

    /// Does a job with one target.
    pub(super) fn run(&self, target: &Target, job: Job) -> Outcome<Report> {
        let seeds = self.fuzz.join("seeds").join(&target.name);
        let files = files(&seeds);
        let mut command = self.command(target)?;
        match job {
            Job::Seeds => {
                // A file given as an argument is run once.
                command.args(&files);
            }
            Job::Corpus => {
                command.arg("-runs=0").arg(&seeds);
            }
            Job::Time(time) => {
                let corpus = self.fuzz.join("corpus").join(&target.name);
                make(&corpus)?;
                self.add_time(&mut command, target, time);
                command.arg(&corpus).arg(&seeds);
            }
            Job::Canary(time) => self.add_time(&mut command, target, time),
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Fault::of(command.get_program(), error))?;
        let mut log = output.stderr;
        log.extend_from_slice(&output.stdout);
        let log = String::from_utf8_lossy(&log).into_owned();
        self.keep_log(target, &log)?;
        Ok(Report::read(log, output.status.success(), files.len()))
    }

    fn command(&self, target: &Target) -> Outcome<Command> {
        let artifacts = self.fuzz.join("artifacts").join(&target.name);
        make(&artifacts)?;
        let mut command = Command::new(self.binaries.join(&target.name));
        command
            // Where libFuzzer looks for nothing and leaves nothing.
            .current_dir(&self.fuzz)
            .env("RUST_BACKTRACE", "1")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MAX}"));
        Ok(command)
    }

    fn add_time(&self, command: &mut Command, target: &Target, time: Duration) {
        let dictionary = self.dictionary(target);
        command
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg("-print_final_stats=1")
            .arg(format!("-dict={}", dictionary.display()));
    }

    fn dictionary(&self, target: &Target) -> PathBuf {
        let file = format!("{}.dict", target.dictionary);
        self.fuzz.join("dictionaries").join(file)
    }

    fn keep_log(&self, target: &Target, log: &str) -> Outcome<()> {
        let path = self.binaries.join(format!("{}.log", target.name));
        let mut file = fs::File::create(&path).map_err(|error| Fault::of(&path, error))?;
        Ok(file.write_all(log.as_bytes())?)
    }

    /// What whoever mends it needs to know.
    pub(super) fn crash_text(&self, target: &Target, crash: &Crash, report: &Report) -> String {
        let binary = self.binaries.join(&target.name);
        let how = match crash {
            Crash::Input(path) => format!(
                "input: {}\nto see it again: {} {}",
                path.display(),
                binary.display(),
                path.display()
            ),
            Crash::Unknown => format!("it kept no input; it is {}", binary.display()),
        };
        format!("\n{}\n{how}\n", report.end())
    }
}

fn make(directory: &Path) -> Outcome<()> {
    fs::create_dir_all(directory).map_err(|error| Fault::of(directory, error))
}

/// The files of a directory, by name; none, if there is no such directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Does something with every target, with so many at a time; what came of them is in their order.
pub(super) fn run_all(
    targets: &[Target],
    jobs: usize,
    work: impl Fn(&Target) -> Outcome<Report> + Sync,
) -> Outcome<Vec<Report>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(target) = targets.get(index) else {
                        return;
                    };
                    let outcome = work(target);
                    if let Ok(mut done) = done.lock() {
                        done.push((index, outcome));
                    }
                }
            });
        }
    });
    let poisoned = || Fault("a run of a fuzz target ended badly".to_owned());
    let mut done = done.into_inner().map_err(|_| poisoned())?;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_run_and_stay_in_order() {
        let targets: Vec<_> = (0..20)
            .map(|number| Target {
                name: format!("{number}"),
                dictionary: String::new(),
            })
            .collect();
        let reports = run_all(&targets, 3, |target| {
            let log = target.name.clone();
            Ok(Report::read(log, true, 0))
        });
        let logs: Vec<_> = reports
            .unwrap()
            .into_iter()
            .map(|report| report.log)
            .collect();
        let names: Vec<_> = targets.into_iter().map(|target| target.name).collect();
        assert_eq!(logs, names);
    }
}
