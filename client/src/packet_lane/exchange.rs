//! Requests and their answers over lost, late and doubled packets, sans-IO.
//!
//! An attempt has a message id, reply blocks on fresh paths, and the fragments that carry them with the
//! request, each in a packet of its own on a path of its own. Time and again all fragments are sent anew
//! under the same id, for those that got lost; then, since the answer may be what got lost, another attempt
//! begins. Answers to earlier attempts are still taken. So the node runs a request once or more often, which
//! is harmless (`cepa_wire::packet::request`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cepa_crypto::packet::{ReplyId, answer, build, reply_block};
use cepa_wire::Timestamp;
use cepa_wire::packet::fragment::{ContentBytes, Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::geometry::{CONTENT_SIZE, FRAGMENT_COUNT_MAX};
use cepa_wire::packet::reassembler::{Progress, Reassembler, ReassemblerLimits};
use cepa_wire::packet::request::{
    AnswerEncoding, PacketAnswer, PacketRequest, REPLY_BLOCK_COUNT_MAX,
};
use cepa_wire::packet::{ClientId, PacketBytes, RelayId, ReplyBlock};
use thiserror::Error;

use super::directory::LaneDirectory;
use super::replies::{Purpose, ReplyTable};
use super::route::{Route, Routes};
use super::timing::{RoundTrips, exponential};
use super::{ExchangeSettings, draw};

/// Requests that may be under way.
const ASK_COUNT_MAX: usize = 16;
/// Attempts of a request whose answers are still taken.
const ATTEMPT_KEPT_MAX: usize = 16;
/// How often the fragments of an attempt are sent when there is more than one.
const ROUND_COUNT_MAX: u32 = 3;
/// How often when there is one: another attempt costs as much, and may be what helps.
const ROUND_COUNT_MAX_OF_ONE: u32 = 2;
/// Waiting times grow with each attempt, up to so many times the first: who waits is not the only one.
const PATIENCE_MAX: u32 = 4;
/// How often a request is asked anew because there were too few reply blocks.
const MORE_BLOCKS_MAX: u32 = 3;
/// Attempts through one guard before another is tried, and the first is doubted.
const GUARD_ATTEMPT_COUNT: u32 = 3;
/// Packets a millisecond: 39 Mbit/s, which fills no guard's buffer at once.
const BURST: u32 = 4;
/// Packets at once after a silence, and thousandths of a packet each millisecond in the long run: somewhat
/// less than a guard takes from a client (200 a second, 1000 at once), which would drop what is more.
const CREDIT_MAX: u64 = 800;
const CREDIT_PER_MS: u64 = 160;

/// Names a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub(super) u64);

/// A relay that we hold a link to, which hands us what is for us.
#[derive(Clone, Copy)]
pub struct Guard {
    /// It.
    pub relay: RelayId,
    /// What it calls us.
    pub client: ClientId,
}

/// What is asked of whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who answers: the last hop.
    pub destination: RelayId,
    /// The method.
    pub method: &'static str,
    /// Its parameters, in bt or JSON.
    pub params: Vec<u8>,
    /// Reply blocks at first. When the answer needs more, it is asked again with as many.
    pub block_count: usize,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeAnswer {
    /// An HTTP status.
    pub status: u16,
    /// How the body is written.
    pub encoding: AnswerEncoding,
    /// The body.
    pub body: Vec<u8>,
    /// From the asking to the answer.
    pub elapsed: Duration,
    /// The relays of the first packet of the last attempt, guard first, destination last.
    pub path: Vec<RelayId>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExchangeError {
    /// Too many requests are under way.
    #[error("too many requests are under way")]
    Busy,
    /// The destination is not in the lane, or is our only guard, or too few others are there.
    #[error("the packet lane has no path to this node")]
    NoPath,
    /// The request does not fit into a message.
    #[error("the request is too large for the packet lane")]
    TooLarge,
    /// The answer does not fit into as many reply blocks as there may be.
    #[error("the answer is too large for the packet lane")]
    AnswerTooLarge,
    /// What came is no answer.
    #[error("a node's answer is malformed")]
    Malformed,
    /// Nothing came.
    #[error("no answer over the packet lane after {attempts} tries")]
    TimedOut {
        /// So many attempts.
        attempts: u32,
    },
}

/// A packet, and the guard whose link it goes over.
pub struct Transmit {
    /// The guard.
    pub guard: RelayId,
    /// The packet.
    pub packet: Box<PacketBytes>,
}

/// Randomness for packets: fills a slice with bytes that nobody can guess.
pub trait Random: FnMut(&mut [u8]) {}
impl<T: FnMut(&mut [u8])> Random for T {}

/// The requests of one client. Time is an argument and only goes forward; randomness is, too.
pub struct PacketExchange {
    settings: ExchangeSettings,
    directory: Arc<LaneDirectory>,
    guards: Vec<Guard>,
    asks: BTreeMap<AskId, Running>,
    /// Whose attempt a message id is.
    messages: BTreeMap<MessageId, AskId>,
    reassembler: Reassembler,
    replies: ReplyTable,
    events: VecDeque<(AskId, Result<ExchangeAnswer, ExchangeError>)>,
    /// Guards that nothing comes back from.
    doubts: VecDeque<RelayId>,
    trips: RoundTrips,
    pace: Pace,
    cover_at: Option<Timestamp>,
    cover_returned_count: u64,
    next_ask: u64,
}

/// A request that waits for its answer.
struct Running {
    ask: Ask,
    guard: Guard,
    asked: Timestamp,
    deadline: Timestamp,
    attempt: Attempt,
    attempt_count: u32,
    more_blocks_count: u32,
    /// Ids of the attempts, the oldest first.
    ids: VecDeque<MessageId>,
    path: Vec<RelayId>,
}

struct Attempt {
    contents: Vec<ContentBytes>,
    id: MessageId,
    /// The next fragment to send.
    next: usize,
    /// How often all were sent.
    round: u32,
    /// When the last of the round was sent, and when something else is to be tried.
    sent: Option<(Timestamp, Timestamp)>,
    /// What relays hold the packets for at most, on the way there and back, in milliseconds.
    delay_there: u64,
    delay_back: u64,
}

/// How many packets may go out.
struct Pace {
    at: Timestamp,
    /// In this millisecond.
    count: u32,
    /// Thousandths of packets.
    credit: u64,
}

impl Pace {
    const WHOLE: u64 = 1000;

    const fn new(now: Timestamp) -> Self {
        Self {
            at: now,
            count: 0,
            credit: CREDIT_MAX * Self::WHOLE,
        }
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        if now > self.at {
            let passed = now.as_millis() - self.at.as_millis();
            let earned = passed.saturating_mul(CREDIT_PER_MS);
            self.credit = (self.credit + earned).min(CREDIT_MAX * Self::WHOLE);
            (self.at, self.count) = (now, 0);
        }
        self.count < BURST && self.credit >= Self::WHOLE
    }

    const fn take(&mut self) {
        self.count += 1;
        self.credit = self.credit.saturating_sub(Self::WHOLE);
    }

    /// When there is room again at the latest.
    fn next(&self) -> Timestamp {
        let missing = Self::WHOLE.saturating_sub(self.credit);
        let pause = missing.div_ceil(CREDIT_PER_MS).max(1);
        self.at.saturating_add(Duration::from_millis(pause))
    }
}

impl Attempt {
    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_there.saturating_add(self.delay_back))
    }

    const fn round_count_max(&self) -> u32 {
        if self.contents.len() > 1 {
            ROUND_COUNT_MAX
        } else {
            ROUND_COUNT_MAX_OF_ONE
        }
    }
}

