//! One request on every way that it may take, and its answer in one form: status and JSON.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_client::onion::wrap_request;
use cepa_crypto::NodeKeys;
use cepa_edge::quic::client::{Answer, Client, Connection};
use cepa_wire::answer::Tree;
use cepa_wire::onion::EncType;
use cepa_wire::request::ClientRequest;
use cepa_wire::{Ed25519PublicKey, ServiceNode};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::network::https;
use crate::omq::Peer;

/// A way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Https,
    OmqJson,
    OmqBt,
    QuicJson,
    QuicBt,
    /// Through so many relays before the node, by HTTPS or by QUIC.
    Onion(usize, EncType),
    OnionQuic(usize, EncType),
}

/// Every one.
pub(crate) const WAYS: [Way; 9] = [
    Way::Https,
    Way::OmqJson,
    Way::OmqBt,
    Way::QuicJson,
    Way::QuicBt,
    Way::Onion(0, EncType::AesGcm),
    Way::Onion(2, EncType::XChaCha20),
    Way::OnionQuic(0, EncType::XChaCha20),
    Way::OnionQuic(2, EncType::AesGcm),
];

/// A client that knows all ways.
pub(crate) struct Asker {
    relays: Vec<ServiceNode>,
    runtime: Runtime,
    client: Option<Client>,
    connections: BTreeMap<Ed25519PublicKey, Connection>,
    counter: u8,
}

impl Asker {
    pub(crate) fn new(relays: Vec<ServiceNode>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            relays,
            runtime,
            client: None,
            connections: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Asks a node; gives status and body.
    pub(crate) fn ask(
        &mut self,
        way: Way,
        node: &ServiceNode,
        request: &ClientRequest,
    ) -> (u16, Value) {
        let method = request.method();
        match way {
            Way::Https => {
                let reply = https("POST", node.port, "/storage_rpc/v1", &request.encode_json());
                (reply.status, read(&reply.body, false))
            }
            Way::OmqJson => ask_omq(node, method, &params_json(request), false),
            Way::OmqBt => ask_omq(node, method, &request.encode_bt(), true),
            Way::QuicJson => self.ask_quic(node, method, params_json(request), false),
            Way::QuicBt => self.ask_quic(node, method, request.encode_bt(), true),
            Way::Onion(hops, enc_type) | Way::OnionQuic(hops, enc_type) => {
                let is_quic = matches!(way, Way::OnionQuic(..));
                self.ask_onion(node, request, (hops, enc_type), is_quic)
            }
        }
    }

    pub(crate) fn quic(&mut self, node: &ServiceNode) -> (&Runtime, &Connection) {
        let address = SocketAddr::from((node.ip, node.omq_port));
        let key = node.pubkey_ed25519;
        if !self.connections.contains_key(&key) {
            let (client, connection) = self.runtime.block_on(async {
                let client = match self.client.take() {
                    Some(client) => client,
                    None => Client::towards(address, None).unwrap(),
                };
                let connection = client.connect(address, key).await.unwrap();
                (client, connection)
            });
            self.client = Some(client);
            self.connections.insert(key, connection);
        }
        (&self.runtime, &self.connections[&key])
    }

    fn ask_quic(
        &mut self,
        node: &ServiceNode,
        method: &str,
        params: Vec<u8>,
        is_bt: bool,
    ) -> (u16, Value) {
        let (runtime, connection) = self.quic(node);
        let answer = runtime.block_on(connection.request(method, params.into()));
        match answer.unwrap() {
            Answer::Ok(body) => unwrap_list(200, &body, is_bt),
            Answer::Error(body) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let (head, rest) = text.split_once("\n\n").unwrap();
                let status = head.split(' ').next().unwrap().parse().unwrap();
                unwrap_list(status, rest.as_bytes(), is_bt)
            }
        }
    }

    fn ask_onion(
        &mut self,
        node: &ServiceNode,
        request: &ClientRequest,
        (hops, enc_type): (usize, EncType),
        is_quic: bool,
    ) -> (u16, Value) {
        let others = self.relays.iter().filter(|relay| *relay != node);
        let path: Vec<ServiceNode> = others.take(hops).cloned().collect();
        let counter = &mut self.counter;
        let random = || {
            *counter = counter.wrapping_add(1);
            let mut key = [*counter; 32];
            getrandom::fill(&mut key).unwrap();
            Ok((key, [*counter; 24]))
        };
        let onion = wrap_request(&path, node, &request.encode_json(), enc_type, random).unwrap();
        let guard = path.first().unwrap_or(node).clone();
        let body = if is_quic {
            let (runtime, connection) = self.quic(&guard);
            let body = Bytes::copy_from_slice(onion.body());
            match runtime
                .block_on(connection.request("onion_req", body))
                .unwrap()
            {
                Answer::Ok(body) => body.to_vec(),
                Answer::Error(body) => panic!("{}", String::from_utf8_lossy(&body)),
            }
        } else {
            let reply = https("POST", guard.port, "/onion_req/v2", onion.body());
            assert_eq!(reply.status, 200, "{:?}", reply.text());
            reply.body
        };
        let answer = onion.open_answer(&body).unwrap();
        (answer.status, answer.body)
    }
}

fn params_json(request: &ClientRequest) -> Vec<u8> {
    let whole: Value = serde_json::from_slice(&request.encode_json()).unwrap();
    whole["params"].to_string().into_bytes()
}

fn ask_omq(node: &ServiceNode, method: &str, params: &[u8], is_bt: bool) -> (u16, Value) {
    let stranger = NodeKeys::from_seed([200; 32]);
    let mut peer = Peer::dial(node.omq_port, node.pubkey_x25519, &stranger);
    let reply = peer.ask(&[format!("storage.{method}").as_bytes(), b"tag", params]);
    match &reply[2..] {
        [body] => (200, read(body, is_bt)),
        [code, body] => {
            let code = core::str::from_utf8(code).unwrap();
            (code.parse().unwrap(), read(body, is_bt))
        }
        other => panic!("{other:?}"),
    }
}

/// A document in either encoding; what is none is text, and what is no text is base64.
fn read(body: &[u8], is_bt: bool) -> Value {
    let document = if is_bt {
        Tree::from_bt(body).ok().map(|tree| tree.to_json())
    } else {
        Some(body.to_vec())
    };
    let parsed = document.and_then(|json| serde_json::from_slice(&json).ok());
    parsed.unwrap_or_else(|| match core::str::from_utf8(body) {
        Ok(text) => text.into(),
        Err(_) => STANDARD.encode(body).into(),
    })
}

/// `[status, body]`, or a text or bytes by themselves.
fn unwrap_list(status: u16, body: &[u8], is_bt: bool) -> (u16, Value) {
    match read(body, is_bt) {
        Value::Array(mut list) if list.len() == 2 => {
            assert_eq!(list[0], status);
            (status, list.remove(1))
        }
        other => (status, other),
    }
}
