//! What the operator wrote: `cepa.toml`. A key that is missing, malformed or unknown is refused by
//! its name, with the file and with what is expected there.

mod keys;
mod packet;
mod sandbox;

use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZeroU16;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{self, Path, PathBuf};
use std::thread;

use cepa_wire::X25519PublicKey;
use cepa_wire::host::Host;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::oxend::BootstrapNode;

use self::keys::{
    ACCOUNT_SIZE_MAX_MIB, ADMIN_LISTEN, ALLOW_AES_CBC, BIND_IP, BOOTSTRAP_NODES, DATA_DIR,
    FOREIGN_GRACE_HOURS, HTTPS_PORT, Key, MONITOR_COUNT_MAX, NETWORK_FILE, OMQ_PORT, OXEND_RPC,
    PROXY_EXCEPTIONS, QUIC, RATE_LIMIT_BURST, RATE_LIMIT_PER_SECOND, RELAXED_DURABILITY_MS,
    SANDBOX, SEED_LISTEN, SEGMENT_SIZE_MIB, SHARD_CPUS, STATS_ACCESS_KEYS, STOP_TIMEOUT_SECONDS,
    STORE_CAPACITY_MIB, TESTNET, key_names,
};

pub use self::packet::{PacketConfig, PacketIo, X25519Choice};
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
    /// The packet lane.
    pub packet: PacketConfig,
    /// Where the metrics are served; a loopback address.
    pub admin_listen: Option<SocketAddr>,
    /// Where the seed endpoint is served.
    pub seed_listen: Option<SocketAddr>,
    /// What the node takes from itself once it runs.
    pub sandbox: SandboxChoice,
}

/// Why `cepa.toml` is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the config {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`FILE_SIZE_MAX`]: not a config.
    #[error("{} is larger than {FILE_SIZE_MAX} bytes: this is no config", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file is no TOML.
    #[error("{}, line {line}: {reason}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the TOML parser says.
        reason: String,
    },
    /// A key that has no default is not there.
    #[error("{}: the key `{key}` is missing: it must be {expected}", file.display())]
    Missing {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A key has a value that it can't have.
    #[error("{}: the key `{key}` must be {expected}, not {found}", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, as TOML.
        found: String,
    },
    /// It is not said where the network view comes from, or it is said twice.
    #[error(
        "{}: give one of `network_file` ({}) and `oxend_rpc` ({}){}",
        file.display(),
        NETWORK_FILE.expected,
        OXEND_RPC.expected,
        if *is_twice { ", not both" } else { "" }
    )]
    Network {
        /// Which file.
        file: PathBuf,
        /// Both are given, not none.
        is_twice: bool,
    },
    /// A key that means nothing here.
    #[error("{}: the key `{key}` is unknown: the keys are {}", file.display(), key_names())]
    Unknown {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: String,
    },
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
/// Most entries of a list in the config: operators write them by hand.
pub const LIST_COUNT_MAX: usize = 64;

