//! What `config/` says of the metrics is so: dashboard and alerts name what is declared, and what real nodes tell
//! is what is documented, with no label that could name anybody.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_lab::{Chain, Listen, Oxend};
use cepa_wire::ServiceNode;

/// The labels that there are; a new one is looked at by whoever adds it here.
const LABELS: [&str; 9] = [
    "via",
    "from",
    "work",
    "reason",
    "namespace",
    "shard",
    "tile",
    "kind",
    "version",
];

/// What `config/metrics.md` says of a metric.
struct Documented {
    kind: String,
    label: Option<String>,
    values: Vec<String>,
    help: String,
}

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(config(name)).unwrap()
}

/// The tables of `config/metrics.md`, which a test of the binary holds to the declarations.
fn documented() -> BTreeMap<String, Documented> {
    let text = read("metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.trim_end_matches(" |").splitn(4, " | ").collect();
        let [name, kind, label, help] = cells.as_slice() else {
            panic!("{row}")
        };
        let (label, values) = label.split_once(": ").unwrap_or((label, ""));
        let label = label.trim_matches('`');
        let values = values.split(", ").filter(|value| !value.is_empty());
        let documented = Documented {
            kind: (*kind).to_owned(),
            label: (!label.is_empty()).then(|| label.to_owned()),
            values: values.map(str::to_owned).collect(),
            help: (*help).to_owned(),
        };
        (name.trim_end_matches('`').to_owned(), documented)
    });
    let documented: BTreeMap<_, _> = rows.collect();
    assert!(documented.len() > 150, "{} rows", documented.len());
    documented
}

/// Whether a name in the text is one of these metrics.
fn find<'a>(documented: &'a BTreeMap<String, Documented>, name: &str) -> Option<&'a Documented> {
    let of_histogram = |suffix| {
        let found = documented.get(name.strip_suffix(suffix)?)?;
        (found.kind == "histogram").then_some(found)
    };
    let found = documented.get(name).filter(|it| it.kind != "histogram");
    let mut suffixes = ["_bucket", "_sum", "_count"].into_iter();
    found.or_else(|| suffixes.find_map(of_histogram))
}

/// The words of a text that begin as our metrics do.
fn names(text: &str) -> BTreeSet<&str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_word(letter))
        .filter(|word| word.starts_with("cepa_"))
        .collect()
}

#[test]
fn what_dashboard_and_alerts_name_is_declared() {
    let documented = documented();
    for file in [
        "prometheus/alerts.yml",
        "prometheus/alerts_test.yml",
        "grafana/cepa.json",
    ] {
        let text = read(file);
        let named = names(&text);
        assert!(named.len() > 15, "{file} names {}", named.len());
        for name in named {
            // A histogram as a whole is named in sentences.
            let is_known = find(&documented, name).is_some() || documented.contains_key(name);
            assert!(is_known, "{file}: there is no {name}");
        }
    }
    let shown = read("grafana/cepa.json");
    let dashboard: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
}

#[test]
fn every_alert_says_what_to_do() {
    let text = read("prometheus/alerts.yml");
    let alerts: Vec<_> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 30);
    for alert in alerts {
        for part in ["expr:", "severity: ", "summary:", "description:"] {
            assert!(alert.contains(part), "no {part} in {alert}");
        }
    }
}

#[test]
fn labels_are_those_that_were_looked_at() {
    let used = documented();
    let used: BTreeSet<_> = used.values().filter_map(|it| it.label.clone()).collect();
    let allowed: BTreeSet<_> = LABELS.iter().map(|&label| label.to_owned()).collect();
    assert_eq!(used, allowed);
}

/// A devnet that holds, in a directory.
struct Devnet {
    process: Child,
    /// It says more, and would end if nobody could read it.
    _output: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
}

