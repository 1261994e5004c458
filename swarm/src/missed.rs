//! What members did not get while they were away: kept durably, and delivered when they are back.
//!
//! Sans-IO: whoever has a disk appends what [`MissedQueues::poll_write`] gives to a file of the peer, and
//! whoever has links delivers what stands there.

use std::collections::BTreeMap;

use cepa_wire::missed::Missed;
use cepa_wire::{Ed25519PublicKey, Timestamp};

use crate::limits::retry_pause;

/// Bytes that are kept for one peer: some 200,000 messages. A peer that missed more gets everything
/// anew, which then costs less.
pub const QUEUE_SIZE_MAX: u64 = 16 << 20;
/// The queues of one shard, by peer. A peer that nothing is kept for has none.
#[derive(Debug, Default)]
pub struct MissedQueues {
    queues: BTreeMap<Ed25519PublicKey, Queue>,
    next_generation: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Tells this queue and its file from an earlier one of the peer, of which something may be under
    /// way still.
    generation: u64,
    /// Bytes that stand in the file, or are being written there.
    written: u64,
    /// Bytes of it that are delivered.
    delivered: u64,
    /// What is to be appended.
    pending: Vec<u8>,
    /// Entries that are not delivered.
    entry_count: u64,
    is_writing: bool,
    is_delivering: bool,
    failure_count: u32,
    next_attempt: Timestamp,
}

/// What is to be appended to a peer's file.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose file.
    pub peer: Ed25519PublicKey,
    /// Which of the peer's files.
    pub generation: u64,
    /// Where.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What is to be delivered to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To whom.
    pub peer: Ed25519PublicKey,
    /// Which of the peer's files.
    pub generation: u64,
    /// From where in it.
    pub from: u64,
    /// Up to where: behind that somebody may be writing.
    pub end: u64,
}

/// What of a [`Delivery`] arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Up to where in the file.
    pub to: u64,
    /// Entries between the begin of the delivery and there.
    pub entry_count: u64,
}

/// What became of something that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is kept.
    Kept,
    /// Too much is kept already, in the file of this generation: remove it, and give the peer everything
    /// anew.
    Overflow(u64),
    /// It belongs to a file that is of no use any more: remove that again.
    Stale,
}

impl MissedQueues {
    /// Nothing kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a file that was there at start, with so many bytes and entries, and gives its
    /// generation.
    pub fn recover(&mut self, peer: Ed25519PublicKey, size: u64, entry_count: u64) -> u64 {
        let queue = self.queue(peer);
        queue.written = size;
        queue.entry_count = entry_count;
        queue.generation
    }

    fn queue(&mut self, peer: Ed25519PublicKey) -> &mut Queue {
        let next = &mut self.next_generation;
        self.queues.entry(peer).or_insert_with(|| {
            *next += 1;
            Queue {
                generation: *next,
                ..Queue::default()
            }
        })
    }

    /// The queue of a peer, unless it is a later one.
    fn of_generation(&mut self, peer: &Ed25519PublicKey, generation: u64) -> Option<&mut Queue> {
        let queue = self.queues.get_mut(peer)?;
        (queue.generation == generation).then_some(queue)
    }

    /// Whether something is kept in memory only.
    pub fn has_unwritten(&self) -> bool {
        let mut queues = self.queues.values();
        queues.any(|queue| queue.is_writing || !queue.pending.is_empty())
    }

    /// Keeps something for a peer.
    pub fn push(&mut self, peer: Ed25519PublicKey, missed: &Missed) -> Pushed {
        let queue = self.queue(peer);
        let generation = queue.generation;
        let size = queue.written + u64::try_from(queue.pending.len()).unwrap_or(u64::MAX);
        if size < QUEUE_SIZE_MAX && missed.encode(&mut queue.pending).is_ok() {
            queue.entry_count += 1;
            return Pushed::Kept;
        }
        self.queues.remove(&peer);
        Pushed::Overflow(generation)
    }

    /// Something to be written, one write for a peer at a time.
    pub fn poll_write(&mut self) -> Option<Write> {
        let (peer, queue) = self
            .queues
            .iter_mut()
            .find(|(_, queue)| !queue.is_writing && !queue.pending.is_empty())?;
        let bytes = core::mem::take(&mut queue.pending);
        let offset = queue.written;
        queue.written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        queue.is_writing = true;
        Some(Write {
            peer: *peer,
            generation: queue.generation,
            offset,
            bytes,
        })
    }

