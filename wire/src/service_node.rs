//! A service node as `network.json`, seeds and answers describe it.

use core::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::answer::Tree;
use crate::{Ed25519PublicKey, X25519PublicKey};

/// One relay of the network: its keys, its address and the swarm that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNode {
    /// Public address.
    pub ip: Ipv4Addr,
    /// TCP port of its HTTPS edge.
    pub port: u16,
    /// TCP port of its OMQ listener (and UDP port of its QUIC listener, when it has one).
    pub omq_port: u16,
    /// The key that names it in onions and signs its answers.
    pub pubkey_ed25519: Ed25519PublicKey,
    /// The key that onion layers and CURVE are addressed to.
    pub pubkey_x25519: X25519PublicKey,
    /// The key that names it on the chain.
    pub pubkey_legacy: [u8; 32],
    /// Its swarm; [`ServiceNode::NO_SWARM`] while it is decommissioned.
    pub swarm_id: u64,
    /// The version of the storage server that it reports.
    pub storage_server_version: [u16; 3],
}

impl ServiceNode {
    /// The swarm id of a node that is in no swarm.
    pub const NO_SWARM: u64 = u64::MAX;
    /// The version of a node whose source does not tell: what nodes of the network report.
    pub const VERSION_DEFAULT: [u16; 3] = [2, 11, 0];

    /// Whether it can be reached as far as its entry tells: the chain daemon lists nodes whose first
    /// proof is still to come with the address 0.0.0.0 and ports 0.
    pub const fn is_contactable(&self) -> bool {
        !self.ip.is_unspecified() && self.port != 0 && self.omq_port != 0
    }

    /// An entry of `network.json`: `{"ip","port","omq_port","pubkey_ed25519","pubkey_x25519",
    /// "pubkey_legacy","swarm_id","storage_server_version"}`, the swarm id in decimal as a string.
    pub fn to_network_json(&self) -> Value {
        json!({
            "ip": self.ip.to_string(),
            "port": self.port,
            "omq_port": self.omq_port,
            "pubkey_ed25519": self.pubkey_ed25519.to_hex(),
            "pubkey_x25519": self.pubkey_x25519.to_hex(),
            "pubkey_legacy": hex::encode(self.pubkey_legacy),
            "swarm_id": self.swarm_id.to_string(),
            "storage_server_version": self.storage_server_version,
        })
    }

    /// Reads an entry of `network.json`; the error names the key that is missing or malformed.
    pub fn from_network_json(value: &Value) -> Result<Self, String> {
        let swarm_id = value.get("swarm_id").and_then(Value::as_str);
        let swarm_id = swarm_id.and_then(|id| id.parse().ok());
        Ok(Self {
            ip: read_ip(value, "ip")?,
            port: read_port(value, "port")?,
            omq_port: read_port(value, "omq_port")?,
            pubkey_ed25519: Ed25519PublicKey(read_key(value, "pubkey_ed25519")?),
            pubkey_x25519: X25519PublicKey(read_key(value, "pubkey_x25519")?),
            pubkey_legacy: read_key(value, "pubkey_legacy")?,
            swarm_id: swarm_id.ok_or_else(|| {
                "`swarm_id` must be a decimal number below 2^64, written as a string".to_owned()
            })?,
            storage_server_version: Self::read_version(value),
        })
    }

