//! What a link that others opened may hold, and for how long.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use cepa_wire::Timestamp;

use super::Link;
use crate::clock;
use crate::connections::{Phase, Seat};
use crate::memory::HeldBytes;
use crate::tile::Tile;

/// A link's seat and what its messages hold.
pub(crate) struct LinkSeat {
    pub(crate) seat: Seat,
    input: RefCell<HeldBytes>,
    output: RefCell<HeldBytes>,
    /// When the message that is arriving began to.
    input_since: Cell<Option<Timestamp>>,
}

impl Link {
    /// Gives an accepted link its seat, once.
    pub(crate) fn sit(&self, tile: &Tile, seat: Seat) {
        let share = seat.caller.share();
        let given = self.seat.set(LinkSeat {
            seat,
            input: RefCell::new(tile.door.input.hold(share)),
            output: RefCell::new(tile.door.output.hold(share)),
            input_since: Cell::new(None),
        });
        debug_assert!(given.is_ok(), "a link has one seat");
    }

    /// Its seat; a link that we opened has none.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seat.get().map(|held| &held.seat)
    }

    /// The far end is proven: a node of the view, or somebody else.
    pub(crate) fn handle_proven(&self, is_peer: bool) {
        if let Some(seat) = self.seat() {
            if is_peer {
                seat.promote();
            }
            seat.enter(Phase::Idle);
        }
    }

    /// A request of the far end is served from now on.
    pub(crate) fn begin_serving(&self) {
        self.serving.update(|count| count + 1);
        if let (1, Some(seat)) = (self.serving.get(), self.seat()) {
            seat.enter(Phase::Serving);
        }
    }

    /// A request was served.
    pub(crate) fn end_serving(&self) {
        self.serving.update(|count| count - 1);
        if let Some(seat) = self.seat() {
            seat.handle_served();
            if self.serving.get() == 0 {
                seat.enter(Phase::Idle);
            }
        }
    }

    /// Bytes arrived, and perhaps the end of a message: whether the rest of one is small enough, and
    /// comes soon enough. Proven peers are not asked.
    pub(super) fn check_input(&self, tile: &Rc<Tile>, has_ended: bool) -> Result<(), ()> {
        let Some(held) = self.strangers_seat() else {
            return Ok(());
        };
        let size = self.connection.borrow().held_size();
        if !held.input.borrow_mut().resize(size) {
            return Err(());
        }
        let now = clock::ticks();
        if size == 0 {
            held.input_since.set(None);
            return Ok(());
        }
        let since = held.input_since.get().filter(|_| !has_ended).unwrap_or(now);
        held.input_since.set(Some(since));
        let is_late = now.saturating_since(since) >= tile.door.limits.body_timeout;
        if is_late { Err(()) } else { Ok(()) }
    }

    /// What waits for the far end to take it changed; a stranger who lets too much wait is cut off.
    pub(super) fn check_output(&self) {
        let Some(held) = self.strangers_seat() else {
            return;
        };
        let size = self.output.borrow().len() + self.writing_size.get();
        if !held.output.borrow_mut().resize(size) {
            self.cut_off();
        }
    }

    /// Ends the link now: its reader may wait for a heartbeat, and its writer for the far end.
    pub(super) fn cut_off(&self) {
        self.close();
        if let Some(seat) = self.seat() {
            seat.end();
        }
    }

    /// The seat of a far end that is no proven peer. A peer's holds nothing.
    fn strangers_seat(&self) -> Option<&LinkSeat> {
        let held = self.seat.get()?;
        if held.seat.is_proven_peer() {
            // Less is always granted.
            held.input.borrow_mut().resize(0);
            held.output.borrow_mut().resize(0);
            return None;
        }
        Some(held)
    }
}