impl PacketExchange {
    /// Without a request and without a guard.
    pub fn new(
        settings: ExchangeSettings,
        directory: Arc<LaneDirectory>,
        now: Timestamp,
        random: &mut impl Random,
    ) -> Self {
        // Answers of one client: as many as requests may be under way, each of the largest size once.
        let limits = ReassemblerLimits {
            message_count_max: ASK_COUNT_MAX * ATTEMPT_KEPT_MAX,
            fragment_count_max: ASK_COUNT_MAX * FRAGMENT_COUNT_MAX,
            finished_count_max: 64,
            timeout: settings.timeout,
        };
        let mut exchange = Self {
            settings,
            directory,
            guards: Vec::new(),
            asks: BTreeMap::new(),
            messages: BTreeMap::new(),
            reassembler: Reassembler::new(limits),
            replies: ReplyTable::default(),
            events: VecDeque::new(),
            doubts: VecDeque::new(),
            trips: RoundTrips::default(),
            pace: Pace::new(now),
            cover_at: None,
            cover_returned_count: 0,
            next_ask: 0,
        };
        exchange.plan_cover(now, random);
        exchange
    }

    /// A link is there: from now on this is a guard. Those that are given first are preferred.
    pub fn add_guard(&mut self, guard: Guard) {
        let mut known = self.guards.iter_mut();
        match known.find(|known| known.relay == guard.relay) {
            Some(known) => *known = guard,
            None => self.guards.push(guard),
        }
    }

