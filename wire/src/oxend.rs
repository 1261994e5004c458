//! What the chain daemon tells of the network: the answer to `rpc.get_service_nodes`
//! (`../shared/protocol/session-node.md`, "Obligations towards `oxend`").

use core::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::{Ed25519PublicKey, ServiceNode, X25519PublicKey};

/// The fields that are asked for, of the answer and of each node.
const FIELDS: [&str; 16] = [
    "active",
    "block_hash",
    "earned_downtime_blocks",
    "funded",
    "hardfork",
    "height",
    "last_uptime_proof",
    "pubkey_ed25519",
    "pubkey_x25519",
    "public_ip",
    "service_node_pubkey",
    "snode_revision",
    "storage_lmq_port",
    "storage_port",
    "storage_server_version",
    "swarm_id",
];

/// The network at one block, as the chain daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OxendView {
    /// Every funded node whose keys are known; those that are decommissioned are in
    /// [`ServiceNode::NO_SWARM`]. One whose first proof is still to come has the address 0.0.0.0 or a
    /// port 0 ([`ServiceNode::is_contactable`]): it is a member of its swarm, and can't be asked.
    pub nodes: Vec<ServiceNode>,
    /// The height of the block.
    pub height: u64,
    /// The hash of the block.
    pub block_hash: [u8; 32],
    /// The rules in force: hard fork and its revision.
    pub hard_fork: (u16, u16),
    /// Funded nodes that `nodes` does not hold, since the daemon does not know their keys yet.
    pub keyless_count: usize,
}

/// An answer to `rpc.get_service_nodes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// There is no block since the one that was told as known.
    Unchanged,
    /// The network.
    View(OxendView),
}

impl Listing {
    /// The parameters that ask for what [`Self::parse`] reads; with `known`, only if the newest block
    /// is another.
    pub fn query(known: Option<&[u8; 32]>) -> Value {
        match known {
            Some(hash) => json!({
                "fields": FIELDS,
                "active_only": false,
                "poll_block_hash": hex::encode(hash),
            }),
            None => json!({ "fields": FIELDS, "active_only": false }),
        }
    }

    /// Reads an answer. The error says what is wrong with it, by the keys.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|fault| fault.to_string())?;
        if body.get("unchanged").and_then(Value::as_bool) == Some(true) {
            return Ok(Self::Unchanged);
        }
        let states = body.get("service_node_states").and_then(Value::as_array);
        let states = states.ok_or("`service_node_states` must be a list")?;
        let number = |name: &str| body.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|number| u16::try_from(number).ok());
        let mut view = OxendView {
            nodes: Vec::with_capacity(states.len()),
            height: number("height").ok_or("`height` must be a number")?,
            block_hash: read_key(&body, "block_hash").ok_or("`block_hash` must be 64 digits")?,
            hard_fork: (
                small("hardfork").ok_or("`hardfork` must be a number")?,
                small("snode_revision").unwrap_or(0),
            ),
            keyless_count: 0,
        };
        for (index, state) in states.iter().enumerate() {
            if state.get("funded").and_then(Value::as_bool) == Some(false) {
                continue;
            }
            match read_node(state) {
                Ok(Some(node)) => view.nodes.push(node),
                Ok(None) => view.keyless_count += 1,
                Err(fault) => return Err(format!("service_node_states[{index}]: {fault}")),
            }
        }
        Ok(Self::View(view))
    }
}

/// What the chain says of one node, for its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// It serves; false while it is decommissioned.
    pub is_active: bool,
    /// Blocks that it may be decommissioned for before it is deregistered: earned, or left.
    pub credit_blocks: Option<u64>,
    /// When the daemon last saw a proof of its uptime, in seconds since 1970.
    pub last_proof: Option<u64>,
}

impl Registration {
    /// That of a node, in the answer that [`Listing::parse`] reads as well; `None` when the answer does not name
    /// it.
    pub fn find(body: &[u8], pubkey_legacy: &[u8; 32]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let states = body.get("service_node_states")?.as_array()?;
        let is_it = |state: &&Value| {
            read_key(state, "service_node_pubkey").is_some_and(|key| key == *pubkey_legacy)
        };
        let state = states.iter().find(is_it)?;
        let number = |name: &str| state.get(name).and_then(Value::as_u64);
        Some(Self {
            is_active: state.get("active").and_then(Value::as_bool) != Some(false),
            credit_blocks: number("earned_downtime_blocks"),
            last_proof: number("last_uptime_proof").filter(|at| *at > 0),
        })
    }
}

impl OxendView {
    /// Nodes in a swarm that can't be reached yet, and those without keys.
    pub fn uncontactable_count(&self) -> usize {
        let members = self
            .nodes
            .iter()
            .filter(|node| node.swarm_id != ServiceNode::NO_SWARM);
        self.keyless_count + members.filter(|node| !node.is_contactable()).count()
    }
}

