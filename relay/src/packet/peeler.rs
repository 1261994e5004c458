//! A batch of packets at this hop: open, look whether each was seen, peel, read what it says.

use core::array;
use core::borrow::BorrowMut as _;
use core::time::Duration;

use cepa_crypto::packet::{HopKeys, Opened, PeelError};
use cepa_crypto::x25519::BATCH_MAX;
use cepa_wire::Timestamp;
use cepa_wire::packet::{ClientId, Command, PacketBytes, RelayId};

use super::drop_reason::DropReason;
use super::replay_epochs::{ReplayFilters, Seen};

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the next relay.
    Relay(RelayId),
    /// To a client, over the link that it holds with us.
    Client(ClientId),
}

/// What becomes of a packet. Each ends in exactly one step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on, as it now stands, after a while.
    Send {
        /// Where.
        to: Destination,
        /// How long it waits before.
        delay: Duration,
    },
    /// It is for us.
    Deliver,
    /// It ends here.
    Drop(DropReason),
}

/// Peels batches. It holds what a batch needs, so that nothing is allocated for one.
pub struct Peeler {
    opened: [Result<Opened, PeelError>; BATCH_MAX],
}

impl Default for Peeler {
    fn default() -> Self {
        Self {
            opened: array::from_fn(|_| Err(PeelError::BadTag)),
        }
    }
}

impl Peeler {
    /// Peels up to [`BATCH_MAX`] packets in place and says what becomes of each: `steps` has as many, and
    /// what stood in it is overwritten. A packet that is dropped is as it came, but for one whose payload
    /// was changed on its way.
    pub fn peel(
        &mut self,
        keys: &HopKeys,
        replay: &ReplayFilters,
        now: Timestamp,
        packets: &mut [&mut PacketBytes],
        steps: &mut [Step],
    ) {
        assert!(
            packets.len() <= BATCH_MAX && packets.len() == steps.len(),
            "a batch fits, and has a step for each"
        );
        let (opened, _) = self.opened.split_at_mut(packets.len());
        keys.open_many(now, packets, opened);
        for ((opened, packet), step) in opened.iter_mut().zip(packets).zip(steps) {
            // Its keys are erased here, whatever becomes of it.
            let opened = core::mem::replace(opened, Err(PeelError::BadTag));
            *step = finish(opened, replay, (*packet).borrow_mut()).unwrap_or_else(Step::Drop);
        }
    }
}

fn finish(
    opened: Result<Opened, PeelError>,
    replay: &ReplayFilters,
    packet: &mut PacketBytes,
) -> Result<Step, DropReason> {
    let opened = opened?;
    match replay.insert(opened.epoch(), &opened.replay_tag().0) {
        Seen::New => {}
        Seen::Before => return Err(DropReason::Replayed),
        Seen::Unknown => return Err(DropReason::WrongEpoch),
    }
    let block = opened.peel(packet)?;
    let delay = block.delay();
    Ok(match block.command {
        Command::Forward(relay) => Step::Send {
            to: Destination::Relay(relay),
            delay,
        },
        Command::Reply(client) => Step::Send {
            to: Destination::Client(client),
            delay,
        },
        Command::Deliver => Step::Deliver,
    })
}

impl From<PeelError> for DropReason {
    fn from(error: PeelError) -> Self {
        match error {
            PeelError::WeakKey => Self::WeakKey,
            PeelError::BadTag => Self::BadTag,
            PeelError::BadRoutingBlock => Self::BadRoutingBlock,
            PeelError::PayloadTampered => Self::PayloadTampered,
        }
    }
}
