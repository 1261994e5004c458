//! `retrieve`.

use cepa_crypto::request_signature::{retrieve_text, verify_request};
use cepa_storage::{Command, Outcome, StoreFault};
use cepa_wire::answer::Answer;
use cepa_wire::request::Retrieve;
use cepa_wire::{MessageHash, Namespace, Timestamp};

use super::{Kind, Local, Plan, Run, check_swarm};
use crate::answers;
use crate::limits::{RETRIEVE_SIZE_MAX, SIGNATURE_TOLERANCE};

/// The legacy closed groups' namespace: readable by anybody.
const LEGACY_GROUP: Namespace = Namespace(-10);

pub(super) fn plan(retrieve: &Retrieve, local: Local<'_>) -> Plan {
    if let Err(wrong_swarm) = check_swarm(&retrieve.mailbox, local) {
        return Plan::Answer(wrong_swarm);
    }
    if let Err(refusal) = authorise(retrieve, local) {
        return Plan::Answer(refusal);
    }
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
    Plan::Run(Box::new(Run {
        kind: Kind::Retrieve,
        command,
        forward: None,
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

fn authorise(retrieve: &Retrieve, local: Local<'_>) -> Result<(), Answer> {
    let namespace = retrieve.namespace;
    let Some(proof) = &retrieve.proof else {
        if namespace.is_public_outbox() || namespace == LEGACY_GROUP {
            return Ok(());
        }
        return Err(Answer::text(401, "retrieve: request signature required"));
    };
    let now = local.now;
    // The parser refuses a signature without a timestamp.
    let signed_at = retrieve.timestamp.unwrap_or(Timestamp::ZERO);
    if signed_at < now.saturating_sub(SIGNATURE_TOLERANCE)
        || signed_at > now.saturating_add(SIGNATURE_TOLERANCE)
    {
        return Err(Answer::text(
            406,
            "retrieve timestamp too far from current time",
        ));
    }
    verify_request(&retrieve.mailbox, proof, &retrieve_text(retrieve))
        .map_err(|_| Answer::text(401, "retrieve signature verification failed"))
}

pub(super) fn answer(outcome: Outcome, now: Timestamp) -> Answer {
    match outcome {
        Outcome::Retrieved { messages, more } => answers::messages(messages, more, now),
        Outcome::Failed(StoreFault::Busy) => Answer::text(503, "Server busy, try again later"),
        _ => Answer::text(500, "Internal Server Error. Could not retrieve messages"),
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
