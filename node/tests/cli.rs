//! What the binary says when it is asked for something that can't be: one line, and exit code 1; 2
//! when the command line itself is none.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn cepa(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs what must be refused: exit code 1, nothing on standard output, one line on standard error.
fn refusal(directory: &Path, arguments: &[&str]) -> String {
    let output = cepa(directory, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.starts_with("error: "), "{arguments:?}: {error}");
    error
}

const GOOD: &str = "bind_ip = \"127.0.0.1\"\nhttps_port = 22021\nomq_port = 22020\n\
                    data_dir = \"data\"\nnetwork_file = \"network.json\"\n";

#[test]
fn a_bad_config_is_refused_by_its_key() {
    let directory = TempDir::new().unwrap();
    let table = [
        (
            GOOD.replace("22021", "\"x\""),
            "the key `https_port` must be a port",
        ),
        (
            GOOD.replace("bind_ip", "bindip"),
            "the key `bind_ip` is missing",
        ),
        (format!("{GOOD}extra = 1\n"), "the key `extra` is unknown"),
        (
            format!("{GOOD}shard_cpus = []\n"),
            "the key `shard_cpus` must be a list",
        ),
        (format!("{GOOD}="), "cepa.toml, line 6: "),
    ];
    for (config, expected) in table {
        fs::write(directory.path().join("cepa.toml"), config).unwrap();
        let error = refusal(directory.path(), &["run", "--config", "cepa.toml"]);
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("cepa.toml"), "{error}");
    }
    let error = refusal(directory.path(), &["run", "--config", "absent.toml"]);
    assert!(error.contains("absent.toml"), "{error}");
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "no data directory is made"
    );
}

/// The keys are told even when there is no network file yet: they are what one needs to write it.
#[test]
fn the_identity_is_told_before_the_network_is_read() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("cepa.toml"), GOOD).unwrap();
    let told = || {
        let output = cepa(directory.path(), &["run", "--config", "cepa.toml"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("network.json"), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = told();
    let mut keys: Vec<[&str; 2]> = Vec::new();
    for line in first.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        keys.push(words.try_into().unwrap());
    }
    let names: Vec<_> = keys.iter().map(|[name, _]| *name).collect();
    assert_eq!(names, ["pubkey_ed25519", "pubkey_x25519", "pubkey_legacy"]);
    assert!(
        keys.iter()
            .all(|[_, key]| hex::decode(key).is_ok_and(|key| key.len() == 32))
    );
    assert_eq!(told(), first, "a node keeps its identity");
}

#[test]
fn a_bad_network_file_is_refused_by_name_and_index() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("cepa.toml"), GOOD).unwrap();
    let network = "{\"service_nodes\": [{\"ip\": \"127.0.0.1\"}]}";
    fs::write(directory.path().join("network.json"), network).unwrap();
    let output = cepa(directory.path(), &["run", "--config", "cepa.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: "), "{error}");
    assert!(
        error.contains("network.json: service_nodes[0]: "),
        "{error}"
    );
}

