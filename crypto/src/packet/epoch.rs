//! A relay's hop keys over time. A key is random, made for one epoch, and erased when that and a grace
//! period are over: from then on nobody can peel what was recorded, us included.

use core::borrow::Borrow;
use core::time::Duration;

use cepa_wire::Timestamp;
use cepa_wire::packet::descriptor::PublishedHopKeys;
use cepa_wire::packet::epoch::{Epoch, EpochLength};
use cepa_wire::packet::geometry::PACKET_SIZE;
use cepa_wire::packet::{PacketBytes, RelayId};
use zeroize::Zeroizing;

use super::{HopKey, Opened, PeelError, open_many};
use crate::X25519SecretKey;
use crate::x25519::BATCH_MAX;

/// The keys of the current epoch and of the next, and for the grace period that of the previous one.
///
/// Time only goes forward here: the latest `now` that was seen counts. A copy is for whoever publishes the
/// keys to other threads: it changes the copy and puts it in the place of the old, whose keys are erased
/// when the last thread has let go of it.
#[derive(Clone)]
pub struct HopKeys {
    relay: RelayId,
    length: EpochLength,
    grace: Duration,
    latest: Timestamp,
    /// Of the epoch of `current`.
    epoch: Epoch,
    previous: Option<HopKey>,
    current: HopKey,
    next: HopKey,
}

impl HopKeys {
    /// The keys of a relay that begins at `now`. `draw` gives 32 random bytes a call, which nothing else is
    /// made of. `grace` is how long after its epoch a key is still taken, and before it already: for
    /// packets that were on their way, and clocks that differ. At most a third of an epoch counts: in the
    /// third between, one key is taken, and what remembers packets of the one before can be emptied.
    pub fn new(
        relay: RelayId,
        length: EpochLength,
        grace: Duration,
        now: Timestamp,
        mut draw: impl FnMut() -> [u8; 32],
    ) -> Self {
        let epoch = length.epoch_at(now);
        let current = hop_key(relay, epoch, &mut draw);
        let next = hop_key(relay, epoch.next(), &mut draw);
        Self {
            relay,
            length,
            grace: grace.min(length.as_duration() / 3),
            latest: now,
            epoch,
            previous: None,
            current,
            next,
        }
    }

