//! What the operator wrote: `cepa.toml`. A key that is missing, malformed or unknown is refused by
//! its name, with the file and with what is expected there.

mod cpus;
mod error;
mod keys;
mod packet;
mod reload;
mod sandbox;
mod table;

use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{self, Path, PathBuf};

use cepa_wire::X25519PublicKey;
use cepa_wire::host::Host;
use serde::Deserialize;

use crate::oxend::BootstrapNode;

use self::cpus::all_cpus;
use self::keys::{
    ACCOUNT_SIZE_MAX_MIB, ADMIN_LISTEN, ALLOW_AES_CBC, BENCH_HOSTS, BIND_IP, BOOTSTRAP_NODES,
    DATA_DIR, FOREIGN_GRACE_HOURS, HTTPS_PORT, LOG_FORMAT, LOG_LEVEL, MONITOR_COUNT_MAX,
    NETWORK_FILE, OMQ_PORT, OXEND_RPC, PROXY_EXCEPTIONS, QUIC, RATE_LIMIT_BURST,
    RATE_LIMIT_PER_SECOND, RELAXED_DURABILITY_MS, SANDBOX, SEED_LISTEN, SEGMENT_SIZE_MIB,
    SHARD_CPUS, STATS_ACCESS_KEYS, STOP_TIMEOUT_SECONDS, STORE_CAPACITY_MIB, TESTNET,
};
use self::table::Table;

pub use self::error::ConfigError;
pub(crate) use self::keys::nearest;
pub use self::keys::{KEYS, Key};
pub use self::packet::{PacketConfig, PacketIo, X25519Choice};
pub use self::reload::Changes;
pub use self::sandbox::SandboxChoice;

/// Where the view of the network comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkSource {
    /// A `network.json`, read again when it changes.
    File(PathBuf),
    /// The RPC of an oxend: `ipc:///PATH` or `tcp://HOST:PORT`, as [`is_oxend_rpc`] has it.
    Oxend(String),
}

/// Whether a text can be the address of an oxend's RPC: `ipc:///PATH` or `tcp://HOST:PORT`. What is
/// behind it is found out by who connects.
pub fn is_oxend_rpc(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("ipc://") {
        return path.len() > 1 && path.starts_with('/');
    }
    let port = text.strip_prefix("tcp://").and_then(|rest| {
        let (host, port) = rest.rsplit_once(':')?;
        Host::parse(host)?;
        port.parse::<NonZeroU16>().ok()
    });
    port.is_some()
}

/// How a log is written to standard error, or elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
    /// To systemd's journal, by its own socket.
    Journald,
}

impl LogFormat {
    /// As it stands in a config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

/// The whole of `cepa.toml`. Every key is explained in `config/cepa.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address that HTTPS and OMQ listen on.
    pub bind_ip: Ipv4Addr,
    /// TCP port of HTTPS.
    pub https_port: u16,
    /// TCP port of OMQ; never that of HTTPS.
    pub omq_port: u16,
    /// Where key, certificate and message log stand.
    pub data_dir: PathBuf,
    /// Where the view comes from.
    pub network: NetworkSource,
    /// Who tells how nodes are reached when oxend knows too little at the start; `None`: those of the
    /// network. At most [`LIST_COUNT_MAX`].
    pub bootstrap_nodes: Option<Vec<BootstrapNode>>,
    /// The network is Session's testnet: account ids may come without their prefix.
    pub testnet: bool,
    /// Answer QUIC on the UDP port [`Self::omq_port`].
    pub quic: bool,
    /// The cores that shards are pinned to, one shard each; neither empty nor with a core twice.
    pub shard_cpus: Vec<usize>,
    /// Accept aes-cbc onion layers.
    pub allow_aes_cbc: bool,
    /// Size of a segment file of the message log, in MiB.
    pub segment_size_mib: u64,
    /// Size of all segment files together, in MiB.
    pub store_capacity_mib: u64,
    /// Bytes of messages that one account may hold, in MiB.
    pub account_size_max_mib: u64,
    /// How long messages of accounts are kept that left our swarm, in hours.
    pub foreign_grace_hours: u64,
    /// Answer stores before they are durable, and make them so within so many milliseconds.
    pub relaxed_durability_ms: Option<u64>,
    /// Requests that one client address may make, each second in the long run.
    pub rate_limit_per_second: u32,
    /// Requests that one client address may make at once.
    pub rate_limit_burst: u32,
    /// Subscriptions to new messages that the node holds at a time.
    pub monitor_count_max: u32,
    /// Who may ask for statistics over OMQ; at most [`LIST_COUNT_MAX`].
    pub stats_access_keys: Vec<X25519PublicKey>,
    /// Hosts (`name` or `ip:port`) that onions may reach although they are private; at most
    /// [`LIST_COUNT_MAX`].
    pub proxy_exceptions: Vec<String>,
    /// How long what is running has to end when the node stops, in seconds.
    pub stop_timeout_seconds: u64,
    /// What is logged: a level, or levels by crate. What it may be is known to who logs.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The packet lane.
    pub packet: PacketConfig,
    /// Where the metrics are served; a loopback address.
    pub admin_listen: Option<SocketAddr>,
    /// Where the seed endpoint is served.
    pub seed_listen: Option<SocketAddr>,
    /// What the node takes from itself once it runs.
    pub sandbox: SandboxChoice,
    /// Hosts that `cepa bench` may send load to beside this machine: addresses or names; at most
    /// [`LIST_COUNT_MAX`].
    pub bench_hosts: Vec<String>,
}