#[test]
fn a_devnet_that_cannot_be_is_refused() {
    let directory = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let table: [(&[&str], &str); 3] = [
        (
            &["--nodes", "4", "--swarms", "5"],
            "--swarms 5 is more than --nodes 4",
        ),
        (&["--base-port", "65530"], "--base-port 65530"),
        (&["--base-port", &port], &port),
    ];
    for (arguments, expected) in table {
        let arguments = [&["devnet", "--once", "--dir", "net"], arguments].concat();
        let error = refusal(directory.path(), &arguments);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn whoever_cannot_be_watched_is_told_why() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let nobody = refusal(here, &["top", "--once", "--admin", "127.0.0.1:1"]);
    assert!(
        nobody.contains("cannot watch 127.0.0.1:1: nobody listens there"),
        "{nobody}"
    );
    let absent = refusal(here, &["top", "--config", "absent.toml"]);
    assert!(
        absent.contains("absent.toml") && absent.contains("--admin"),
        "{absent}"
    );
    fs::write(here.join("cepa.toml"), GOOD).unwrap();
    let off = refusal(here, &["top", "--config", "cepa.toml"]);
    assert!(
        off.contains("cepa.toml has no key `admin_listen`: set"),
        "{off}"
    );
    fs::write(
        here.join("cepa.toml"),
        format!("{GOOD}admin_listen = \"127.0.0.1:1\"\n"),
    )
    .unwrap();
    let nobody = refusal(here, &["top", "--config", "cepa.toml"]);
    assert!(nobody.contains("cannot watch 127.0.0.1:1"), "{nobody}");
}

#[test]
fn a_command_line_that_is_none_has_its_own_code() {
    let directory = TempDir::new().unwrap();
    let table: [&[&str]; 8] = [
        &[],
        &["top", "--admin", "nowhere"],
        &["top", "--interval", "0"],
        &["top", "--admin", "127.0.0.1:1", "--config", "cepa.toml"],
        &["fly"],
        &["run", "--fast"],
        &["run", "--config", "cepa.toml", "--omq-port", "7"],
        &["devnet", "--nodes", "3"], // no path of three hops beside the node that it leads to
    ];
    for arguments in table {
        let output = cepa(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        let output = cepa(directory.path(), &arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    let error = refusal(directory.path(), &["--log-level", "cepa=loud", "devnet"]);
    assert!(error.contains("--log-level cepa=loud"), "{error}");
}

#[test]
fn a_wrong_word_a_bad_id_and_a_silent_seed_are_each_told_in_one_line() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let made = cepa(here, &["account", "new", "--dir", "state"]);
    assert!(made.status.success());
    let shown = String::from_utf8(made.stdout).unwrap();
    let words = shown
        .lines()
        .find_map(|line| line.strip_prefix("recovery words  "))
        .unwrap();
    let id = shown
        .lines()
        .find_map(|line| line.strip_prefix("account id      "))
        .unwrap();

    let restore = |words: &str, dir: &str| {
        let mut arguments = vec!["account", "restore", "--dir", dir];
        arguments.extend(words.split(' '));
        refusal(here, &arguments)
    };
    let unknown = words.replacen(words.split(' ').next().unwrap(), "qqq", 1);
    assert!(restore(&unknown, "other").contains("word 1 is not in the word list"));
    assert!(restore("one two", "other").contains("13 words, these are 2"));
    assert!(
        restore(words, "state").contains("--force"),
        "an account is not overwritten"
    );
    assert!(
        !here.join("other").try_exists().unwrap(),
        "what is refused leaves nothing"
    );

    let send = |to: &str, seed: &str| {
        refusal(
            here,
            &["send", "--dir", "state", "--seed", seed, "--to", to, "text"],
        )
    };
    // Port 1 is nobody's: nothing listens there.
    let silent = "http://127.0.0.1:1";
    assert!(send("05abc", silent).contains("66 hex digits that begin with 05"));
    assert!(send(&id.replacen("05", "03", 1), silent).contains("66 hex digits"));
    assert!(send(id, silent).contains("cannot reach the seed http://127.0.0.1:1"));
    assert!(send(id, "ftp://x").contains("must begin with http"));
    assert!(refusal(here, &["receive", "--dir", "state"]).contains("cepa devnet"));
    let nobody = refusal(here, &["receive", "--dir", "none", "--seed", silent]);
    assert!(nobody.contains("cepa account new"), "{nobody}");
}

#[test]
fn a_doctor_tells_a_config_that_is_none_and_ends_so() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let json = |arguments: &[&str], code: i32| -> serde_json::Value {
        let output = cepa(here, &[&["doctor", "--json"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    fs::write(here.join("cepa.toml"), GOOD.replace("22021", "\"x\"")).unwrap();
    // Even where other groups are asked for.
    for only in ["config", "cpu"] {
        let told = json(&["--config", "cepa.toml", "--only", only], 1);
        assert_eq!(told["verdict"], "fail");
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
        let file = &told["checks"][0];
        assert_eq!(file["name"], "file");
        assert!(file["found"].as_str().unwrap().contains("`https_port`"));
        assert!(file["advice"].is_string());
    }
    // A testnet is remarked on: a warning, which counts where one asks for that.
    fs::write(here.join("cepa.toml"), format!("{GOOD}testnet = true\n")).unwrap();
    let arguments = ["--config", "cepa.toml", "--only", "config"];
    assert_eq!(json(&arguments, 0)["verdict"], "warn");
    assert_eq!(
        json(&[&arguments[..], &["--strict"]].concat(), 1)["verdict"],
        "warn"
    );
    assert!(!here.join("data").try_exists().unwrap(), "nothing is made");

    let shown = cepa(here, &["doctor", "--only", "cpu,config"]);
    assert_eq!(shown.status.code(), Some(0));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("x25519") && shown.contains("0 failed"),
        "{shown}"
    );
    assert_eq!(
        cepa(here, &["doctor", "--only", "all"]).status.code(),
        Some(2)
    );
}