    /// A write has ended. One that failed is as an overflow: its peer gets everything anew.
    pub fn handle_written(
        &mut self,
        peer: &Ed25519PublicKey,
        generation: u64,
        is_good: bool,
    ) -> Pushed {
        let Some(queue) = self.of_generation(peer, generation) else {
            return Pushed::Stale;
        };
        queue.is_writing = false;
        if is_good {
            return Pushed::Kept;
        }
        self.queues.remove(peer);
        Pushed::Overflow(generation)
    }

    /// A peer that is back and has something to get; one delivery for a peer at a time.
    pub fn poll_delivery(
        &mut self,
        now: Timestamp,
        is_up: impl Fn(&Ed25519PublicKey) -> bool,
    ) -> Option<Delivery> {
        let (peer, queue) = self.queues.iter_mut().find(|(peer, queue)| {
            !queue.is_delivering
                && !queue.is_writing
                && queue.pending.is_empty()
                && queue.next_attempt <= now
                && is_up(peer)
        })?;
        queue.is_delivering = true;
        Some(Delivery {
            peer: *peer,
            generation: queue.generation,
            from: queue.delivered,
            end: queue.written,
        })
    }

    /// A delivery has ended: what `delivered` says arrived. Tells whether the file is done with and may be
    /// removed.
    pub fn handle_delivered(
        &mut self,
        delivery: &Delivery,
        delivered: Delivered,
        is_good: bool,
        now: Timestamp,
    ) -> bool {
        let peer = &delivery.peer;
        let Some(queue) = self.of_generation(peer, delivery.generation) else {
            return false;
        };
        queue.is_delivering = false;
        queue.delivered = delivered.to.min(queue.written);
        queue.entry_count = queue.entry_count.saturating_sub(delivered.entry_count);
        if is_good {
            queue.failure_count = 0;
        } else {
            let pause = retry_pause(queue.failure_count);
            queue.failure_count += 1;
            queue.next_attempt = now.saturating_add(pause);
        }
        let is_done = is_good
            && !queue.is_writing
            && queue.pending.is_empty()
            && queue.delivered >= queue.written;
        if is_done {
            self.queues.remove(peer);
        }
        is_done
    }

    /// Forgets peers that `keep` does not know; gives those whose files may be removed, and which.
    pub fn retain(
        &mut self,
        keep: impl Fn(&Ed25519PublicKey) -> bool,
    ) -> Vec<(Ed25519PublicKey, u64)> {
        let gone: Vec<_> = self
            .queues
            .iter()
            .filter(|(peer, queue)| !keep(peer) && !queue.is_writing && !queue.is_delivering)
            .map(|(peer, queue)| (*peer, queue.generation))
            .collect();
        for (peer, _) in &gone {
            self.queues.remove(peer);
        }
        gone
    }

    /// Bytes that are kept, for metrics.
    pub fn size(&self) -> u64 {
        let size = |queue: &Queue| {
            let pending = u64::try_from(queue.pending.len()).unwrap_or(u64::MAX);
            (queue.written + pending).saturating_sub(queue.delivered)
        };
        self.queues.values().map(size).sum()
    }

    /// Entries that are kept, for metrics.
    pub fn entry_count(&self) -> u64 {
        self.queues.values().map(|queue| queue.entry_count).sum()
    }
}

#[cfg(test)]
mod tests {
    use cepa_wire::{Mailbox, MessageHash};

    use super::*;

    const PEER: Ed25519PublicKey = Ed25519PublicKey([1; 32]);

    fn message(number: u8) -> Missed {
        Missed::Message {
            mailbox: Mailbox {
                prefix: 5,
                key: [number; 32],
            },
            hash: MessageHash([number; 32]),
        }
    }