    /// The link is gone: what is asked from now on goes through another.
    pub fn remove_guard(&mut self, relay: RelayId) {
        self.guards.retain(|known| known.relay != relay);
    }

    /// A guard that several attempts went through without an answer: its link may be dead.
    pub fn poll_doubt(&mut self) -> Option<RelayId> {
        self.doubts.pop_front()
    }

    /// Whether there is a guard that this relay may be asked through.
    pub fn has_guard_for(&self, destination: RelayId) -> bool {
        self.guard_for(destination, 0).is_some()
    }

    /// The guard of an attempt, counted from 0. A guard knows who we are, so it is never the one that is
    /// asked.
    fn guard_for(&self, destination: RelayId, attempt: u32) -> Option<Guard> {
        let others = self.guards.iter().filter(|it| it.relay != destination);
        let count = u32::try_from(others.clone().count())
            .ok()
            .filter(|it| *it > 0)?;
        let index = usize::try_from(attempt / GUARD_ATTEMPT_COUNT % count).ok()?;
        others.copied().nth(index)
    }

    /// Another directory, for what is built from now on.
    pub fn set_directory(&mut self, directory: Arc<LaneDirectory>) {
        self.directory = directory;
    }

    /// Begins a request. Its end comes by [`Self::poll_event`].
    pub fn ask(
        &mut self,
        now: Timestamp,
        ask: Ask,
        random: &mut impl Random,
    ) -> Result<AskId, ExchangeError> {
        if self.asks.len() >= ASK_COUNT_MAX {
            return Err(ExchangeError::Busy);
        }
        let guard = self.guard_for(ask.destination, 0);
        let guard = guard.ok_or(ExchangeError::NoPath)?;
        self.next_ask += 1;
        let id = AskId(self.next_ask);
        let attempt = self.attempt(now, id, (&ask, guard), random)?;
        self.messages.insert(attempt.id, id);
        let running = Running {
            ask,
            guard,
            asked: now,
            deadline: now.saturating_add(self.settings.timeout),
            ids: VecDeque::from([attempt.id]),
            attempt,
            attempt_count: 1,
            more_blocks_count: 0,
            path: Vec::new(),
        };
        self.asks.insert(id, running);
        Ok(id)
    }

    /// Makes the message of an attempt.
    fn attempt(
        &mut self,
        now: Timestamp,
        id: AskId,
        (ask, guard): (&Ask, Guard),
        random: &mut impl Random,
    ) -> Result<Attempt, ExchangeError> {
        let directory = Arc::clone(&self.directory);
        let routes = Routes {
            directory: &directory,
            settings: &self.settings,
            now,
        };
        let count = ask.block_count.min(REPLY_BLOCK_COUNT_MAX);
        let mut blocks: Vec<ReplyBlock> = Vec::with_capacity(count);
        let mut delay_back = 0;
        for _ in 0..count {
            let route = routes.back(guard.relay, ask.destination, random);
            let route = route.ok_or(ExchangeError::NoPath)?;
            delay_back = delay_back.max(route.delay_ms);
            let made = reply_block(&route.hops, guard.client, random);
            let (block, keys) = made.map_err(|_| ExchangeError::NoPath)?;
            self.replies.insert(keys, Purpose::Answer(id));
            blocks.push(block);
        }
        let message = PacketRequest::encode(&blocks, ask.method, &ask.params)
            .map_err(|_| ExchangeError::TooLarge)?;
        let mut name = [0; 16];
        random(&mut name);
        let name = MessageId(name);
        let contents = fragments(name, MessageKind::Request, &message);
        Ok(Attempt {
            contents: contents.map_err(|_| ExchangeError::TooLarge)?.collect(),
            id: name,
            next: 0,
            round: 0,
            sent: None,
            delay_there: 0,
            delay_back,
        })
    }

