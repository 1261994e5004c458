//! What the operator wrote: `cepa.toml`. A key that is missing, malformed or unknown is refused by
//! its name, with the file and with what is expected there.

use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZeroU16;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{self, Path, PathBuf};
use std::thread;

use serde::de::DeserializeOwned;
use thiserror::Error;

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
    /// The view: a `network.json`.
    pub network_file: PathBuf,
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
    /// Where the metrics are served; a loopback address.
    pub admin_listen: Option<SocketAddr>,
    /// Where the seed endpoint is served.
    pub seed_listen: Option<SocketAddr>,
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
    #[error("{} is larger than {FILE_SIZE_MAX} bytes: this is no cepa.toml", file.display())]
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
    /// A key that means nothing here.
    #[error("{}: the key `{key}` is unknown: the keys are {}", file.display(), key_names())]
    Unknown {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: String,
    },
}

/// Most bytes of a `cepa.toml`: the one that explains every key has 3 KiB.
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

/// A key and what may stand there, in the words of the error.
struct Key {
    name: &'static str,
    expected: &'static str,
}

const BIND_IP: Key = Key {
    name: "bind_ip",
    expected: "an IPv4 address such as \"203.0.113.7\"",
};
const HTTPS_PORT: Key = Key {
    name: "https_port",
    expected: "a port from 1 to 65535",
};
const OMQ_PORT: Key = Key {
    name: "omq_port",
    expected: "a port from 1 to 65535 other than https_port",
};
const DATA_DIR: Key = Key {
    name: "data_dir",
    expected: "the path of a directory, such as \"/var/lib/cepa\"",
};
const NETWORK_FILE: Key = Key {
    name: "network_file",
    expected: "the path of a file, such as \"network.json\"",
};
const SHARD_CPUS: Key = Key {
    name: "shard_cpus",
    expected: "a list of different core numbers such as [0, 1]",
};
const ALLOW_AES_CBC: Key = Key {
    name: "allow_aes_cbc",
    expected: "true or false",
};
const SEGMENT_SIZE_MIB: Key = Key {
    name: "segment_size_mib",
    expected: "a number of MiB from 4 to 1024",
};
const STORE_CAPACITY_MIB: Key = Key {
    name: "store_capacity_mib",
    expected: "a number of MiB, at least 64",
};
const ACCOUNT_SIZE_MAX_MIB: Key = Key {
    name: "account_size_max_mib",
    expected: "a number of MiB, at least 1",
};
const FOREIGN_GRACE_HOURS: Key = Key {
    name: "foreign_grace_hours",
    expected: "a number of hours from 1 to 720",
};
const RELAXED_DURABILITY_MS: Key = Key {
    name: "relaxed_durability_ms",
    expected: "a number of milliseconds from 1 to 60000",
};
const ADMIN_LISTEN: Key = Key {
    name: "admin_listen",
    expected: "a loopback address and port such as \"127.0.0.1:9100\"",
};
const SEED_LISTEN: Key = Key {
    name: "seed_listen",
    expected: "an address and port such as \"127.0.0.1:38157\"",
};

const KEYS: [&Key; 14] = [
    &BIND_IP,
    &HTTPS_PORT,
    &OMQ_PORT,
    &DATA_DIR,
    &NETWORK_FILE,
    &SHARD_CPUS,
    &ALLOW_AES_CBC,
    &SEGMENT_SIZE_MIB,
    &STORE_CAPACITY_MIB,
    &ACCOUNT_SIZE_MAX_MIB,
    &FOREIGN_GRACE_HOURS,
    &RELAXED_DURABILITY_MS,
    &ADMIN_LISTEN,
    &SEED_LISTEN,
];

fn key_names() -> String {
    KEYS.map(|key| key.name).join(", ")
}

