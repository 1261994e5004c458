//! Whom one executor lets in: connections within their bounds, requests within their rate, strangers
//! while there is time for them.

use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use cepa_meter::count;
use cepa_swarm::load::{Load, LoadLimit};
use cepa_swarm::rate::Prefix;
use cepa_wire::Timestamp;
use glommio::timer::sleep;

use crate::clock;
use crate::connections::{Caller, Connections, PHASE_COUNT, Phase, Seat, Timeouts};
use crate::edge_limits::EdgeLimits;
use crate::memory::Pool;
use crate::tile::{RUNNING_COUNT_MAX, Tile};
use crate::tuning::Live;

/// How often the executor's lag is measured.
const SAMPLE_PAUSE: Duration = Duration::from_millis(10);
/// So many requests under way are three quarters of those that may be.
const RUNNING_COUNT_BUSY: usize = RUNNING_COUNT_MAX / 4 * 3;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too much to do.
    Busy,
    /// Too many of this prefix.
    RateLimited,
}

impl Refused {
    /// Status and text towards a client.
    pub(crate) const fn reply(self) -> (u16, &'static str) {
        match self {
            Self::Busy => (503, "Server busy, try again later"),
            Self::RateLimited => (429, "Too many requests, try again later"),
        }
    }
}

/// The bounds of one executor's edges, and what is used of them.
pub(crate) struct Door {
    pub(crate) limits: EdgeLimits,
    /// That of the whole node.
    live: Arc<Live>,
    load: RefCell<Load>,
    pub(crate) https: Rc<Connections>,
    pub(crate) omq: Rc<Connections>,
    /// Memory of what arrives.
    pub(crate) input: Rc<Pool>,
    /// Memory of what waits to be taken.
    pub(crate) output: Rc<Pool>,
}

impl Door {
    pub(crate) fn new(limits: EdgeLimits, live: Arc<Live>) -> Self {
        let per_prefix = limits.connection_per_prefix_count_max;
        let pool = |size_max| Pool::new(size_max, limits.held_per_prefix_size_max);
        // An OMQ link has its heartbeat, and a slow body gets an answer: neither ends here.
        let mut timeouts: Timeouts = [None; PHASE_COUNT];
        timeouts[Phase::Handshake as usize] = Some(limits.handshake_timeout);
        let omq = Connections::new(limits.omq_connection_count_max, per_prefix, timeouts);
        timeouts[Phase::Idle as usize] = Some(limits.idle_timeout);
        timeouts[Phase::Head as usize] = Some(limits.head_timeout);
        timeouts[Phase::Taking as usize] = Some(limits.response_timeout);
        Self {
            limits,
            live,
            load: RefCell::new(Load::new(LoadLimit {
                lag_max: limits.lag_max,
                running_count_max: RUNNING_COUNT_BUSY,
            })),
            https: Connections::new(limits.https_connection_count_max, per_prefix, timeouts),
            omq,
            input: pool(limits.input_size_max),
            output: pool(limits.output_size_max),
        }
    }

    /// Whether a new HTTPS connection is worth a handshake now.
    pub(crate) fn admits_connection(&self, caller: Caller) -> bool {
        self.load.borrow().admits(caller.is_peer, false)
    }

    /// Whether the next request on a connection is taken.
    pub(crate) fn admits_request(&self, seat: &Seat) -> bool {
        let load = self.load.borrow();
        load.admits(seat.is_peer(), seat.is_served())
    }

    /// Whether a prefix may ask once more.
    fn takes(&self, prefix: Prefix) -> bool {
        self.live.rate.load().take(prefix, clock::ticks())
    }

    /// Ends connections that are too slow.
    pub(crate) fn expire(&self, now: Timestamp) {
        self.https.expire(now);
        self.omq.expire(now);
    }
}

impl Tile {
    /// Who is at the other end of an accepted connection.
    pub(crate) fn caller(&self, address: SocketAddr) -> Caller {
        Caller {
            prefix: Prefix::of(address.ip()),
            is_peer: self.network.load().has_address(address.ip()),
        }
    }

    /// Whether this executor has more to do than it can.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.door.load.borrow().is_overloaded()
    }

    /// Lets a client's request in, or says why not, and counts that. Peers always come in.
    pub(crate) fn admit_client(&self, seat: &Seat) -> Result<(), Refused> {
        if !self.door.admits_request(seat) {
            count(&self.counters.refused_overloaded);
            return Err(Refused::Busy);
        }
        if seat.is_peer() || self.door.takes(seat.caller.prefix) {
            return Ok(());
        }
        count(&self.counters.refused_rate_limited);
        Err(Refused::RateLimited)
    }
}

impl Tile {
    /// Lets in what came by another door, whose connections are held there: only its rate is judged.
    pub(crate) fn admit_entered(&self, from: IpAddr) -> Result<(), Refused> {
        let is_peer = self.network.load().has_address(from);
        let prefix = Prefix::of(from);
        if is_peer || self.door.takes(prefix) {
            return Ok(());
        }
        count(&self.counters.refused_rate_limited);
        Err(Refused::RateLimited)
    }
}

/// Measures the executor's lag for as long as it runs.
pub(crate) async fn measure_load(tile: Rc<Tile>) -> ! {
    loop {
        let due = clock::ticks().saturating_add(SAMPLE_PAUSE);
        sleep(SAMPLE_PAUSE).await;
        let late = clock::ticks().saturating_since(due);
        let was_overloaded = tile.is_overloaded();
        tile.door
            .load
            .borrow_mut()
            .handle_sample(late, tile.running_count());
        if tile.is_overloaded() != was_overloaded {
            tracing::debug!(overloaded = !was_overloaded, "load");
        }
    }
}
