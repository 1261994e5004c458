//! `revoke_subaccount`, `unrevoke_subaccount` and `revoked_subaccounts`.

use bytes::Bytes;
use cepa_crypto::request_signature::{
    revocation_answer_text, revocation_text, revoked_subaccounts_text,
};
use cepa_storage::{Command, Outcome};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, Revocation, RevokedSubaccounts};

use super::authorise::{Claim, check_signature, check_swarm, check_time};
use super::gather::{other_entry, signed};
use super::retrieve::read_fault;
use super::{Forward, Kind, Local, Origin, Plan, Run};
use crate::answers::{self, Dict};
use crate::limits::{LATE_FORWARD_MAX, SIGNATURE_TOLERANCE};

pub(super) struct Finish {
    request: Revocation,
}

/// Whether subaccounts are revoked or accepted again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Revoke,
    Unrevoke,
}

impl Change {
    const fn method(self) -> &'static str {
        match self {
            Self::Revoke => "revoke_subaccount",
            Self::Unrevoke => "unrevoke_subaccount",
        }
    }

    /// The texts of 406 and 401.
    const fn refusals(self) -> (&'static str, &'static str) {
        match self {
            Self::Revoke => (
                "revoke_subaccount timestamp too far from current time",
                "revoke_subaccount signature verification failed",
            ),
            Self::Unrevoke => (
                "unrevoke_subaccount timestamp too far from current time",
                "unrevoke_subaccount signature verification failed",
            ),
        }
    }
}

pub(super) fn plan(
    change: Change,
    revocation: Revocation,
    origin: Origin,
    local: Local<'_>,
) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&revocation.mailbox, local)?;
    let (wrong_time, refusal) = change.refusals();
    let signed_at = revocation.timestamp;
    let is_late = origin == Origin::Member
        && signed_at <= local.now
        && local.now.saturating_since(signed_at) <= LATE_FORWARD_MAX;
    if !is_late {
        check_time(signed_at, SIGNATURE_TOLERANCE, wrong_time, local.now)?;
    }
    let claim = Claim {
        mailbox: &revocation.mailbox,
        proof: &revocation.proof,
        rights: None,
        refusal,
    };
    let text = revocation_text(change.method(), &revocation);
    let check = check_signature(&claim, text, local)?;
    let (mailbox, tokens) = (revocation.mailbox, revocation.tokens.clone());
    let command = match change {
        Change::Revoke => Command::Revoke { mailbox, tokens },
        Change::Unrevoke => Command::Unrevoke { mailbox, tokens },
    };
    let forward = Forward::new(swarm_id, origin, || match change {
        Change::Revoke => ClientRequest::RevokeSubaccount(revocation.clone()),
        Change::Unrevoke => ClientRequest::UnrevokeSubaccount(revocation.clone()),
    });
    Ok(Plan::run(Run {
        kind: Kind::Revocation(Finish {
            request: revocation,
        }),
        command,
        forward,
        check,
    }))
}

impl Finish {
    pub(super) fn entry(&self, outcome: &Outcome, local: Local<'_>) -> Tree {
        let Outcome::Revoked { count } = outcome else {
            return other_entry(outcome);
        };
        let text = revocation_answer_text(&self.request);
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        Tree::dict([
            ("count", Tree::Integer(count)),
            ("signature", signed(local, text)),
        ])
    }
}

pub(super) fn plan_list(revoked: &RevokedSubaccounts, local: Local<'_>) -> Result<Plan, Answer> {
    check_swarm(&revoked.mailbox, local)?;
    check_time(
        revoked.timestamp,
        SIGNATURE_TOLERANCE,
        "revoked_subaccounts timestamp too far from current time",
        local.now,
    )?;
    let claim = Claim {
        mailbox: &revoked.mailbox,
        proof: &revoked.proof,
        rights: None,
        refusal: "revoked_subaccounts signature verification failed",
    };
    let check = check_signature(&claim, revoked_subaccounts_text(revoked), local)?;
    Ok(Plan::run(Run {
        kind: Kind::RevokedSubaccounts,
        command: Command::Revocations {
            mailbox: revoked.mailbox,
        },
        forward: None,
        check,
    }))
}

pub(super) fn answer_list(outcome: &Outcome, local: Local<'_>) -> Answer {
    let Outcome::Revocations(tokens) = outcome else {
        return read_fault(outcome, "request failed");
    };
    let tokens = tokens
        .iter()
        .map(|token| Tree::Bytes(Bytes::copy_from_slice(&token.0)))
        .collect();
    let mut dict = Dict::new();
    dict.insert("revoked_subaccounts".into(), Tree::List(tokens));
    answers::add_clock(&mut dict, local);
    Answer::ok(Tree::Dict(dict))
}
