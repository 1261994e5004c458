//! The seed endpoint: `POST /json_rpc` with `get_n_service_nodes` or `get_service_nodes`, answered as
//! oxend answers clients that have no node list yet (`../shared/protocol/session-client.md`,
//! section 5; JSON-RPC 2.0).

use cepa_swarm::oxend::ServiceNodesQuery;
use cepa_wire::ServiceNode;
use core::convert::Infallible;
use core::sync::atomic::{AtomicUsize, Ordering};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Reply};

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
const INVALID_PARAMS: i32 = -32_602;

/// The answer to one request, as JSON text. A request without `id` is answered too: desktop sends none.
fn answer(body: &[u8], nodes: &impl Fn() -> Vec<ServiceNode>, rotation: usize) -> String {
    let request = serde_json::from_slice(body);
    let id = match &request {
        Ok(Value::Object(request)) => request.get("id").cloned().unwrap_or_default(),
        _ => Value::Null,
    };
    let outcome = request
        .map_err(|_| PARSE_ERROR)
        .and_then(|request| parse(&request))
        .map(|query| query.run(&nodes(), rotation, cepa_swarm::Chain::default()));
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
    .to_string()
}

/// Reads the envelope of a request, and what is asked for in it.
fn parse(request: &Value) -> Result<ServiceNodesQuery, RpcFault> {
    let is_version_2 = request
        .get("jsonrpc")
        .is_none_or(|version| version == "2.0");
    if !request.is_object() || !is_version_2 {
        return Err(INVALID_REQUEST);
    }
    match request.get("method").and_then(Value::as_str) {
        Some("get_n_service_nodes" | "get_service_nodes") => {}
        Some(_) => return Err(METHOD_NOT_FOUND),
        None => return Err(INVALID_REQUEST),
    }
    let params = request.get("params").unwrap_or(&Value::Null);
    ServiceNodesQuery::parse(params).map_err(|fault| (INVALID_PARAMS, fault))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::collections::BTreeSet;

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
            storage_server_version: ServiceNode::VERSION_DEFAULT,
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
