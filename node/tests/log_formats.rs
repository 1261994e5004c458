//! How the log looks: as JSON, on a stream of systemd's journal, and by the journal's own socket.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use core::time::Duration;
use std::fs::{self, File};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A config that a remark is made of, and whose network file is not there: a node says the one, and ends
/// with the other.
const CONFIG: &str = "bind_ip = \"127.0.0.1\"\nhttps_port = 22021\nomq_port = 22020\ndata_dir = \"data\"\n\
                      network_file = \"network.json\"\ntestnet = true\n";
const REMARK: &str = "this node is for the testnet: leave testnet out for the real one";

fn directory(more: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(
        directory.path().join("cepa.toml"),
        format!("{CONFIG}{more}"),
    )
    .unwrap();
    directory
}

fn run(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command
        .args(["run", "--config", "cepa.toml"])
        .args(arguments)
        .current_dir(directory)
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[test]
fn a_stream_of_the_journal_gets_priorities_and_no_time() {
    let directory = directory("");
    let path = directory.path().join("log");
    let log = File::create(&path).unwrap();
    let of_log = log.metadata().unwrap();
    let stream = format!("{}:{}", of_log.st_dev(), of_log.st_ino());
    let mut command = run(directory.path(), &[]);
    command.env("JOURNAL_STREAM", stream).stderr(log);
    assert_eq!(command.status().unwrap().code(), Some(1));
    let log = fs::read_to_string(path).unwrap();
    let [remark, .., last] = log.lines().collect::<Vec<_>>()[..] else {
        panic!("{log}");
    };
    assert!(
        remark.starts_with("<4> WARN cepa") && remark.ends_with(REMARK),
        "{log}"
    );
    assert!(
        last.starts_with("<3>error: ") && last.contains("network.json"),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_format_is_that_of_the_config_unless_the_command_line_says_otherwise() {
    let directory = directory("log_format = \"json\"\nlog_level = \"warn\"\n");
    let log = |arguments: &[&str]| {
        let output = run(directory.path(), arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let json = log(&[]);
    for line in json.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["timestamp", "level", "target", "message"] {
            assert!(value[key].is_string(), "{key}: {line}");
        }
    }
    assert!(
        json.contains(REMARK) && json.contains("network.json"),
        "{json}"
    );
    let text = log(&["--log-format", "text"]);
    assert!(
        text.contains(REMARK) && text.contains("\nerror: "),
        "{text}"
    );
    let silent = log(&["--log-format", "json", "--log-level", "off"]);
    assert!(
        silent.starts_with("error: ") && silent.lines().count() == 1,
        "{silent}"
    );
}

/// In namespaces of its own, where the journal's socket is the test's: elsewhere it is only tested that
/// a journal that is not there is told in one line.
#[test]
fn the_journal_gets_fields() {
    const SCRIPT: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                          mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
    let directory = directory("");
    let journal = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(journal.path().join("socket")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let within = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(journal.path())
            .args(program)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    if !within(&["true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        let refused = run(directory.path(), &["--log-format", "journald"]).output();
        let refused = String::from_utf8(refused.unwrap().stderr).unwrap();
        assert!(refused.lines().count() <= 1, "{refused}");
        return;
    }
    let program = [
        env!("CARGO_BIN_EXE_cepa"),
        "--log-format",
        "journald",
        "run",
        "--config",
        "cepa.toml",
    ];
    let output = within(&program).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("error: ") && error.contains("network.json"),
        "{error}"
    );
    let mut buffer = [0; 4096];
    // The first datagram is empty: it asks whether somebody listens.
    let entry = loop {
        let size = socket.recv(&mut buffer).unwrap();
        let entry = String::from_utf8_lossy(&buffer[..size]).into_owned();
        if entry.contains(REMARK) {
            break entry;
        }
    };
    for expected in [
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=cepa",
        "TARGET=cepa::commands::run",
    ] {
        let is_there = entry.lines().any(|line| line == expected);
        // Values with a length before them stand on a line of their own.
        let value = expected.split_once('=').unwrap().1;
        assert!(is_there || entry.contains(value), "{expected}: {entry}");
    }
}
