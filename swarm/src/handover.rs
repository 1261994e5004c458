//! Handing mailboxes over when swarms change: who is to get which of them, and how far that is.
//!
//! Of each log of its own. Sans-IO: whoever has the log and the links carries the transfers out.

use std::collections::BTreeMap;

use cepa_storage::territory::{Arc, Territory};
use cepa_wire::{Ed25519PublicKey, ServiceNode, Timestamp};
use serde_json::{Value, json};

use crate::View;
use crate::limits::retry_pause;
use crate::view::arc_of;

/// Which node is in which swarm, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership(BTreeMap<Ed25519PublicKey, u64>);

impl Membership {
    /// That of a view; nodes in no swarm are left out.
    pub fn of(view: &View) -> Self {
        let nodes = view.nodes().iter();
        Self(
            nodes
                .filter(|node| node.swarm_id != ServiceNode::NO_SWARM)
                .map(|node| (node.pubkey_ed25519, node.swarm_id))
                .collect(),
        )
    }

    fn swarm_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.0.values().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn is_member(&self, node: &Ed25519PublicKey, swarm_id: u64) -> bool {
        self.0.get(node) == Some(&swarm_id)
    }
}

/// Who is to get what from `us` after swarms changed: of what our swarm kept before, each node that keeps
/// it now and was no member of our swarm.
pub fn transfers_after(
    before: &Membership,
    after: &Membership,
    us: &Ed25519PublicKey,
) -> BTreeMap<Ed25519PublicKey, Territory> {
    let mut transfers = BTreeMap::<Ed25519PublicKey, Territory>::new();
    let Some(&our_swarm) = before.0.get(us) else {
        return transfers;
    };
    let ids_before = before.swarm_ids();
    let Ok(at) = ids_before.binary_search(&our_swarm) else {
        return transfers;
    };
    let kept = arc_of(&ids_before, at);
    let ids_after = after.swarm_ids();
    for (at, swarm_id) in ids_after.iter().enumerate() {
        let common = intersection(kept, arc_of(&ids_after, at));
        if common.is_empty() {
            continue;
        }
        let new_keepers = after.0.iter().filter(|(node, id)| {
            *id == swarm_id && *node != us && !before.is_member(node, our_swarm)
        });
        for (node, _) in new_keepers {
            let territory = transfers.entry(*node).or_insert(Territory(Vec::new()));
            territory.0.extend_from_slice(&common);
        }
    }
    transfers
}

/// What lies on both arcs, in at most three pieces.
fn intersection(a: Arc, b: Arc) -> Vec<Arc> {
    let pieces = |arc: Arc| {
        if arc.from <= arc.to {
            vec![arc]
        } else {
            vec![
                Arc {
                    from: arc.from,
                    to: u64::MAX,
                },
                Arc {
                    from: 0,
                    to: arc.to,
                },
            ]
        }
    };
    let mut common = Vec::new();
    for a in pieces(a) {
        for b in pieces(b) {
            let (from, to) = (a.from.max(b.from), a.to.min(b.to));
            if from <= to {
                common.push(Arc { from, to });
            }
        }
    }
    common
}

/// The transfers of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handover {
    membership: Option<Membership>,
    transfers: BTreeMap<Ed25519PublicKey, Transfer>,
    /// Something changed that a restart must know.
    is_dirty: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Transfer {
    territory: Territory,
    /// It begins anew, wherever its cursor stands.
    is_fresh: bool,
    is_running: bool,
    failure_count: u32,
    next_attempt: Timestamp,
}

/// A transfer to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// Who gets it.
    pub peer: Ed25519PublicKey,
    /// What.
    pub territory: Territory,
    /// From the beginning; else from where its cursor stands.
    pub is_fresh: bool,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything arrived.
    Done,
    /// It goes on later, from its cursor.
    Stopped,
    /// An earlier cursor could not be forgotten: it begins later, from the beginning.
    NotBegun,
}

