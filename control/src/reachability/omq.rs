//! The test of a peer over OMQ: `sn.ping` over a CURVE connection of its own
//! (`../shared/protocol/session-node.md`, 5.1).

use cepa_crypto::X25519SecretKey;
use cepa_wire::ServiceNode;

use crate::curve::{self, Question};

/// More bytes than a handshake and some words come from no peer that only answers.
const INPUT_SIZE_MAX: usize = 16 << 10;

/// Tests a peer; the error says why it failed. Any reply will do: that it came over this connection
/// proves whose it is.
pub(super) async fn test(us: &X25519SecretKey, peer: &ServiceNode) -> Result<(), String> {
    let ping = Question {
        command: "sn.ping",
        parts: Vec::new(),
        answer_size_max: INPUT_SIZE_MAX,
    };
    curve::ask(us, peer.pubkey_x25519, (peer.ip, peer.omq_port), ping)
        .await
        .map(drop)
}