/// Most bytes of a config file: the one that explains every key has 5 KiB.
pub const FILE_SIZE_MAX: u64 = 64 * 1024;

/// Segment size when none is given, in MiB.
const SEGMENT_SIZE_MIB_DEFAULT: u64 = 64;
/// A segment holds at least some dozen messages of the largest size (75 KiB).
const SEGMENT_SIZE_MIB_MIN: u64 = 4;
/// Positions in a segment are 32-bit, and recovery reads one segment after the other.
const SEGMENT_SIZE_MIB_MAX: u64 = 1024;
/// Store capacity when none is given, in MiB: that of the reference's newer versions.
const STORE_CAPACITY_MIB_DEFAULT: u64 = 10 * 1024;
/// A shard has at least eight segments.
const STORE_CAPACITY_MIB_MIN: u64 = 64;
/// So many MiB are still a number of bytes.
const MIB_MAX: u64 = u64::MAX >> 20;
/// What an account may hold when nothing is said, in MiB.
const ACCOUNT_SIZE_MAX_MIB_DEFAULT: u64 = 64;
/// How long messages of foreign accounts stay when nothing is said.
const FOREIGN_GRACE_HOURS_DEFAULT: u64 = 24;
/// What a client address may ask: that of the reference (`rpc::RateLimiter`).
const RATE_LIMIT_PER_SECOND_DEFAULT: u32 = 300;
/// What a client address may ask at once: that of the reference.
const RATE_LIMIT_BURST_DEFAULT: u32 = 600;
/// More requests a second than that come from no single address that is worth an answer.
const RATE_LIMIT_MAX: u32 = 1_000_000;
/// Subscriptions when nothing is said: one needs some hundred bytes.
const MONITOR_COUNT_MAX_DEFAULT: u32 = 100_000;
/// Most subscriptions that can be asked for: some GiB of them.
const MONITOR_COUNT_MAX_MAX: u32 = 10_000_000;
/// How long requests have to end when nothing is said: a client gives up after as long.
const STOP_TIMEOUT_SECONDS_DEFAULT: u64 = 10;
/// Whoever stops a node does not wait for longer than that.
const STOP_TIMEOUT_SECONDS_MAX: u64 = 600;
/// What is logged when nothing is said.
pub const LOG_LEVEL_DEFAULT: &str = "info";
/// Most entries of a list in the config: operators write them by hand.
pub const LIST_COUNT_MAX: usize = 64;