impl Handover {
    /// Takes a new view. The first one since the data directory was made is only kept.
    pub fn handle_view(&mut self, view: &View, us: &Ed25519PublicKey) {
        let after = Membership::of(view);
        if self.membership.as_ref() == Some(&after) || after.0.is_empty() {
            return;
        }
        self.is_dirty = true;
        let before = self.membership.replace(after);
        let Some((before, after)) = before.as_ref().zip(self.membership.as_ref()) else {
            return;
        };
        let added = transfers_after(before, after, us);
        // Who left has nothing to get any more.
        let nodes = &after.0;
        self.transfers
            .retain(|peer, transfer| transfer.is_running || nodes.contains_key(peer));
        for (peer, territory) in added {
            self.add(peer, territory);
        }
    }

    /// Gives a peer a territory from the beginning, beside what it was to get already.
    pub fn add(&mut self, peer: Ed25519PublicKey, territory: Territory) {
        self.is_dirty = true;
        let transfer = self.transfers.entry(peer).or_insert(Transfer {
            territory: Territory(Vec::new()),
            is_fresh: true,
            is_running: false,
            failure_count: 0,
            next_attempt: Timestamp::ZERO,
        });
        transfer.is_fresh = true;
        for arc in territory.0 {
            if !transfer.territory.0.contains(&arc) {
                transfer.territory.0.push(arc);
            }
        }
    }

    /// A transfer that is due: one at a time.
    pub fn poll_start(
        &mut self,
        now: Timestamp,
        is_up: impl Fn(&Ed25519PublicKey) -> bool,
    ) -> Option<Start> {
        if self.transfers.values().any(|transfer| transfer.is_running) {
            return None;
        }
        let (peer, transfer) = self
            .transfers
            .iter_mut()
            .find(|(peer, transfer)| transfer.next_attempt <= now && is_up(peer))?;
        transfer.is_running = true;
        Some(Start {
            peer: *peer,
            territory: transfer.territory.clone(),
            is_fresh: core::mem::take(&mut transfer.is_fresh),
        })
    }

    /// A transfer has ended.
    pub fn handle_ended(&mut self, peer: &Ed25519PublicKey, ended: Ended, now: Timestamp) {
        self.is_dirty = true;
        let Some(transfer) = self.transfers.get_mut(peer) else {
            return;
        };
        transfer.is_running = false;
        transfer.is_fresh |= ended == Ended::NotBegun;
        if ended == Ended::Done {
            // Unless more was added meanwhile.
            if !transfer.is_fresh {
                self.transfers.remove(peer);
            }
            return;
        }
        let pause = retry_pause(transfer.failure_count);
        transfer.failure_count += 1;
        transfer.next_attempt = now.saturating_add(pause);
    }

    /// How many transfers are not through, for metrics.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether everybody has what it is to get.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// What a restart must know, if it changed since this was asked last.
    pub fn poll_save(&mut self) -> Option<Vec<u8>> {
        core::mem::take(&mut self.is_dirty).then(|| self.to_json().to_string().into_bytes())
    }

    fn to_json(&self) -> Value {
        let membership = self.membership.as_ref().map(|membership| {
            let nodes = membership.0.iter();
            nodes
                .map(|(key, swarm)| json!([key.to_hex(), swarm]))
                .collect::<Value>()
        });
        let transfers: Value = self
            .transfers
            .iter()
            .map(|(peer, transfer)| {
                let arcs = transfer.territory.0.iter();
                let arcs: Value = arcs.map(|arc| json!([arc.from, arc.to])).collect();
                // What runs goes on from its cursor, which is kept as durably as this.
                json!({"peer": peer.to_hex(), "arcs": arcs, "fresh": transfer.is_fresh})
            })
            .collect();
        json!({"membership": membership, "transfers": transfers})
    }

