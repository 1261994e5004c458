//! One request from its arrival to its answer.

mod delete;
mod retrieve;
mod store;

use std::collections::VecDeque;

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_storage::{Command, Outcome, StoreFault, Ticket};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::request::{ClientRequest, OxendRequest};
use cepa_wire::{Mailbox, Timestamp};

use crate::fan_out::FanOut;
use crate::oxend::ServiceNodesQuery;
use crate::{Health, View, answers};

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
}

/// What became of an action.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The store's outcome.
    Outcome(Outcome),
    /// A member's reply.
    Reply(Vec<Bytes>),
    /// A member did not reply in time, or could not be reached.
    NoReply,
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
    down_count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Batch,
    Sequence,
}

enum Part {
    Running(Running),
    Done(Answer),
}

/// A request that waits for the store, and perhaps for members.
struct Running {
    kind: Kind,
    outcome: Option<Outcome>,
    fan_out: FanOut,
}

enum Kind {
    Store(store::Finish),
    Retrieve,
    Delete(delete::Finish),
}

/// What a request needs done before it can be answered, or the answer.
enum Plan {
    Answer(Answer),
    Run(Box<Run>),
}

struct Run {
    kind: Kind,
    command: Command,
    forward: Option<Forward>,
}

struct Forward {
    swarm_id: u64,
    method: &'static str,
    params: Bytes,
}

impl Exchange {
    /// Begins. Call [`Self::poll_action`] until it gives none, then [`Self::poll_answer`].
    pub fn new(request: ClientRequest, origin: Origin, local: Local<'_>) -> Self {
        let (shape, queued) = match request {
            ClientRequest::Batch(requests) => (Shape::Batch, requests.into()),
            ClientRequest::Sequence(requests) => (Shape::Sequence, requests.into()),
            single => (Shape::Single, VecDeque::from([single])),
        };
        let mut exchange = Self {
            shape,
            origin,
            queued,
            parts: Vec::new(),
            actions: VecDeque::new(),
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
        let (part, slot) = split(ticket);
        let Some(Part::Running(running)) = self.parts.get_mut(part) else {
            return;
        };
        match (slot.checked_sub(1), event) {
            (None, Event::Outcome(outcome)) => running.outcome = Some(outcome),
            (Some(place), Event::Reply(parts)) => running.fan_out.handle_reply(place, Some(&parts)),
            (Some(place), Event::NoReply) => running.fan_out.handle_reply(place, None),
            _ => return,
        }
        self.finish(part, local);
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
                    Part::Running(_) => None,
                });
        if self.shape == Shape::Single {
            return answers.next();
        }
        let rows = answers.map(Answer::into_batch_row).collect();
        Some(Answer::ok(Tree::dict([("results", Tree::List(rows))])))
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
                    Some(Part::Running(_)) => return,
                    Some(Part::Done(answer)) if !is_success(answer) => self.queued.clear(),
                    _ => {}
                }
            }
            let Some(request) = self.queued.pop_front() else {
                return;
            };
            let part = match plan(request, self.origin, local) {
                Plan::Answer(answer) => Part::Done(answer),
                Plan::Run(run) => {
                    let Run {
                        kind,
                        command,
                        forward,
                    } = *run;
                    let part = self.parts.len();
                    self.actions.push_back(Action::Command {
                        ticket: join(part, 0),
                        command,
                    });
                    let fan_out = self.begin_forward(part, forward, local);
                    Part::Running(Running {
                        kind,
                        outcome: None,
                        fan_out,
                    })
                }
            };
            self.parts.push(part);
        }
    }

    fn begin_forward(&mut self, part: usize, forward: Option<Forward>, local: Local<'_>) -> FanOut {
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
            *slot = Part::Done(finished(running, self.origin, local));
        }
    }
}