/// What reading a config gave.
#[derive(Debug)]
pub struct Reading {
    /// The config; a key that is malformed has its default here. None if a key is missing that has
    /// none.
    pub config: Option<Config>,
    /// The same with stand-ins for what is missing, so that what is there can be looked at; none if the
    /// text can't be read.
    pub draft: Option<Config>,
    /// Everything that is wrong with it: if that is something, the config is refused.
    pub problems: Vec<ConfigError>,
    /// The names of the keys that were given.
    pub set: Vec<&'static str>,
    /// Where the keys of a file stand, in lines counted from 1.
    pub lines: BTreeMap<String, usize>,
}

impl Reading {
    const fn refused(problem: Vec<ConfigError>) -> Self {
        Self {
            config: None,
            draft: None,
            problems: problem,
            set: Vec::new(),
            lines: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file. Relative paths in it are relative to the directory that it stands in, and
    /// become absolute. The error is the first; [`Self::examine`] has all.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        first_problem(Self::examine(file), file)
    }

    /// Reads the text of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        first_problem(Self::examine_text(text, file), file)
    }

    /// Reads the file as [`Self::read`] does; tells all that is wrong with it.
    pub fn examine(file: &Path) -> Reading {
        let read = read_text(file).and_then(|text| {
            let absolute = path::absolute(file).map_err(|source| ConfigError::Read {
                file: file.into(),
                source,
            })?;
            Ok(Self::examine_text(&text, &absolute))
        });
        read.unwrap_or_else(|problem| Reading::refused(vec![problem]))
    }

    /// Reads the text of `file`; tells all that is wrong with it.
    pub fn examine_text(text: &str, file: &Path) -> Reading {
        let mut table = Table::parse(text, file);
        if !table.is_readable() {
            return Reading::refused(table.problems);
        }
        let (draft, is_whole) = Self::take(&mut table);
        table.finish();
        Reading {
            config: is_whole.then(|| draft.clone()),
            draft: Some(draft),
            problems: table.problems,
            set: table.set,
            lines: table.lines,
        }
    }

    /// The config, and whether nothing is missing that has no default.
    fn take(table: &mut Table<'_>) -> (Self, bool) {
        let bind_ip = table.require(&BIND_IP, |_| true);
        let https_port = table.require(&HTTPS_PORT, |_: &NonZeroU16| true);
        let omq_port = table.require(&OMQ_PORT, |port: &NonZeroU16| Some(*port) != https_port);
        let data_dir = table.require_path(&DATA_DIR);
        let network = table.take_network();
        // Without these there is no config, but the other keys are still looked at.
        let is_whole = bind_ip.is_some()
            && https_port.is_some()
            && omq_port.is_some()
            && data_dir.is_some()
            && network.is_some();
        let ports = [https_port, omq_port].map(|port| port.unwrap_or(NonZeroU16::MIN));
        let mut config = Self::new(
            bind_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            ports,
            data_dir.unwrap_or_default(),
            network.unwrap_or_else(|| NetworkSource::File(PathBuf::new())),
        );
        config.take_store(table);
        config.take_service(table);
        let (omq_port, cpus) = (config.omq_port, &config.shard_cpus);
        config.packet.take(table, omq_port, cpus);
        (config, is_whole)
    }

    /// What is left out of a config has its default; ports are HTTPS's and OMQ's, and differ.
    pub fn new(
        bind_ip: Ipv4Addr,
        [https_port, omq_port]: [NonZeroU16; 2],
        data_dir: PathBuf,
        network: NetworkSource,
    ) -> Self {
        Self {
            bind_ip,
            packet: PacketConfig::new([https_port, omq_port], &all_cpus()),
            https_port: https_port.get(),
            omq_port: omq_port.get(),
            data_dir,
            network,
            bootstrap_nodes: None,
            testnet: false,
            quic: true,
            shard_cpus: all_cpus(),
            allow_aes_cbc: false,
            segment_size_mib: SEGMENT_SIZE_MIB_DEFAULT,
            store_capacity_mib: STORE_CAPACITY_MIB_DEFAULT,
            account_size_max_mib: ACCOUNT_SIZE_MAX_MIB_DEFAULT,
            foreign_grace_hours: FOREIGN_GRACE_HOURS_DEFAULT,
            relaxed_durability_ms: None,
            rate_limit_per_second: RATE_LIMIT_PER_SECOND_DEFAULT,
            rate_limit_burst: RATE_LIMIT_BURST_DEFAULT,
            monitor_count_max: MONITOR_COUNT_MAX_DEFAULT,
            stats_access_keys: Vec::new(),
            proxy_exceptions: Vec::new(),
            stop_timeout_seconds: STOP_TIMEOUT_SECONDS_DEFAULT,
            log_level: LOG_LEVEL_DEFAULT.to_owned(),
            log_format: LogFormat::default(),
            admin_listen: None,
            seed_listen: None,
            sandbox: SandboxChoice::Auto,
            bench_hosts: Vec::new(),
        }
    }

