//! Where a client learns of the network (`../shared/protocol/session-client.md`, section 5).

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cepa_wire::ServiceNode;
use serde_json::{Value, json};

use crate::ClientError;
use crate::http::Http;

/// Where the list of nodes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// A seed: `URL/json_rpc` answers `get_n_service_nodes`.
    Seed(String),
    /// A `network.json`: its `service_nodes`.
    NetworkFile(PathBuf),
    /// These.
    Nodes(Vec<ServiceNode>),
}

impl Bootstrap {
    pub(crate) async fn nodes(self, http: &Http) -> Result<Vec<ServiceNode>, ClientError> {
        match self {
            Self::Seed(url) => ask_seed(&url, http).await,
            Self::NetworkFile(path) => read_network_file(&path),
            Self::Nodes(nodes) => Ok(nodes),
        }
    }
}

/// The fields of a node that a client needs, as clients ask for them.
pub(crate) fn node_fields() -> Value {
    json!({
        "public_ip": true,
        "storage_port": true,
        "storage_lmq_port": true,
        "pubkey_ed25519": true,
        "pubkey_x25519": true,
        "service_node_pubkey": true,
        "swarm_id": true,
    })
}

async fn ask_seed(url: &str, http: &Http) -> Result<Vec<ServiceNode>, ClientError> {
    let fault = |reason: String| ClientError::Seed {
        url: url.to_owned(),
        reason,
    };
    let body = json!({
        "jsonrpc": "2.0",
        "id": "0",
        "method": "get_n_service_nodes",
        "params": { "active_only": true, "fields": node_fields() },
    });
    let body = Bytes::from(body.to_string());
    let path = if url.trim_end_matches('/').ends_with("/json_rpc") {
        ""
    } else {
        "/json_rpc"
    };
    let path = format!("{}{path}", url_path(url));
    let (status, answer) = http.post_seed(url, &path, body).await.map_err(fault)?;
    if status != 200 {
        return Err(fault(format!("it answered {status}")));
    }
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|_| fault("its answer is not JSON".to_owned()))?;
    let nodes = answer.get("result").map(read_states).unwrap_or_default();
    if nodes.is_empty() {
        Err(fault("it names no service nodes".to_owned()))
    } else {
        Ok(nodes)
    }
}

/// The path of a URL, without a slash at its end.
fn url_path(url: &str) -> String {
    let uri: Option<hyper::Uri> = url.parse().ok();
    uri.map(|uri| uri.path().trim_end_matches('/').to_owned())
        .unwrap_or_default()
}

/// `service_node_states` of an oxend answer; entries that are no nodes are left out.
pub(crate) fn read_states(result: &Value) -> Vec<ServiceNode> {
    let states = result.get("service_node_states").and_then(Value::as_array);
    let states = states.map(Vec::as_slice).unwrap_or_default();
    states
        .iter()
        .filter_map(|state| ServiceNode::from_oxend_json(state).ok())
        .collect()
}

fn read_network_file(path: &Path) -> Result<Vec<ServiceNode>, ClientError> {
    let fault = |reason: String| ClientError::File {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let network: Value =
        serde_json::from_slice(&text).map_err(|error| fault(format!("not JSON: {error}")))?;
    let nodes = network.get("service_nodes").and_then(Value::as_array);
    let nodes = nodes.ok_or_else(|| fault("`service_nodes` must be a list".to_owned()))?;
    nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            ServiceNode::from_network_json(node)
                .map_err(|error| fault(format!("service_nodes[{index}]: {error}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_asked_at_json_rpc_below_their_path() {
        assert_eq!(url_path("http://127.0.0.1:1"), "");
        assert_eq!(url_path("http://127.0.0.1:1/"), "");
        assert_eq!(url_path("https://seed/below/"), "/below");
        assert_eq!(url_path("no url at all"), "");
    }

    #[test]
    fn a_bad_network_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_network_file(&path).unwrap_err().to_string()
        };
        assert!(read("{").contains("not JSON"));
        assert!(read("{}").contains("`service_nodes`"));
        assert!(read(r#"{"service_nodes":[{}]}"#).contains("service_nodes[0]: `"));
        let missing = read_network_file(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
