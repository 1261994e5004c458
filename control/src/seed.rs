//! The seed endpoint: `POST /json_rpc` with `get_n_service_nodes` or `get_service_nodes`, answered as
//! oxend answers clients that have no node list yet (`../shared/protocol/session-client.md`,
//! section 5; JSON-RPC 2.0).

use core::convert::Infallible;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeSet;

use cepa_wire::ServiceNode;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Reply};

/// The height that answers carry: there is no chain behind this seed, only a file.
const HEIGHT: u64 = 1;

/// Answers until the future is dropped. `nodes` gives the view of the moment.
pub async fn serve(
    endpoint: Endpoint,
    nodes: impl Fn() -> Vec<ServiceNode> + Send + Sync + 'static,
) -> Infallible {
    let rotation = AtomicUsize::new(0);
    endpoint
        .serve(move |method, path, body| match (method, path) {
            (&Method::POST, "/json_rpc") => Reply {
                status: StatusCode::OK,
                // Desktop compares the whole value: no charset.
                content_type: "application/json",
                body: answer(body, &nodes, rotation.fetch_add(1, Ordering::Relaxed)).into(),
            },
            (_, "/json_rpc") => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n"),
            _ => Reply::text(StatusCode::NOT_FOUND, "only /json_rpc\n"),
        })
        .await
}

/// A fault in the JSON-RPC sense: its code and message.
type RpcFault = (i32, &'static str);

const PARSE_ERROR: RpcFault = (-32_700, "Parse error");
const INVALID_REQUEST: RpcFault = (-32_600, "Invalid Request");
const METHOD_NOT_FOUND: RpcFault = (-32_601, "Method not found");

/// The answer to one request, as JSON text. A request without `id` is answered too: desktop sends none.
fn answer(body: &[u8], nodes: &impl Fn() -> Vec<ServiceNode>, rotation: usize) -> String {
    let request = serde_json::from_slice(body);
    let id = match &request {
        Ok(Value::Object(request)) => request.get("id").cloned().unwrap_or_default(),
        _ => Value::Null,
    };
    let outcome = request
        .map_err(|_| PARSE_ERROR)
        .and_then(|request| Query::parse(&request))
        .map(|query| query.run(nodes(), rotation));
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
    .to_string()
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    /// Leave out nodes that are in no swarm.
    active_only: bool,
    /// So many nodes at most.
    limit: Option<usize>,
    /// Only these; empty means all.
    legacy_keys: BTreeSet<[u8; 32]>,
    /// Only these fields of each node; `None` means all.
    fields: Option<BTreeSet<String>>,
}

impl Query {
    fn parse(request: &Value) -> Result<Self, RpcFault> {
        let method = request.get("method").and_then(Value::as_str);
        if !request.is_object()
            || request
                .get("jsonrpc")
                .is_some_and(|version| version != "2.0")
        {
            return Err(INVALID_REQUEST);
        }
        match method {
            Some("get_n_service_nodes" | "get_service_nodes") => {}
            Some(_) => return Err(METHOD_NOT_FOUND),
            None => return Err(INVALID_REQUEST),
        }
        let mut query = Self::default();
        let params = match request.get("params") {
            None | Some(Value::Null) => return Ok(query),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(invalid("Invalid params: params must be an object")),
        };
        for (name, value) in params {
            match name.as_str() {
                "active_only" => {
                    query.active_only = value
                        .as_bool()
                        .ok_or(invalid("Invalid params: active_only must be a boolean"))?;
                }
                "limit" => query.limit = parse_limit(value)?,
                "service_node_pubkeys" => query.legacy_keys = parse_keys(value)?,
                "fields" => query.fields = parse_fields(value)?,
                _ => {}
            }
        }
        Ok(query)
    }

    /// With a limit, `rotation` says where in the list to begin, so that not everybody gets the same
    /// few nodes.
    fn run(&self, mut nodes: Vec<ServiceNode>, rotation: usize) -> Value {
        nodes.retain(|node| {
            (!self.active_only || node.swarm_id != ServiceNode::NO_SWARM)
                && (self.legacy_keys.is_empty() || self.legacy_keys.contains(&node.pubkey_legacy))
        });
        if let Some(limit) = self.limit.filter(|limit| *limit < nodes.len()) {
            let start = rotation.checked_rem(nodes.len()).unwrap_or(0);
            nodes.rotate_left(start);
            nodes.truncate(limit);
        }
        let states = nodes.iter().map(|node| self.project(node.to_oxend_json()));
        json!({
            "height": HEIGHT,
            "service_node_states": states.collect::<Vec<_>>(),
            "status": "OK",
        })
    }

    fn project(&self, mut state: Map<String, Value>) -> Value {
        if let Some(fields) = &self.fields {
            state.retain(|name, _| fields.contains(name));
        }
        Value::Object(state)
    }
}

const fn invalid(message: &'static str) -> RpcFault {
    (-32_602, message)
}

/// A limit of 0 is none, as in oxend.
fn parse_limit(value: &Value) -> Result<Option<usize>, RpcFault> {
    let limit = value
        .as_u64()
        .ok_or(invalid("Invalid params: limit must be a number"))?;
    Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0))
}