/// A node; `None` when the daemon does not know its keys.
fn read_node(state: &Value) -> Result<Option<ServiceNode>, &'static str> {
    let pubkey_legacy =
        read_key(state, "service_node_pubkey").ok_or("`service_node_pubkey` must be a key")?;
    let is_absent = |name: &str| state.get(name).is_none_or(|key| key.is_null() || key == "");
    if is_absent("pubkey_ed25519") || is_absent("pubkey_x25519") {
        return Ok(None);
    }
    let pubkey_ed25519 =
        read_key(state, "pubkey_ed25519").ok_or("`pubkey_ed25519` must be a key")?;
    let pubkey_x25519 = read_key(state, "pubkey_x25519").ok_or("`pubkey_x25519` must be a key")?;
    let swarm_id = state.get("swarm_id").and_then(Value::as_u64);
    let swarm_id = swarm_id.ok_or("`swarm_id` must be a number")?;
    let is_active = state.get("active").and_then(Value::as_bool) != Some(false);
    let ip = state.get("public_ip").and_then(Value::as_str);
    let port = |name: &str| state.get(name).and_then(Value::as_u64);
    let port = |name: &str| port(name).and_then(|port| u16::try_from(port).ok());
    Ok(Some(ServiceNode {
        ip: ip
            .and_then(|ip| ip.parse().ok())
            .unwrap_or(Ipv4Addr::UNSPECIFIED),
        port: port("storage_port").unwrap_or(0),
        omq_port: port("storage_lmq_port").unwrap_or(0),
        pubkey_ed25519: Ed25519PublicKey(pubkey_ed25519),
        pubkey_x25519: X25519PublicKey(pubkey_x25519),
        pubkey_legacy,
        swarm_id: if is_active {
            swarm_id
        } else {
            ServiceNode::NO_SWARM
        },
        storage_server_version: ServiceNode::read_version(state),
    }))
}

fn read_key(value: &Value, name: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let text = value.get(name)?.as_str()?;
    hex::decode_to_slice(text, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        hex::encode([byte; 32])
    }

    fn body(states: &Value) -> Vec<u8> {
        json!({
            "height": 9, "block_hash": key(9), "hardfork": 20, "snode_revision": 1,
            "status": "OK", "service_node_states": states,
        })
        .to_string()
        .into_bytes()
    }

    fn state(legacy: u8) -> Value {
        json!({
            "service_node_pubkey": key(legacy), "pubkey_ed25519": key(2), "pubkey_x25519": key(3),
            "public_ip": "203.0.113.7", "storage_port": 22021, "storage_lmq_port": 22020,
            "swarm_id": 5, "funded": true, "active": true, "storage_server_version": [2, 10, 1],
        })
    }

    fn with(legacy: u8, name: &str, value: Value) -> Value {
        let mut state = state(legacy);
        state[name] = value;
        state
    }

    fn view(states: &Value) -> OxendView {
        match Listing::parse(&body(states)) {
            Ok(Listing::View(view)) => view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_becomes_a_view() {
        let view = view(&json!([
            state(10),
            with(11, "active", false.into()),
            with(12, "swarm_id", u64::MAX.into()),
            with(13, "funded", false.into()),
            with(14, "pubkey_x25519", "".into()),
            with(15, "public_ip", "0.0.0.0".into()),
            with(16, "storage_lmq_port", 0.into()),
            with(17, "storage_server_version", Value::Null),
        ]));
        assert_eq!((view.height, view.block_hash), (9, [9; 32]));
        assert_eq!(view.hard_fork, (20, 1));
        let nodes = view.nodes.iter();
        let seen: Vec<_> = nodes
            .map(|node| (node.pubkey_legacy[0], node.swarm_id, node.is_contactable()))
            .collect();
        let none = ServiceNode::NO_SWARM;
        let expected = [
            (10, 5, true),
            (11, none, true),
            (12, none, true),
            (15, 5, false),
            (16, 5, false),
            (17, 5, true),
        ];
        assert_eq!(seen, expected);
        assert_eq!(view.keyless_count, 1);
        assert_eq!(view.uncontactable_count(), 3);
        assert_eq!(view.nodes[0].storage_server_version, [2, 10, 1]);
        let unknown = view.nodes.last().unwrap();
        assert_eq!(unknown.storage_server_version, ServiceNode::VERSION_DEFAULT);
    }

    #[test]
    fn a_node_finds_what_the_chain_says_of_it() {
        let mut proven = with(11, "last_uptime_proof", 1_700_000_000.into());
        proven["earned_downtime_blocks"] = 60.into();
        let body = body(&json!([
            state(10),
            proven,
            with(12, "active", false.into())
        ]));
        let found = |legacy| Registration::find(&body, &[legacy; 32]);
        let plain = Registration {
            is_active: true,
            credit_blocks: None,
            last_proof: None,
        };
        assert_eq!(found(10), Some(plain));
        let proven = Registration {
            credit_blocks: Some(60),
            last_proof: Some(1_700_000_000),
            ..plain
        };
        assert_eq!(found(11), Some(proven));
        assert!(!found(12).unwrap().is_active);
        assert_eq!(found(13), None);
        assert_eq!(Registration::find(b"{\"unchanged\": true}", &[1; 32]), None);
    }

    #[test]
    fn unchanged_is_told_whatever_else_stands_there() {
        let unchanged = br#"{"unchanged": true, "status": "OK"}"#;
        assert_eq!(Listing::parse(unchanged), Ok(Listing::Unchanged));
        let query = Listing::query(Some(&[9; 32]));
        assert_eq!(query["poll_block_hash"], key(9));
        assert!(Listing::query(None).get("poll_block_hash").is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (json!([with(1, "swarm_id", "5".into())]), "`swarm_id`"),
            (
                json!([state(1), with(1, "service_node_pubkey", 5.into())]),
                "[1]: `service_node_pubkey`",
            ),
            (
                json!([with(1, "pubkey_ed25519", "ab".into())]),
                "`pubkey_ed25519`",
            ),
            (json!({}), "`service_node_states`"),
        ];
        for (states, expected) in table {
            let fault = Listing::parse(&body(&states)).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
        assert!(Listing::parse(b"{").is_err());
    }
}
