//! Mailboxes that a member hands over (`sn.data`; `../shared/protocol/session-node.md`, 5.6).

use cepa_crypto::swarm_space::message_hash;
use cepa_storage::Command;
use cepa_wire::request::MESSAGE_SIZE_MAX;
use cepa_wire::transfer::Transferred;
use cepa_wire::{Namespace, Timestamp};

use crate::View;

/// Namespaces that clients use (`../shared/protocol/session-client.md`, section 3.4). The reference
/// hands messages over without their namespace; but the hash covers it, so the one that fits is found.
const KNOWN_NAMESPACES: [i16; 13] = [0, -10, 2, 3, 4, 5, 11, 12, 13, 14, -11, -1, -21];

/// What is to be done with a message that is handed over.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    /// This keeps it.
    Store(Command),
    /// It is not ours, as we see the network: the sender may see more.
    NotOurs,
    /// It has expired, or is not what its hash says.
    Refused,
}

/// Judges a message that is handed over.
pub fn accept(view: &View, message: Transferred, now: Timestamp) -> Accepted {
    if message.expiry <= now || message.data.len() > MESSAGE_SIZE_MAX {
        return Accepted::Refused;
    }
    if !view.is_ours(&message.mailbox) {
        return Accepted::NotOurs;
    }
    keep(message).map_or(Accepted::Refused, Accepted::Store)
}

/// The command that keeps a message, if its hash is that of some namespace.
fn keep(message: Transferred) -> Option<Command> {
    let told = [message.namespace.0];
    let namespace = told
        .into_iter()
        .chain(KNOWN_NAMESPACES)
        .map(Namespace)
        .find(|ns| message_hash(&message.mailbox, *ns, &message.data) == message.hash)?;
    Some(Command::Store {
        mailbox: message.mailbox,
        namespace,
        hash: message.hash,
        timestamp: message.timestamp,
        expiry: message.expiry,
        data: message.data,
    })
}