    /// Takes the keys of the message log.
    fn take_store(&mut self, table: &mut Table<'_>) {
        table.put(&SHARD_CPUS, &mut self.shard_cpus, |cpus| is_cpu_list(cpus));
        let sizes = SEGMENT_SIZE_MIB_MIN..=SEGMENT_SIZE_MIB_MAX;
        table.put(&SEGMENT_SIZE_MIB, &mut self.segment_size_mib, |mib| {
            sizes.contains(mib)
        });
        let capacities = STORE_CAPACITY_MIB_MIN..=MIB_MAX;
        table.put(&STORE_CAPACITY_MIB, &mut self.store_capacity_mib, |mib| {
            capacities.contains(mib)
        });
        table.put(
            &ACCOUNT_SIZE_MAX_MIB,
            &mut self.account_size_max_mib,
            |mib| (1..=MIB_MAX).contains(mib),
        );
        table.put(
            &FOREIGN_GRACE_HOURS,
            &mut self.foreign_grace_hours,
            |hours| (1..=720).contains(hours),
        );
        self.relaxed_durability_ms = table.take(&RELAXED_DURABILITY_MS, |millis| {
            (1..=60_000).contains(millis)
        });
    }

    /// Takes the keys of what is served to whom.
    fn take_service(&mut self, table: &mut Table<'_>) {
        self.bootstrap_nodes = table.take_bootstrap_nodes();
        table.put(&TESTNET, &mut self.testnet, |_| true);
        table.put(&QUIC, &mut self.quic, |_| true);
        table.put(&ALLOW_AES_CBC, &mut self.allow_aes_cbc, |_| true);
        let rates = 1..=RATE_LIMIT_MAX;
        table.put(
            &RATE_LIMIT_PER_SECOND,
            &mut self.rate_limit_per_second,
            |rate| rates.contains(rate),
        );
        table.put(&RATE_LIMIT_BURST, &mut self.rate_limit_burst, |burst| {
            rates.contains(burst)
        });
        table.put(&LOG_LEVEL, &mut self.log_level, |level: &String| {
            !level.is_empty()
        });
        table.put(&LOG_FORMAT, &mut self.log_format, |_| true);
        table.put(&MONITOR_COUNT_MAX, &mut self.monitor_count_max, |count| {
            *count <= MONITOR_COUNT_MAX_MAX
        });
        table.put(
            &STOP_TIMEOUT_SECONDS,
            &mut self.stop_timeout_seconds,
            |seconds| *seconds <= STOP_TIMEOUT_SECONDS_MAX,
        );
        let keys = table.take(&STATS_ACCESS_KEYS, |keys: &Vec<String>| {
            keys.len() <= LIST_COUNT_MAX && keys.iter().all(|key| read_key(key).is_some())
        });
        let keys = keys.into_iter().flatten();
        self.stats_access_keys = keys.filter_map(|key| read_key(&key)).collect();
        table.put(&PROXY_EXCEPTIONS, &mut self.proxy_exceptions, |hosts| {
            hosts.len() <= LIST_COUNT_MAX && hosts.iter().all(|host| is_exception(host))
        });
        self.admin_listen = table.take(&ADMIN_LISTEN, |address: &SocketAddr| {
            address.ip().is_loopback()
        });
        self.seed_listen = table.take(&SEED_LISTEN, |_| true);
        table.put(&SANDBOX, &mut self.sandbox, |_| true);
        table.put(&BENCH_HOSTS, &mut self.bench_hosts, |hosts| {
            hosts.len() <= LIST_COUNT_MAX && hosts.iter().all(|host| Host::parse(host).is_some())
        });
    }

