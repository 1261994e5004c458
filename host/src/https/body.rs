//! Reading a request's body within its bounds: its size, its time, and the memory that all bodies share.

use bytes::Bytes;
use cepa_meter::count;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::clock;
use crate::connections::Seat;
use crate::edge_limits::BODY_PROGRESS_SIZE;
use crate::memory::HeldBytes;
use crate::tile::Tile;
use crate::wait::within;

/// Largest body, as in the reference.
const BODY_SIZE_MAX: usize = 10 << 20;
/// Bodies and answers up to this are part of what a connection costs: a request of some KiB is taken,
/// and answered, however much memory the large ones hold.
pub(super) const SMALL_SIZE: usize = 8 << 10;

/// A whole body. Its memory is counted until this is dropped.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _held: HeldBytes,
}

/// Why a body is not taken: status and text.
pub(super) type Refused = (u16, &'static str);

const TOO_LARGE: Refused = (413, "request body is too large");
const BUSY: Refused = (503, "Server busy, try again later");
const INCOMPLETE: Refused = (400, "request body is incomplete");
const TOO_SLOW: Refused = (408, "request body is too slow");

/// Reads a body. What was announced costs nothing before it arrives.
pub(super) async fn read(tile: &Tile, seat: &Seat, mut body: Incoming) -> Result<Body, Refused> {
    let announced = body.size_hint().upper();
    let announced = announced.and_then(|size| usize::try_from(size).ok());
    let size_max = announced.unwrap_or(BODY_SIZE_MAX);
    if size_max > BODY_SIZE_MAX {
        return Err(TOO_LARGE);
    }
    let limits = &tile.door.limits;
    let mut reading = Reading {
        bytes: Vec::with_capacity(size_max.min(SMALL_SIZE)),
        size_max,
        held: tile.door.input.hold(seat.caller.share()),
    };
    let deadline = clock::ticks().saturating_add(limits.body_timeout);
    loop {
        let left = deadline.saturating_since(clock::ticks());
        let span = left.min(limits.body_progress_timeout);
        match within(span, reading.progress(&mut body)).await {
            None => return Err(TOO_SLOW),
            Some(Err(refused)) => {
                if refused == BUSY {
                    count(&tile.counters.refused_busy);
                }
                return Err(refused);
            }
            Some(Ok(true)) => {
                return Ok(Body {
                    bytes: reading.bytes.into(),
                    _held: reading.held,
                });
            }
            Some(Ok(false)) => {}
        }
    }
}

struct Reading {
    bytes: Vec<u8>,
    size_max: usize,
    held: HeldBytes,
}

impl Reading {
    /// Reads as much as is progress; true when that was all.
    async fn progress(&mut self, body: &mut Incoming) -> Result<bool, Refused> {
        let goal = self.bytes.len() + BODY_PROGRESS_SIZE;
        while self.bytes.len() < goal {
            let Some(frame) = body.frame().await else {
                return Ok(true);
            };
            // Trailers mean nothing here.
            if let Ok(piece) = frame.map_err(|_| INCOMPLETE)?.into_data() {
                self.take(&piece)?;
            }
        }
        Ok(false)
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let size = self.bytes.len() + piece.len();
        if size > self.size_max {
            return Err(TOO_LARGE);
        }
        if size > SMALL_SIZE && size > self.bytes.capacity() {
            // In doubling steps, of which the old and the new are held for a moment.
            let capacity = (self.bytes.capacity() * 2).max(size).min(self.size_max);
            if !self.held.resize(capacity) {
                return Err(BUSY);
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}