fn finished(running: Running, origin: Origin, local: Local<'_>) -> Answer {
    let Running {
        kind,
        outcome,
        fan_out,
    } = running;
    let outcome = outcome.unwrap_or(Outcome::Failed(StoreFault::DiskFailed));
    match kind {
        Kind::Store(store) => store.answer(&outcome, fan_out, origin, local),
        Kind::Retrieve => retrieve::answer(outcome, local.now),
        Kind::Delete(delete) => delete.answer(&outcome, fan_out, origin, local),
    }
}

fn plan(request: ClientRequest, origin: Origin, local: Local<'_>) -> Plan {
    match request {
        ClientRequest::Store(request) => store::plan(request, origin, local),
        ClientRequest::Retrieve(request) => retrieve::plan(&request, local),
        ClientRequest::Delete(request) => delete::plan(request, origin, local),
        ClientRequest::Info => Plan::Answer(answers::info(local.now)),
        ClientRequest::GetSwarm(mailbox) => {
            Plan::Answer(answers::swarm(local.view, &mailbox, 200, local.now))
        }
        ClientRequest::Oxend(request) => Plan::Answer(answer_oxend(&request, local)),
        // The parser refuses a batch within a batch; here it would never end.
        ClientRequest::Batch(_) | ClientRequest::Sequence(_) => {
            Plan::Answer(Answer::text(400, "invalid request: nested batch"))
        }
    }
}

fn answer_oxend(request: &OxendRequest, local: Local<'_>) -> Answer {
    if request.endpoint != "get_service_nodes" {
        // Names are on the chain, and this node's view comes without one.
        return Answer::text(400, "Unknown oxend error");
    }
    match ServiceNodesQuery::parse(&request.params) {
        Ok(query) => answers::oxend(&query.run(local.view.nodes(), 0), local.now),
        Err(fault) => Answer::text(400, fault),
    }
}

fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// Checks that a mailbox is this node's; else the answer that names the right swarm.
fn check_swarm(mailbox: &Mailbox, local: Local<'_>) -> Result<u64, Answer> {
    match local.view.us() {
        Some(us) if local.view.is_ours(mailbox) => Ok(us.swarm_id),
        _ => Err(answers::swarm(local.view, mailbox, 421, local.now)),
    }
}

/// The body of an answer that gathers members' entries: for a client all of them under `swarm`, for a
/// member just ours.
fn gathered(mine: Tree, fan_out: FanOut, origin: Origin, local: Local<'_>) -> answers::Dict {
    if let (Origin::Member, Tree::Dict(mine)) = (origin, &mine) {
        return mine.clone();
    }
    let swarm = fan_out.into_swarm(&local.keys.ed25519_public(), mine);
    let mut dict = answers::Dict::new();
    dict.insert("swarm".into(), Tree::Dict(swarm));
    answers::add_clock(&mut dict, local.now);
    dict
}

/// 200, or 500 when no member at all did what was asked: then nothing may count as done.
fn gathered_answer(dict: answers::Dict) -> Answer {
    let all_failed = match dict.get("swarm") {
        Some(Tree::Dict(swarm)) => swarm.values().all(is_failed),
        _ => dict.contains_key("failed"),
    };
    let status = if all_failed { 500 } else { 200 };
    Answer {
        status,
        body: Body::Tree(Tree::Dict(dict)),
    }
}

fn is_failed(entry: &Tree) -> bool {
    entry.get("failed").is_some()
}

fn failed_entry(fault: StoreFault) -> Tree {
    Tree::dict([
        ("failed", Tree::Bool(true)),
        ("query_failure", Tree::Bool(true)),
        ("reason", Tree::text(fault.to_string())),
    ])
}

/// A ticket names a part (high half) and in it the store (0) or a member (its place + 1).
fn join(part: usize, slot: usize) -> Ticket {
    Ticket(u64::try_from(part << 32 | slot).unwrap_or(u64::MAX))
}

fn split(ticket: Ticket) -> (usize, usize) {
    let value = usize::try_from(ticket.0).unwrap_or(usize::MAX);
    (value >> 32, value & 0xffff_ffff)
}
