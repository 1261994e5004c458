//! Drives exchanges: what swarm asks for is carried out at the logs and at the members.

use core::sync::atomic::Ordering::Relaxed;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cepa_meter::count;
use cepa_relay::counters::Via;
use cepa_storage::{Outcome, StoreFault, Ticket};
use cepa_swarm::exchange::{Action, Event, Exchange, Local, Origin};
use cepa_swarm::limits::MEMBER_TIMEOUT;
use cepa_swarm::transfer::{self, Accepted};
use cepa_wire::answer::Answer;
use cepa_wire::request::{ClientRequest, Encoding, RequestError};
use cepa_wire::transfer::Transferred;
use futures_channel::oneshot;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use glommio::spawn_local;

use crate::links::Blame;
use crate::tile::Tile;
use crate::{NetworkView, clock, links, missed};

/// Messages of a transfer that are stored at once: enough to fill a group commit.
const TRANSFER_BATCH: usize = 256;

/// Measures how long a request takes that came by `via`.
pub(crate) async fn timed<T>(tile: &Tile, via: Via, serving: impl Future<Output = T>) -> T {
    let begun = clock::nanos();
    let answer = serving.await;
    let taken = clock::nanos().saturating_sub(begun);
    tile.counters.request_seconds.of(via).record(taken);
    answer
}

/// Serves `{"method","params"}`, whose asker may go at any time, and take this future with it.
pub(crate) async fn serve_json(tile: &Rc<Tile>, via: Via, body: &[u8]) -> Answer {
    timed(tile, via, read_and_serve_json(tile, body)).await
}

async fn read_and_serve_json(tile: &Rc<Tile>, body: &[u8]) -> Answer {
    match tile.parser.parse_json(body) {
        Ok(request) if request.is_change() => serve_to_the_end(tile, request).await,
        Ok(request) => serve_client(tile, request).await,
        Err(error) => refuse(tile, error),
    }
}

/// Serves a method with its parameters, in a task that nobody ends before it does; gives the encoding too
/// that the answer is due in.
pub(crate) async fn serve_params(
    tile: &Rc<Tile>,
    via: Via,
    (method, params): (&str, &[u8]),
) -> (Answer, Encoding) {
    let serving = async {
        match tile.parser.parse_params(method, params) {
            Ok((request, encoding)) => (serve_client(tile, request).await, encoding),
            Err(error) => (refuse(tile, error), Encoding::Json),
        }
    };
    timed(tile, via, serving).await
}

/// Serves a client's request, if this node is ready for clients.
async fn serve_client(tile: &Rc<Tile>, request: ClientRequest) -> Answer {
    match tile.unready_answer() {
        Some(unready) => unready,
        None => serve(tile, request, Origin::Client).await,
    }
}

/// A client that hangs up ends its connection's task. What has begun to change must end all the same:
/// somewhere it is changed already, and who missed it is to be noted.
async fn serve_to_the_end(tile: &Rc<Tile>, request: ClientRequest) -> Answer {
    let (sender, answer) = oneshot::channel();
    let serving = Rc::clone(tile);
    spawn_local(async move {
        let answer = serve_client(&serving, request).await;
        drop(sender.send(answer));
    })
    .detach();
    let failed = || Answer::text(500, "request failed");
    answer.await.unwrap_or_else(|_| failed())
}

/// Serves a request, in a task that nobody ends before it does.
pub(crate) async fn serve(tile: &Rc<Tile>, request: ClientRequest, origin: Origin) -> Answer {
    let Some(_running) = tile.begin_request() else {
        count(&tile.counters.refused_busy);
        return Answer::text(503, "Server busy, try again later");
    };
    let network = tile.network.load_full();
    let answer = run(tile, &network, request, origin).await;
    count_answer(tile, &answer);
    answer
}

/// The answer to a request that can't be read.
pub(crate) fn refuse(tile: &Tile, error: RequestError) -> Answer {
    let answer = Answer::text(error.status, error.text);
    count_answer(tile, &answer);
    answer
}

