//! One request from its arrival to its answer.

mod all;
mod authorise;
mod delete;
mod expire;
mod gather;
mod ifelse;
mod oxend;
mod retrieve;
mod store;
mod subaccounts;

use core::cell::RefCell;
use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_crypto::request_signature::Verifier;
use cepa_storage::{Command, Outcome, StoreFault, Ticket};
use cepa_wire::answer::{Answer, Tree};
use cepa_wire::missed::Missed;
use cepa_wire::request::ClientRequest;
use cepa_wire::{Ed25519PublicKey, Timestamp};
use serde_json::Value;

use crate::answers::Dict;
use crate::fan_out::FanOut;
use crate::oxend::OxendReply;
use crate::{Health, View, answers};
use authorise::RevocationCheck;
use gather::{gathered, gathered_answer};
use subaccounts::Change;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, directly or in an onion: the request is forwarded to the other members.
    Client,
    /// A member that forwards a client's request: it goes no further.
    Member,
}

/// What a member knows at a moment.
#[derive(Clone, Copy)]
pub struct Local<'a> {
    /// The network. The same view from an exchange's first call to its last.
    pub view: &'a View,
    /// Who is down.
    pub health: &'a Health,
    /// The node's keys: answers are signed.
    pub keys: &'a NodeKeys,
    /// What is known of the keys that requests are signed with.
    pub verifier: &'a RefCell<Verifier>,
    /// Whether there is a chain daemon to ask.
    pub has_oxend: bool,
    /// Now.
    pub now: Timestamp,
}

/// What an exchange wants done. The ticket comes back with the [`Event`].
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// A command for the shard that owns the mailbox.
    Command {
        /// Names it.
        ticket: Ticket,
        /// What to do.
        command: Command,
    },
    /// `sn.storage_cc [method][params]` to a member.
    Forward {
        /// Names it.
        ticket: Ticket,
        /// Index of the member in the view.
        member: usize,
        /// Method.
        method: &'static str,
        /// bt parameters.
        params: Bytes,
    },
    /// `rpc.<endpoint>` to the chain daemon.
    Oxend {
        /// Names it.
        ticket: Ticket,
        /// `get_service_nodes` or `ons_resolve`.
        endpoint: String,
        /// Its parameters.
        params: Value,
    },
    /// Something to be delivered to a member when it is back. Nothing comes back.
    Missed {
        /// Who did not get it.
        member: Ed25519PublicKey,
        /// What.
        missed: Missed,
    },
}

/// What became of an action.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The store's outcome.
    Outcome(Outcome),
    /// A member's reply.
    Reply(Vec<Bytes>),
    /// A member did not reply in time, or could not be reached.
    NoReply,
    /// What the chain daemon said.
    Oxend(OxendReply),
}

/// One request with all its subrequests.
pub struct Exchange {
    shape: Shape,
    origin: Origin,
    /// Subrequests that have not begun, in order.
    queued: VecDeque<ClientRequest>,
    /// Those that have, in order.
    parts: Vec<Part>,
    actions: VecDeque<Action>,
    /// The answers of the `ifelse` around the request, the innermost last; its result is missing.
    frames: Vec<Dict>,
    down_count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Batch,
    Sequence,
}

enum Part {
    /// A subaccount may be revoked: the log is asked before the request runs.
    Checking(Box<Run>),
    Running(Box<Running>),
    /// The chain daemon is asked.
    Asking,
    Done(Answer),
}

/// A request that waits for the store, and perhaps for members.
struct Running {
    kind: Kind,
    outcome: Option<Outcome>,
    fan_out: FanOut,
    /// What the members are asked, if they are.
    forward: Option<Forward>,
}

enum Kind {
    Store(store::Finish),
    Retrieve,
    Delete(delete::Finish),
    All(all::Finish),
    Expire(expire::Finish),
    GetExpiries,
    Revocation(subaccounts::Finish),
    RevokedSubaccounts,
}