    /// Writes what [`Self::parse`] reads.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    /// Every key that has a value, and the value.
    pub fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut put = |key: &Key, value: toml::Value| {
            table.insert(key.name.to_owned(), value);
        };
        put(&BIND_IP, self.bind_ip.to_string().into());
        put(&HTTPS_PORT, i64::from(self.https_port).into());
        put(&OMQ_PORT, i64::from(self.omq_port).into());
        put(&DATA_DIR, self.data_dir.to_string_lossy().as_ref().into());
        match &self.network {
            NetworkSource::File(path) => {
                put(&NETWORK_FILE, path.to_string_lossy().as_ref().into());
            }
            NetworkSource::Oxend(address) => put(&OXEND_RPC, address.as_str().into()),
        }
        if let Some(nodes) = &self.bootstrap_nodes {
            let nodes = nodes.iter().map(ToString::to_string);
            put(&BOOTSTRAP_NODES, nodes.collect::<Vec<_>>().into());
        }
        put(&TESTNET, self.testnet.into());
        put(&QUIC, self.quic.into());
        let cpus = self.shard_cpus.iter().map(|cpu| to_integer(*cpu as u64));
        put(&SHARD_CPUS, cpus.collect::<Vec<_>>().into());
        put(&ALLOW_AES_CBC, self.allow_aes_cbc.into());
        put(&SEGMENT_SIZE_MIB, to_integer(self.segment_size_mib));
        put(&STORE_CAPACITY_MIB, to_integer(self.store_capacity_mib));
        put(&ACCOUNT_SIZE_MAX_MIB, to_integer(self.account_size_max_mib));
        put(&FOREIGN_GRACE_HOURS, to_integer(self.foreign_grace_hours));
        if let Some(millis) = self.relaxed_durability_ms {
            put(&RELAXED_DURABILITY_MS, to_integer(millis));
        }
        let rates = [self.rate_limit_per_second, self.rate_limit_burst];
        let [per_second, burst] = rates.map(|rate| to_integer(rate.into()));
        put(&RATE_LIMIT_PER_SECOND, per_second);
        put(&RATE_LIMIT_BURST, burst);
        put(
            &MONITOR_COUNT_MAX,
            to_integer(self.monitor_count_max.into()),
        );
        let keys = self.stats_access_keys.iter().map(|key| key.to_hex());
        put(&STATS_ACCESS_KEYS, keys.collect::<Vec<_>>().into());
        put(&PROXY_EXCEPTIONS, self.proxy_exceptions.clone().into());
        put(&STOP_TIMEOUT_SECONDS, to_integer(self.stop_timeout_seconds));
        put(&LOG_LEVEL, self.log_level.as_str().into());
        put(&LOG_FORMAT, self.log_format.name().into());
        self.packet.put(&mut put);
        if let Some(address) = self.admin_listen {
            put(&ADMIN_LISTEN, address.to_string().into());
        }
        if let Some(address) = self.seed_listen {
            put(&SEED_LISTEN, address.to_string().into());
        }
        put(&SANDBOX, self.sandbox.name().into());
        put(&BENCH_HOSTS, self.bench_hosts.clone().into());
        table
    }
}

/// What was read, if nothing is wrong with it.
fn first_problem(reading: Reading, file: &Path) -> Result<Config, ConfigError> {
    let Reading {
        config, problems, ..
    } = reading;
    match (problems.into_iter().next(), config) {
        (None, Some(config)) => Ok(config),
        (Some(problem), _) => Err(problem),
        // Who has no config has a problem.
        (None, None) => Err(ConfigError::TooLarge { file: file.into() }),
    }
}

/// The text of a config file, of at most [`FILE_SIZE_MAX`] bytes.
pub(crate) fn read_text(file: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_SIZE_MAX + 1).read_to_string(&mut text))
        .map_err(|source| ConfigError::Read {
            file: file.into(),
            source,
        })?;
    if text.len() as u64 > FILE_SIZE_MAX {
        return Err(ConfigError::TooLarge { file: file.into() });
    }
    Ok(text)
}

