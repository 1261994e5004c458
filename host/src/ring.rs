//! Commands and outcomes between executors: bounded rings, one each way between every two.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::subscribers::Added;
use cepa_meter::count;
use cepa_relay::Counters;
use cepa_storage::{Command, Outcome, StoreFault};
use futures_channel::oneshot;
use glommio::channels::shared_channel::{
    ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

/// Commands of one executor that may be under way at another: as many as one group commit gathers
/// while the one before it syncs.
const COMMANDS_IN_FLIGHT_MAX: usize = 1024;
/// A ring carries one executor's commands and its outcomes for the other's, for which there is always
/// room, and subscriptions as far as room is left.
const RING_DEPTH: usize = 3 * COMMANDS_IN_FLIGHT_MAX;

/// What crosses from one executor to another.
pub(crate) enum Crossing {
    /// Carry out a command at a log of yours.
    Command {
        /// Names it at the sender.
        id: u64,
        /// The log's number.
        log: usize,
        /// What to do.
        command: Command,
    },
    /// Somebody wants to hear of a mailbox of yours.
    Subscribe(Box<Added>),
    /// How a command of yours ended.
    Outcome {
        /// Its name.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
}

/// One executor's ends of the rings, by the other executor; not yet connected.
#[derive(Default)]
pub(crate) struct RingEnds {
    pub(crate) senders: BTreeMap<usize, SharedSender<Crossing>>,
    pub(crate) receivers: BTreeMap<usize, SharedReceiver<Crossing>>,
}

/// Makes the ends for `tile_count` executors.
pub(crate) fn make_rings(tile_count: usize) -> Vec<RingEnds> {
    let mut ends: Vec<RingEnds> = (0..tile_count).map(|_| RingEnds::default()).collect();
    for from in 0..tile_count {
        for to in (0..tile_count).filter(|to| *to != from) {
            let (sender, receiver) = new_bounded(RING_DEPTH);
            ends[from].senders.insert(to, sender);
            ends[to].receivers.insert(from, receiver);
        }
    }
    ends
}

/// The sending side at one executor.
pub(crate) struct Rings {
    senders: RefCell<BTreeMap<usize, ConnectedSender<Crossing>>>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Outcome>>>,
    next_id: Cell<u64>,
    counters: Arc<Counters>,
}

impl Rings {
    pub(crate) fn new(counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            senders: RefCell::default(),
            waiting: RefCell::default(),
            next_id: Cell::new(0),
            counters,
        })
    }

    /// The ring to executor `to` stands.
    pub(crate) fn connect(&self, to: usize, sender: ConnectedSender<Crossing>) {
        self.senders.borrow_mut().insert(to, sender);
    }

    /// Carries out a command at another executor.
    pub(crate) async fn execute(&self, to: usize, log: usize, command: Command) -> Outcome {
        if self.waiting.borrow().len() >= COMMANDS_IN_FLIGHT_MAX {
            count(&self.counters.ring_dropped);
            return Outcome::Failed(StoreFault::Busy);
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        if !self.send(to, Crossing::Command { id, log, command }) {
            self.waiting.borrow_mut().remove(&id);
            return Outcome::Failed(StoreFault::Busy);
        }
        receiver.await.unwrap_or(Outcome::Failed(StoreFault::Busy))
    }

    /// Commands that wait for their outcome at another executor.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Sends an outcome back.
    pub(crate) fn send_outcome(&self, to: usize, id: u64, outcome: Outcome) {
        self.send(to, Crossing::Outcome { id, outcome });
    }

    /// Sends a subscription to the shard that has the mailbox; false when the ring is full.
    pub(crate) fn send_subscription(&self, to: usize, added: Added) -> bool {
        self.send(to, Crossing::Subscribe(Box::new(added)))
    }

    /// Takes the outcome of a command of ours.
    pub(crate) fn handle_outcome(&self, id: u64, outcome: Outcome) {
        if let Some(sender) = self.waiting.borrow_mut().remove(&id) {
            drop(sender.send(outcome));
        }
    }

    fn send(&self, to: usize, crossing: Crossing) -> bool {
        let sent = self
            .senders
            .borrow()
            .get(&to)
            .is_some_and(|ring| ring.try_send(crossing).is_ok());
        if !sent {
            count(&self.counters.ring_dropped);
        }
        sent
    }
}