/// What a request needs done before it can be answered, or the answer.
enum Plan {
    Answer(Answer),
    Run(Box<Run>),
    Oxend { endpoint: String, params: Value },
}

struct Run {
    kind: Kind,
    command: Command,
    forward: Option<Forward>,
    check: Option<RevocationCheck>,
}

struct Forward {
    swarm_id: u64,
    method: &'static str,
    params: Bytes,
}

impl Plan {
    fn run(run: Run) -> Self {
        Self::Run(Box::new(run))
    }
}

impl Forward {
    /// What a client asks goes to the other members; what a member asks goes no further.
    fn new(swarm_id: u64, origin: Origin, request: impl FnOnce() -> ClientRequest) -> Option<Self> {
        (origin == Origin::Client).then(|| {
            let request = request();
            Self {
                swarm_id,
                method: request.method(),
                params: Bytes::from(request.encode_bt()),
            }
        })
    }
}

impl Exchange {
    /// Begins. Call [`Self::poll_action`] until it gives none, then [`Self::poll_answer`].
    pub fn new(request: ClientRequest, origin: Origin, local: Local<'_>) -> Self {
        let mut frames = Vec::new();
        let chosen = ifelse::choose(request, &mut frames, local);
        let mut parts = Vec::new();
        let (shape, queued) = match chosen {
            Ok(ClientRequest::Batch(requests)) => (Shape::Batch, requests.into()),
            Ok(ClientRequest::Sequence(requests)) => (Shape::Sequence, requests.into()),
            Ok(single) => (Shape::Single, VecDeque::from([single])),
            Err(answer) => {
                parts.push(Part::Done(answer));
                (Shape::Single, VecDeque::new())
            }
        };
        let mut exchange = Self {
            shape,
            origin,
            queued,
            parts,
            actions: VecDeque::new(),
            frames,
            down_count: 0,
        };
        exchange.begin_queued(local);
        exchange
    }

    /// The next thing to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes what became of an action. A ticket that is not awaited is ignored.
    pub fn handle_event(&mut self, ticket: Ticket, event: Event, local: Local<'_>) {
        let (at, slot) = split(ticket);
        let Some(part) = self.parts.get_mut(at) else {
            return;
        };
        match (part, slot.checked_sub(1), event) {
            (Part::Checking(_), None, Event::Outcome(outcome)) => {
                self.finish_check(at, &outcome, local);
            }
            (Part::Running(running), None, Event::Outcome(outcome)) => {
                running.outcome = Some(outcome);
            }
            (Part::Running(running), Some(place), Event::Reply(parts)) => {
                running.fan_out.handle_reply(place, Some(&parts));
            }
            (Part::Running(running), Some(place), Event::NoReply) => {
                running.fan_out.handle_reply(place, None);
            }
            (part @ Part::Asking, None, Event::Oxend(reply)) => {
                *part = Part::Done(oxend::answer(reply, local));
            }
            _ => return,
        }
        self.finish(at, local);
        self.begin_queued(local);
    }

