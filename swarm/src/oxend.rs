//! Answers of the chain daemon that this node gives from its own view: the list of service nodes.

use cepa_wire::ServiceNode;
use serde_json::{Map, Value, json};

/// The result of `get_service_nodes` and `get_n_service_nodes` for `params`: `active_only`, `limit`,
/// and `fields` as an object of booleans or as a list of names (clients send either; absent or
/// `{"all": true}` means all).
pub fn service_nodes<'a>(nodes: impl Iterator<Item = &'a ServiceNode>, params: &Value) -> Value {
    let active_only = params
        .get("active_only")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let limit = params
        .get("limit")
        .and_then(Value::as_u64)
        .filter(|limit| *limit > 0)
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let fields = Fields::read(params.get("fields"));
    let states: Vec<Value> = nodes
        .filter(|node| !active_only || node.swarm_id != ServiceNode::NO_SWARM)
        .take(limit)
        .map(|node| Value::Object(fields.filter(node.to_oxend_json())))
        .collect();
    json!({
        "as_json": "",
        "block_hash": "",
        "hardfork": crate::limits::HARD_FORK[0],
        "height": 0,
        "service_node_states": states,
        "snode_revision": crate::limits::HARD_FORK[1],
        "status": "OK",
    })
}

enum Fields<'a> {
    All,
    Named(Vec<&'a str>),
}

impl<'a> Fields<'a> {
    fn read(fields: Option<&'a Value>) -> Self {
        let named: Vec<&str> = match fields {
            Some(Value::Object(object)) => object
                .iter()
                .filter(|(_, wanted)| wanted.as_bool() == Some(true))
                .map(|(name, _)| name.as_str())
                .collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => return Self::All,
        };
        if named.is_empty() || named.contains(&"all") {
            Self::All
        } else {
            Self::Named(named)
        }
    }

    fn filter(&self, mut state: Map<String, Value>) -> Map<String, Value> {
        if let Self::Named(named) = self {
            state.retain(|name, _| named.contains(&name.as_str()));
        }
        state
    }
}
