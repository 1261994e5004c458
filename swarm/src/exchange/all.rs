//! `delete_all`, `delete_before` and `expire_all`: what concerns whole boxes.

use std::collections::BTreeMap;

use cepa_crypto::request_signature::{
    affected_answer_text, delete_all_text, delete_before_text, expire_all_text,
};
use cepa_storage::{Command, Outcome};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, DeleteAll, DeleteBefore, ExpireAll};
use cepa_wire::{Mailbox, MessageHash, Namespace, Scope, SubaccountToken, Timestamp};

use super::authorise::{Claim, check_signature, check_swarm, check_time, tolerance};
use super::gather::{other_entry, signed, texts};
use super::{Forward, Kind, Local, Origin, Plan, Run};
use crate::answers::Dict;
use crate::limits::{DELETE_BEFORE_TOLERANCE, LATE_FORWARD_MAX};

pub(super) struct Finish {
    mailbox: Mailbox,
    scope: Scope,
    /// `timestamp`, `before` or `expiry`: the answer's signature covers it.
    time: Timestamp,
    /// What the entry calls the messages.
    affected: &'static str,
}

pub(super) fn plan_delete_all(
    all: DeleteAll,
    origin: Origin,
    local: Local<'_>,
) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&all.mailbox, local)?;
    let before = if is_late(all.timestamp, origin, local.now) {
        Some(all.timestamp)
    } else {
        check_time(
            all.timestamp,
            tolerance(origin),
            "delete_all timestamp too far from current time",
            local.now,
        )?;
        None
    };
    let claim = Claim {
        mailbox: &all.mailbox,
        proof: &all.proof,
        rights: Some(SubaccountToken::DELETE),
        refusal: "delete_all signature verification failed",
    };
    let check = check_signature(&claim, delete_all_text(&all), local)?;
    let finish = Finish {
        mailbox: all.mailbox,
        scope: all.scope,
        time: all.timestamp,
        affected: "deleted",
    };
    let command = Command::DeleteAll {
        mailbox: all.mailbox,
        scope: all.scope,
        before,
    };
    Ok(Plan::run(Run {
        kind: Kind::All(finish),
        command,
        forward: Forward::new(swarm_id, origin, || ClientRequest::DeleteAll(all)),
        check,
    }))
}

/// Whether a member delivers what we missed while we were away. Then it counts for what was there when
/// it was signed, and no more: what came since is not touched, however often and by whom it is sent.
fn is_late(signed_at: Timestamp, origin: Origin, now: Timestamp) -> bool {
    let age = now.saturating_since(signed_at);
    origin == Origin::Member && age > tolerance(origin) && age <= LATE_FORWARD_MAX
}

pub(super) fn plan_delete_before(
    delete: DeleteBefore,
    origin: Origin,
    local: Local<'_>,
) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&delete.mailbox, local)?;
    if delete.before > local.now.saturating_add(DELETE_BEFORE_TOLERANCE) {
        let text = "delete_before timestamp too far in the future";
        return Err(Answer::text(401, text));
    }
    let claim = Claim {
        mailbox: &delete.mailbox,
        proof: &delete.proof,
        rights: Some(SubaccountToken::DELETE),
        refusal: "delete_before signature verification failed",
    };
    let check = check_signature(&claim, delete_before_text(&delete), local)?;
    let finish = Finish {
        mailbox: delete.mailbox,
        scope: delete.scope,
        time: delete.before,
        affected: "deleted",
    };
    let command = Command::DeleteAll {
        mailbox: delete.mailbox,
        scope: delete.scope,
        before: Some(delete.before),
    };
    Ok(Plan::run(Run {
        kind: Kind::All(finish),
        command,
        forward: Forward::new(swarm_id, origin, || ClientRequest::DeleteBefore(delete)),
        check,
    }))
}

pub(super) fn plan_expire_all(
    all: ExpireAll,
    origin: Origin,
    local: Local<'_>,
) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&all.mailbox, local)?;
    let earliest = local.now.saturating_sub(tolerance(origin));
    if all.expiry < earliest && !is_late(all.expiry, origin, local.now) {
        let text = "expire_all timestamp should be >= current time";
        return Err(Answer::text(406, text));
    }
    let claim = Claim {
        mailbox: &all.mailbox,
        proof: &all.proof,
        rights: Some(SubaccountToken::DELETE),
        refusal: "expire_all signature verification failed",
    };
    let check = check_signature(&claim, expire_all_text(&all), local)?;
    let finish = Finish {
        mailbox: all.mailbox,
        scope: all.scope,
        time: all.expiry,
        affected: "updated",
    };
    let command = Command::ExpireAll {
        mailbox: all.mailbox,
        scope: all.scope,
        expiry: all.expiry,
    };
    Ok(Plan::run(Run {
        kind: Kind::All(finish),
        command,
        forward: Forward::new(swarm_id, origin, || ClientRequest::ExpireAll(all)),
        check,
    }))
}

impl Finish {
    pub(super) fn entry(&self, outcome: &Outcome, local: Local<'_>) -> Tree {
        let (Outcome::DeletedAll(affected) | Outcome::ExpiredAll(affected)) = outcome else {
            return other_entry(outcome);
        };
        let mut affected: Vec<(Namespace, String)> = affected
            .iter()
            .map(|(namespace, hash): &(Namespace, MessageHash)| (*namespace, hash.to_text()))
            .collect();
        affected.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let hashes: Vec<String> = affected.iter().map(|(_, hash)| hash.clone()).collect();
        let text = affected_answer_text(&self.mailbox, self.time, &hashes);
        let told = match self.scope {
            Scope::One(_) => texts(hashes),
            Scope::All => by_namespace(affected),
        };
        Tree::dict([(self.affected, told), ("signature", signed(local, text))])
    }
}

/// `{namespace: [hash]}`
fn by_namespace(affected: Vec<(Namespace, String)>) -> Tree {
    let mut lists = BTreeMap::<Namespace, Vec<String>>::new();
    for (namespace, hash) in affected {
        lists.entry(namespace).or_default().push(hash);
    }
    let dict: Dict = lists
        .into_iter()
        .map(|(namespace, hashes)| (namespace.0.to_string().into(), texts(hashes)))
        .collect();
    Tree::Dict(dict)
}
