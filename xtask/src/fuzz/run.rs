//! Runs targets, several at a time.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

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

    /// Longer than any run of so many seeds that goes on: libFuzzer itself notices only an input that takes
    /// too long, not one that is empty, and nothing that hangs before the first or after the last.
    fn time_max(self, seed_count: usize) -> Duration {
        let inputs = u32::try_from(seed_count).unwrap_or(u32::MAX);
        let input = Duration::from_secs(INPUT_SECONDS_MAX);
        match self {
            Self::Seeds | Self::Corpus => input.saturating_mul(inputs.saturating_add(4)),
            // What earlier runs found is run before the time counts.
            Self::Time(time) | Self::Canary(time) => time.saturating_mul(2) + LOADING_TIME_MAX,
        }
    }
}

/// The inputs of earlier runs are run within this: some ten thousand of the slowest target.
const LOADING_TIME_MAX: Duration = Duration::from_mins(10);

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
            Job::Seeds => return self.replay(target, &files),
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
        let (log, has_succeeded) = self.finish(target, command, job.time_max(files.len()))?;
        Ok(Report::read(log, has_succeeded, files.len()))
    }

    /// Runs each of these inputs once. One that was not run to its end is a failure, whatever else is said.
    pub(super) fn replay(&self, target: &Target, inputs: &[PathBuf]) -> Outcome<Report> {
        if inputs.is_empty() {
            // Without a file libFuzzer would fuzz, and never end.
            return Err(Fault(format!("{}: there is no input to run", target.name)));
        }
        let mut command = self.command(target)?;
        command.args(inputs);
        let time_max = Job::Seeds.time_max(inputs.len());
        let (log, has_succeeded) = self.finish(target, command, time_max)?;
        let is_whole = executed_count(&log) == inputs.len();
        Ok(Report::read(log, has_succeeded && is_whole, inputs.len()))
    }

    /// What a run says, which is kept beside the binary, and whether it ended well within the time.
    fn finish(
        &self,
        target: &Target,
        mut command: Command,
        time_max: Duration,
    ) -> Outcome<(String, bool)> {
        let path = self.binaries.join(format!("{}.log", target.name));
        let file = fs::File::create(&path).map_err(|error| Fault::of(&path, error))?;
        command.stdout(file.try_clone()?).stderr(file);
        let has_succeeded = wait(&mut command, time_max)?;
        let log = fs::read(&path).map_err(|error| Fault::of(&path, error))?;
        let mut log = String::from_utf8_lossy(&log).into_owned();
        if has_succeeded.is_none() {
            let seconds = time_max.as_secs();
            log.push_str("\nno end after ");
            log.push_str(&seconds.to_string());
            log.push_str(" s: killed\n");
        }
        Ok((log, has_succeeded.unwrap_or_default()))
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

/// How many files were run to their end.
fn executed_count(log: &str) -> usize {
    let lines = log.lines();
    lines.filter(|line| line.starts_with("Executed ")).count()
}

/// Whether a command succeeds; `None` when it had not ended after the time, and was killed.
fn wait(command: &mut Command, time_max: Duration) -> Outcome<Option<bool>> {
    const PAUSE_MAX: Duration = Duration::from_millis(200);
    command.stdin(Stdio::null());
    let started = command.spawn();
    let mut child = started.map_err(|error| Fault::of(command.get_program(), error))?;
    let mut waited = Duration::ZERO;
    let mut pause = Duration::from_millis(1);
    while waited < time_max {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        thread::park_timeout(pause);
        waited += pause;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
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
    thread::scope(|scope| {
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

    fn target(name: &str) -> Target {
        Target {
            name: name.to_owned(),
            dictionary: String::new(),
        }
    }

    /// A target that is a script, and an input for it.
    fn scripted(name: &str, script: &str) -> (Runner, PathBuf) {
        let directory = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let binary = directory.join(name);
        fs::write(&binary, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&binary, mode).unwrap();
        let runner = Runner {
            binaries: directory.clone(),
            fuzz: directory.clone(),
        };
        (runner, directory)
    }

    #[test]
    fn what_hangs_is_killed_and_what_ends_is_heard() {
        let long = Duration::from_mins(1);
        let shell = |script: &str, time| wait(Command::new("sh").args(["-c", script]), time);
        assert_eq!(shell("exit 0", long).unwrap(), Some(true));
        assert_eq!(shell("exit 3", long).unwrap(), Some(false));
        assert_eq!(
            shell("exec sleep 1000", Duration::from_millis(50)).unwrap(),
            None
        );
        assert!(wait(&mut Command::new("/nowhere"), long).is_err());
    }

    #[test]
    fn an_input_that_was_not_run_to_its_end_is_a_failure() {
        let inputs = [PathBuf::from("a"), PathBuf::from("b")];
        for (name, script, is_well) in [
            (
                "both",
                "echo 'Executed a in 0 ms'; echo 'Executed b in 0 ms'",
                true,
            ),
            ("one", "echo 'Executed a in 0 ms'", false),
            (
                "crash",
                "echo 'Executed a'; echo 'Executed b'; exit 77",
                false,
            ),
        ] {
            let (runner, directory) = scripted(name, &format!("#!/bin/sh\n{script}\n"));
            let report = runner.replay(&target(name), &inputs).unwrap();
            assert_eq!(report.crash.is_none(), is_well, "{name}");
            assert!(runner.replay(&target(name), &[]).is_err());
            fs::remove_dir_all(directory).unwrap();
        }
    }

    #[test]
    fn all_are_run_and_stay_in_order() {
        let targets: Vec<_> = (0..20).map(|number| target(&number.to_string())).collect();
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