    /// The next packet to send now. Nothing may mean that there is one a moment later: see
    /// [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Timestamp, random: &mut impl Random) -> Option<Transmit> {
        if !self.pace.has_room(now) {
            return None;
        }
        let transmit = self
            .cover(now, random)
            .or_else(|| self.next_fragment(now, random))?;
        self.pace.take();
        Some(transmit)
    }

    fn cover(&mut self, now: Timestamp, random: &mut impl Random) -> Option<Transmit> {
        self.cover_at.filter(|at| *at <= now)?;
        self.plan_cover(now, random);
        let guard = *self.guards.first()?;
        let routes = Routes {
            directory: &self.directory,
            settings: &self.settings,
            now,
        };
        let route = routes.cover(guard.relay, random)?;
        let (block, keys) = reply_block(&route.hops, guard.client, random).ok()?;
        // Its content is seen by nobody but us.
        let built = answer(&block, &[0; CONTENT_SIZE]).ok()?;
        self.replies.insert(keys, Purpose::Cover);
        Some(Transmit {
            guard: guard.relay,
            packet: Box::new(built.bytes),
        })
    }

    fn plan_cover(&mut self, now: Timestamp, random: &mut impl Random) {
        let pause = self.settings.cover_pause();
        self.cover_at = pause.map(|mean| now.saturating_add(exponential(mean, draw(random))));
    }

    /// Builds the next fragment of a request that has some to send.
    fn next_fragment(&mut self, now: Timestamp, random: &mut impl Random) -> Option<Transmit> {
        let waiting = |running: &Running| running.attempt.next < running.attempt.contents.len();
        let (id, running) = self.asks.iter_mut().find(|(_, it)| waiting(it))?;
        let (id, guard) = (*id, running.guard);
        let routes = Routes {
            directory: &self.directory,
            settings: &self.settings,
            now,
        };
        let attempt = &mut running.attempt;
        let route = routes.there(guard.relay, running.ask.destination, random);
        let content = attempt.contents.get(attempt.next)?;
        let built = route.and_then(|route| {
            let built = build(&route.hops, content, random).ok()?;
            Some((route, built))
        });
        let Some((Route { hops, delay_ms }, built)) = built else {
            self.end(id, Err(ExchangeError::NoPath));
            return None;
        };
        if attempt.next == 0 {
            running.path = hops.iter().map(|hop| hop.relay).collect();
        }
        attempt.next += 1;
        attempt.delay_there = attempt.delay_there.max(delay_ms);
        if attempt.next == attempt.contents.len() {
            let patience = running.attempt_count.clamp(1, PATIENCE_MAX);
            let wait = self.trips.timeout() * patience + attempt.delay();
            attempt.sent = Some((now, now.saturating_add(wait)));
        }
        Some(Transmit {
            guard: guard.relay,
            packet: Box::new(built.bytes),
        })
    }

    /// Takes a packet that a guard handed us. What is not for us, or no more, is nothing.
    pub fn handle_packet(
        &mut self,
        now: Timestamp,
        packet: &PacketBytes,
        random: &mut impl Random,
    ) {
        let Some((keys, purpose)) = self.replies.take(ReplyId::of(packet)) else {
            return;
        };
        let Ok(content) = keys.open(packet) else {
            return;
        };
        let Purpose::Answer(id) = purpose else {
            self.cover_returned_count += 1;
            return;
        };
        let Ok(fragment) = Fragment::parse(&content) else {
            return;
        };
        let message = fragment.message();
        // The block says which request it was given for; another's id in it is a fault of the node.
        let is_ours = self.messages.get(&message.id()) == Some(&id);
        if !is_ours || message.kind() != MessageKind::Answer {
            return;
        }
        if let Progress::Complete(whole) = self.reassembler.handle_fragment(now, &fragment) {
            self.handle_answer(now, id, (whole.id, &whole.bytes), random);
        }
    }

    fn handle_answer(
        &mut self,
        now: Timestamp,
        id: AskId,
        (message, bytes): (MessageId, &[u8]),
        random: &mut impl Random,
    ) {
        let Some(running) = self.asks.get_mut(&id) else {
            return;
        };
        let attempt = &running.attempt;
        // As Karn and Partridge have it: of what was sent twice nobody knows which was answered.
        if let Some((sent, _)) = attempt.sent.filter(|_| attempt.round == 0)
            && attempt.id == message
        {
            let took = now.saturating_since(sent);
            self.trips.note(took.saturating_sub(attempt.delay()));
        }
        match PacketAnswer::parse(bytes) {
            Ok(PacketAnswer::Body {
                status,
                encoding,
                body,
            }) => {
                let answered = ExchangeAnswer {
                    status,
                    encoding,
                    body: body.to_vec(),
                    elapsed: now.saturating_since(running.asked),
                    path: running.path.clone(),
                };
                self.end(id, Ok(answered));
            }
            // An earlier attempt had fewer blocks, and is told so late.
            Ok(PacketAnswer::TooFewBlocks { .. }) if attempt.id != message => {}
            Ok(PacketAnswer::TooFewBlocks { needed }) => {
                self.give_more_blocks(now, id, usize::from(needed), random);
            }
            Err(_) => self.end(id, Err(ExchangeError::Malformed)),
        }
    }

    fn give_more_blocks(
        &mut self,
        now: Timestamp,
        id: AskId,
        needed: usize,
        random: &mut impl Random,
    ) {
        let Some(running) = self.asks.get_mut(&id) else {
            return;
        };
        running.more_blocks_count += 1;
        let is_more = needed > running.ask.block_count;
        if needed > REPLY_BLOCK_COUNT_MAX {
            self.end(id, Err(ExchangeError::AnswerTooLarge));
        } else if !is_more || running.more_blocks_count > MORE_BLOCKS_MAX {
            self.end(id, Err(ExchangeError::Malformed));
        } else {
            // Some to spare: what is asked for may have grown, and packets get lost.
            let spare = needed / 4 + 1;
            running.ask.block_count = (needed + spare).min(REPLY_BLOCK_COUNT_MAX);
            self.try_again(now, id, random);
        }
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] is due, if ever.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let asks = self.asks.values().map(|running| {
            let attempt = &running.attempt;
            let next = if attempt.next < attempt.contents.len() {
                self.pace.next()
            } else {
                attempt.sent.map_or(running.deadline, |(_, until)| until)
            };
            next.min(running.deadline)
        });
        let cover = self.cover_at.map(|at| {
            let held_up = self.pace.count >= BURST || self.pace.credit < Pace::WHOLE;
            if held_up {
                at.max(self.pace.next())
            } else {
                at
            }
        });
        asks.chain(cover).min()
    }

    /// Sends again, tries anew, gives up: whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp, random: &mut impl Random) {
        self.reassembler.handle_timeout(now);
        let is_due = |running: &Running| {
            let until = running.attempt.sent.map(|(_, until)| until);
            running.deadline <= now || until.is_some_and(|until| until <= now)
        };
        let due = self.asks.iter().filter(|(_, running)| is_due(running));
        let due: Vec<AskId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let Some(running) = self.asks.get_mut(&id) else {
                continue;
            };
            let attempt = &mut running.attempt;
            if running.deadline <= now {
                let attempts = running.attempt_count;
                self.end(id, Err(ExchangeError::TimedOut { attempts }));
            } else if attempt.round + 1 < attempt.round_count_max() {
                attempt.round += 1;
                (attempt.next, attempt.sent) = (0, None);
            } else {
                self.try_again(now, id, random);
            }
        }
    }

    /// Another attempt.
    fn try_again(&mut self, now: Timestamp, id: AskId, random: &mut impl Random) {
        let Some(mut running) = self.asks.remove(&id) else {
            return;
        };
        if running.attempt_count.is_multiple_of(GUARD_ATTEMPT_COUNT) {
            self.doubts.push_back(running.guard.relay);
            // Each of them once is enough.
            self.doubts.truncate(ASK_COUNT_MAX);
        }
        // Without any guard the last is as good as none: one may open again before the deadline.
        let guard = self.guard_for(running.ask.destination, running.attempt_count);
        running.guard = guard.unwrap_or(running.guard);
        match self.attempt(now, id, (&running.ask, running.guard), random) {
            Ok(attempt) => {
                self.messages.insert(attempt.id, id);
                running.ids.push_back(attempt.id);
                if running.ids.len() > ATTEMPT_KEPT_MAX
                    && let Some(oldest) = running.ids.pop_front()
                {
                    self.messages.remove(&oldest);
                }
                running.attempt = attempt;
                running.attempt_count += 1;
                self.asks.insert(id, running);
            }
            Err(error) => {
                self.asks.insert(id, running);
                self.end(id, Err(error));
            }
        }
    }

    fn end(&mut self, id: AskId, outcome: Result<ExchangeAnswer, ExchangeError>) {
        if let Some(running) = self.asks.remove(&id) {
            for message in &running.ids {
                self.messages.remove(message);
            }
            self.replies.forget(id);
            self.events.push_back((id, outcome));
        }
    }

    /// A request that has ended.
    pub fn poll_event(&mut self) -> Option<(AskId, Result<ExchangeAnswer, ExchangeError>)> {
        self.events.pop_front()
    }

    /// Forgets a request that nobody waits for any more.
    pub fn cancel(&mut self, id: AskId) {
        self.end(id, Err(ExchangeError::TimedOut { attempts: 0 }));
        self.events.retain(|(ended, _)| *ended != id);
    }

    /// Cover packets that came back.
    pub const fn cover_returned_count(&self) -> u64 {
        self.cover_returned_count
    }

    /// Reply keys that are held, and messages that are waited for.
    pub fn held_counts(&self) -> (usize, usize) {
        (self.replies.len(), self.messages.len())
    }
}