    /// Goes to the epoch of `now`, and erases what is over. It is due at [`Self::poll_timeout`]; `draw` is
    /// called for each key that is missing: none, one, or two after a long sleep. Tells whether the
    /// published keys are others now.
    pub fn handle_timeout(&mut self, now: Timestamp, mut draw: impl FnMut() -> [u8; 32]) -> bool {
        self.latest = self.latest.max(now);
        let epoch = self.length.epoch_at(self.latest);
        let changed = epoch > self.epoch;
        if epoch == self.epoch.next() {
            let fresh = hop_key(self.relay, epoch.next(), &mut draw);
            let current = core::mem::replace(&mut self.next, fresh);
            self.previous = Some(core::mem::replace(&mut self.current, current));
        } else if changed {
            self.previous = None;
            self.current = hop_key(self.relay, epoch, &mut draw);
            self.next = hop_key(self.relay, epoch.next(), &mut draw);
        }
        self.epoch = self.epoch.max(epoch);
        if self.latest >= self.grace_end() {
            self.previous = None;
        }
        changed
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Timestamp {
        if self.previous.is_some() {
            self.grace_end()
        } else {
            self.length.begin(self.epoch.next())
        }
    }

    /// The keys to try at `now`, the likeliest first: a packet does not say which it was built with, and
    /// its tag fits one. A key that is over is not among them, though it be not erased yet.
    pub fn usable(&self, now: Timestamp) -> impl Iterator<Item = &HopKey> {
        let now = self.latest.max(now);
        let next_begin = self.length.begin(self.epoch.next());
        let after_next = next_begin.saturating_add(self.length.as_duration());
        let in_next = now >= next_begin;
        let previous = self.previous.as_ref().filter(|_| now < self.grace_end());
        let current_is_good = now < next_begin.saturating_add(self.grace);
        let next_is_good = now >= next_begin.saturating_sub(self.grace)
            && now < after_next.saturating_add(self.grace);
        let current = current_is_good.then_some(&self.current);
        let next = next_is_good.then_some(&self.next);
        let (first, second) = if in_next {
            (next, current)
        } else {
            (current, next)
        };
        first.into_iter().chain(previous).chain(second)
    }

    /// [`open_many`] with every key that is usable at `now`: what does not fit one is tried with the next.
    /// Outside of the grace periods that is one key, so what fits none costs two at worst.
    pub fn open_many<P: Borrow<PacketBytes>>(
        &self,
        now: Timestamp,
        packets: &[P],
        opened: &mut [Result<Opened, PeelError>],
    ) {
        let mut keys = self.usable(now);
        match keys.next() {
            Some(key) => open_many(key, packets, opened),
            None => opened.fill_with(|| Err(PeelError::BadTag)),
        }
        for key in keys {
            for (packets, opened) in packets.chunks(BATCH_MAX).zip(opened.chunks_mut(BATCH_MAX)) {
                open_again(key, packets, opened);
            }
        }
    }

    /// The epoch that it is.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it ends.
    pub const fn epoch_end(&self) -> Timestamp {
        self.length.begin(self.epoch.next())
    }

    /// What the descriptor tells clients.
    pub fn published(&self) -> PublishedHopKeys {
        PublishedHopKeys {
            epoch: self.epoch,
            length: self.length,
            current: self.current.public_key(),
            next: self.next.public_key(),
        }
    }

    fn grace_end(&self) -> Timestamp {
        self.length.begin(self.epoch).saturating_add(self.grace)
    }
}

/// Opens those of at most [`BATCH_MAX`] packets that fitted no key before.
fn open_again<P: Borrow<PacketBytes>>(
    key: &HopKey,
    packets: &[P],
    opened: &mut [Result<Opened, PeelError>],
) {
    const NOTHING: &PacketBytes = &[0; PACKET_SIZE];
    let mut again = [NOTHING; BATCH_MAX];
    let mut results = [const { Err(PeelError::BadTag) }; BATCH_MAX];
    let misfits = packets.iter().zip(opened.iter());
    let misfits = misfits.filter(|(_, opened)| matches!(opened, Err(PeelError::BadTag)));
    let mut count = 0;
    for (place, (packet, _)) in again.iter_mut().zip(misfits) {
        *place = packet.borrow();
        count += 1;
    }
    open_many(key, again.get(..count).unwrap_or_default(), &mut results);
    let misfits = opened.iter_mut().zip(packets).map(|(opened, _)| opened);
    let misfits = misfits.filter(|opened| matches!(opened, Err(PeelError::BadTag)));
    for (place, result) in misfits.zip(results) {
        *place = result;
    }
}

fn hop_key(relay: RelayId, epoch: Epoch, draw: &mut impl FnMut() -> [u8; 32]) -> HopKey {
    let seed = Zeroizing::new(draw());
    HopKey::new(X25519SecretKey::from_bytes(*seed), relay, epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: EpochLength = EpochLength::from_secs(60).unwrap();
    const GRACE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Keys whose seeds count from 1.
    fn keys(now: u64) -> (HopKeys, impl FnMut() -> [u8; 32]) {
        let mut number = 0;
        let mut draw = move || {
            number += 1;
            [number; 32]
        };
        let keys = HopKeys::new(RelayId([0; 16]), LENGTH, GRACE, at(now), &mut draw);
        (keys, draw)
    }

    /// Epoch and seed of the usable keys.
    fn usable(keys: &HopKeys, now: u64) -> Vec<(u64, u8)> {
        let seeds = keys.usable(at(now));
        seeds
            .map(|key| (key.epoch.0, key.secret.to_bytes()[0]))
            .collect()
    }

    #[test]
    fn keys_come_and_go_with_time() {
        let (mut keys, mut draw) = keys(600);
        assert_eq!(keys.poll_timeout(), at(660));
        assert_eq!(usable(&keys, 600), [(10, 1)]);
        assert_eq!(usable(&keys, 649), [(10, 1)]);
        assert_eq!(usable(&keys, 650), [(10, 1), (11, 2)]);
        assert!(!keys.handle_timeout(at(659), &mut draw));
        // Late: still the right ones in the right order.
        assert_eq!(usable(&keys, 660), [(11, 2), (10, 1)]);
        assert_eq!(usable(&keys, 670), [(11, 2)]);
        let before = keys.published();
        assert!(keys.handle_timeout(at(660), &mut draw));
        let after = keys.published();
        assert_eq!(
            (before.next, before.epoch.next()),
            (after.current, after.epoch)
        );
        assert_eq!(usable(&keys, 660), [(11, 2), (10, 1)]);
        assert_eq!(keys.poll_timeout(), at(670));
        assert_eq!(usable(&keys, 670), [(11, 2)], "over, though not erased");
        assert!(!keys.handle_timeout(at(670), &mut draw));
        assert!(keys.previous.is_none());
        assert_eq!(keys.poll_timeout(), at(720));
    }

    #[test]
    fn between_the_grace_periods_one_key_is_taken() {
        let mut draw = || [1; 32];
        let relay = RelayId([0; 16]);
        let mut keys = HopKeys::new(relay, LENGTH, LENGTH.as_duration(), at(600), &mut draw);
        keys.handle_timeout(at(660), &mut draw);
        let count = |seconds| keys.usable(at(seconds)).count();
        assert_eq!(
            [660, 679, 680, 699, 700, 719].map(count),
            [2, 2, 1, 1, 2, 2]
        );
    }

    #[test]
    fn time_does_not_go_back() {
        let (mut keys, mut draw) = keys(600);
        keys.handle_timeout(at(675), &mut draw);
        assert!(!keys.handle_timeout(at(600), &mut draw));
        assert_eq!(usable(&keys, 600), [(11, 2)]);
    }

    #[test]
    fn a_long_sleep_leaves_no_old_key() {
        let (mut keys, mut draw) = keys(600);
        assert_eq!(usable(&keys, 6000), []);
        assert!(keys.handle_timeout(at(725), &mut draw));
        assert_eq!(usable(&keys, 725), [(12, 3)]);
        assert_eq!(keys.published().epoch, Epoch(12));
        assert!(keys.handle_timeout(at(781), &mut draw));
        assert_eq!(usable(&keys, 781), [(13, 4), (12, 3)]);
    }
}
