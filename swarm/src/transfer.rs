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

/// The command that keeps a message, if it is ours, alive, and what its hash says.
pub fn accept(view: &View, message: Transferred, now: Timestamp) -> Option<Command> {
    let wanted = view.is_ours(&message.mailbox)
        && message.expiry > now
        && message.data.len() <= MESSAGE_SIZE_MAX;
    if !wanted {
        return None;
    }
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
