//! The network view as a file: `network.json`. Read at the start, watched while we run, written by
//! `cepa devnet`.
//!
//! ```json
//! {"seed_url": "http://127.0.0.1:38157/json_rpc", "service_nodes": [{"ip": "...", ...}]}
//! ```
//! Each node is an entry as [`ServiceNode::to_network_json`] writes it; `seed_url` is for clients and
//! may be absent.

use core::time::Duration;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cepa_wire::ServiceNode;
use serde_json::{Value, json};
use thiserror::Error;
use tracing::{info, warn};

/// Most bytes of a `network.json`: 2,000 nodes, the size of the network, are 0.7 MB; this is ten times
/// as many.
pub const FILE_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// How often the file's metadata is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The content of a `network.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Where clients ask for the node list.
    pub seed_url: Option<String>,
    /// All nodes, no key twice.
    pub service_nodes: Vec<ServiceNode>,
}

/// Why a `network.json` is refused.
#[derive(Debug, Error)]
pub enum NetworkFileError {
    /// The file can't be read or written.
    #[error("cannot {verb} the network file {}: {source}", file.display())]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than [`FILE_SIZE_MAX`].
    #[error("the network file {} is larger than {FILE_SIZE_MAX} bytes", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file does not describe a network.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// Which file.
        file: PathBuf,
        /// Which key, of which entry, and what is wrong with it.
        reason: String,
    },
}

impl Network {
    /// Reads a `network.json`.
    pub fn read(file: &Path) -> Result<Self, NetworkFileError> {
        let mut text = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(FILE_SIZE_MAX + 1).read_to_end(&mut text))
            .map_err(|source| NetworkFileError::File {
                verb: "read",
                file: file.into(),
                source,
            })?;
        if text.len() as u64 > FILE_SIZE_MAX {
            return Err(NetworkFileError::TooLarge { file: file.into() });
        }
        Self::parse(&text).map_err(|reason| NetworkFileError::Malformed {
            file: file.into(),
            reason,
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|fault| fault.to_string())?;
        let Value::Object(keys) = value else {
            return Err("it must be a JSON object".to_owned());
        };
        let mut network = Self::default();
        let mut has_nodes = false;
        for (key, value) in keys {
            match (key.as_str(), value) {
                ("seed_url", Value::String(url)) => network.seed_url = Some(url),
                ("seed_url", Value::Null) => {}
                ("seed_url", _) => return Err("seed_url: it must be a URL as text".to_owned()),
                ("service_nodes", Value::Array(entries)) => {
                    has_nodes = true;
                    network.service_nodes = parse_nodes(&entries)?;
                }
                ("service_nodes", _) => return Err("service_nodes: it must be a list".to_owned()),
                _ => return Err(format!("{key}: unknown key")),
            }
        }
        if has_nodes {
            Ok(network)
        } else {
            Err("service_nodes: missing".to_owned())
        }
    }

    /// Writes a `network.json`: a new file that takes the old one's place, so that no reader sees half
    /// of it.
    pub fn write(&self, file: &Path) -> Result<(), NetworkFileError> {
        let nodes = self.service_nodes.iter();
        let mut value = json!({
            "service_nodes": nodes.map(ServiceNode::to_network_json).collect::<Vec<_>>(),
        });
        if let Some(url) = &self.seed_url {
            value["seed_url"] = json!(url);
        }
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        File::create(&partial)
            .and_then(|mut created| writeln!(created, "{value:#}"))
            .and_then(|()| fs::rename(&partial, file))
            .map_err(|source| NetworkFileError::File {
                verb: "write",
                file: file.into(),
                source,
            })
    }
}

fn parse_nodes(entries: &[Value]) -> Result<Vec<ServiceNode>, String> {
    let mut nodes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let node = ServiceNode::from_network_json(entry)
            .map_err(|reason| format!("service_nodes[{index}]: {reason}"))?;
        nodes.push(node);
    }
    let mut by_key: Vec<_> = nodes
        .iter()
        .map(|node| node.pubkey_ed25519)
        .zip(0..)
        .collect();
    by_key.sort_unstable();
    for pair in by_key.windows(2) {
        if let [(key, index), (next_key, next_index)] = pair
            && key == next_key
        {
            return Err(format!(
                "service_nodes[{next_index}]: pubkey_ed25519 is that of service_nodes[{index}]"
            ));
        }
    }
    Ok(nodes)
}

/// A `network.json` that is watched.
#[derive(Debug)]
pub struct NetworkFile {
    file: PathBuf,
    seen: Option<Stamp>,
}

/// What changes when a file does. A file that is replaced within the clock's granularity has another
/// inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified_s: i64,
    modified_ns: i64,
    size: u64,
    inode: u64,
}

impl Stamp {
    /// `None` while the file is not there.
    fn of(file: &Path) -> Option<Self> {
        fs::metadata(file).ok().map(|metadata: Metadata| Self {
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            size: metadata.size(),
            inode: metadata.ino(),
        })
    }
}