fn parse_keys(value: &Value) -> Result<BTreeSet<[u8; 32]>, RpcFault> {
    let parse_key = |key: &Value| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(key.as_str()?, &mut bytes).ok()?;
        Some(bytes)
    };
    value
        .as_array()
        .and_then(|keys| keys.iter().map(parse_key).collect())
        .ok_or(invalid(
            "Invalid params: service_node_pubkeys must be a list of keys in hex",
        ))
}

/// `{"public_ip": true, ...}` as desktop sends it, or `["public_ip", ...]` as Android does. None at
/// all, or `all` among them, means every field.
fn parse_fields(value: &Value) -> Result<Option<BTreeSet<String>>, RpcFault> {
    const MALFORMED: RpcFault =
        invalid("Invalid params: fields must be an object of booleans or a list of names");
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

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

    use super::*;

    /// Five nodes; the last is in no swarm.
    fn nodes() -> Vec<ServiceNode> {
        let node = |index: u8| ServiceNode {
            ip: Ipv4Addr::new(127, 0, 0, index),
            port: 22_021,
            omq_port: 22_020,
            pubkey_ed25519: Ed25519PublicKey([index; 32]),
            pubkey_x25519: X25519PublicKey([index; 32]),
            pubkey_legacy: [index; 32],
            swarm_id: if index == 5 { ServiceNode::NO_SWARM } else { 7 },
        };
        (1..=5).map(node).collect()
    }

    fn ask(request: &str, rotation: usize) -> Value {
        serde_json::from_str(&answer(request.as_bytes(), &nodes, rotation)).unwrap()
    }

    fn ask_params(params: &Value) -> Value {
        let request = json!({"method": "get_service_nodes", "params": params});
        ask(&request.to_string(), 0)
    }

    fn states(answer: &Value) -> &Vec<Value> {
        answer["result"]["service_node_states"].as_array().unwrap()
    }

    #[test]
    fn both_methods_give_every_node_with_every_field() {
        for method in ["get_n_service_nodes", "get_service_nodes"] {
            let request = json!({"jsonrpc": "2.0", "id": "0", "method": method});
            let answer = ask(&request.to_string(), 0);
            assert_eq!(
                (&answer["jsonrpc"], &answer["id"]),
                (&json!("2.0"), &json!("0"))
            );
            assert_eq!(answer["result"]["status"], "OK");
            assert!(answer["result"]["height"].is_u64());
            let expected: Vec<_> = nodes()
                .iter()
                .map(|node| Value::Object(node.to_oxend_json()))
                .collect();
            assert_eq!(states(&answer), &expected);
        }
    }

    #[test]
    fn fields_are_an_object_or_a_list() {
        let requests = [
            json!({"fields": {"public_ip": true, "storage_port": true, "pubkey_x25519": false}}),
            json!({"fields": ["public_ip", "storage_port", "no_such_field"]}),
        ];
        for params in requests {
            let answer = ask_params(&params);
            let expected = json!({"public_ip": "127.0.0.1", "storage_port": 22_021});
            assert_eq!(states(&answer)[0], expected);
        }
        for fields in [json!({}), json!([]), json!(["all"]), json!({"all": true})] {
            let answer = ask_params(&json!({"fields": fields}));
            assert_eq!(
                states(&answer)[0],
                Value::Object(nodes()[0].to_oxend_json())
            );
        }
    }

    #[test]
    fn nodes_without_a_swarm_are_not_active() {
        assert_eq!(states(&ask_params(&json!({"active_only": true}))).len(), 4);
        assert_eq!(states(&ask_params(&json!({"active_only": false}))).len(), 5);
    }

    #[test]
    fn a_limit_gives_each_asker_others() {
        let request = r#"{"method": "get_n_service_nodes", "params": {"limit": 2}}"#;
        let first = |rotation| {
            let answer = ask(request, rotation);
            assert_eq!(states(&answer).len(), 2);
            states(&answer)[0]["pubkey_ed25519"].clone()
        };
        let seen: BTreeSet<_> = (0..5).map(|rotation| first(rotation).to_string()).collect();
        assert_eq!(seen.len(), 5);
        for limit in [0, 5, 1000] {
            assert_eq!(
                states(&ask_params(&json!({"limit": limit}))).len(),
                5,
                "limit {limit}"
            );
        }
    }

    #[test]
    fn nodes_are_found_by_their_legacy_key() {
        let keys = [hex::encode([3; 32]), hex::encode([9; 32])];
        let answer = ask_params(&json!({"service_node_pubkeys": keys}));
        assert_eq!(states(&answer).len(), 1);
        assert_eq!(states(&answer)[0]["public_ip"], "127.0.0.3");
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        let table = [
            ("", -32_700),
            ("{", -32_700),
            ("[]", -32_600),
            ("7", -32_600),
            (r#"{"id": 1}"#, -32_600),
            (r#"{"method": 1}"#, -32_600),
            (
                r#"{"jsonrpc": "1.0", "method": "get_service_nodes"}"#,
                -32_600,
            ),
            (r#"{"method": "get_block_count"}"#, -32_601),
            (r#"{"method": "get_service_nodes", "params": []}"#, -32_602),
            (
                r#"{"method": "get_service_nodes", "params": {"limit": -1}}"#,
                -32_602,
            ),
            (
                r#"{"method": "get_service_nodes", "params": {"active_only": 1}}"#,
                -32_602,
            ),
            (
                r#"{"method": "get_service_nodes", "params": {"fields": "all"}}"#,
                -32_602,
            ),
            (
                r#"{"method": "get_service_nodes", "params": {"fields": [1]}}"#,
                -32_602,
            ),
            (
                r#"{"method": "get_service_nodes", "params": {"fields": {"a": 1}}}"#,
                -32_602,
            ),
            (
                r#"{"method": "get_service_nodes", "params": {"service_node_pubkeys": ["ab"]}}"#,
                -32_602,
            ),
        ];
        for (request, code) in table {
            let answer = ask(request, 0);
            assert_eq!(answer["error"]["code"], code, "{request}");
            assert!(answer["error"]["message"].is_string(), "{request}");
            assert!(answer.get("result").is_none(), "{request}");
        }
        assert_eq!(ask(r#"{"id": 8, "method": "x"}"#, 0)["id"], 8);
        // Deeper than any real request: refused by the parser, not by the stack.
        assert_eq!(ask(&"[".repeat(60_000), 0)["error"]["code"], -32_700);
    }
}
