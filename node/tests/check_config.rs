//! `cepa check-config`: all that is wrong at once, in words and for machines, and nothing is changed.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn cepa(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(arguments)
        .current_dir(directory)
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, standard output and standard error.
fn check(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = cepa(directory, &[&["check-config"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

const BAD: &str = "bind_ip = \"localhost\"\nhttps_port = 7\nomq_prt = 8\ndata_dir = \"file/data\"\n\
                   network_file = \"network.json\"\nshard_cpus = [0, 999]\nlog_level = \"loud\"\n";

const GOOD: &str = "bind_ip = \"127.0.0.1\"\nhttps_port = 22021\nomq_port = 22020\n\
                    data_dir = \"data\"\nnetwork_file = \"network.json\"\nshard_cpus = [0]\n";

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    fs::write(path.join("file"), "").unwrap();
    fs::write(path.join("bad.toml"), BAD).unwrap();
    fs::write(path.join("good.toml"), GOOD).unwrap();
    fs::write(path.join("testnet.toml"), format!("{GOOD}testnet = true\n")).unwrap();
    fs::write(path.join("network.json"), "{\"service_nodes\": []}").unwrap();
    directory
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let directory = directory();
    let path = directory.path();
    fs::write(path.join("network.json"), "{}").unwrap();
    let (code, told, error) = check(path, &["--config", "bad.toml"]);
    assert_eq!(code, 1, "{told}");
    let expected = [
        "bad.toml, line 1: the key `bind_ip` must be an IPv4 address",
        "bad.toml: the key `omq_port` is missing",
        "bad.toml, line 3: the key `omq_prt` is unknown: did you mean `omq_port`?",
        "bad.toml, line 7: the key `log_level` loud: it must be off",
        "network.json: service_nodes: missing",
        "is no directory",
        "shard_cpus: there is no core 999",
        "packet_cpu: there is no core 999",
    ];
    for expected in expected {
        let count = told.lines().filter(|line| line.contains(expected)).count();
        assert_eq!(count, 1, "{expected}: {told}");
    }
    assert!(
        told.lines().all(|line| line.starts_with("error: ")),
        "{told}"
    );
    assert_eq!(told.lines().count(), expected.len(), "{told}");
    assert!(error.ends_with("this config: 8 errors\n"), "{error}");
    // `cepa run` begins with the first of them.
    let run = cepa(path, &["run", "--config", "bad.toml"]);
    let refused = String::from_utf8(run.stderr).unwrap();
    let first = told.lines().next().unwrap();
    assert!(refused.starts_with(first), "{refused}");
    assert!(
        refused.contains("`cepa check-config --config bad.toml`"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(path).unwrap().count(), 5, "nothing is made");
}

#[test]
fn what_is_printed_is_read_again() {
    let directory = directory();
    let path = directory.path();
    let (code, told, error) = check(path, &["--config", "good.toml", "--print"]);
    assert_eq!((code, error.as_str()), (0, ""), "{told}");
    assert!(told.contains("omq_port = 22020 # set\n"), "{told}");
    assert!(
        told.contains("rate_limit_burst = 600 # default\n"),
        "{told}"
    );
    assert!(
        told.contains("# relaxed_durability_ms is not set\n"),
        "{told}"
    );
    fs::write(path.join("full.toml"), &told).unwrap();
    let (code, again, error) = check(path, &["--config", "full.toml", "--print"]);
    assert_eq!((code, error.as_str()), (0, ""), "{again}");
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" # ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&told), keys(&again));
    assert!(!path.join("data").is_dir(), "nothing is made");
}

#[test]
fn machines_get_an_object() {
    let directory = directory();
    let object = |arguments: &[&str]| -> (i32, serde_json::Value) {
        let (code, told, _) = check(directory.path(), arguments);
        (code, serde_json::from_str(&told).unwrap())
    };
    let (code, told) = object(&["--config", "bad.toml", "--json"]);
    assert_eq!((code, &told["ok"]), (1, &false.into()));
    let unknown = told["errors"].as_array().unwrap();
    let unknown = unknown.iter().find(|one| one["key"] == "omq_prt").unwrap();
    assert_eq!(
        (&unknown["line"], &unknown["expected"]),
        (&3.into(), &"omq_port".into())
    );
    assert!(unknown["file"].as_str().unwrap().ends_with("/bad.toml"));
    let (code, told) = object(&["--config", "good.toml", "--json", "--print"]);
    assert_eq!((code, &told["ok"]), (0, &true.into()), "{told}");
    let key = |name: &str| told["config"][name].clone();
    let expected = serde_json::json!({"value": 600, "is_set": false, "is_reloaded": true});
    assert_eq!(key("rate_limit_burst"), expected);
    assert_eq!(key("admin_listen")["value"], serde_json::Value::Null);
    assert_eq!(told["files"].as_array().unwrap().len(), 2, "{told}");
}

#[test]
fn a_remark_is_a_failure_if_one_asks_for_it() {
    let directory = directory();
    let path = directory.path();
    let (code, told, _) = check(path, &["--config", "testnet.toml"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.starts_with("remark: this node is for the testnet"),
        "{told}"
    );
    let (code, _, error) = check(path, &["--config", "testnet.toml", "--strict"]);
    assert_eq!(
        (code, error.as_str()),
        (1, "error: 1 remark is a failure by --strict\n")
    );
    assert_eq!(check(path, &["--config", "good.toml", "--strict"]).0, 0);
    assert_eq!(check(path, &["--config"]).0, 2);
    assert_eq!(check(path, &["--omq-prt", "7"]).0, 2);
}

#[test]
fn the_options_of_the_cpp_server_are_checked_as_they_are_run() {
    let directory = directory();
    let path = directory.path();
    let data = path.join("storage");
    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("storage-server.conf"),
        "omq-prt = 7\nbind-ip = x\nbogus\n",
    )
    .unwrap();
    let data = data.to_str().unwrap();
    let (code, told, _) = check(path, &["--data-dir", data, "--https-port", "0"]);
    assert_eq!(code, 1, "{told}");
    for expected in [
        "storage-server.conf, line 1: `omq-prt` is unknown: did you mean `omq-port`?",
        "storage-server.conf, line 2: `bind-ip` must be an IPv4 address",
        "storage-server.conf, line 3: `bogus` is unknown",
        "--https-port must be a port",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}