async fn run(
    tile: &Rc<Tile>,
    network: &Arc<NetworkView>,
    request: ClientRequest,
    origin: Origin,
) -> Answer {
    let mut exchange = tile.with_local(network, |local| Exchange::new(request, origin, local));
    let mut running = FuturesUnordered::new();
    loop {
        while let Some(action) = exchange.poll_action() {
            if let Action::Missed { member, missed } = action {
                missed::keep(tile, member, &missed);
            } else {
                running.push(carry_out(tile, network, action));
            }
        }
        if let Some(answer) = exchange.poll_answer() {
            tile.counters
                .member_down
                .fetch_add(exchange.down_count(), Relaxed);
            return answer;
        }
        let Some((ticket, event)) = running.next().await else {
            // An exchange that waits for nothing and answers nothing: our own fault.
            debug_assert!(false, "an exchange stalled");
            return Answer::text(500, "request failed");
        };
        tile.with_local(network, |local| exchange.handle_event(ticket, event, local));
    }
}

async fn carry_out(tile: &Rc<Tile>, network: &NetworkView, action: Action) -> (Ticket, Event) {
    match action {
        Action::Command { ticket, command } => {
            (ticket, Event::Outcome(tile.stores.execute(command).await))
        }
        Action::Forward {
            ticket,
            member,
            method,
            params,
        } => {
            let Some(node) = network.view.nodes().get(member) else {
                return (ticket, Event::NoReply);
            };
            count(&tile.counters.member_forwarded);
            let parts = vec![Bytes::from_static(method.as_bytes()), params];
            let asked = ("sn.storage_cc", parts);
            let begun = clock::nanos();
            let reply = links::request(tile, node, asked, MEMBER_TIMEOUT, Blame::Peer).await;
            if reply.is_some() {
                let taken = clock::nanos().saturating_sub(begun);
                tile.counters.member_seconds.record(taken);
            }
            let counter = match &reply {
                Some(_) => &tile.counters.member_answered,
                None => &tile.counters.member_timeout,
            };
            count(counter);
            (ticket, reply.map_or(Event::NoReply, Event::Reply))
        }
        Action::Oxend {
            ticket,
            endpoint,
            params,
        } => {
            let reply = tile.outside.ask_oxend(endpoint, params).await;
            (ticket, Event::Oxend(reply))
        }
        // Is carried out at once.
        Action::Missed { .. } => (Ticket(u64::MAX), Event::NoReply),
    }
}

/// Stores what a member hands over, as far as it is ours and is what it says. False when something is to
/// come again: it could not be stored, or is not ours yet, as we see the network.
pub(crate) async fn take_transfer(tile: &Rc<Tile>, messages: Vec<Transferred>) -> bool {
    let network = tile.network.load_full();
    let now = clock::now();
    let mut running = FuturesUnordered::new();
    let mut is_all = true;
    for message in messages {
        match transfer::accept(&network.view, message, now) {
            Accepted::Store(command) => running.push(tile.stores.execute(command)),
            Accepted::NotOurs => {
                count(&tile.counters.transfer_refused);
                is_all = false;
            }
            Accepted::Refused => count(&tile.counters.transfer_refused),
        }
        if running.len() >= TRANSFER_BATCH
            && let Some(outcome) = running.next().await
        {
            is_all &= is_kept(&outcome);
        }
    }
    while let Some(outcome) = running.next().await {
        is_all &= is_kept(&outcome);
    }
    is_all
}

/// Whether a message is stored, or will never be: to send it again would change nothing.
const fn is_kept(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Failed(
            StoreFault::DiskFull
                | StoreFault::DiskFailed
                | StoreFault::StoreFull
                | StoreFault::Busy
        )
    )
}

fn count_answer(tile: &Tile, answer: &Answer) {
    let counters = &tile.counters;
    count(match answer.status {
        421 => &counters.request_wrong_swarm,
        200..300 => &counters.request_ok,
        400..500 => &counters.request_refused,
        _ => &counters.request_failed,
    });
}

impl Tile {
    /// Lets a step of swarm see what this node knows now.
    pub(crate) fn with_local<T>(
        &self,
        network: &NetworkView,
        step: impl FnOnce(Local<'_>) -> T,
    ) -> T {
        let health = self.health.borrow();
        step(Local {
            view: &network.view,
            health: &health,
            keys: &self.keys,
            verifier: &self.verifier,
            has_oxend: self.outside.has_oxend(),
            now: clock::now(),
        })
    }
}
