//! `store`.

use bytes::Bytes;
use cepa_crypto::request_signature::{store_text, verify_request};
use cepa_crypto::swarm_space::message_hash;
use cepa_storage::{Command, Outcome};
use cepa_wire::MessageHash;
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, Store};

use super::{
    Forward, Kind, Local, Origin, Plan, Run, check_swarm, failed_entry, gathered, gathered_answer,
};
use crate::answers::{Dict, millis};
use crate::fan_out::FanOut;
use crate::limits::{
    SIGNATURE_TOLERANCE, SIGNATURE_TOLERANCE_FORWARDED, STORE_TOLERANCE, TTL_MAX_PRIVATE,
    TTL_MAX_PUBLIC, TTL_MIN,
};

pub(super) struct Finish {
    hash: MessageHash,
}

pub(super) fn plan(store: Store, origin: Origin, local: Local<'_>) -> Plan {
    let swarm_id = match check_swarm(&store.mailbox, local) {
        Ok(swarm_id) => swarm_id,
        Err(wrong_swarm) => return Plan::Answer(wrong_swarm),
    };
    if let Err(refusal) = authorise(&store, origin, local) {
        return Plan::Answer(refusal);
    }
    let hash = message_hash(&store.mailbox, store.namespace, &store.data);
    let command = Command::Store {
        mailbox: store.mailbox,
        namespace: store.namespace,
        hash,
        timestamp: store.timestamp,
        expiry: store.expiry,
        data: store.data.clone(),
    };
    let forward = (origin == Origin::Client).then(|| Forward {
        swarm_id,
        method: "store",
        params: Bytes::from(ClientRequest::Store(store).encode_bt()),
    });
    Plan::Run(Box::new(Run {
        kind: Kind::Store(Finish { hash }),
        command,
        forward,
    }))
}

fn authorise(store: &Store, origin: Origin, local: Local<'_>) -> Result<(), Answer> {
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
        return Ok(());
    }
    let Some(proof) = &store.proof else {
        let namespace = store.namespace.0;
        let text = format!("store: signature required to store to namespace {namespace}");
        return Err(Answer::text(401, text));
    };
    let tolerance = match origin {
        Origin::Client => SIGNATURE_TOLERANCE,
        Origin::Member => SIGNATURE_TOLERANCE_FORWARDED,
    };
    let signed_at = store.sig_timestamp.unwrap_or(store.timestamp);
    if signed_at < now.saturating_sub(tolerance) || signed_at > now.saturating_add(tolerance) {
        return Err(Answer::text(
            406,
            "store signature timestamp too far from current time",
        ));
    }
    verify_request(&store.mailbox, proof, &store_text(store))
        .map_err(|_| Answer::text(401, "store signature verification failed"))
}

impl Finish {
    pub(super) fn answer(
        self,
        outcome: &Outcome,
        fan_out: FanOut,
        origin: Origin,
        local: Local<'_>,
    ) -> Answer {
        let hash = self.hash.to_text();
        let mine = match outcome {
            Outcome::Stored { already, expiry } => {
                let mut mine = Dict::new();
                if *already {
                    mine.insert("already".into(), Tree::Bool(true));
                }
                let signature = local.keys.ed25519().sign(hash.as_bytes());
                mine.insert("expiry".into(), millis(*expiry));
                mine.insert("hash".into(), Tree::text(hash.clone()));
                mine.insert(
                    "signature".into(),
                    Tree::Bytes(Bytes::copy_from_slice(&signature.0)),
                );
                if origin == Origin::Client {
                    // The reference put `t` here by mistake and keeps it; clients may read it.
                    mine.insert("t".into(), millis(local.now));
                }
                Tree::Dict(mine)
            }
            Outcome::Failed(fault) => failed_entry(*fault),
            other => unreachable_outcome(other),
        };
        let mut dict = gathered(mine, fan_out, origin, local);
        if origin == Origin::Client {
            // Android's client requires it at the top level.
            dict.insert("hash".into(), Tree::text(hash));
        }
        gathered_answer(dict)
    }
}

/// A store that ended as something else than a store: our own fault, told to the client as a failure.
fn unreachable_outcome(outcome: &Outcome) -> Tree {
    debug_assert!(false, "a store ended as {outcome:?}");
    failed_entry(cepa_storage::StoreFault::DiskFailed)
}
