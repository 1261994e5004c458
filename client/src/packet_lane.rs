//! The packet lane from the client's side: requests in packets of one size over UDP, through relays that
//! each know their neighbours only (`cepa_wire::packet`; unaudited).
//!
//! What decides is sans-IO: [`LaneDirectory`] says who is there, [`PacketExchange`] which packets go out and
//! what their answers say, [`GuardLink`] how they are sealed on the way to the guard. The driver gives
//! them time, randomness and a socket.

mod directory;
mod driver;
mod exchange;
mod link;
mod replies;
mod route;
#[cfg(test)]
mod tests;
mod timing;

use core::time::Duration;

use cepa_wire::packet::geometry::HOP_COUNT_MAX;

pub use directory::{LaneDirectory, LaneRelay};
pub(crate) use driver::{LaneFailure, LaneHandle, LaneStart};
pub use exchange::{
    Ask, AskId, ExchangeAnswer, ExchangeError, Guard, PacketExchange, Random, Transmit,
};
pub use link::{GuardLink, LinkEvent};

/// Cover packets a second that may be asked for.
pub const COVER_PER_SECOND_MAX: u16 = 100;

/// How a client uses the packet lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExchangeSettings {
    /// Relays of a path, the destination with them: 2 to 5.
    pub hops: u8,
    /// What each relay of a path holds a packet for on average, drawn anew for each from the exponential
    /// distribution: an observer of all links can't tell then which packet came out of which. Zero: it goes
    /// on at once.
    pub delay_mean: Duration,
    /// Packets a second on average that go to ourselves and mean nothing, at random times; at most
    /// [`COVER_PER_SECOND_MAX`]. Zero: none.
    pub cover_per_second: f32,
    /// How long an answer is waited for altogether.
    pub timeout: Duration,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            hops: 3,
            delay_mean: Duration::ZERO,
            cover_per_second: 0.0,
            timeout: Duration::from_secs(30),
        }
    }
}

impl ExchangeSettings {
    fn hop_count(&self) -> usize {
        usize::from(self.hops).clamp(2, HOP_COUNT_MAX)
    }

    /// The mean pause between two cover packets, if there are any.
    fn cover_pause(&self) -> Option<Duration> {
        let rate = self.cover_per_second.min(f32::from(COVER_PER_SECOND_MAX));
        (rate > 0.0).then(|| Duration::try_from_secs_f32(1.0 / rate).unwrap_or(Duration::MAX))
    }
}

/// A random number.
fn draw(random: &mut impl FnMut(&mut [u8])) -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes)
}