/// TOML integers are signed 64-bit; no key of ours comes near.
fn to_integer(value: u64) -> toml::Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// A key as operators write it.
pub(crate) fn read_key(text: &str) -> Option<X25519PublicKey> {
    X25519PublicKey::from_hex(text.as_bytes())
}

/// A host's name, or an address with its port.
fn is_exception(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok() || matches!(Host::parse(text), Some(Host::Name(_)))
}

/// One shard a core: a core that is named twice would carry two.
fn is_cpu_list(cpus: &[usize]) -> bool {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    !cpus.is_empty() && sorted.len() == cpus.len()
}

#[cfg(test)]
mod tests {
    use cepa_wire::packet::epoch::EpochLength;

    use super::*;

    const MINIMAL: &str = "
        bind_ip = \"127.0.0.1\"
        https_port = 22021
        omq_port = 22020
        data_dir = \"data\"
        network_file = \"/etc/cepa/network.json\"
    ";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/cepa/cepa.toml")).map_err(|fault| fault.to_string())
    }

    /// The minimal config with one line replaced or added.
    fn with(key: &str, line: &str) -> String {
        let is_kept = |text: &&str| !text.trim_start().starts_with(&format!("{key} "));
        let mut lines: Vec<_> = MINIMAL.lines().filter(is_kept).collect();
        lines.push(line);
        lines.join("\n")
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = parse(MINIMAL).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/cepa/data"));
        let file = PathBuf::from("/etc/cepa/network.json");
        assert_eq!(config.network, NetworkSource::File(file));
        assert!(!config.testnet && config.quic);
        assert_eq!(config.rate_limit_per_second, 300);
        assert_eq!(config.rate_limit_burst, 600);
        assert_eq!(config.monitor_count_max, 100_000);
        assert_eq!(config.stop_timeout_seconds, 10);
        assert!(config.stats_access_keys.is_empty() && config.proxy_exceptions.is_empty());
        assert_eq!(config.shard_cpus, all_cpus());
        let packet = &config.packet;
        assert!(packet.is_on && packet.io == PacketIo::Auto);
        assert_eq!((packet.port, packet.replay_filter_mib), (22022, 256));
        assert_eq!(packet.epoch, EpochLength::DAY);
        assert_eq!(Some(&packet.cpu), all_cpus().last());
        assert!(!config.allow_aes_cbc);
        assert_eq!(config.segment_size_mib, SEGMENT_SIZE_MIB_DEFAULT);
        assert_eq!(config.store_capacity_mib, STORE_CAPACITY_MIB_DEFAULT);
        assert_eq!(config.account_size_max_mib, ACCOUNT_SIZE_MAX_MIB_DEFAULT);
        assert_eq!(config.foreign_grace_hours, FOREIGN_GRACE_HOURS_DEFAULT);
        assert_eq!(config.relaxed_durability_ms, None, "an explicit choice");
        assert_eq!((config.admin_listen, config.seed_listen), (None, None));
        assert_eq!(config.sandbox, SandboxChoice::Auto);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut config = parse(MINIMAL).unwrap();
        config.shard_cpus = vec![3, 1];
        config.allow_aes_cbc = true;
        config.segment_size_mib = 128;
        config.store_capacity_mib = 100;
        config.account_size_max_mib = 7;
        config.foreign_grace_hours = 5;
        config.relaxed_durability_ms = Some(20);
        config.admin_listen = Some("127.0.0.1:9100".parse().unwrap());
        config.seed_listen = Some("0.0.0.0:38157".parse().unwrap());
        config.sandbox = SandboxChoice::Require;
        config.testnet = true;
        let node = format!("curve://seed.lab:7/{}", "ab".repeat(32));
        config.bootstrap_nodes = Some(vec![node.parse().unwrap()]);
        config.quic = false;
        config.rate_limit_per_second = 7;
        config.rate_limit_burst = 8;
        config.monitor_count_max = 0;
        config.stats_access_keys = vec![X25519PublicKey([7; 32]), X25519PublicKey([8; 32])];
        config.proxy_exceptions = vec!["files.lab".to_owned(), "10.0.0.7:80".to_owned()];
        config.stop_timeout_seconds = 0;
        config.log_level = "warn,cepa_host=debug".to_owned();
        config.log_format = LogFormat::Json;
        config.packet = PacketConfig {
            is_on: false,
            port: 7,
            io: PacketIo::AfXdp,
            cpu: 1,
            epoch: EpochLength::from_secs(60).unwrap(),
            replay_filter_mib: 4,
            x25519: X25519Choice::Scalar,
            af_xdp_interface: Some("eth0".to_owned()),
            af_xdp_queue: 3,
        };
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
        config.network = NetworkSource::Oxend("tcp://[::1]:22025".to_owned());
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn the_network_comes_from_one_place() {
        let oxend = "oxend_rpc = \"ipc:///run/oxend.sock\"";
        let config = parse(&with("network_file", oxend)).unwrap();
        let expected = NetworkSource::Oxend("ipc:///run/oxend.sock".to_owned());
        assert_eq!(config.network, expected);
        let fault = parse(&with("network_file", "")).unwrap_err();
        assert!(fault.contains("give one of `network_file`"), "{fault}");
        assert!(!fault.contains("not both"), "{fault}");
        let fault = parse(&with("oxend_rpc", oxend)).unwrap_err();
        assert!(fault.ends_with("not both"), "{fault}");
    }

    #[test]
    fn an_oxend_is_a_socket_or_a_port() {
        let table = [
            ("ipc:///run/oxend.sock", true),
            ("tcp://127.0.0.1:22025", true),
            ("tcp://localhost:22025", true),
            ("tcp://[::1]:22025", true),
            ("ipc://", false),
            ("ipc:///", false),
            ("ipc://oxend.sock", false),
            ("tcp://127.0.0.1", false),
            ("tcp://127.0.0.1:0", false),
            ("tcp://:22025", false),
            ("http://127.0.0.1:22023", false),
            ("/run/oxend.sock", false),
            ("", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_oxend_rpc(text), expected, "{text}");
        }
    }

    #[test]
    fn every_key_is_refused_by_its_name() {
        let malformed = [
            ("bind_ip", "\"localhost\""),
            ("bind_ip", "\"::1\""),
            ("https_port", "0"),
            ("https_port", "65536"),
            ("https_port", "\"443\""),
            ("omq_port", "-1"),
            ("omq_port", "22021"), // that of HTTPS
            ("data_dir", "7"),
            ("data_dir", "\"\""),
            ("network_file", "[]"),
            ("shard_cpus", "[]"),
            ("shard_cpus", "[0, 0]"),
            ("shard_cpus", "[-1]"),
            ("shard_cpus", "2"),
            ("allow_aes_cbc", "\"yes\""),
            ("segment_size_mib", "3"),
            ("segment_size_mib", "4096"),
            ("store_capacity_mib", "63"),
            ("account_size_max_mib", "0"),
            ("account_size_max_mib", "-1"),
            ("foreign_grace_hours", "721"),
            ("relaxed_durability_ms", "0"),
            ("relaxed_durability_ms", "true"),
            ("admin_listen", "\"203.0.113.7:9100\""), // not loopback
            ("admin_listen", "9100"),
            ("seed_listen", "\"localhost:1\""),
            ("bench_hosts", "\"192.0.2.7\""),
            ("bench_hosts", "[\"http://node.lab\"]"),
            ("bootstrap_nodes", "[\"tcp://seed.lab:7\"]"),
            ("testnet", "1"),
            ("quic", "\"on\""),
            ("rate_limit_per_second", "0"),
            ("rate_limit_burst", "1000001"),
            ("monitor_count_max", "-1"),
            ("stats_access_keys", "[\"07\"]"),
            ("stats_access_keys", "\"07\""),
            ("proxy_exceptions", "[\"10.0.0.7\"]"), // an address without its port
            ("proxy_exceptions", "[\"http://files.lab\"]"),
            ("stop_timeout_seconds", "601"),
            ("log_level", "\"\""),
            ("log_format", "\"xml\""),
            ("packet_lane", "\"on\""),
            ("packet_port", "22020"), // that of OMQ
            ("packet_port", "0"),
            ("packet_io", "\"epoll\""),
            ("packet_cpu", "-1"),
            ("packet_epoch_seconds", "604801"),
            ("packet_epoch_seconds", "19"),
            ("replay_filter_mib", "0"),
            ("x25519", "\"fast\""),
            ("af_xdp_interface", "\"a-name-that-is-too-long\""),
            ("af_xdp_queue", "4096"),
            ("sandbox", "\"on\""),
        ];
        for (name, value) in malformed {
            let text = with(name, &format!("{name} = {value}"));
            let line = text.lines().count();
            let fault = parse(&text).unwrap_err();
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            let expected = format!(
                "/etc/cepa/cepa.toml, line {line}: the key `{name}` must be {}, not {value}",
                key.expected
            );
            assert_eq!(fault, expected);
        }
    }

    #[test]
    fn a_missing_key_is_refused_by_its_name() {
        for key in [BIND_IP, HTTPS_PORT, OMQ_PORT, DATA_DIR] {
            let fault = parse(&with(key.name, "")).unwrap_err();
            let expected = format!(
                "the key `{}` is missing: it must be {}",
                key.name, key.expected
            );
            assert!(fault.ends_with(&expected), "{fault}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name() {
        let fault = parse(&with("htps_port", "htps_port = 1")).unwrap_err();
        let expected = "the key `htps_port` is unknown: did you mean `https_port`?";
        assert!(fault.ends_with(expected), "{fault}");
        let fault = parse(&with("extra", "extra = 1")).unwrap_err();
        assert!(fault.contains("bind_ip, https_port, omq_port"), "{fault}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "bind_ip = \"x\"\nhttps_port = 1\nomq_prt = 2\nquic = 1\n[network]\na = 1\n";
        let reading = Config::examine_text(text, Path::new("/c.toml"));
        assert_eq!(reading.config, None);
        assert_eq!(reading.set, ["bind_ip", "https_port", "quic"]);
        let told: Vec<_> = reading
            .problems
            .iter()
            .map(|problem| (problem.key(), problem.line(), problem.expected()))
            .collect();
        let expected = |key: Key| Some(key.expected);
        assert_eq!(
            told,
            [
                (Some("bind_ip"), Some(1), expected(BIND_IP)),
                (Some("omq_port"), None, expected(OMQ_PORT)),
                (Some("data_dir"), None, expected(DATA_DIR)),
                (None, None, None),
                (Some("quic"), Some(4), expected(QUIC)),
                (Some("network"), Some(5), None),
                (Some("omq_prt"), Some(3), Some("omq_port")),
            ]
        );
        let files: Vec<_> = reading.problems.iter().map(ConfigError::file).collect();
        assert_eq!(files, [Path::new("/c.toml"); 7]);
        let reading = Config::examine_text("a 1\nb = 2\nc 3\n", Path::new("/c.toml"));
        let lines: Vec<_> = reading.problems.iter().map(ConfigError::line).collect();
        assert_eq!(lines, [Some(1), Some(3)], "{:?}", reading.problems);
    }

    #[test]
    fn a_syntax_fault_is_one_line_with_its_number() {
        let fault = parse("bind_ip = \"127.0.0.1\"\nhttps_port 1").unwrap_err();
        assert!(
            fault.starts_with("/etc/cepa/cepa.toml, line 2: "),
            "{fault}"
        );
        assert_eq!(fault.lines().count(), 1, "{fault}");
    }

    #[test]
    fn a_file_that_is_no_config_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cepa.toml");
        let fault = Config::read(&file).unwrap_err();
        assert!(matches!(fault, ConfigError::Read { .. }), "{fault}");
        std::fs::write(&file, " ".repeat(64 * 1024 + 1)).unwrap();
        let fault = Config::read(&file).unwrap_err();
        assert!(matches!(fault, ConfigError::TooLarge { .. }), "{fault}");
    }
}
