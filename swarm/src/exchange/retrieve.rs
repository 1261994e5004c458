//! `retrieve`.

use cepa_crypto::request_signature::retrieve_text;
use cepa_storage::{Command, Outcome, StoreFault};
use cepa_wire::answer::Answer;
use cepa_wire::request::Retrieve;
use cepa_wire::{MessageHash, Namespace, SubaccountToken, Timestamp};

use super::authorise::{Claim, RevocationCheck, check_signature, check_swarm, check_time};
use super::{Kind, Local, Plan, Run};
use crate::answers;
use crate::limits::{RETRIEVE_SIZE_MAX, SIGNATURE_TOLERANCE};

/// The legacy closed groups' namespace: readable by anybody.
const LEGACY_GROUP: Namespace = Namespace(-10);

pub(super) fn plan(retrieve: &Retrieve, local: Local<'_>) -> Result<Plan, Answer> {
    check_swarm(&retrieve.mailbox, local)?;
    let check = authorise(retrieve, local)?;
    let command = Command::Retrieve {
        mailbox: retrieve.mailbox,
        namespace: retrieve.namespace,
        after: retrieve
            .last_hash
            .as_ref()
            .and_then(|hash| MessageHash::from_text(hash.as_bytes())),
        count_max: retrieve
            .max_count
            .filter(|count| *count > 0)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(usize::MAX),
        size_max: size_max(retrieve),
    };
    Ok(Plan::run(Run {
        kind: Kind::Retrieve,
        command,
        forward: None,
        check,
    }))
}

/// Negative means a fraction of the node's own limit; unset means a fifth, or all of it when a count
/// is given.
fn size_max(retrieve: &Retrieve) -> usize {
    let counted = retrieve.max_count.is_some_and(|count| count > 0);
    match retrieve.max_size.unwrap_or(0) {
        0 if counted => RETRIEVE_SIZE_MAX,
        0 => RETRIEVE_SIZE_MAX / 5,
        fraction if fraction < 0 => {
            let divisor = usize::try_from(fraction.unsigned_abs()).unwrap_or(usize::MAX);
            RETRIEVE_SIZE_MAX / divisor
        }
        size => usize::try_from(size)
            .unwrap_or(usize::MAX)
            .min(RETRIEVE_SIZE_MAX),
    }
}

fn authorise(retrieve: &Retrieve, local: Local<'_>) -> Result<Option<RevocationCheck>, Answer> {
    let namespace = retrieve.namespace;
    let Some(proof) = &retrieve.proof else {
        if namespace.is_public_outbox() || namespace == LEGACY_GROUP {
            return Ok(None);
        }
        return Err(Answer::text(401, "retrieve: request signature required"));
    };
    check_time(
        // The parser refuses a signature without a timestamp.
        retrieve.timestamp.unwrap_or(Timestamp::ZERO),
        SIGNATURE_TOLERANCE,
        "retrieve timestamp too far from current time",
        local.now,
    )?;
    let claim = Claim {
        mailbox: &retrieve.mailbox,
        proof,
        rights: Some(SubaccountToken::READ),
        refusal: "retrieve signature verification failed",
    };
    let check = check_signature(&claim, retrieve_text(retrieve), local)?;
    Ok(check.filter(|_| !namespace.is_readable_by_revoked()))
}

pub(super) fn answer(outcome: Outcome, local: Local<'_>) -> Answer {
    match outcome {
        Outcome::Retrieved { messages, more } => answers::messages(messages, more, local),
        other => read_fault(&other, "Internal Server Error. Could not retrieve messages"),
    }
}

/// The answer when the store could not read: 503 when it is busy, else 500 with `text`.
pub(super) fn read_fault(outcome: &Outcome, text: &'static str) -> Answer {
    match outcome {
        Outcome::Failed(StoreFault::Busy) => Answer::text(503, "Server busy, try again later"),
        _ => Answer::text(500, text),
    }
}

#[cfg(test)]
mod tests {
    use cepa_wire::Mailbox;

    use super::*;

    fn limits(max_count: Option<u32>, max_size: Option<i64>) -> usize {
        size_max(&Retrieve {
            mailbox: Mailbox {
                prefix: 5,
                key: [0; 32],
            },
            namespace: Namespace::INBOX,
            last_hash: None,
            max_count,
            max_size,
            timestamp: None,
            proof: None,
        })
    }

    #[test]
    fn size_limits_are_those_of_the_protocol() {
        assert_eq!(limits(None, None), 1_560_000);
        assert_eq!(limits(None, Some(0)), 1_560_000);
        assert_eq!(limits(Some(0), Some(0)), 1_560_000);
        assert_eq!(limits(Some(3), None), 7_800_000);
        assert_eq!(limits(None, Some(-1)), 7_800_000);
        assert_eq!(limits(Some(3), Some(-10)), 780_000);
        assert_eq!(limits(None, Some(i64::MIN)), 0);
        assert_eq!(limits(None, Some(1000)), 1000);
        assert_eq!(limits(None, Some(i64::MAX)), 7_800_000);
    }
}