    /// The answer, once everything that it needs is there.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        let done =
            self.queued.is_empty() && self.parts.iter().all(|part| matches!(part, Part::Done(_)));
        if !done || self.parts.is_empty() && self.shape == Shape::Single {
            return None;
        }
        let mut answers =
            core::mem::take(&mut self.parts)
                .into_iter()
                .filter_map(|part| match part {
                    Part::Done(answer) => Some(answer),
                    _ => None,
                });
        let answer = if self.shape == Shape::Single {
            answers.next()?
        } else {
            let rows = answers.map(Answer::into_batch_row).collect();
            Answer::ok(Tree::dict([("results", Tree::List(rows))]))
        };
        Some(ifelse::wrap(answer, core::mem::take(&mut self.frames)))
    }

    /// How many times a member was not asked because it is known to be down.
    pub const fn down_count(&self) -> u64 {
        self.down_count
    }

    /// A batch begins all at once; a sequence one after the other, up to the first that fails.
    fn begin_queued(&mut self, local: Local<'_>) {
        loop {
            if self.shape == Shape::Sequence {
                match self.parts.last() {
                    Some(Part::Done(answer)) if !is_success(answer) => self.queued.clear(),
                    Some(Part::Done(_)) | None => {}
                    Some(_) => return,
                }
            }
            let Some(request) = self.queued.pop_front() else {
                return;
            };
            let at = self.parts.len();
            let planned = plan(request, self.origin, local);
            let part = match planned.unwrap_or_else(Plan::Answer) {
                Plan::Answer(answer) => Part::Done(answer),
                Plan::Oxend { endpoint, params } => {
                    self.actions.push_back(Action::Oxend {
                        ticket: join(at, 0),
                        endpoint,
                        params,
                    });
                    Part::Asking
                }
                Plan::Run(run) => match &run.check {
                    Some(check) => {
                        self.actions.push_back(Action::Command {
                            ticket: join(at, 0),
                            command: Command::Revocations {
                                mailbox: check.mailbox,
                            },
                        });
                        Part::Checking(run)
                    }
                    None => self.begin_run(at, *run, local),
                },
            };
            self.parts.push(part);
        }
    }

    fn begin_run(&mut self, at: usize, run: Run, local: Local<'_>) -> Part {
        self.actions.push_back(Action::Command {
            ticket: join(at, 0),
            command: run.command,
        });
        let fan_out = self.begin_forward(at, run.forward.as_ref(), local);
        Part::Running(Box::new(Running {
            kind: run.kind,
            outcome: None,
            fan_out,
            forward: run.forward,
        }))
    }

    /// The log told which subaccounts are revoked: the request runs, or is refused.
    fn finish_check(&mut self, at: usize, outcome: &Outcome, local: Local<'_>) {
        let Some(slot) = self.parts.get_mut(at) else {
            return;
        };
        // Whatever follows takes the place of this.
        let taken = core::mem::replace(slot, Part::Done(Answer::text(500, "request failed")));
        let Part::Checking(run) = taken else { return };
        let refusal = run.check.as_ref().and_then(|check| match outcome {
            Outcome::Revocations(tokens) if tokens.contains(&check.token) => {
                Some(Answer::text(401, check.refusal))
            }
            Outcome::Revocations(_) => None,
            other => Some(retrieve::read_fault(other, "request failed")),
        });
        let part = match refusal {
            Some(answer) => Part::Done(answer),
            None => self.begin_run(at, *run, local),
        };
        if let Some(slot) = self.parts.get_mut(at) {
            *slot = part;
        }
    }

    fn begin_forward(
        &mut self,
        part: usize,
        forward: Option<&Forward>,
        local: Local<'_>,
    ) -> FanOut {
        let mut fan_out = FanOut::default();
        let Some(forward) = forward else {
            return fan_out;
        };
        let us = local.keys.ed25519_public();
        for (member, node) in local.view.members(forward.swarm_id) {
            if node.pubkey_ed25519 == us {
                continue;
            }
            if local.health.is_down(&node.pubkey_ed25519) {
                fan_out.push_down(node.pubkey_ed25519);
                self.down_count += 1;
                continue;
            }
            let place = fan_out.push_asked(node.pubkey_ed25519);
            self.actions.push_back(Action::Forward {
                ticket: join(part, place + 1),
                member,
                method: forward.method,
                params: forward.params.clone(),
            });
        }
        fan_out
    }

    fn finish(&mut self, part: usize, local: Local<'_>) {
        let Some(slot) = self.parts.get_mut(part) else {
            return;
        };
        let complete = matches!(
            slot,
            Part::Running(running) if running.outcome.is_some() && running.fan_out.is_complete()
        );
        if !complete {
            return;
        }
        // The placeholder is replaced at once: `finished` needs the part by value.
        let taken = core::mem::replace(slot, Part::Done(Answer::text(500, "request failed")));
        if let Part::Running(running) = taken {
            self.actions.extend(missed(&running));
            *slot = Part::Done(finished(*running, self.origin, local));
        }
    }
}