    /// An entry of `service_node_states` as oxend's `get_n_service_nodes` and `get_service_nodes`
    /// give it.
    pub fn to_oxend_json(&self) -> Map<String, Value> {
        let active = self.swarm_id != Self::NO_SWARM;
        let fields = [
            ("active", active.into()),
            ("funded", true.into()),
            ("public_ip", self.ip.to_string().into()),
            ("pubkey_ed25519", self.pubkey_ed25519.to_hex().into()),
            ("pubkey_x25519", self.pubkey_x25519.to_hex().into()),
            ("quorumnet_port", 0.into()),
            ("height", 0.into()),
            ("requested_unlock_height", 0.into()),
            (
                "service_node_pubkey",
                hex::encode(self.pubkey_legacy).into(),
            ),
            ("storage_lmq_port", self.omq_port.into()),
            ("storage_port", self.port.into()),
            ("storage_server_version", json!(self.storage_server_version)),
            ("swarm", format!("{:x}", self.swarm_id).into()),
            ("swarm_id", self.swarm_id.into()),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Reads an entry of `service_node_states`. Only ip, port, `pubkey_ed25519` and `pubkey_x25519`
    /// are required; what is absent is zero or [`Self::NO_SWARM`].
    pub fn from_oxend_json(value: &Value) -> Result<Self, String> {
        Ok(Self {
            ip: read_ip(value, "public_ip")?,
            port: read_port(value, "storage_port")?,
            omq_port: read_port(value, "storage_lmq_port").unwrap_or(0),
            pubkey_ed25519: Ed25519PublicKey(read_key(value, "pubkey_ed25519")?),
            pubkey_x25519: X25519PublicKey(read_key(value, "pubkey_x25519")?),
            pubkey_legacy: read_key(value, "service_node_pubkey").unwrap_or_default(),
            swarm_id: value
                .get("swarm_id")
                .and_then(Value::as_u64)
                .unwrap_or(Self::NO_SWARM),
            storage_server_version: Self::read_version(value),
        })
    }

    /// `storage_server_version` of an entry; [`Self::VERSION_DEFAULT`] where there is none.
    pub(crate) fn read_version(value: &Value) -> [u16; 3] {
        let part = |part: &Value| part.as_u64().and_then(|part| u16::try_from(part).ok());
        let version = value
            .get("storage_server_version")
            .and_then(Value::as_array);
        match version.map(Vec::as_slice) {
            Some([major, minor, patch]) => match (part(major), part(minor), part(patch)) {
                (Some(major), Some(minor), Some(patch)) => [major, minor, patch],
                _ => Self::VERSION_DEFAULT,
            },
            _ => Self::VERSION_DEFAULT,
        }
    }

    /// Its name in swarm answers: the legacy key in base32z, and `.snode`.
    pub fn address(&self) -> String {
        base32z(&self.pubkey_legacy) + ".snode"
    }

    /// Its name as the host of a reachability test: the Ed25519 key in base32z, and `.snode`.
    pub fn host_name(&self) -> String {
        base32z(self.pubkey_ed25519.as_bytes()) + ".snode"
    }

    /// An entry of `snodes` in a swarm answer: `address`, `ip`, `port` (a string), `port_https`,
    /// `port_omq`, `port_quic`, and the three keys in hex, in bt as well.
    pub fn to_swarm_tree(&self) -> Tree {
        let port = |port: u16| Tree::Integer(i64::from(port));
        Tree::dict([
            ("address", Tree::text(self.address())),
            ("ip", Tree::text(self.ip.to_string())),
            ("port", Tree::text(self.port.to_string())),
            ("port_https", port(self.port)),
            ("port_omq", port(self.omq_port)),
            ("port_quic", port(self.omq_port)),
            ("pubkey_ed25519", Tree::text(self.pubkey_ed25519.to_hex())),
            ("pubkey_legacy", Tree::text(hex::encode(self.pubkey_legacy))),
            ("pubkey_x25519", Tree::text(self.pubkey_x25519.to_hex())),
        ])
    }

    /// Reads an entry of `snodes` (JSON) in a swarm answer. Which swarm it is, the entry does not say.
    pub fn from_swarm_json(value: &Value) -> Result<Self, String> {
        let port = value
            .get("port")
            .and_then(Value::as_str)
            .and_then(|port| port.parse().ok());
        let port = match port {
            Some(port) => port,
            None => read_port(value, "port_https")?,
        };
        Ok(Self {
            ip: read_ip(value, "ip")?,
            port,
            omq_port: read_port(value, "port_omq").unwrap_or(0),
            pubkey_ed25519: Ed25519PublicKey(read_key(value, "pubkey_ed25519")?),
            pubkey_x25519: X25519PublicKey(read_key(value, "pubkey_x25519")?),
            pubkey_legacy: read_key(value, "pubkey_legacy").unwrap_or_default(),
            swarm_id: Self::NO_SWARM,
            storage_server_version: Self::VERSION_DEFAULT,
        })
    }
}

fn read_ip(value: &Value, name: &str) -> Result<Ipv4Addr, String> {
    let ip = value
        .get(name)
        .and_then(Value::as_str)
        .and_then(|ip| ip.parse().ok());
    ip.ok_or_else(|| format!("`{name}` must be an IPv4 address"))
}

fn read_port(value: &Value, name: &str) -> Result<u16, String> {
    let port = value
        .get(name)
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| format!("`{name}` must be a port number"))
}

fn read_key(value: &Value, name: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    let text = value.get(name).and_then(Value::as_str);
    text.and_then(|text| hex::decode_to_slice(text, &mut key).ok())
        .map(|()| key)
        .ok_or_else(|| format!("`{name}` must be a key of 64 hex digits"))
}

/// base32z (Zooko's alphabet), most significant bit first, without padding.
fn base32z(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let bit_at = |index: usize| {
        bytes
            .get(index / 8)
            .map_or(0, |byte| usize::from(byte >> (7 - index % 8) & 1))
    };
    (0..(bytes.len() * 8).div_ceil(5))
        .map(|group| (0..5).fold(0, |digit, bit| digit << 1 | bit_at(group * 5 + bit)))
        .filter_map(|digit| ALPHABET.get(digit).copied().map(char::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> ServiceNode {
        let key = "95a9c746fc617992aeea4ecaf4f168b559422e8eae5f452ca5c4f15acc35b2f5";
        ServiceNode {
            ip: Ipv4Addr::LOCALHOST,
            port: 28400,
            omq_port: 28500,
            pubkey_ed25519: Ed25519PublicKey::from_hex(key.as_bytes()).unwrap(),
            pubkey_x25519: X25519PublicKey([2; 32]),
            pubkey_legacy: [3; 32],
            swarm_id: (1 << 63) + 1,
            storage_server_version: [2, 10, 300],
        }
    }

    #[test]
    fn every_form_is_read_as_it_is_written() {
        let node = node();
        assert_eq!(
            ServiceNode::from_network_json(&node.to_network_json()),
            Ok(node.clone())
        );
        let oxend = Value::Object(node.to_oxend_json());
        assert_eq!(ServiceNode::from_oxend_json(&oxend), Ok(node.clone()));
        let swarm = serde_json::from_slice(&node.to_swarm_tree().to_json()).unwrap();
        let without_swarm = ServiceNode {
            swarm_id: ServiceNode::NO_SWARM,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
            ..node
        };
        assert_eq!(ServiceNode::from_swarm_json(&swarm), Ok(without_swarm));
    }

    #[test]
    fn the_address_is_that_of_a_real_node() {
        // golden.json, get_swarm.
        let legacy = "75119ee4090c4122a6e50a69dca4a88de81f1085353b4ed028bf5672d6c3d0da";
        let pubkey_legacy = hex::decode(legacy).unwrap().try_into().unwrap();
        let node = ServiceNode {
            pubkey_legacy,
            ..node()
        };
        let address = "qwe373yjbty1fjzfbjw73jfetzwb6rrfgw7w7wbez7m8fisd4dpy.snode";
        assert_eq!(node.address(), address);
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in [
            "ip",
            "port",
            "omq_port",
            "pubkey_ed25519",
            "pubkey_legacy",
            "swarm_id",
        ] {
            let mut entry = node().to_network_json();
            entry.as_object_mut().unwrap().remove(name);
            let error = ServiceNode::from_network_json(&entry).unwrap_err();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }
}