impl Devnet {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_cepa"))
            .args(["devnet", "--nodes", "4", "--swarms", "1"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        // It ends by itself when something does not hold.
        let lines = output.by_ref().lines();
        let held = lines.map_while(Result::ok).any(|line| {
            let command = line.strip_prefix("  ").unwrap_or_default();
            !command.starts_with(' ') && command.contains(" send ")
        });
        assert!(held, "the devnet ended early");
        Self {
            process,
            _output: output,
            directory,
        }
    }

    /// The config of each node, and what it tells.
    fn scrapes(&self) -> Vec<String> {
        let nodes = fs::read_dir(self.directory.path().join("devnet")).unwrap();
        let configs = nodes.map(|node| node.unwrap().path().join("cepa.toml"));
        configs
            .filter_map(|config| {
                let config: toml::Table = fs::read_to_string(config).ok()?.parse().unwrap();
                Some(scrape(config["admin_listen"].as_str().unwrap()))
            })
            .collect()
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Its nodes end with it.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

/// Whether a label may have this value: one that was declared, or a number, a tile, a version.
fn is_allowed(documented: &Documented, label: &str, value: &str) -> bool {
    let is_number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        (1..=5).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    match label {
        "namespace" => is_number(value),
        "shard" => value == "0",
        "tile" => ["control", "other", "quic", "shard-0", "packet-0"].contains(&value),
        "version" => value == env!("CARGO_PKG_VERSION"),
        "kind" => ["https", "omq", "quic"].contains(&value),
        _ => documented.values.iter().any(|known| known == value),
    }
}

/// Looks at every byte of a scrape: what is documented, a number, or a label's value that is allowed.
fn check_line(documented: &BTreeMap<String, Documented>, line: &str) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    assert!(value.parse::<f64>().is_ok(), "{line}");
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let found = find(documented, name).unwrap_or_else(|| panic!("{name} is not documented"));
    let mut has_label = false;
    let labels = labels.trim_end_matches('}').split(',');
    for pair in labels.filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').unwrap();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        let value = value.unwrap_or_else(|| panic!("{line}"));
        if label == "le" && name.ends_with("_bucket") {
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            continue;
        }
        assert_eq!(Some(label), found.label.as_deref(), "{line}");
        assert!(is_allowed(found, label, value), "{line}");
        has_label = true;
    }
    assert_eq!(has_label, found.label.is_some(), "{line}");
}

fn check_comment(documented: &BTreeMap<String, Documented>, comment: &str) {
    let mut words = comment.splitn(3, ' ');
    let [what, name, rest] = [words.next(), words.next(), words.next()].map(Option::unwrap);
    let found = &documented[name];
    match what {
        "HELP" => assert_eq!(rest, found.help),
        "TYPE" => assert_eq!(rest, found.kind),
        _ => panic!("{comment}"),
    }
}

fn check(documented: &BTreeMap<String, Documented>, text: &str) {
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => check_comment(documented, comment),
            None => check_line(documented, line),
        }
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A node with a chain daemon; it ends with this.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn how_a_node_stands_with_its_chain_daemon_is_documented_too() {
    let documented = documented();
    let directory = tempfile::tempdir().unwrap();
    let [port, omq_port, admin_port] = core::array::from_fn(|_| free_port());
    let keys = NodeKeys::from_seed([5; 32]);
    let chain = Chain::new();
    chain.add(ServiceNode {
        ip: Ipv4Addr::LOCALHOST,
        port,
        omq_port,
        pubkey_ed25519: keys.ed25519_public(),
        pubkey_x25519: keys.x25519_public(),
        pubkey_legacy: keys.legacy_public(),
        swarm_id: 7,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    });
    let listen = Listen::Ipc(directory.path().join("oxend.sock"));
    let oxend = Oxend::start(&chain, SecretKeys::from_seed([5; 32]), listen).unwrap();
    let config = directory.path().join("cepa.toml");
    let text = format!(
        "bind_ip = \"127.0.0.1\"\nhttps_port = {port}\nomq_port = {omq_port}\n\
         data_dir = \"data\"\noxend_rpc = \"{}\"\nshard_cpus = [0]\nsegment_size_mib = 4\n\
         testnet = true\nadmin_listen = \"127.0.0.1:{admin_port}\"\n",
        oxend.address()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cepa"));
    command.args(["run", "--config"]).arg(config);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _node = Node(command.spawn().unwrap());
    let address = format!("127.0.0.1:{admin_port}");
    let expected = [
        "cepa_ready 1",
        "cepa_node_active 1",
        "cepa_oxend_connected 1",
        "cepa_oxend_pings_accepted_total 1",
        "cepa_peers_failing 0",
        "cepa_swarm_members 1",
    ];
    let holds = |text: &str| {
        expected
            .iter()
            .all(|line| text.lines().any(|it| it == *line))
    };
    let told = (0..600).find_map(|_| {
        thread::park_timeout(Duration::from_millis(50));
        let is_there = TcpStream::connect(&address).is_ok();
        let text = is_there.then(|| scrape(&address))?;
        (holds(&text) && text.contains("peer_test_silent_seconds{kind=")).then_some(text)
    });
    let told = told.unwrap_or_else(|| panic!("{}", scrape(&address)));
    check(&documented, &told);
    assert!(told.contains("\ncepa_decommission_in_seconds "));
    assert!(!told.contains(&hex::encode(keys.legacy_public())));
}

#[test]
fn what_nodes_tell_is_documented_and_names_nobody() {
    let documented = documented();
    let devnet = Devnet::start();
    let scrapes = devnet.scrapes();
    assert_eq!(scrapes.len(), 4);
    for text in &scrapes {
        check(&documented, text);
    }
    // What happened on the way to holding is there, at one of them at least.
    let total = |begin: &str| -> f64 {
        let lines = scrapes.iter().flat_map(|text| text.lines());
        let values = lines.filter_map(|line| line.strip_prefix(begin)?.trim().parse::<f64>().ok());
        values.sum()
    };
    for begin in [
        "cepa_request_seconds_count{via=\"onion\"}",
        "cepa_request_seconds_count{via=\"packet\"}",
        "cepa_request_seconds_count{via=\"member\"}",
        "cepa_onion_seconds_count{from=\"client\"}",
        "cepa_onion_seconds_count{from=\"relay\"}",
        "cepa_onion_batch_size_count",
        "cepa_member_seconds_count",
        "cepa_store_command_seconds_count{work=\"change\"}",
        "cepa_store_command_seconds_count{work=\"read\"}",
        "cepa_store_write_seconds_count",
        "cepa_store_commit_changes_count",
        "cepa_store_messages",
        "cepa_packet_batch_size_count",
        "cepa_packet_step_seconds_count",
        "cepa_packet_turns_total",
        "cepa_packet_relays_known",
        "cepa_packet_epoch_left_seconds",
        "cepa_disk_free_bytes",
        "cepa_process_resident_memory_bytes",
        "cepa_process_cpu_seconds_total{tile=\"control\"}",
        "cepa_shards",
        "cepa_swarm_members",
    ] {
        assert!(total(begin) > 0.0, "{begin} is 0");
    }
    // And nothing that names somebody, however it came there: keys, hashes, addresses.
    let directory = devnet.directory.path().join("devnet/network.json");
    let network: serde_json::Value = serde_json::from_slice(&fs::read(directory).unwrap()).unwrap();
    let mut secret = BTreeSet::from(["127.0.0.1".to_owned()]);
    for node in network["service_nodes"].as_array().unwrap() {
        let fields = node.as_object().unwrap().values();
        let texts = fields.filter_map(serde_json::Value::as_str);
        secret.extend(texts.filter(|text| text.len() > 8).map(str::to_owned));
    }
    assert!(
        secret.len() > 4,
        "the keys of the nodes are not where they are looked for"
    );
    for text in &scrapes {
        for named in &secret {
            assert!(!text.contains(named.as_str()), "{named} is told");
        }
        let is_hex = |letter: char| letter.is_ascii_hexdigit();
        let longest = text.split(|letter| !is_hex(letter)).map(str::len).max();
        assert!(longest < Some(20), "{longest:?} digits in a row");
    }
}
