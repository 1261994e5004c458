//! `delete`.

use cepa_crypto::request_signature::{delete_answer_text, delete_text};
use cepa_storage::{Command, Outcome};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::request::{ClientRequest, Delete};
use cepa_wire::{MessageHash, SubaccountToken};

use super::authorise::{Claim, check_signature, check_swarm};
use super::gather::{gathered, gathered_answer, other_entry, signed, sorted_texts, texts};
use super::{Forward, Kind, Local, Origin, Plan, Run};
use crate::fan_out::FanOut;

pub(super) struct Finish {
    request: Delete,
}

pub(super) fn plan(delete: Delete, origin: Origin, local: Local<'_>) -> Result<Plan, Answer> {
    let swarm_id = check_swarm(&delete.mailbox, local)?;
    let claim = Claim {
        mailbox: &delete.mailbox,
        proof: &delete.proof,
        rights: Some(SubaccountToken::DELETE),
        refusal: "delete_msgs signature verification failed",
    };
    let check = check_signature(&claim, delete_text(&delete), local)?;
    let hashes = delete
        .messages
        .iter()
        .filter_map(|hash| MessageHash::from_text(hash.as_bytes()))
        .collect();
    let command = Command::Delete {
        mailbox: delete.mailbox,
        hashes,
    };
    let forward = Forward::new(swarm_id, origin, || ClientRequest::Delete(delete.clone()));
    Ok(Plan::run(Run {
        kind: Kind::Delete(Finish { request: delete }),
        command,
        forward,
        check,
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
        let mine = self.entry(outcome, local);
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

    fn entry(&self, outcome: &Outcome, local: Local<'_>) -> Tree {
        let Outcome::Deleted(deleted) = outcome else {
            return other_entry(outcome);
        };
        let deleted = sorted_texts(deleted);
        let text = delete_answer_text(&self.request, &deleted);
        Tree::dict([
            ("deleted", texts(deleted)),
            ("signature", signed(local, text)),
        ])
    }
}

fn deleted_some(answer: &Answer) -> bool {
    let Body::Tree(tree) = &answer.body else {
        return false;
    };
    let Some(Tree::Dict(swarm)) = tree.get("swarm") else {
        return false;
    };
    swarm
        .values()
        .any(|entry| matches!(entry.get("deleted"), Some(Tree::List(list)) if !list.is_empty()))
}