impl Config {
    /// Reads the file. Relative paths in it are relative to the directory that it stands in, and
    /// become absolute.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            file: file.into(),
            source,
        };
        let mut text = String::new();
        File::open(file)
            .and_then(|opened| opened.take(FILE_SIZE_MAX + 1).read_to_string(&mut text))
            .map_err(read)?;
        if text.len() as u64 > FILE_SIZE_MAX {
            return Err(ConfigError::TooLarge { file: file.into() });
        }
        let absolute = path::absolute(file).map_err(read)?;
        Self::parse(&text, &absolute)
    }

    /// Reads the text of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut table = Table::parse(text, file)?;
        let https_port = table.require(&HTTPS_PORT, |_: &NonZeroU16| true)?;
        let config = Self {
            bind_ip: table.require(&BIND_IP, |_| true)?,
            https_port: https_port.get(),
            omq_port: table
                .require(&OMQ_PORT, |port: &NonZeroU16| *port != https_port)?
                .get(),
            data_dir: table.require_path(&DATA_DIR)?,
            network_file: table.require_path(&NETWORK_FILE)?,
            shard_cpus: table
                .take(&SHARD_CPUS, |cpus: &Vec<usize>| is_cpu_list(cpus))?
                .unwrap_or_else(all_cpus),
            allow_aes_cbc: table.take(&ALLOW_AES_CBC, |_| true)?.unwrap_or(false),
            segment_size_mib: table
                .take(&SEGMENT_SIZE_MIB, |mib| {
                    (SEGMENT_SIZE_MIB_MIN..=SEGMENT_SIZE_MIB_MAX).contains(mib)
                })?
                .unwrap_or(SEGMENT_SIZE_MIB_DEFAULT),
            store_capacity_mib: table
                .take(&STORE_CAPACITY_MIB, |mib| {
                    (STORE_CAPACITY_MIB_MIN..=MIB_MAX).contains(mib)
                })?
                .unwrap_or(STORE_CAPACITY_MIB_DEFAULT),
            account_size_max_mib: table
                .take(&ACCOUNT_SIZE_MAX_MIB, |mib| (1..=MIB_MAX).contains(mib))?
                .unwrap_or(ACCOUNT_SIZE_MAX_MIB_DEFAULT),
            foreign_grace_hours: table
                .take(&FOREIGN_GRACE_HOURS, |hours| (1..=720).contains(hours))?
                .unwrap_or(FOREIGN_GRACE_HOURS_DEFAULT),
            relaxed_durability_ms: table.take(&RELAXED_DURABILITY_MS, |millis| {
                (1..=60_000).contains(millis)
            })?,
            admin_listen: table.take(&ADMIN_LISTEN, |address: &SocketAddr| {
                address.ip().is_loopback()
            })?,
            seed_listen: table.take(&SEED_LISTEN, |_| true)?,
        };
        table.finish()?;
        Ok(config)
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
        put(
            &NETWORK_FILE,
            self.network_file.to_string_lossy().as_ref().into(),
        );
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
        if let Some(address) = self.admin_listen {
            put(&ADMIN_LISTEN, address.to_string().into());
        }
        if let Some(address) = self.seed_listen {
            put(&SEED_LISTEN, address.to_string().into());
        }
        table.to_string()
    }
}

/// TOML integers are signed 64-bit; no key of ours comes near.
fn to_integer(value: u64) -> toml::Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
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

    fn require_path(&mut self, key: &Key) -> Result<PathBuf, ConfigError> {
        let path = self.require(key, |path: &PathBuf| !path.as_os_str().is_empty())?;
        Ok(match self.file.parent() {
            Some(directory) => directory.join(path),
            None => path,
        })
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
        assert_eq!(config.network_file, Path::new("/etc/cepa/network.json"));
        assert_eq!(config.shard_cpus, all_cpus());
        assert!(!config.allow_aes_cbc);
        assert_eq!(config.segment_size_mib, SEGMENT_SIZE_MIB_DEFAULT);
        assert_eq!(config.store_capacity_mib, STORE_CAPACITY_MIB_DEFAULT);
        assert_eq!(config.account_size_max_mib, ACCOUNT_SIZE_MAX_MIB_DEFAULT);
        assert_eq!(config.foreign_grace_hours, FOREIGN_GRACE_HOURS_DEFAULT);
        assert_eq!(config.relaxed_durability_ms, None, "an explicit choice");
        assert_eq!((config.admin_listen, config.seed_listen), (None, None));
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
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
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
        ];
        for (name, value) in malformed {
            let fault = parse(&with(name, &format!("{name} = {value}"))).unwrap_err();
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            let expected = format!(
                "/etc/cepa/cepa.toml: the key `{name}` must be {}, not {value}",
                key.expected
            );
            assert_eq!(fault, expected);
        }
    }

    #[test]
    fn a_missing_key_is_refused_by_its_name() {
        for key in [BIND_IP, HTTPS_PORT, OMQ_PORT, DATA_DIR, NETWORK_FILE] {
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
        for key in KEYS {
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
        // What is commented out is the default or an example that parses.
        let all: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if KEYS.iter().any(|key| rest.starts_with(key.name)) => rest,
                _ => line,
            })
            .collect();
        Config::parse(&all.join("\n"), &file).unwrap();
    }
}
