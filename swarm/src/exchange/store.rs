//! `store`.

use cepa_crypto::request_signature::store_text;
use cepa_crypto::swarm_space::message_hash;
use cepa_storage::{Command, Outcome};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, Store};
use cepa_wire::{Mailbox, MessageHash, SubaccountToken};

use super::authorise::{
    Claim, RevocationCheck, check_signature, check_swarm, check_time, tolerance,
};
use super::gather::{gathered, gathered_answer, other_entry, signed};
use super::{Forward, Kind, Local, Origin, Plan, Run};
use crate::answers::{Dict, millis};
use crate::fan_out::FanOut;
use crate::limits::{STORE_TOLERANCE, TTL_MAX_PRIVATE, TTL_MAX_PUBLIC, TTL_MIN};

pub(super) struct Finish {
    mailbox: Mailbox,
    hash: MessageHash,
}

pub(super) fn plan(store: Store, origin: Origin, local: Local<'_>) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&store.mailbox, local)?;
    let check = authorise(&store, origin, local)?;
    let hash = message_hash(&store.mailbox, store.namespace, &store.data);
    let mailbox = store.mailbox;
    let command = Command::Store {
        mailbox,
        namespace: store.namespace,
        hash,
        timestamp: store.timestamp,
        expiry: store.expiry,
        data: store.data.clone(),
    };
    Ok(Plan::run(Run {
        kind: Kind::Store(Finish { mailbox, hash }),
        command,
        forward: Forward::new(swarm_id, origin, || ClientRequest::Store(store)),
        check,
    }))
}

fn authorise(
    store: &Store,
    origin: Origin,
    local: Local<'_>,
) -> Result<Option<RevocationCheck>, Answer> {
    let now = local.now;
    let public = store.namespace.is_public_inbox();
    let ttl_max = if public {
        TTL_MAX_PUBLIC
    } else {
        TTL_MAX_PRIVATE
    };
    let ttl = store.expiry.saturating_since(store.timestamp);
    if ttl < TTL_MIN || ttl > ttl_max {
        return Err(Answer::text(403, "Provided expiry/TTL is not valid."));
    }
    if store.timestamp > now.saturating_add(STORE_TOLERANCE)
        || store.expiry < now.saturating_sub(STORE_TOLERANCE)
    {
        return Err(Answer::text(406, "Timestamp error: check your clock"));
    }
    if public {
        return Ok(None);
    }
    let Some(proof) = &store.proof else {
        let namespace = store.namespace.0;
        let text = format!("store: signature required to store to namespace {namespace}");
        return Err(Answer::text(401, text));
    };
    check_time(
        store.sig_timestamp.unwrap_or(store.timestamp),
        tolerance(origin),
        "store signature timestamp too far from current time",
        now,
    )?;
    // A public outbox keeps one message: to store there is to delete the one before.
    let rights = if store.namespace.is_public_outbox() {
        SubaccountToken::WRITE | SubaccountToken::DELETE
    } else {
        SubaccountToken::WRITE
    };
    let claim = Claim {
        mailbox: &store.mailbox,
        proof,
        rights: Some(rights),
        refusal: "store signature verification failed",
    };
    check_signature(&claim, store_text(store), local)
}

impl Finish {
    /// The message, if it is stored here.
    pub(super) fn stored(&self, outcome: &Outcome) -> Option<(Mailbox, MessageHash)> {
        matches!(outcome, Outcome::Stored { .. }).then_some((self.mailbox, self.hash))
    }

    pub(super) fn answer(
        self,
        outcome: &Outcome,
        fan_out: FanOut,
        origin: Origin,
        local: Local<'_>,
    ) -> Answer {
        let mine = self.entry(outcome, origin, local);
        let mut dict = gathered(mine, fan_out, origin, local);
        if origin == Origin::Client {
            // Android's client requires it at the top level.
            dict.insert("hash".into(), Tree::text(self.hash.to_text()));
        }
        gathered_answer(dict)
    }

    fn entry(&self, outcome: &Outcome, origin: Origin, local: Local<'_>) -> Tree {
        let Outcome::Stored { already, expiry } = outcome else {
            return other_entry(outcome);
        };
        let hash = self.hash.to_text();
        let mut mine = Dict::new();
        if *already {
            mine.insert("already".into(), Tree::Bool(true));
        }
        mine.insert("expiry".into(), millis(*expiry));
        mine.insert("signature".into(), signed(local, &hash));
        mine.insert("hash".into(), Tree::text(hash));
        if origin == Origin::Client {
            // The reference put `t` here by mistake and keeps it; clients may read it.
            mine.insert("t".into(), millis(local.now));
        }
        Tree::Dict(mine)
    }
}
