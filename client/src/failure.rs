//! What an answer that is no success says, and what to do about it
//! (`../shared/protocol/session-client.md`, section 6).

use cepa_wire::Ed25519PublicKey;

/// What to do after a path failed: the onion did not reach its destination, or its answer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathFailure {
    /// A node that the network does not know, or can't reach: drop it and try again.
    DropNode(Ed25519PublicKey),
    /// A node that is not ready: hold it against it, try again.
    StrikeNode(Ed25519PublicKey),
    /// The guard does not serve us: hold it against it, try with another.
    StrikeGuard,
    /// Some node of the path, nobody knows which: try another path.
    StrikePath,
}

/// Reads the plain answer of a relay or guard.
pub fn read_path_failure(status: u16, body: &str) -> PathFailure {
    let named = |prefix: &str| {
        let key = body.strip_prefix(prefix)?;
        Ed25519PublicKey::from_hex(key.trim_end().as_bytes())
    };
    let unknown = named("Next node not found: ");
    let unreachable = named("Next node is currently unreachable: ");
    match (status, unknown.or(unreachable), named("Snode not ready: ")) {
        (502, Some(key), _) => PathFailure::DropNode(key),
        (503, _, Some(key)) => PathFailure::StrikeNode(key),
        (429 | 503, _, None) => PathFailure::StrikeGuard,
        _ => PathFailure::StrikePath,
    }
}

/// What to do after the destination itself answered with `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It did what was asked.
    None,
    /// The mailbox lies elsewhere: adopt the swarm of the answer and try again.
    AdoptSwarm,
    /// The clocks differ: ask the network for the time and try again, once.
    SetClock,
    /// Another member of the swarm may do better.
    OtherMember,
    /// Nothing helps: the request is wrong.
    GiveUp,
}

/// Reads the status of a destination's answer.
pub const fn read_status(status: u16) -> Remedy {
    match status {
        200..300 => Remedy::None,
        421 => Remedy::AdoptSwarm,
        406 | 425 => Remedy::SetClock,
        400 | 401 | 403 | 404 => Remedy::GiveUp,
        _ => Remedy::OtherMember,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_texts_are_understood_to_the_letter() {
        let key = Ed25519PublicKey([0xab; 32]);
        let hex = key.to_hex();
        let cases = [
            (
                502,
                format!("Next node not found: {hex}"),
                PathFailure::DropNode(key),
            ),
            (
                502,
                format!("Next node is currently unreachable: {hex}"),
                PathFailure::DropNode(key),
            ),
            (
                502,
                "Next node not found: nonsense".into(),
                PathFailure::StrikePath,
            ),
            (502, "anything".into(), PathFailure::StrikePath),
            (
                503,
                format!("Snode not ready: {hex}"),
                PathFailure::StrikeNode(key),
            ),
            (
                503,
                "Server busy, try again later".into(),
                PathFailure::StrikeGuard,
            ),
            (
                503,
                "Service node is not ready: no\n".into(),
                PathFailure::StrikeGuard,
            ),
            (504, "Request time out".into(), PathFailure::StrikePath),
            (
                500,
                "Invalid response from snode".into(),
                PathFailure::StrikePath,
            ),
            (400, "Invalid ciphertext".into(), PathFailure::StrikePath),
        ];
        for (status, text, expected) in cases {
            assert_eq!(read_path_failure(status, &text), expected, "{text}");
        }
    }

    #[test]
    fn every_status_has_its_remedy() {
        let cases = [
            (200, Remedy::None),
            (421, Remedy::AdoptSwarm),
            (406, Remedy::SetClock),
            (401, Remedy::GiveUp),
            (500, Remedy::OtherMember),
            (503, Remedy::OtherMember),
        ];
        for (status, remedy) in cases {
            assert_eq!(read_status(status), remedy);
        }
    }
}