    /// Reads what [`Self::poll_save`] gave; `None` when it is something else.
    pub fn parse(saved: &[u8]) -> Option<Self> {
        let saved: Value = serde_json::from_slice(saved).ok()?;
        let membership = match saved.get("membership")? {
            Value::Null => None,
            nodes => Some(Membership(
                nodes
                    .as_array()?
                    .iter()
                    .map(|node| Some((key_of(node.get(0)?)?, node.get(1)?.as_u64()?)))
                    .collect::<Option<_>>()?,
            )),
        };
        let transfers = saved.get("transfers")?.as_array()?.iter();
        let transfers = transfers.map(parse_transfer).collect::<Option<_>>()?;
        Some(Self {
            membership,
            transfers,
            is_dirty: false,
        })
    }
}

fn key_of(value: &Value) -> Option<Ed25519PublicKey> {
    Ed25519PublicKey::from_hex(value.as_str()?.as_bytes())
}

fn parse_transfer(value: &Value) -> Option<(Ed25519PublicKey, Transfer)> {
    let arcs = value.get("arcs")?.as_array()?.iter();
    let arcs = arcs.map(|arc| {
        Some(Arc {
            from: arc.get(0)?.as_u64()?,
            to: arc.get(1)?.as_u64()?,
        })
    });
    let transfer = Transfer {
        territory: Territory(arcs.collect::<Option<_>>()?),
        is_fresh: value.get("fresh")?.as_bool()?,
        is_running: false,
        failure_count: 0,
        next_attempt: Timestamp::ZERO,
    };
    Some((key_of(value.get("peer")?)?, transfer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Ed25519PublicKey {
        Ed25519PublicKey([number; 32])
    }

    fn membership(nodes: &[(u8, u64)]) -> Membership {
        let nodes = nodes.iter().map(|(number, swarm)| (key(*number), *swarm));
        Membership(nodes.collect())
    }

    const QUARTER: u64 = 1 << 62;

    /// Whether the transfers give each point of the ring that we kept to all who keep it now and did not
    /// before, and to nobody else.
    fn check(before: &Membership, after: &Membership) {
        let us = key(1);
        let transfers = transfers_after(before, after, &us);
        let (ids_before, ids_after) = (before.swarm_ids(), after.swarm_ids());
        let nearest = cepa_crypto::swarm_space::nearest_swarm;
        let step = u64::MAX / 997;
        for point in (0..997).map(|number| number * step).chain([0, u64::MAX]) {
            let swarm_before = nearest(point, &ids_before);
            let swarm_after = nearest(point, &ids_after);
            let ours = swarm_before.is_some() && swarm_before == before.0.get(&us).copied();
            for (node, swarm) in &after.0 {
                let is_new = before
                    .0
                    .get(node)
                    .is_none_or(|id| Some(*id) != swarm_before);
                let wanted = ours && *node != us && Some(*swarm) == swarm_after && is_new;
                let given = transfers
                    .get(node)
                    .is_some_and(|territory| territory.0.iter().any(|arc| arc.contains(point)));
                assert_eq!(given, wanted, "{point} for {node}");
            }
        }
    }

    #[test]
    fn everybody_who_keeps_something_new_gets_it() {
        let q = QUARTER;
        let two = membership(&[(1, q), (2, q), (3, 3 * q), (4, 3 * q)]);
        let cases = [
            // Nothing, a member joins, one leaves.
            two,
            membership(&[(1, q), (2, q), (5, q), (3, 3 * q), (4, 3 * q)]),
            membership(&[(1, q), (3, 3 * q), (4, 3 * q)]),
            // A swarm between, made of new nodes, of theirs, of ours.
            membership(&[(1, q), (2, q), (3, 3 * q), (4, 3 * q), (5, 2 * q)]),
            membership(&[(1, q), (2, q), (3, 3 * q), (4, 2 * q)]),
            membership(&[(1, q), (2, 2 * q), (3, 3 * q), (4, 3 * q)]),
            // Our swarm is dissolved: all into the other, or we into none.
            membership(&[(1, 3 * q), (2, 3 * q), (3, 3 * q), (4, 3 * q)]),
            membership(&[(3, 3 * q), (4, 3 * q)]),
            // Near zero.
            membership(&[
                (1, q),
                (2, q),
                (3, 3 * q),
                (4, 3 * q),
                (5, 5),
                (6, u64::MAX - 1),
            ]),
        ];
        for after in &cases {
            for before in &cases {
                check(before, after);
            }
        }
    }

    fn view(nodes: &[(u8, u64)]) -> View {
        let nodes = nodes.iter().map(|(number, swarm_id)| ServiceNode {
            ip: core::net::Ipv4Addr::LOCALHOST,
            port: 1,
            omq_port: 2,
            pubkey_ed25519: key(*number),
            pubkey_x25519: cepa_wire::X25519PublicKey([*number; 32]),
            pubkey_legacy: [*number; 32],
            storage_server_version: ServiceNode::VERSION_DEFAULT,
            swarm_id: *swarm_id,
        });
        View::new(nodes.collect(), &key(1))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_transfer_goes_on_until_it_is_through_and_over_restarts() {
        let us = key(1);
        let mut handover = Handover::default();
        handover.handle_view(&view(&[(1, 7), (2, 7)]), &us);
        assert!(handover.poll_save().is_some());
        assert_eq!(handover.poll_start(at(0), |_| true), None);
        handover.handle_view(&view(&[(1, 7), (2, 7), (3, 7)]), &us);
        assert_eq!(handover.poll_start(at(0), |_| false), None, "it is down");
        let start = handover.poll_start(at(0), |_| true).unwrap();
        assert_eq!((start.peer, start.is_fresh), (key(3), true));
        assert_eq!(start.territory, Territory::everything());
        handover.handle_ended(&key(3), Ended::Stopped, at(0));
        assert_eq!(handover.poll_start(at(14), |_| true), None);

        let saved = handover.poll_save().unwrap();
        assert_eq!(handover.poll_save(), None);
        let mut handover = Handover::parse(&saved).unwrap();
        // The same view again changes nothing.
        handover.handle_view(&view(&[(1, 7), (2, 7), (3, 7)]), &us);
        assert_eq!(handover.poll_save(), None);
        let start = handover.poll_start(at(15), |_| true).unwrap();
        assert!(!start.is_fresh, "from where its cursor stands");
        handover.handle_ended(&key(3), Ended::Done, at(16));
        assert!(handover.is_empty());
    }

    #[test]
    fn what_is_added_meanwhile_begins_anew_and_who_left_gets_nothing() {
        let us = key(1);
        let mut handover = Handover::default();
        handover.add(key(3), Territory(vec![Arc { from: 1, to: 2 }]));
        handover.poll_start(at(0), |_| true).unwrap();
        handover.add(key(3), Territory(vec![Arc { from: 3, to: 4 }]));
        handover.handle_ended(&key(3), Ended::Done, at(0));
        let start = handover.poll_start(at(0), |_| true).unwrap();
        assert_eq!((start.territory.0.len(), start.is_fresh), (2, true));
        handover.handle_ended(&key(3), Ended::Stopped, at(0));
        handover.handle_view(&view(&[(1, 7), (3, 7)]), &us);
        handover.handle_view(&view(&[(1, 7)]), &us);
        assert!(handover.is_empty());
    }

    #[test]
    fn a_damaged_file_is_none() {
        for bad in ["", "{}", "[]", r#"{"membership":7,"transfers":[]}"#] {
            assert_eq!(Handover::parse(bad.as_bytes()), None, "{bad}");
        }
        let empty = br#"{"membership":null,"transfers":[]}"#;
        assert_eq!(Handover::parse(empty), Some(Handover::default()));
    }
}
