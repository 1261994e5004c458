//! The shapes of answers (`../shared/protocol/session-client.md`, sections 3.2 and 3.3).

use std::borrow::Cow;
use std::collections::BTreeMap;

use cepa_storage::StoredMessage;
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::{Mailbox, ServiceNode, Timestamp};

use crate::View;
use crate::limits::{HARD_FORK, VERSION};

/// A dict that grows.
pub(crate) type Dict = BTreeMap<Cow<'static, str>, Tree>;

pub(crate) fn millis(timestamp: Timestamp) -> Tree {
    // Timestamp::MAX is i64::MAX, so this never saturates.
    Tree::Integer(i64::try_from(timestamp.as_millis()).unwrap_or(i64::MAX))
}

/// `hf` and `t`, which stand in almost every answer.
pub(crate) fn add_clock(dict: &mut Dict, now: Timestamp) {
    dict.insert("hf".into(), numbers(&HARD_FORK));
    dict.insert("t".into(), millis(now));
}

fn numbers(values: &[u16]) -> Tree {
    Tree::List(
        values
            .iter()
            .map(|value| Tree::Integer(i64::from(*value)))
            .collect(),
    )
}

pub(crate) fn info(now: Timestamp) -> Answer {
    let mut dict = Dict::new();
    dict.insert("timestamp".into(), millis(now));
    dict.insert("version".into(), numbers(&VERSION));
    add_clock(&mut dict, now);
    Answer::ok(Tree::Dict(dict))
}

/// The members of a mailbox's swarm: the answer to `get_swarm`, and with 421 to a request that came
/// to the wrong swarm.
pub(crate) fn swarm(view: &View, mailbox: &Mailbox, status: u16, now: Timestamp) -> Answer {
    let id = view.swarm_of(mailbox).unwrap_or(ServiceNode::NO_SWARM);
    let members = view
        .members(id)
        .map(|(_, node)| node.to_swarm_tree())
        .collect();
    let mut dict = Dict::new();
    dict.insert("snodes".into(), Tree::List(members));
    dict.insert("swarm".into(), Tree::text(format!("{id:x}")));
    add_clock(&mut dict, now);
    Answer {
        status,
        ..Answer::ok(Tree::Dict(dict))
    }
}

pub(crate) fn messages(messages: Vec<StoredMessage>, more: bool, now: Timestamp) -> Answer {
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
    add_clock(&mut dict, now);
    Answer::ok(Tree::Dict(dict))
}

pub(crate) fn oxend(result: &serde_json::Value, now: Timestamp) -> Answer {
    let mut dict = Dict::new();
    dict.insert("result".into(), Tree::from_json(result));
    add_clock(&mut dict, now);
    Answer::ok(Tree::Dict(dict))
}
