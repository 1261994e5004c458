//! The node processes of a devnet. None outlives it: a node stops when its standard input ends, which
//! happens even when we are killed; and what does not stop by itself is killed and reaped.

use core::time::Duration;
use std::env;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cepa_wire::ServiceNode;
use tokio::process::{Child, Command};
use tokio::time;

use super::plan::{Plan, PlannedNode};
use crate::failure::Failure;

/// From the start until every node answers.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two looks at a node that is not ready.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// An answer to a probe, so that one node that hangs does not hide that another has ended.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// From being told to stop until being killed: the message log is synced meanwhile.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a log says why a node ended.
const LOG_TAIL_SIZE: u64 = 4096;
const LOG_TAIL_LINE_COUNT: usize = 8;

pub(super) struct Fleet {
    nodes: Vec<Node>,
}

struct Node {
    index: usize,
    child: Child,
    log: PathBuf,
    is_ready: bool,
}

impl Fleet {
    /// Starts every node of the plan. Those that run are killed if a later one does not start.
    pub(super) fn start(plan: &Plan) -> Result<Self, Failure> {
        let nodes = plan.nodes.iter().enumerate();
        let nodes = nodes.map(|(index, node)| Node::start(index, node));
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
        })
    }

    /// Waits until `probe` accepts every node. `progress` hears how many are ready.
    pub(super) async fn wait_until_ready(
        &mut self,
        plan: &Plan,
        mut probe: impl AsyncFnMut(&ServiceNode) -> bool,
        progress: impl Fn(usize),
    ) -> Result<(), Failure> {
        let all_ready = async {
            loop {
                for (node, planned) in self.nodes.iter_mut().zip(&plan.nodes) {
                    node.check_alive()?;
                    let is_answering = !node.is_ready
                        && time::timeout(PROBE_TIMEOUT, probe(&planned.entry)).await == Ok(true);
                    node.is_ready |= is_answering;
                }
                let ready_count = self.nodes.iter().filter(|node| node.is_ready).count();
                progress(ready_count);
                if ready_count == self.nodes.len() {
                    return Ok(());
                }
                time::sleep(READY_INTERVAL).await;
            }
        };
        if let Ok(outcome) = time::timeout(READY_TIMEOUT, all_ready).await {
            return outcome;
        }
        let late = self.nodes.iter().find(|node| !node.is_ready);
        let seconds = READY_TIMEOUT.as_secs();
        Err(late.map_or_else(
            || Failure::new(format!("the nodes were not ready within {seconds} s")),
            |node| node.fault(&format!("was not ready within {seconds} s")),
        ))
    }

    /// Waits until a node ends, which none should.
    pub(super) async fn watch(&mut self) -> Failure {
        loop {
            for node in &mut self.nodes {
                if let Err(failure) = node.check_alive() {
                    return failure;
                }
            }
            time::sleep(READY_INTERVAL).await;
        }
    }

    /// Stops every node and reaps it. Says which did not stop as it should.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            drop(node.child.stdin.take());
        }
        let mut outcome = Ok(());
        for node in &mut self.nodes {
            let ended = match time::timeout(STOP_TIMEOUT, node.child.wait()).await {
                Ok(Ok(status)) if status.success() => continue,
                Ok(Ok(status)) => format!("ended with {status}"),
                Ok(Err(fault)) => format!("cannot be waited for: {fault}"),
                Err(_) => {
                    drop(node.child.kill().await);
                    "did not stop and was killed".to_owned()
                }
            };
            outcome = outcome.and_then(|()| Err(node.fault(&ended)));
        }
        outcome
    }
}

impl Node {
    fn start(index: usize, node: &PlannedNode) -> Result<Self, Failure> {
        let failed = |fault: io::Error| Failure::new(format!("cannot start node {index}: {fault}"));
        let log = node.log_file();
        let output = File::create(&log).map_err(failed)?;
        let child = Command::new(env::current_exe().map_err(failed)?)
            .arg("run")
            .arg("--config")
            .arg(node.config_file())
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            index,
            child,
            log,
            is_ready: false,
        })
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.fault(&format!("ended with {status}"))),
            Err(fault) => Err(self.fault(&format!("cannot be watched: {fault}"))),
        }
    }

    /// What went wrong, and the last that the node said about it.
    fn fault(&self, what: &str) -> Failure {
        let index = self.index;
        let log = self.log.display();
        match log_tail(&self.log) {
            Ok(tail) if !tail.is_empty() => {
                Failure::new(format!("node {index} {what}; its log, {log}, ends: {tail}"))
            }
            _ => Failure::new(format!("node {index} {what}; its log, {log}, says nothing")),
        }
    }
}

/// The last lines of a log, on one line.
fn log_tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_TAIL_SIZE)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_SIZE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let tail = lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_TAIL_LINE_COUNT));
    Ok(tail.copied().collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_on_one() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let tail = |text: &str| {
            std::fs::write(&log, text).unwrap();
            log_tail(&log).unwrap()
        };
        assert_eq!(tail(""), "");
        assert_eq!(tail("a\n\n  b\n"), "a | b");
        let lines: Vec<_> = (0..20).map(|line| line.to_string()).collect();
        assert_eq!(tail(&lines.join("\n")), lines[12..].join(" | "));
        assert!(tail(&"x".repeat(100_000)).len() <= 4096);
    }
}
