//! How far each node's copy of a mailbox was read: a hash for every node, mailbox and namespace; and
//! which messages were seen lately, since each is read from more than one node.

use std::collections::{BTreeMap, VecDeque};

use cepa_wire::{Ed25519PublicKey, Mailbox, Namespace};
use serde::{Deserialize, Serialize};

/// Hashes that are remembered: a swarm's nodes do not lag by more messages than this.
const SEEN_COUNT_MAX: usize = 4096;

/// Last hashes. Each node orders its copy by arrival, so each has a cursor of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursors {
    last_hashes: BTreeMap<String, String>,
    seen: VecDeque<String>,
}

impl Cursors {
    /// The hash to go on after.
    pub fn after(
        &self,
        node: &Ed25519PublicKey,
        mailbox: &Mailbox,
        namespace: Namespace,
    ) -> Option<&str> {
        self.last_hashes
            .get(&name(node, mailbox, namespace))
            .map(String::as_str)
    }

    /// Notes the last hash that was read.
    pub fn advance(
        &mut self,
        node: &Ed25519PublicKey,
        mailbox: &Mailbox,
        namespace: Namespace,
        last_hash: String,
    ) {
        self.last_hashes
            .insert(name(node, mailbox, namespace), last_hash);
    }

    /// Whether a message is seen for the first time; from now on it is not.
    pub fn is_first_sight(&mut self, hash: &str) -> bool {
        if self.seen.iter().any(|seen| seen == hash) {
            return false;
        }
        if self.seen.len() >= SEEN_COUNT_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(hash.to_owned());
        true
    }
}

fn name(node: &Ed25519PublicKey, mailbox: &Mailbox, namespace: Namespace) -> String {
    format!("{node}:{mailbox}:{}", namespace.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_and_the_memory_is_bounded() {
        let mut cursors = Cursors::default();
        assert!(cursors.is_first_sight("a"));
        assert!(!cursors.is_first_sight("a"));
        for number in 0..SEEN_COUNT_MAX {
            assert!(cursors.is_first_sight(&number.to_string()));
        }
        assert_eq!(cursors.seen.len(), SEEN_COUNT_MAX);
        assert!(
            cursors.is_first_sight("a"),
            "forgotten after so many others"
        );
    }
}