/// What is to be delivered to the members that were not reached.
fn missed(running: &Running) -> Vec<Action> {
    let missed = match (&running.kind, &running.outcome, &running.forward) {
        (Kind::Store(store), Some(outcome), Some(_)) => store
            .stored(outcome)
            .map(|(mailbox, hash)| Missed::Message { mailbox, hash }),
        (_, _, Some(forward)) => Some(Missed::Request {
            method: Cow::Borrowed(forward.method),
            params: forward.params.clone(),
        }),
        _ => None,
    };
    let Some(missed) = missed else {
        return Vec::new();
    };
    let members = running.fan_out.missed();
    members
        .map(|member| Action::Missed {
            member,
            missed: missed.clone(),
        })
        .collect()
}

fn finished(running: Running, origin: Origin, local: Local<'_>) -> Answer {
    let Running {
        kind,
        outcome,
        fan_out,
        ..
    } = running;
    let outcome = outcome.unwrap_or(Outcome::Failed(StoreFault::DiskFailed));
    let entry = match kind {
        Kind::Store(store) => return store.answer(&outcome, fan_out, origin, local),
        Kind::Delete(delete) => return delete.answer(&outcome, fan_out, origin, local),
        Kind::Retrieve => return retrieve::answer(outcome, local),
        Kind::GetExpiries => return expire::answer_get(&outcome),
        Kind::RevokedSubaccounts => return subaccounts::answer_list(&outcome, local),
        Kind::All(all) => all.entry(&outcome, local),
        Kind::Expire(expire) => expire.entry(&outcome, local),
        Kind::Revocation(revocation) => revocation.entry(&outcome, local),
    };
    gathered_answer(gathered(entry, fan_out, origin, local))
}

/// What is to be done, or the answer that refuses it.
fn plan(request: ClientRequest, origin: Origin, local: Local<'_>) -> Result<Plan, Answer> {
    match request {
        ClientRequest::Store(request) => store::plan(request, origin, local),
        ClientRequest::Retrieve(request) => retrieve::plan(&request, local),
        ClientRequest::Delete(request) => delete::plan(request, origin, local),
        ClientRequest::DeleteAll(request) => all::plan_delete_all(request, origin, local),
        ClientRequest::DeleteBefore(request) => all::plan_delete_before(request, origin, local),
        ClientRequest::ExpireAll(request) => all::plan_expire_all(request, origin, local),
        ClientRequest::Expire(request) => expire::plan(request, origin, local),
        ClientRequest::GetExpiries(request) => expire::plan_get(&request, local),
        ClientRequest::RevokeSubaccount(request) => {
            subaccounts::plan(Change::Revoke, request, origin, local)
        }
        ClientRequest::UnrevokeSubaccount(request) => {
            subaccounts::plan(Change::Unrevoke, request, origin, local)
        }
        ClientRequest::RevokedSubaccounts(request) => subaccounts::plan_list(&request, local),
        ClientRequest::Info => Ok(Plan::Answer(answers::info(local))),
        ClientRequest::ActiveNodes => Ok(Plan::Answer(answers::active_nodes(local))),
        ClientRequest::GetSwarm(mailbox) => Ok(Plan::Answer(answers::swarm(local, &mailbox, 200))),
        ClientRequest::Oxend(request) => Ok(oxend::plan(request, local)),
        // The parser refuses them within a batch; here they would never end.
        ClientRequest::Batch(_) | ClientRequest::Sequence(_) | ClientRequest::IfElse(_) => {
            Err(Answer::text(400, "invalid request: nested batch"))
        }
    }
}

fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// A ticket names a part (high half) and in it the store (0) or a member (its place + 1).
fn join(part: usize, slot: usize) -> Ticket {
    Ticket(u64::try_from(part << 32 | slot).unwrap_or(u64::MAX))
}

fn split(ticket: Ticket) -> (usize, usize) {
    let value = usize::try_from(ticket.0).unwrap_or(usize::MAX);
    (value >> 32, value & 0xffff_ffff)
}
