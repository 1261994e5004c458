//! The connections of one executor that others opened: their phases, their deadlines, and who goes when
//! there are too many. What is decided stands in [`table`]; here it is carried out.

mod table;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use cepa_swarm::rate::Prefix;
use cepa_wire::Timestamp;

use crate::clock;
use crate::memory::HeldBytes;
use crate::wait::Notify;
use table::{Id, Table};
pub(crate) use table::{PHASE_COUNT, Phase, Timeouts};

/// Connections of one kind.
pub(crate) struct Connections {
    table: RefCell<Table<Rc<Notify>>>,
    timeouts: Timeouts,
}

impl Connections {
    /// At most `count_max` of them, and of one prefix `per_prefix_count_max`.
    pub(crate) fn new(
        count_max: usize,
        per_prefix_count_max: usize,
        timeouts: Timeouts,
    ) -> Rc<Self> {
        Rc::new(Self {
            table: RefCell::new(Table::new(count_max, per_prefix_count_max)),
            timeouts,
        })
    }

    /// A seat for a new connection. When all are taken, whoever has been idle longest loses its own;
    /// `None` when all are being served.
    pub(crate) fn seat(self: &Rc<Self>, caller: Caller) -> Option<Seat> {
        let mut table = self.table.borrow_mut();
        if let Some(gone) = table.make_room(caller.prefix).ok()? {
            gone.notify();
        }
        let end = Rc::new(Notify::default());
        let id = table.insert(
            caller.prefix,
            caller.is_peer,
            clock::ticks(),
            Rc::clone(&end),
        );
        Some(Seat {
            connections: Rc::clone(self),
            id,
            caller,
            end,
            phase: Cell::new(Phase::Handshake),
            is_proven_peer: Cell::new(false),
            is_served: Cell::new(false),
            has_read_ahead: Cell::new(false),
            answer: RefCell::new(None),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.table.borrow().connection_count()
    }

    /// Ends the connections that have been in their phase too long.
    pub(crate) fn expire(&self, now: Timestamp) {
        let mut table = self.table.borrow_mut();
        while let Some(gone) = table.poll_expired(&self.timeouts, now) {
            gone.notify();
        }
    }
}

/// Who opened a connection, as far as its address tells. Learnt once, when it is accepted.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) prefix: Prefix,
    /// It comes from the address of a node of the view.
    pub(crate) is_peer: bool,
}

impl Caller {
    /// Whose share of memory its bytes are.
    pub(crate) fn share(self) -> Option<Prefix> {
        (!self.is_peer).then_some(self.prefix)
    }
}

/// A connection's place among all; it leaves when this is dropped.
pub(crate) struct Seat {
    connections: Rc<Connections>,
    id: Id,
    pub(crate) caller: Caller,
    end: Rc<Notify>,
    phase: Cell<Phase>,
    is_proven_peer: Cell<bool>,
    is_served: Cell<bool>,
    /// Bytes came while a request was being served: those of the next one's head.
    has_read_ahead: Cell<bool>,
    /// The answer that is being taken.
    answer: RefCell<Option<HeldBytes>>,
}

impl Seat {
    /// Waits until the connection is to end.
    pub(crate) async fn ended(&self) {
        self.end.wait().await;
    }

    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.end.notify();
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        let mut table = self.connections.table.borrow_mut();
        table.enter(self.id, phase, clock::ticks());
    }

    /// The far end proved that it is a node of the view.
    pub(crate) fn promote(&self) {
        self.is_proven_peer.set(true);
        self.connections.table.borrow_mut().promote(self.id);
    }

    /// Whether the far end proved that.
    pub(crate) const fn is_proven_peer(&self) -> bool {
        self.is_proven_peer.get()
    }

    /// Whether the far end is a peer, by its key or its address.
    pub(crate) const fn is_peer(&self) -> bool {
        self.caller.is_peer || self.is_proven_peer.get()
    }

    /// Whether a request on this connection was answered before.
    pub(crate) const fn is_served(&self) -> bool {
        self.is_served.get()
    }

    pub(crate) fn handle_served(&self) {
        self.is_served.set(true);
    }

    /// Bytes were read: the first of a head begin its time.
    pub(crate) fn handle_read(&self) {
        match self.phase.get() {
            Phase::Idle => self.enter(Phase::Head),
            Phase::Serving | Phase::Taking => self.has_read_ahead.set(true),
            Phase::Handshake | Phase::Head | Phase::Body => {}
        }
    }

    /// A whole head was read, and with it what came of the request so far.
    pub(crate) fn handle_head(&self) {
        self.has_read_ahead.set(false);
        self.enter(Phase::Body);
    }

    /// An answer is to be written; what it holds is held until it was taken.
    pub(crate) fn handle_answer(&self, held: Option<HeldBytes>) {
        self.answer.replace(held);
        self.enter(Phase::Taking);
    }

    /// All that was written is on its way.
    pub(crate) fn handle_flushed(&self) {
        if self.phase.get() == Phase::Taking {
            self.answer.take();
            let has_read_ahead = self.has_read_ahead.replace(false);
            self.enter(if has_read_ahead {
                Phase::Head
            } else {
                Phase::Idle
            });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.table.borrow_mut().remove(self.id);
    }
}
