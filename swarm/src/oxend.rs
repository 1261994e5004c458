//! Answers of the chain daemon that are given from the view: the list of service nodes. Clients ask
//! members for it inside onions, and seeds over JSON-RPC
//! (`../shared/protocol/session-client.md`, sections 3.2 and 5).

use std::collections::BTreeSet;

use bytes::Bytes;
use cepa_wire::{Ed25519PublicKey, ServiceNode};
use serde_json::{Map, Value, json};

use crate::view::Chain;

/// Fields of a node that the view knows as well as the chain daemon does.
const FIELDS_IN_VIEW: [&str; 9] = [
    "public_ip",
    "pubkey_ed25519",
    "pubkey_x25519",
    "service_node_pubkey",
    "storage_lmq_port",
    "storage_port",
    "storage_server_version",
    "swarm",
    "swarm_id",
];

/// What the chain daemon says to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum OxendReply {
    /// Its result.
    Result(Value),
    /// It refuses; its words.
    Refused(String),
    /// It says something that is no JSON.
    Unparsable,
    /// It says nothing, or can't be reached.
    NoReply,
}

impl OxendReply {
    /// Reads the parts of its reply: `[code][body]`; `None` is none in time.
    pub fn parse(parts: Option<&[Bytes]>) -> Self {
        match parts {
            Some([code, body, ..]) if code.as_ref() == b"200" => {
                serde_json::from_slice(body).map_or(Self::Unparsable, Self::Result)
            }
            Some([_, body, ..]) if !body.is_empty() => {
                Self::Refused(String::from_utf8_lossy(body).into_owned())
            }
            _ => Self::NoReply,
        }
    }
}

/// The parameters of `get_service_nodes` and `get_n_service_nodes`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServiceNodesQuery {
    /// Leave out nodes that are in no swarm.
    active_only: bool,
    /// So many nodes at most.
    limit: Option<usize>,
    /// Only these; empty means all.
    legacy_keys: BTreeSet<[u8; 32]>,
    /// Only these fields of each node; `None` means all.
    fields: Option<BTreeSet<String>>,
}

impl ServiceNodesQuery {
    /// Reads parameters; null means none. The error says what is wrong with them.
    pub fn parse(params: &Value) -> Result<Self, &'static str> {
        let mut query = Self::default();
        let params = match params {
            Value::Null => return Ok(query),
            Value::Object(params) => params,
            _ => return Err("Invalid params: params must be an object"),
        };
        for (name, value) in params {
            match name.as_str() {
                "active_only" => {
                    query.active_only = value
                        .as_bool()
                        .ok_or("Invalid params: active_only must be a boolean")?;
                }
                "limit" => query.limit = parse_limit(value)?,
                "service_node_pubkeys" => query.legacy_keys = parse_keys(value)?,
                "fields" => query.fields = parse_fields(value)?,
                _ => {}
            }
        }
        Ok(query)
    }

    /// The result. With a limit, `rotation` says where in the list to begin, so that not everybody
    /// gets the same few nodes.
    pub fn run<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a ServiceNode>,
        rotation: usize,
        chain: Chain,
    ) -> Value {
        let mut nodes: Vec<&ServiceNode> = nodes
            .into_iter()
            .filter(|node| !self.active_only || node.swarm_id != ServiceNode::NO_SWARM)
            .filter(|node| {
                self.legacy_keys.is_empty() || self.legacy_keys.contains(&node.pubkey_legacy)
            })
            .collect();
        if let Some(limit) = self.limit.filter(|limit| *limit < nodes.len()) {
            let start = rotation.checked_rem(nodes.len()).unwrap_or(0);
            nodes.rotate_left(start);
            nodes.truncate(limit);
        }
        let states: Vec<Value> = nodes
            .into_iter()
            .map(|node| self.project(node.to_oxend_json()))
            .collect();
        json!({
            "hardfork": chain.hard_fork[0],
            "height": chain.height,
            "snode_revision": chain.hard_fork[1],
            "service_node_states": states,
            "status": "OK",
        })
    }

    /// Whether the view says all that is asked for.
    pub fn is_in_view(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| {
            fields
                .iter()
                .all(|field| FIELDS_IN_VIEW.contains(&field.as_str()))
        })
    }

    fn project(&self, mut state: Map<String, Value>) -> Value {
        if let Some(fields) = &self.fields {
            state.retain(|name, _| fields.contains(name));
        }
        Value::Object(state)
    }
}

/// A limit of 0 is none, as in oxend.
fn parse_limit(value: &Value) -> Result<Option<usize>, &'static str> {
    let limit = value
        .as_u64()
        .ok_or("Invalid params: limit must be a number")?;
    Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0))
}

fn parse_keys(value: &Value) -> Result<BTreeSet<[u8; 32]>, &'static str> {
    // A legacy key has the form of an Ed25519 key.
    let parse_key = |key: &Value| Ed25519PublicKey::from_hex(key.as_str()?.as_bytes());
    let keys = value.as_array().and_then(|keys| {
        keys.iter()
            .map(|key| parse_key(key).map(|key| key.0))
            .collect()
    });
    keys.ok_or("Invalid params: service_node_pubkeys must be a list of keys in hex")
}

/// `{"public_ip": true, ...}` as desktop sends it, or `["public_ip", ...]` as Android does. None at
/// all, or `all` among them, means every field.
fn parse_fields(value: &Value) -> Result<Option<BTreeSet<String>>, &'static str> {
    const MALFORMED: &str =
        "Invalid params: fields must be an object of booleans or a list of names";
    let fields: BTreeSet<String> = match value {
        Value::Object(fields) => fields
            .iter()
            .filter_map(|(name, wanted)| match wanted {
                Value::Bool(true) => Some(Ok(name.clone())),
                Value::Bool(false) => None,
                _ => Some(Err(MALFORMED)),
            })
            .collect::<Result<_, _>>()?,
        Value::Array(fields) => fields
            .iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or(MALFORMED))
            .collect::<Result<_, _>>()?,
        _ => return Err(MALFORMED),
    };
    let is_everything = fields.is_empty() || fields.contains("all");
    Ok((!is_everything).then_some(fields))
}