impl Config {
    /// Reads the file. Relative paths in it are relative to the directory that it stands in, and
    /// become absolute.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = read_text(file)?;
        let absolute = path::absolute(file).map_err(|source| ConfigError::Read {
            file: file.into(),
            source,
        })?;
        Self::parse(&text, &absolute)
    }

    /// Reads the text of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut table = Table::parse(text, file)?;
        let bind_ip = table.require(&BIND_IP, |_| true)?;
        let https_port = table.require(&HTTPS_PORT, |_: &NonZeroU16| true)?;
        let omq_port = table.require(&OMQ_PORT, |port: &NonZeroU16| *port != https_port)?;
        let data_dir = table.require_path(&DATA_DIR)?;
        let network = table.take_network()?;
        let mut config = Self::new(bind_ip, [https_port, omq_port], data_dir, network);
        config.take_store(&mut table)?;
        config.take_service(&mut table)?;
        let (omq_port, cpus) = (config.omq_port, &config.shard_cpus);
        config.packet.take(&mut table, omq_port, cpus)?;
        table.finish()?;
        Ok(config)
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
            admin_listen: None,
            seed_listen: None,
            sandbox: SandboxChoice::Auto,
        }
    }

    /// Takes the keys of the message log.
    fn take_store(&mut self, table: &mut Table<'_>) -> Result<(), ConfigError> {
        table.put(&SHARD_CPUS, &mut self.shard_cpus, |cpus| is_cpu_list(cpus))?;
        let sizes = SEGMENT_SIZE_MIB_MIN..=SEGMENT_SIZE_MIB_MAX;
        table.put(&SEGMENT_SIZE_MIB, &mut self.segment_size_mib, |mib| {
            sizes.contains(mib)
        })?;
        let capacities = STORE_CAPACITY_MIB_MIN..=MIB_MAX;
        table.put(&STORE_CAPACITY_MIB, &mut self.store_capacity_mib, |mib| {
            capacities.contains(mib)
        })?;
        table.put(
            &ACCOUNT_SIZE_MAX_MIB,
            &mut self.account_size_max_mib,
            |mib| (1..=MIB_MAX).contains(mib),
        )?;
        table.put(
            &FOREIGN_GRACE_HOURS,
            &mut self.foreign_grace_hours,
            |hours| (1..=720).contains(hours),
        )?;
        self.relaxed_durability_ms = table.take(&RELAXED_DURABILITY_MS, |millis| {
            (1..=60_000).contains(millis)
        })?;
        Ok(())
    }

    /// Takes the keys of what is served to whom.
    fn take_service(&mut self, table: &mut Table<'_>) -> Result<(), ConfigError> {
        self.bootstrap_nodes = table.take_bootstrap_nodes()?;
        table.put(&TESTNET, &mut self.testnet, |_| true)?;
        table.put(&QUIC, &mut self.quic, |_| true)?;
        table.put(&ALLOW_AES_CBC, &mut self.allow_aes_cbc, |_| true)?;
        let rates = 1..=RATE_LIMIT_MAX;
        table.put(
            &RATE_LIMIT_PER_SECOND,
            &mut self.rate_limit_per_second,
            |rate| rates.contains(rate),
        )?;
        table.put(&RATE_LIMIT_BURST, &mut self.rate_limit_burst, |burst| {
            rates.contains(burst)
        })?;
        table.put(&MONITOR_COUNT_MAX, &mut self.monitor_count_max, |count| {
            *count <= MONITOR_COUNT_MAX_MAX
        })?;
        table.put(
            &STOP_TIMEOUT_SECONDS,
            &mut self.stop_timeout_seconds,
            |seconds| *seconds <= STOP_TIMEOUT_SECONDS_MAX,
        )?;
        let keys = table.take(&STATS_ACCESS_KEYS, |keys: &Vec<String>| {
            keys.len() <= LIST_COUNT_MAX && keys.iter().all(|key| read_key(key).is_some())
        })?;
        let keys = keys.into_iter().flatten();
        self.stats_access_keys = keys.filter_map(|key| read_key(&key)).collect();
        table.put(&PROXY_EXCEPTIONS, &mut self.proxy_exceptions, |hosts| {
            hosts.len() <= LIST_COUNT_MAX && hosts.iter().all(|host| is_exception(host))
        })?;
        self.admin_listen = table.take(&ADMIN_LISTEN, |address: &SocketAddr| {
            address.ip().is_loopback()
        })?;
        self.seed_listen = table.take(&SEED_LISTEN, |_| true)?;
        table.put(&SANDBOX, &mut self.sandbox, |_| true)
    }

    /// Writes what [`Self::parse`] reads.
    pub fn to_toml(&self) -> String {
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
        self.packet.put(&mut put);
        if let Some(address) = self.admin_listen {
            put(&ADMIN_LISTEN, address.to_string().into());
        }
        if let Some(address) = self.seed_listen {
            put(&SEED_LISTEN, address.to_string().into());
        }
        put(&SANDBOX, self.sandbox.name().into());
        table.to_string()
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

/// Every core that the system lets us use; the first alone when it does not tell.
fn all_cpus() -> Vec<usize> {
    (0..thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// One shard a core: a core that is named twice would carry two.
fn is_cpu_list(cpus: &[usize]) -> bool {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    !cpus.is_empty() && sorted.len() == cpus.len()
}

#[expect(clippy::ptr_arg, reason = "it is asked of what TOML gives")]
fn is_path(path: &PathBuf) -> bool {
    !path.as_os_str().is_empty()
}

/// The keys of the file that have not been taken yet.
struct Table<'a> {
    file: &'a Path,
    keys: toml::Table,
}

impl<'a> Table<'a> {
    fn parse(text: &str, file: &'a Path) -> Result<Self, ConfigError> {
        let keys = text.parse().map_err(|fault: toml::de::Error| {
            let before = fault.span().map_or(0, |span| span.start);
            let bytes = text.as_bytes();
            let breaks = bytes.iter().take(before).filter(|byte| **byte == b'\n');
            ConfigError::Syntax {
                file: file.into(),
                line: 1 + breaks.count(),
                reason: fault.message().lines().collect::<Vec<_>>().join("; "),
            }
        })?;
        Ok(Self { file, keys })
    }

    /// The key's value, if it is there and `accept` accepts it.
    fn take<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        accept: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.keys.remove(key.name) else {
            return Ok(None);
        };
        let found = value.to_string();
        match value.try_into() {
            Ok(value) if accept(&value) => Ok(Some(value)),
            _ => Err(ConfigError::Malformed {
                file: self.file.into(),
                key: key.name,
                expected: key.expected,
                found,
            }),
        }
    }

    fn take_bootstrap_nodes(&mut self) -> Result<Option<Vec<BootstrapNode>>, ConfigError> {
        let read = |text: &String| text.parse::<BootstrapNode>().ok();
        let texts = self.take(&BOOTSTRAP_NODES, |texts: &Vec<String>| {
            texts.len() <= LIST_COUNT_MAX && texts.iter().all(|text| read(text).is_some())
        })?;
        Ok(texts.map(|texts| texts.iter().filter_map(read).collect()))
    }

    fn require<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        accept: impl FnOnce(&T) -> bool,
    ) -> Result<T, ConfigError> {
        self.take(key, accept)?.ok_or_else(|| ConfigError::Missing {
            file: self.file.into(),
            key: key.name,
            expected: key.expected,
        })
    }

    /// Replaces the default if the key is there.
    fn put<T: DeserializeOwned>(
        &mut self,
        key: &Key,
        place: &mut T,
        accept: impl FnOnce(&T) -> bool,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.take(key, accept)? {
            *place = value;
        }
        Ok(())
    }

    fn require_path(&mut self, key: &Key) -> Result<PathBuf, ConfigError> {
        let path = self.require(key, is_path)?;
        Ok(self.absolute(path))
    }

    /// One of the two keys that say where the view comes from.
    fn take_network(&mut self) -> Result<NetworkSource, ConfigError> {
        let file = self.take(&NETWORK_FILE, is_path)?;
        let address = self.take(&OXEND_RPC, |text: &String| is_oxend_rpc(text))?;
        match (file, address) {
            (Some(file), None) => Ok(NetworkSource::File(self.absolute(file))),
            (None, Some(address)) => Ok(NetworkSource::Oxend(address)),
            (file, _) => Err(ConfigError::Network {
                file: self.file.into(),
                is_twice: file.is_some(),
            }),
        }
    }

    /// Paths are relative to the directory of the file.
    fn absolute(&self, path: PathBuf) -> PathBuf {
        match self.file.parent() {
            Some(directory) => directory.join(path),
            None => path,
        }
    }

    /// What is left is unknown.
    fn finish(self) -> Result<(), ConfigError> {
        match self.keys.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(ConfigError::Unknown {
                file: self.file.into(),
                key,
            }),
        }
    }
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
            let fault = parse(&with(name, &format!("{name} = {value}"))).unwrap_err();
            let key = keys::KEYS.iter().find(|key| key.name == name).unwrap();
            let expected = format!(
                "/etc/cepa/cepa.toml: the key `{name}` must be {}, not {value}",
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
        assert!(fault.contains("the key `htps_port` is unknown"), "{fault}");
        assert!(fault.contains("bind_ip, https_port, omq_port"), "{fault}");
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

    #[test]
    fn the_explained_config_is_one_and_explains_every_key() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/cepa.toml");
        Config::read(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for key in keys::KEYS {
            let is_assigned = |line: &str| {
                let line = line.strip_prefix('#').unwrap_or(line);
                line.starts_with(&format!("{} = ", key.name))
            };
            assert!(
                text.lines().any(is_assigned),
                "`{}` is not explained",
                key.name
            );
        }
        // What is commented out is the default or an example that parses, the other place that the
        // network may come from aside.
        let all: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if keys::KEYS.iter().any(|key| rest.starts_with(key.name)) => rest,
                _ => line,
            })
            .collect();
        let of_network = [NETWORK_FILE.name, OXEND_RPC.name];
        for other in of_network {
            let is_kept = |line: &&&str| !line.starts_with(other);
            let text: Vec<_> = all.iter().filter(is_kept).copied().collect();
            Config::parse(&text.join("\n"), &file).unwrap();
        }
    }
}
