//! `cepa bench` against a real network: every kind is answered and measured, and nobody is aimed at who must
//! not be.
#![expect(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn cepa(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cepa"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("CEPA_NETWORK")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A devnet that ends with the test, and its end of the output: a devnet that nobody hears ends.
struct Devnet(Child, Lines<BufReader<ChildStdout>>);

impl Devnet {
    /// Waits until it has carried its messages: every node is ready.
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cepa"))
            .args(["devnet", "--nodes", "4", "--swarms", "2"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut devnet = Self(child, lines);
        let is_ready = |line: String| line.contains(" bench mixed --network ");
        let mut lines = devnet.1.by_ref().map_while(Result::ok);
        assert!(lines.any(is_ready), "it ended early");
        devnet
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Its nodes end with it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const RATE: &str = "40";
/// Of two seconds.
const COUNT: u64 = 80;

fn bench(directory: &Path, kind: &[&str], more: &[&str]) -> Output {
    let usual = [
        "--network",
        "devnet/network.json",
        "--rate",
        RATE,
        "--duration",
        "2s",
        "--warm-up",
        "1s",
        "--connections",
        "4",
        "--accounts",
        "8",
        // A machine of tests has other things to do.
        "--timeout",
        "60s",
        "--json",
        "out.json",
        "--plot",
        "out.svg",
    ];
    cepa(directory, &[&["bench"], kind, &usual, more].concat())
}

fn sum(report: &Value, field: &str) -> u64 {
    let kinds = report["kinds"].as_array().unwrap();
    kinds.iter().map(|kind| kind[field].as_u64().unwrap()).sum()
}

fn check_report(directory: &Path, kind: &[&str]) {
    let text = fs::read(directory.join("out.json")).unwrap();
    let report: Value = serde_json::from_slice(&text).unwrap();
    let all = &report["all"];
    assert_eq!(all["faults"], serde_json::json!({}), "{kind:?}");
    assert_eq!(all["answered"], COUNT, "{kind:?}");
    assert_eq!(
        (&all["failed"], &report["not_sent"]),
        (&0.into(), &0.into())
    );
    let series = report["series"].as_array().unwrap();
    let by_second = series
        .iter()
        .map(|point| point["answered"].as_u64().unwrap());
    assert_eq!(by_second.sum::<u64>(), COUNT);
    if kind == ["mixed"] {
        assert_eq!(sum(&report, "answered"), COUNT);
    }
    let [p50, p99, max] =
        ["p50", "p99", "max"].map(|name| all["latency_us"][name].as_u64().unwrap());
    assert!(0 < p50 && p50 <= p99 && p99 <= max, "{kind:?}: {all}");
    let processes = report["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4, "{kind:?}");
    assert!(
        processes
            .iter()
            .all(|it| it["rss_max_kib"].as_u64() > Some(0))
    );
    let cpu = &report["nodes_cpu"];
    assert!(cpu["total_us"].as_f64() > Some(0.0), "{kind:?}: {cpu}");
    assert!(report["generator"]["cores"].as_f64() > Some(0.0));
    assert!(report["machine"]["cores"].as_u64() > Some(0));
    assert_eq!(report["settings"]["kind"], kind[0]);
    let svg = fs::read_to_string(directory.join("out.svg")).unwrap();
    let picture = roxmltree::Document::parse(&svg).unwrap();
    assert_eq!(picture.root_element().tag_name().name(), "svg");
    let lines = picture
        .descendants()
        .filter(|node| node.has_tag_name("polyline"));
    assert!(lines.count() > 5, "{kind:?}");
}

#[test]
fn every_kind_is_answered_and_measured() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let _devnet = Devnet::start(directory);
    let kinds: [&[&str]; 9] = [
        &["info"],
        &["info", "--source", "127.0.1.0/24", "--gaps", "constant"],
        &["store", "--body-size", "4096"],
        &["retrieve"],
        &["mixed"],
        &["onion", "--hops", "1"],
        &["onion", "--hops", "2", "--inside", "retrieve"],
        &["onion", "--inside", "store"],
        &["packet", "--hops", "2"],
    ];
    for kind in kinds {
        let output = bench(directory, kind, &["--fail-on-errors"]);
        let (table, error) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert_eq!(output.status.code(), Some(0), "{kind:?}: {error}{table}");
        assert!(table.contains("| all nodes"), "{table}");
        assert!(table.contains("written: out.json"), "{table}");
        check_report(directory, kind);
    }
    only_one_node_is_asked(directory);
    expectations_that_do_not_hold_fail_after_the_report(directory);
}

/// Without a network the node itself says which accounts it keeps.
fn only_one_node_is_asked(directory: &Path) {
    let text = fs::read(directory.join("devnet/network.json")).unwrap();
    let network: Value = serde_json::from_slice(&text).unwrap();
    let port = network["service_nodes"][0]["port"].as_u64().unwrap();
    let node = format!("127.0.0.1:{port}");
    let alone = [
        "bench",
        "store",
        "--node",
        &node,
        "--rate",
        "20",
        "--duration",
        "1s",
    ];
    let few = [
        "--warm-up",
        "0",
        "--connections",
        "2",
        "--accounts",
        "4",
        "--fail-on-errors",
    ];
    let output = cepa(directory, &[&alone[..], &few].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    let output = bench(directory, &["info", "--node", &node], &[]);
    assert_eq!(output.status.code(), Some(0));
    let report = fs::read(directory.join("out.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["settings"]["targets"], serde_json::json!([node]));
}

fn expectations_that_do_not_hold_fail_after_the_report(directory: &Path) {
    fs::remove_file(directory.join("out.json")).unwrap();
    let output = bench(directory, &["info"], &["--expect-p99", "0"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("--expect-p99"), "{error}");
    assert!(directory.join("out.json").try_exists().unwrap());
}

fn refusal(directory: &Path, arguments: &[&str]) -> String {
    let output = cepa(directory, &[&["bench"], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    error
}

#[test]
fn nodes_of_others_are_not_aimed_at() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let node = |ip: &str, number: u8| {
        serde_json::json!({
            "ip": ip, "port": 1, "omq_port": 2, "swarm_id": "0",
            "pubkey_ed25519": format!("{number:064x}"),
            "pubkey_x25519": format!("{number:064x}"),
            "pubkey_legacy": format!("{number:064x}"),
        })
    };
    // One of others among many of ours is enough.
    let network = serde_json::json!({
        "service_nodes": [node("127.0.0.1", 1), node("192.0.2.1", 2)]
    });
    fs::write(here.join("network.json"), network.to_string()).unwrap();
    let config = "bind_ip = \"127.0.0.1\"\nhttps_port = 22021\nomq_port = 22020\n\
                  data_dir = \"data\"\nnetwork_file = \"network.json\"\n\
                  bench_hosts = [\"192.0.2.2\"]\n";
    fs::write(here.join("cepa.toml"), config).unwrap();
    for arguments in [
        &["info", "--node", "192.0.2.1:443"][..],
        &["info", "--node", "127.0.0.1:443", "--node", "192.0.2.1:443"],
        &["onion", "--network", "network.json"],
        &["packet", "--network", "network.json"],
        &["info", "--network", "network.json", "--node", "127.0.0.1:1"],
        &["info", "--node", "192.0.2.1:443", "--config", "cepa.toml"],
    ] {
        let error = refusal(here, arguments);
        for part in [
            "192.0.2.1 is not this machine",
            "attack",
            "bench_hosts",
            "--config",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
    let other = refusal(
        here,
        &["info", "--network", "network.json", "--node", "127.0.0.1:7"],
    );
    assert!(other.contains("has no such node"), "{other}");
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let here_node = ["--node", "127.0.0.1:1"];
    let table: [(&[&str], &str); 7] = [
        (&["info"], "cepa devnet"),
        (&["info", "--hops", "2"], "--hops"),
        (&["onion", "--hops", "4"], "--hops"),
        (&["store", "--inside", "info"], "--inside"),
        (&["packet", "--source", "127.0.1.0/24"], "--source"),
        (&["store", "--ttl", "9s"], "--ttl"),
        (&["info", "--duration", "0s"], "--duration"),
    ];
    for (arguments, expected) in table {
        let error = refusal(here, arguments);
        assert!(error.contains(expected), "{error}");
    }
    let onion = refusal(here, &[&["onion"], &here_node[..]].concat());
    assert!(onion.contains("--network"), "{onion}");
    // Port 1 is nobody's: nothing listens there.
    let nobody = refusal(here, &[&["info"], &here_node[..]].concat());
    assert!(nobody.contains("cannot open a connection"), "{nobody}");
    for arguments in [
        &["bench"][..],
        &["bench", "fly"],
        &["bench", "info", "--rate", "0"],
    ] {
        assert_eq!(
            cepa(here, arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}
