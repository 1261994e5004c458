//! The shapes of answers (`../shared/protocol/session-client.md`, sections 3.2 and 3.3).

use std::borrow::Cow;
use std::collections::BTreeMap;

use cepa_storage::StoredMessage;
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::{Mailbox, ServiceNode, Timestamp};

use crate::Local;
use crate::limits::VERSION;

/// A dict that grows.
pub(crate) type Dict = BTreeMap<Cow<'static, str>, Tree>;

pub(crate) fn millis(timestamp: Timestamp) -> Tree {
    // Timestamp::MAX is i64::MAX, so this never saturates.
    Tree::Integer(i64::try_from(timestamp.as_millis()).unwrap_or(i64::MAX))
}

/// `hf` and `t`, which stand in almost every answer.
pub(crate) fn add_clock(dict: &mut Dict, local: Local<'_>) {
    dict.insert("hf".into(), numbers(&local.view.chain().hard_fork));
    dict.insert("t".into(), millis(local.now));
}

pub(crate) fn numbers(values: &[u16]) -> Tree {
    Tree::List(
        values
            .iter()
            .map(|value| Tree::Integer(i64::from(*value)))
            .collect(),
    )
}

pub(crate) fn info(local: Local<'_>) -> Answer {
    let mut dict = Dict::new();
    dict.insert("timestamp".into(), millis(local.now));
    dict.insert("version".into(), numbers(&VERSION));
    add_clock(&mut dict, local);
    Answer::ok(Tree::Dict(dict))
}

/// The members of a mailbox's swarm: the answer to `get_swarm`, and with 421 to a request that came
/// to the wrong swarm.
pub(crate) fn swarm(local: Local<'_>, mailbox: &Mailbox, status: u16) -> Answer {
    Answer {
        status,
        ..Answer::ok(swarm_tree(local, mailbox))
    }
}

/// The same as a document.
pub(crate) fn swarm_tree(local: Local<'_>, mailbox: &Mailbox) -> Tree {
    let view = local.view;
    let id = view.swarm_of(mailbox).unwrap_or(ServiceNode::NO_SWARM);
    let members = view
        .members(id)
        .map(|(_, node)| node.to_swarm_tree())
        .collect();
    let mut dict = Dict::new();
    dict.insert("snodes".into(), Tree::List(members));
    dict.insert("swarm".into(), Tree::text(format!("{id:x}")));
    add_clock(&mut dict, local);
    Tree::Dict(dict)
}

pub(crate) fn messages(messages: Vec<StoredMessage>, more: bool, local: Local<'_>) -> Answer {
    let rows = messages
        .into_iter()
        .map(|message| {
            Tree::dict([
                ("data", Tree::Bytes(message.data)),
                ("expiration", millis(message.expiry)),
                ("hash", Tree::text(message.hash.to_text())),
                ("timestamp", millis(message.timestamp)),
            ])
        })
        .collect();
    let mut dict = Dict::new();
    dict.insert("messages".into(), Tree::List(rows));
    dict.insert("more".into(), Tree::Bool(more));
    add_clock(&mut dict, local);
    Answer::ok(Tree::Dict(dict))
}

pub(crate) fn oxend(result: &serde_json::Value, local: Local<'_>) -> Answer {
    let mut dict = Dict::new();
    dict.insert("result".into(), Tree::from_json(result));
    add_clock(&mut dict, local);
    Answer::ok(Tree::Dict(dict))
}

/// The nodes that are in a swarm, in 51 bytes each: Ed25519 key, swarm id, IPv4 address, port of HTTPS,
/// port of OMQ and QUIC, version (`../shared/protocol/session-client.md`, section 10).
pub(crate) fn active_nodes(local: Local<'_>) -> Answer {
    const NODE_SIZE: usize = 51;
    let nodes = local.view.nodes().iter();
    let active = nodes.filter(|node| node.swarm_id != ServiceNode::NO_SWARM);
    let mut bytes = Vec::with_capacity(local.view.nodes().len() * NODE_SIZE);
    for node in active {
        bytes.extend_from_slice(node.pubkey_ed25519.as_bytes());
        bytes.extend_from_slice(&node.swarm_id.to_be_bytes());
        bytes.extend_from_slice(&node.ip.octets());
        bytes.extend_from_slice(&node.port.to_be_bytes());
        bytes.extend_from_slice(&node.omq_port.to_be_bytes());
        bytes.extend(
            node.storage_server_version
                .map(|part| u8::try_from(part).unwrap_or(u8::MAX)),
        );
    }
    Answer {
        status: 200,
        body: Body::Bytes(bytes.into()),
    }
}
