//! `ifelse`: which request it is, and how its answer is told.

use cepa_wire::answer::{Answer, Tree};
use cepa_wire::request::ClientRequest;

use super::Local;
use crate::answers::{Dict, numbers};
use crate::limits::VERSION;

/// The request that is meant; `Err` with the answer when none is. `frames` gets what is told of each
/// condition on the way, the innermost last.
pub(super) fn choose(
    request: ClientRequest,
    frames: &mut Vec<Dict>,
    local: Local<'_>,
) -> Result<ClientRequest, Answer> {
    let mut request = request;
    loop {
        let ifelse = match request {
            ClientRequest::IfElse(ifelse) => ifelse,
            other => return Ok(other),
        };
        let chain = local.view.chain();
        let holds = ifelse
            .condition
            .holds(chain.height, chain.hard_fork, VERSION);
        let height = i64::try_from(chain.height).unwrap_or(i64::MAX);
        let mut frame = Dict::new();
        frame.insert("condition".into(), Tree::Bool(holds));
        frame.insert("height".into(), Tree::Integer(height));
        frame.insert("hf".into(), numbers(&chain.hard_fork));
        frame.insert("v".into(), numbers(&VERSION));
        let chosen = if holds { ifelse.then } else { ifelse.otherwise };
        match chosen {
            Some(chosen) => {
                frames.push(frame);
                request = *chosen;
            }
            None => return Err(Answer::ok(Tree::Dict(frame))),
        }
    }
}

/// Puts an answer into the frames around it.
pub(super) fn wrap(answer: Answer, frames: Vec<Dict>) -> Answer {
    frames.into_iter().rev().fold(answer, |answer, mut frame| {
        frame.insert("result".into(), answer.into_batch_row());
        Answer::ok(Tree::Dict(frame))
    })
}
