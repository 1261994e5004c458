//! One request at all members of a swarm: who was asked, who answered, what the client is told.

use bytes::Bytes;
use cepa_wire::Ed25519PublicKey;
use cepa_wire::answer::Tree;

use crate::answers::Dict;

/// The other members of the swarm, and what became of the forwarded request at each.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    member: Ed25519PublicKey,
    /// `None` while it is awaited.
    result: Option<Tree>,
    /// It was down, or did not answer: it may not have what was asked.
    missed: bool,
}

impl FanOut {
    /// Adds a member that was asked; gives its place.
    pub(crate) fn push_asked(&mut self, member: Ed25519PublicKey) -> usize {
        self.entries.push(Entry {
            member,
            result: None,
            missed: false,
        });
        self.entries.len() - 1
    }

    /// Adds a member that is known to be down: it is reported failed at once.
    pub(crate) fn push_down(&mut self, member: Ed25519PublicKey) {
        self.entries.push(Entry {
            member,
            result: Some(no_reply()),
            missed: true,
        });
    }

    /// Takes what the member at `place` answered; `None` is no answer in time.
    pub(crate) fn handle_reply(&mut self, place: usize, parts: Option<&[Bytes]>) {
        if let Some(entry) = self.entries.get_mut(place)
            && entry.result.is_none()
        {
            entry.result = Some(parts.map_or_else(no_reply, read_reply));
            entry.missed = parts.is_none_or(is_refused_for_now);
        }
    }

    /// The members that may not have what was asked.
    pub(crate) fn missed(&self) -> impl Iterator<Item = Ed25519PublicKey> {
        self.entries
            .iter()
            .filter(|entry| entry.missed)
            .map(|entry| entry.member)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.entries.iter().all(|entry| entry.result.is_some())
    }

    /// The `swarm` dict: the members' entries and our own, by Ed25519 key in hex.
    pub(crate) fn into_swarm(self, us: &Ed25519PublicKey, mine: Tree) -> Dict {
        let others = self.entries.into_iter().map(|entry| {
            (
                entry.member.to_hex().into(),
                entry.result.unwrap_or_else(no_reply),
            )
        });
        others.chain([(us.to_hex().into(), mine)]).collect()
    }
}

/// Whether a member says that it could not do it, and may later: `[5xx][text]`.
pub fn is_refused_for_now(parts: &[Bytes]) -> bool {
    matches!(parts, [code, _, ..] if code.len() == 3 && code.starts_with(b"5"))
}

fn no_reply() -> Tree {
    Tree::dict([("failed", Tree::Bool(true)), ("timeout", Tree::Bool(true))])
}

/// A member answers `[bt dict]`, or `[code][text]` when it refuses.
fn read_reply(parts: &[Bytes]) -> Tree {
    match parts {
        [dict] => match Tree::from_bt(dict) {
            Ok(tree @ Tree::Dict(_)) => tree,
            _ => bad_reply(),
        },
        [code, reason] => Tree::dict([
            (
                "code",
                Tree::text(String::from_utf8_lossy(code).into_owned()),
            ),
            ("failed", Tree::Bool(true)),
            (
                "reason",
                Tree::text(String::from_utf8_lossy(reason).into_owned()),
            ),
        ]),
        _ => bad_reply(),
    }
}

fn bad_reply() -> Tree {
    Tree::dict([
        ("bad_peer_response", Tree::Bool(true)),
        ("failed", Tree::Bool(true)),
    ])
}
