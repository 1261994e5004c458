//! `delete`.

use bytes::Bytes;
use cepa_crypto::request_signature::{delete_answer_text, delete_text, verify_request};
use cepa_storage::{Command, Outcome, StoreFault};
use cepa_wire::MessageHash;
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::{ClientRequest, Delete};

use super::{
    Forward, Kind, Local, Origin, Plan, Run, check_swarm, failed_entry, gathered, gathered_answer,
};
use crate::fan_out::FanOut;

pub(super) struct Finish {
    request: Delete,
}

pub(super) fn plan(delete: Delete, origin: Origin, local: Local<'_>) -> Plan {
    let swarm_id = match check_swarm(&delete.mailbox, local) {
        Ok(swarm_id) => swarm_id,
        Err(wrong_swarm) => return Plan::Answer(wrong_swarm),
    };
    if verify_request(&delete.mailbox, &delete.proof, &delete_text(&delete)).is_err() {
        return Plan::Answer(Answer::text(
            401,
            "delete_msgs signature verification failed",
        ));
    }
    let hashes = delete
        .messages
        .iter()
        .filter_map(|hash| MessageHash::from_text(hash.as_bytes()))
        .collect();
    let command = Command::Delete {
        mailbox: delete.mailbox,
        hashes,
    };
    let forward = (origin == Origin::Client).then(|| Forward {
        swarm_id,
        method: "delete",
        params: Bytes::from(ClientRequest::Delete(delete.clone()).encode_bt()),
    });
    Plan::Run(Box::new(Run {
        kind: Kind::Delete(Finish { request: delete }),
        command,
        forward,
    }))
}

impl Finish {
    pub(super) fn answer(
        self,
        outcome: &Outcome,
        fan_out: FanOut,
        origin: Origin,
        local: Local<'_>,
    ) -> Answer {
        let mine = match outcome {
            Outcome::Deleted(deleted) => self.entry(deleted, local),
            Outcome::Failed(fault) => failed_entry(*fault),
            _ => failed_entry(StoreFault::DiskFailed),
        };
        let answer = gathered_answer(gathered(mine, fan_out, origin, local));
        let missing = self.request.required && origin == Origin::Client && !deleted_some(&answer);
        if missing && answer.status == 200 {
            Answer {
                status: 404,
                ..answer
            }
        } else {
            answer
        }
    }

    fn entry(&self, deleted: &[MessageHash], local: Local<'_>) -> Tree {
        let text = delete_answer_text(&self.request, deleted);
        let signature = local.keys.ed25519().sign(text.as_bytes());
        // Sorted as text, as the signature covers them: base64 does not sort like its bytes.
        let mut hashes: Vec<String> = deleted.iter().map(|hash| hash.to_text()).collect();
        hashes.sort_unstable();
        Tree::dict([
            (
                "deleted",
                Tree::List(hashes.into_iter().map(Tree::text).collect()),
            ),
            (
                "signature",
                Tree::Bytes(Bytes::copy_from_slice(&signature.0)),
            ),
        ])
    }
}

fn deleted_some(answer: &Answer) -> bool {
    let cepa_wire::answer::Body::Tree(tree) = &answer.body else {
        return false;
    };
    let Some(Tree::Dict(swarm)) = tree.get("swarm") else {
        return false;
    };
    swarm
        .values()
        .any(|entry| matches!(entry.get("deleted"), Some(Tree::List(list)) if !list.is_empty()))
}