    const fn arrived(to: u64, entry_count: u64) -> Delivered {
        Delivered { to, entry_count }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Writes everything to a file that is a vector.
    fn write(queues: &mut MissedQueues, file: &mut Vec<u8>) {
        while let Some(write) = queues.poll_write() {
            assert_eq!(write.offset, file.len() as u64);
            file.extend_from_slice(&write.bytes);
            assert_eq!(
                queues.handle_written(&write.peer, write.generation, true),
                Pushed::Kept
            );
        }
    }

    #[test]
    fn what_was_missed_is_written_delivered_and_forgotten() {
        let (mut queues, mut file) = (MissedQueues::new(), Vec::new());
        assert_eq!(queues.push(PEER, &message(1)), Pushed::Kept);
        assert!(queues.has_unwritten());
        assert_eq!(
            queues.poll_delivery(at(0), |_| true),
            None,
            "not written yet"
        );
        queues.push(PEER, &message(2));
        write(&mut queues, &mut file);
        assert!(!queues.has_unwritten());
        assert_eq!(queues.poll_delivery(at(0), |_| false), None, "still away");
        let first = queues.poll_delivery(at(0), |_| true).unwrap();
        let half = file.len() as u64;
        assert_eq!((first.from, first.end), (0, half));
        assert_eq!(queues.poll_delivery(at(0), |_| true), None, "one at a time");
        // More comes while it is delivered.
        queues.push(PEER, &message(3));
        assert_eq!((queues.entry_count(), queues.size()), (3, half / 2 * 3));
        assert!(!queues.handle_delivered(&first, arrived(half, 2), true, at(1)));
        assert_eq!((queues.entry_count(), queues.size()), (1, half / 2));
        write(&mut queues, &mut file);
        let second = queues.poll_delivery(at(1), |_| true).unwrap();
        assert_eq!(second.from, half);
        assert!(queues.handle_delivered(&second, arrived(second.end, 1), true, at(2)));
        assert_eq!((queues.entry_count(), queues.size()), (0, 0));
        assert_eq!(queues.poll_delivery(at(3), |_| true), None);
    }

    #[test]
    fn a_failed_delivery_waits_15_seconds_and_then_60() {
        let (mut queues, mut file) = (MissedQueues::new(), Vec::new());
        queues.push(PEER, &message(1));
        write(&mut queues, &mut file);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let begun = now;
            let delivery = loop {
                if let Some(delivery) = queues.poll_delivery(at(now), |_| true) {
                    break delivery;
                }
                now += 1;
            };
            pauses.push(now - begun);
            queues.handle_delivered(&delivery, arrived(0, 0), false, at(now));
        }
        assert_eq!(pauses, [0, 15, 60]);
    }

    #[test]
    fn who_missed_too_much_gets_everything_anew() {
        let mut queues = MissedQueues::new();
        let old = queues.recover(PEER, QUEUE_SIZE_MAX, 1);
        assert_eq!(queues.push(PEER, &message(1)), Pushed::Overflow(old));
        assert_eq!(queues.size(), 0);
        queues.push(PEER, &message(1));
        let write = queues.poll_write().unwrap();
        let (peer, generation) = (write.peer, write.generation);
        assert_ne!(generation, old);
        let failed = queues.handle_written(&peer, generation, false);
        assert_eq!(failed, Pushed::Overflow(generation));
    }

    #[test]
    fn what_is_under_way_for_an_earlier_file_does_not_touch_a_later_one() {
        let mut queues = MissedQueues::new();
        queues.recover(PEER, QUEUE_SIZE_MAX - 1, 1);
        let delivery = queues.poll_delivery(at(0), |_| true).unwrap();
        queues.push(PEER, &message(1));
        let write = queues.poll_write().unwrap();
        assert!(matches!(
            queues.push(PEER, &message(2)),
            Pushed::Overflow(_)
        ));
        queues.push(PEER, &message(3));
        let stale = queues.handle_written(&PEER, write.generation, true);
        assert_eq!(stale, Pushed::Stale);
        let all = arrived(delivery.end, 1);
        assert!(!queues.handle_delivered(&delivery, all, true, at(0)));
        assert!(queues.has_unwritten(), "the later one is to be written yet");
        assert_eq!(queues.poll_write().unwrap().offset, 0);
    }

    #[test]
    fn who_left_is_forgotten_and_a_file_found_at_start_is_delivered() {
        let mut queues = MissedQueues::new();
        let generation = queues.recover(PEER, 90, 4);
        assert_eq!((queues.entry_count(), queues.size()), (4, 90));
        let delivery = queues.poll_delivery(at(0), |_| true).unwrap();
        assert_eq!(queues.retain(|_| false), [], "it is being read");
        queues.handle_delivered(&delivery, arrived(0, 0), false, at(0));
        assert_eq!(queues.retain(|_| false), [(PEER, generation)]);
        assert_eq!(queues.size(), 0);
    }
}
