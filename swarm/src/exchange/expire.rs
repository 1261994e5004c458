//! `expire` and `get_expiries`.

use cepa_crypto::request_signature::{expire_answer_text, expire_text, get_expiries_text};
use cepa_storage::{Command, Outcome};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, Expire, GetExpiries};
use cepa_wire::{Direction, MessageHash, SubaccountToken, Timestamp};

use super::authorise::{Claim, check_signature, check_swarm, check_time};
use super::gather::{other_entry, signed, texts};
use super::retrieve::read_fault;
use super::{Forward, Kind, Local, Origin, Plan, Run};
use crate::answers::{Dict, millis};
use crate::limits::{EXPIRE_TOLERANCE, LATE_FORWARD_MAX, SIGNATURE_TOLERANCE, TTL_MAX_PRIVATE};

pub(super) struct Finish {
    request: Expire,
    /// The expiries as they are applied: no later than a message may live.
    applied: Vec<Timestamp>,
}

pub(super) fn plan(expire: Expire, origin: Origin, local: Local<'_>) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&expire.mailbox, local)?;
    let tolerance = match origin {
        Origin::Client => EXPIRE_TOLERANCE,
        // What we missed while we were away may have been due long ago: then it is due now.
        Origin::Member => LATE_FORWARD_MAX,
    };
    let earliest = local.now.saturating_sub(tolerance);
    if expire.expiries.iter().any(|expiry| *expiry < earliest) {
        let text = "expire: timestamp should be >= current time";
        return Err(Answer::text(401, text));
    }
    let claim = Claim {
        mailbox: &expire.mailbox,
        proof: &expire.proof,
        rights: Some(SubaccountToken::WRITE),
        refusal: "expire: signature verification failed",
    };
    let check = check_signature(&claim, expire_text(&expire), local)?;
    let direction = allowed_direction(&expire)?;
    let latest = local.now.saturating_add(TTL_MAX_PRIVATE);
    let applied: Vec<Timestamp> = expire
        .expiries
        .iter()
        .map(|expiry| latest.min(*expiry))
        .collect();
    let command = Command::Expire {
        mailbox: expire.mailbox,
        targets: targets(&expire.messages, &applied),
        direction,
    };
    let forward = Forward::new(swarm_id, origin, || ClientRequest::Expire(expire.clone()));
    Ok(Plan::run(Run {
        kind: Kind::Expire(Finish {
            request: expire,
            applied,
        }),
        command,
        forward,
        check,
    }))
}

/// A subaccount that may not delete may not shorten either: to let expire at once is to delete.
fn allowed_direction(expire: &Expire) -> Result<Direction, Answer> {
    let may_delete = expire
        .proof
        .subaccount
        .is_none_or(|subaccount| subaccount.token.allows(SubaccountToken::DELETE));
    match expire.direction {
        direction if may_delete => Ok(direction),
        Direction::Shorten => Err(Answer::text(
            400,
            "expire: shorten parameter cannot be used with this subaccount token (missing delete \
             access)",
        )),
        Direction::Any | Direction::Extend => Ok(Direction::Extend),
    }
}

/// Each message with its expiry: one for all, or one for each. Text that is no hash names no message.
fn targets(messages: &[String], expiries: &[Timestamp]) -> Vec<(MessageHash, Timestamp)> {
    messages
        .iter()
        .zip(expiries.iter().chain(core::iter::repeat(match expiries {
            [one] => one,
            _ => &Timestamp::ZERO,
        })))
        .filter_map(|(hash, expiry)| Some((MessageHash::from_text(hash.as_bytes())?, *expiry)))
        .collect()
}

fn texts_of(rows: &[(MessageHash, Timestamp)]) -> Vec<(String, Timestamp)> {
    let mut texts: Vec<(String, Timestamp)> = rows
        .iter()
        .map(|(hash, expiry)| (hash.to_text(), *expiry))
        .collect();
    texts.sort_unstable();
    texts
}

fn expiry_dict(rows: &[(String, Timestamp)]) -> Tree {
    let dict: Dict = rows
        .iter()
        .map(|(hash, expiry)| (hash.clone().into(), millis(*expiry)))
        .collect();
    Tree::Dict(dict)
}

impl Finish {
    pub(super) fn entry(&self, outcome: &Outcome, local: Local<'_>) -> Tree {
        let Outcome::Expired { updated, unchanged } = outcome else {
            return other_entry(outcome);
        };
        let updated = texts_of(updated);
        // Told only to those who said in which direction.
        let is_directed = self.request.direction != Direction::Any;
        let unchanged = if is_directed {
            texts_of(unchanged)
        } else {
            Vec::new()
        };
        // With one expiry that one, even if nothing was updated; with many those of the updated.
        let applied: Vec<Timestamp> = match self.applied.as_slice() {
            [one] => vec![*one],
            _ => updated.iter().map(|(_, expiry)| *expiry).collect(),
        };
        let hashes: Vec<String> = updated.into_iter().map(|(hash, _)| hash).collect();
        let text = expire_answer_text(&self.request, &applied, &hashes, &unchanged);
        let expiry = match self.applied.as_slice() {
            [one] => millis(*one),
            _ => Tree::List(applied.into_iter().map(millis).collect()),
        };
        let mut entry = Dict::new();
        entry.insert("expiry".into(), expiry);
        entry.insert("signature".into(), signed(local, text));
        entry.insert("updated".into(), texts(hashes));
        if is_directed {
            entry.insert("unchanged".into(), expiry_dict(&unchanged));
        }
        Tree::Dict(entry)
    }
}

pub(super) fn plan_get(expiries: &GetExpiries, local: Local<'_>) -> Result<Plan, Answer> {
    check_swarm(&expiries.mailbox, local)?;
    check_time(
        expiries.timestamp,
        SIGNATURE_TOLERANCE,
        "get_expiries timestamp too far from current time",
        local.now,
    )?;
    let claim = Claim {
        mailbox: &expiries.mailbox,
        proof: &expiries.proof,
        rights: Some(SubaccountToken::READ),
        refusal: "get_expiries signature verification failed",
    };
    let check = check_signature(&claim, get_expiries_text(expiries), local)?;
    let hashes = expiries
        .messages
        .iter()
        .filter_map(|hash| MessageHash::from_text(hash.as_bytes()))
        .collect();
    Ok(Plan::run(Run {
        kind: Kind::GetExpiries,
        command: Command::Expiries {
            mailbox: expiries.mailbox,
            hashes,
        },
        forward: None,
        check,
    }))
}

/// The answer has neither clock nor hard fork.
pub(super) fn answer_get(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Expiries(rows) => {
            let dict = expiry_dict(&texts_of(rows));
            Answer::ok(Tree::dict([("expiries", dict)]))
        }
        other => read_fault(other, "request failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expiry_is_for_all_and_many_are_for_each() {
        let hash = |number: u8| MessageHash([number; 32]);
        let messages: Vec<String> = (1..=3).map(|number| hash(number).to_text()).collect();
        let at = Timestamp::from_millis;
        let all = targets(&messages, &[at(7)]);
        assert_eq!(all, [(hash(1), at(7)), (hash(2), at(7)), (hash(3), at(7))]);
        let each = targets(&messages, &[at(7), at(8), at(9)]);
        assert_eq!(each, [(hash(1), at(7)), (hash(2), at(8)), (hash(3), at(9))]);
        assert_eq!(targets(&["x".repeat(43)], &[at(7)]), []);
    }
}
