//! Answers that gather the entries of all members of a swarm.

use std::borrow::Cow;

use bytes::Bytes;
use cepa_storage::{Outcome, StoreFault};
use cepa_wire::MessageHash;
use cepa_wire::answer::{Answer, Body, Tree};

use super::{Local, Origin};
use crate::answers::{self, Dict};
use crate::fan_out::FanOut;

/// The body: for a client all entries under `swarm`, for a member just ours.
pub(super) fn gathered(mine: Tree, fan_out: FanOut, origin: Origin, local: Local<'_>) -> Dict {
    match (origin, mine) {
        (Origin::Member, Tree::Dict(mine)) => mine,
        (_, mine) => {
            let swarm = fan_out.into_swarm(&local.keys.ed25519_public(), mine);
            let mut dict = Dict::new();
            dict.insert("swarm".into(), Tree::Dict(swarm));
            answers::add_clock(&mut dict, local);
            dict
        }
    }
}

/// 200, or 500 when no member at all did what was asked: then nothing may count as done.
pub(super) fn gathered_answer(dict: Dict) -> Answer {
    let all_failed = match dict.get("swarm") {
        Some(Tree::Dict(swarm)) => swarm.values().all(is_failed),
        _ => dict.contains_key("failed"),
    };
    let status = if all_failed { 500 } else { 200 };
    Answer {
        status,
        body: Body::Tree(Tree::Dict(dict)),
    }
}

fn is_failed(entry: &Tree) -> bool {
    entry.get("failed").is_some()
}

/// The entry of a member that could not do it.
pub(super) fn failed_entry(fault: StoreFault) -> Tree {
    Tree::dict([
        ("failed", Tree::Bool(true)),
        ("query_failure", Tree::Bool(true)),
        ("reason", Tree::text(fault.to_string())),
    ])
}

/// The entry for an outcome that is not what was asked for: a fault of the store, or our own.
pub(super) fn other_entry(outcome: &Outcome) -> Tree {
    let Outcome::Failed(fault) = outcome else {
        debug_assert!(false, "a command ended as {outcome:?}");
        return failed_entry(StoreFault::DiskFailed);
    };
    failed_entry(*fault)
}

/// Our signature of a text, as a tree.
pub(super) fn signed(local: Local<'_>, text: impl AsRef<[u8]>) -> Tree {
    let signature = local.keys.ed25519().sign(text.as_ref());
    Tree::Bytes(Bytes::copy_from_slice(&signature.0))
}

/// Hashes as text, sorted as signatures cover them: base64 does not sort like its bytes.
pub(super) fn sorted_texts<'a>(hashes: impl IntoIterator<Item = &'a MessageHash>) -> Vec<String> {
    let mut texts: Vec<String> = hashes.into_iter().map(|hash| hash.to_text()).collect();
    texts.sort_unstable();
    texts
}

/// A list of texts.
pub(super) fn texts(texts: Vec<String>) -> Tree {
    Tree::List(
        texts
            .into_iter()
            .map(|text| Tree::Text(Cow::Owned(text)))
            .collect(),
    )
}