impl NetworkFile {
    /// Reads the file for the first time.
    pub fn open(file: &Path) -> Result<(Self, Network), NetworkFileError> {
        // The stamp is older than what is read: a change between the two is seen by the next poll.
        let seen = Stamp::of(file);
        let network = Network::read(file)?;
        let file = file.to_owned();
        Ok((Self { file, seen }, network))
    }

    /// Reads the file again if it has changed since the last time, however that went.
    pub fn poll(&mut self) -> Option<Result<Network, NetworkFileError>> {
        let stamp = Stamp::of(&self.file);
        if stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        Some(Network::read(&self.file))
    }

    /// Looks at the file every second and publishes the nodes of each new version, until the future is
    /// dropped. A version that can't be read is logged once, and the last view stays.
    pub async fn watch(mut self, publish: impl Fn(Vec<ServiceNode>)) -> ! {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        loop {
            ticks.tick().await;
            match self.poll() {
                None => {}
                Some(Ok(network)) => {
                    info!(nodes = network.service_nodes.len(), "new network view");
                    publish(network.service_nodes);
                }
                Some(Err(fault)) => warn!(%fault, "the last network view stays"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

    use super::*;

    fn node(index: u8) -> ServiceNode {
        ServiceNode {
            ip: Ipv4Addr::new(127, 0, 0, index),
            port: 22_021,
            omq_port: 22_020,
            pubkey_ed25519: Ed25519PublicKey([index; 32]),
            pubkey_x25519: X25519PublicKey([index.wrapping_add(1); 32]),
            pubkey_legacy: [index.wrapping_add(2); 32],
            swarm_id: u64::MAX - u64::from(index),
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    fn network(count: u8) -> Network {
        Network {
            seed_url: Some("http://127.0.0.1:1/json_rpc".to_owned()),
            service_nodes: (1..=count).map(node).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        for network in [network(3), Network::default()] {
            network.write(&file).unwrap();
            assert_eq!(Network::read(&file).unwrap(), network);
        }
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "no partial file stays"
        );
    }

    #[test]
    fn a_bad_file_is_refused_by_name_and_index() {
        let good = json!({"service_nodes": [node(1).to_network_json(), node(2).to_network_json()]});
        let edited = |pointer: &str, value: Value| {
            let mut edited = good.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            edited.to_string()
        };
        let mut without_port = good.clone();
        let entry = without_port.pointer_mut("/service_nodes/1").unwrap();
        entry.as_object_mut().unwrap().remove("port").unwrap();
        let duplicate = edited("/service_nodes/1", node(1).to_network_json());
        let table: [(&str, String, &[&str]); 9] = [
            ("no JSON", "{".to_owned(), &["line 1"]),
            ("no object", "[]".to_owned(), &["object"]),
            ("no nodes", "{}".to_owned(), &["service_nodes: missing"]),
            (
                "nodes as text",
                edited("/service_nodes", json!("x")),
                &["service_nodes: it must"],
            ),
            (
                "unknown key",
                "{\"nodes\": []}".to_owned(),
                &["nodes: unknown key"],
            ),
            (
                "no port",
                without_port.to_string(),
                &["service_nodes[1]", "port"],
            ),
            (
                "bad ip",
                edited("/service_nodes/0/ip", json!("::1")),
                &["service_nodes[0]", "ip"],
            ),
            (
                "short key",
                edited("/service_nodes/1/pubkey_x25519", json!("ab")),
                &["service_nodes[1]", "pubkey_x25519"],
            ),
            (
                "same key",
                duplicate,
                &["service_nodes[1]: pubkey_ed25519 is that of service_nodes[0]"],
            ),
        ];
        for (case, text, expected) in table {
            let reason = Network::parse(text.as_bytes()).unwrap_err();
            for part in expected {
                assert!(reason.contains(part), "{case}: {reason}");
            }
        }
        let bad_url = Network::parse(b"{\"seed_url\": 1, \"service_nodes\": []}").unwrap_err();
        assert!(bad_url.starts_with("seed_url: "), "{bad_url}");
    }

    #[test]
    fn too_large_a_file_is_refused_unread() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        let sparse = File::create(&file).unwrap();
        sparse.set_len(FILE_SIZE_MAX + 1).unwrap();
        let fault = Network::read(&file).unwrap_err();
        assert!(
            matches!(fault, NetworkFileError::TooLarge { .. }),
            "{fault}"
        );
    }

    #[test]
    fn each_version_is_seen_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        network(1).write(&file).unwrap();
        let (mut watched, first) = NetworkFile::open(&file).unwrap();
        assert_eq!(first, network(1));
        assert!(watched.poll().is_none());

        network(2).write(&file).unwrap();
        assert_eq!(watched.poll().unwrap().unwrap(), network(2));
        assert!(watched.poll().is_none());

        fs::write(&file, "{}").unwrap();
        assert!(watched.poll().unwrap().is_err());
        assert!(watched.poll().is_none(), "a bad version is reported once");

        fs::remove_file(&file).unwrap();
        assert!(watched.poll().unwrap().is_err());
        assert!(watched.poll().is_none());

        network(2).write(&file).unwrap();
        assert_eq!(watched.poll().unwrap().unwrap(), network(2));
    }
}
