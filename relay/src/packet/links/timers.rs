//! What happens when nothing comes.

use core::time::Duration;

use cepa_crypto::link::{REJECT_AFTER, REKEY_AFTER};
use cepa_wire::Timestamp;

use super::peers::Peer;
use super::{ATTEMPT_COUNT_MAX, HALF_OPEN_MAX, KEEP_ALIVE_AFTER, LinkTable};

impl LinkTable {
    /// When [`Self::handle_timeout`] is to be called next; `None` when nothing waits for time.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due: retries, old keys, and as a client new ones. Call [`Self::poll_transmit`]
    /// after it.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((_, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            if let Some(peer) = self.peer_mut(slot) {
                peer.timer = None;
            }
            self.handle_peer_timeout(slot, now);
            if !self.forget_idle_client(slot) {
                // What is still due is for `poll_transmit`, and looked at after that.
                let soon = now.saturating_add(Duration::from_millis(1));
                self.schedule_from(slot, soon);
            }
        }
    }

    fn handle_peer_timeout(&mut self, slot: u32, now: Timestamp) {
        self.drop_old_keys(slot, now);
        let keeps_open = self.keeps_open();
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        if let Some(attempt) = &mut peer.attempt
            && !attempt.is_due
            && attempt.retry_at <= now
        {
            if attempt.count < ATTEMPT_COUNT_MAX {
                attempt.is_due = true;
                self.make_ready(slot);
            } else {
                self.give_up(slot);
            }
        }
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        if keeps_open && peer.current.is_some() {
            if now.saturating_since(peer.sent_at) >= KEEP_ALIVE_AFTER {
                peer.keep_alive_due = true;
                self.make_ready(slot);
            }
            self.rekey_if_due(slot, now);
        } else if keeps_open || (!peer.queue.is_empty() && peer.next.is_none()) {
            self.begin(slot, now);
        }
    }

    fn drop_old_keys(&mut self, slot: u32, now: Timestamp) {
        let Some(peer) = self.peer(slot) else {
            return;
        };
        let (current, previous, next) = (peer.current, peer.previous, peer.next);
        let mut is_dead = |index| {
            let keys = self.keys_mut(index);
            keys.is_some_and(|keys| keys.is_dead(now))
        };
        let dead = [is_dead(current), is_dead(previous)];
        let is_half_open_too_long = self
            .keys_mut(next)
            .is_some_and(|keys| now.saturating_since(keys.born()) >= HALF_OPEN_MAX);
        if is_half_open_too_long {
            self.drop_next(slot);
        }
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        let [current_dead, previous_dead] = dead;
        let dropped = [
            peer.current.take_if(|_| current_dead),
            peer.previous.take_if(|_| previous_dead),
        ];
        for index in dropped.into_iter().flatten() {
            self.entries.remove(index);
        }
    }

    /// A client without keys can't be reached: it is forgotten. True when it was.
    pub(super) fn forget_idle_client(&mut self, slot: u32) -> bool {
        let is_idle = |peer: &Peer| {
            let keys = [peer.current, peer.previous, peer.next];
            peer.is_client() && keys.iter().all(Option::is_none)
        };
        let is_idle = self.peer(slot).is_some_and(is_idle);
        if is_idle {
            self.forget(slot);
        }
        is_idle
    }

    /// Sets the peer's timer to when it is to be looked at next.
    pub(super) fn schedule(&mut self, slot: u32) {
        self.schedule_from(slot, Timestamp::ZERO);
    }

    fn schedule_from(&mut self, slot: u32, earliest: Timestamp) {
        let due = self.next_due(slot).map(|at| at.max(earliest));
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        let before = core::mem::replace(&mut peer.timer, due);
        if before == due {
            return;
        }
        if let Some(at) = before {
            self.timers.remove(&(at, slot));
        }
        if let Some(at) = due {
            self.timers.insert((at, slot));
        }
    }

    fn next_due(&mut self, slot: u32) -> Option<Timestamp> {
        let keeps_open = self.keeps_open();
        let peer = self.peer(slot)?;
        let retry = peer
            .attempt
            .as_ref()
            .filter(|attempt| !attempt.is_due)
            .map(|attempt| attempt.retry_at);
        let begins = peer.attempt.is_none();
        let (current, previous, next) = (peer.current, peer.previous, peer.next);
        let keep_alive = peer.sent_at.saturating_add(KEEP_ALIVE_AFTER);
        let mut born = |index| self.keys_mut(index).map(|keys| keys.born());
        let current = born(current);
        let dies = [current, born(previous)].map(|at| at.map(|at| at.saturating_add(REJECT_AFTER)));
        let next = born(next).map(|at| at.saturating_add(HALF_OPEN_MAX));
        let opens = current.filter(|_| keeps_open);
        let rekey = opens
            .filter(|_| begins)
            .map(|at| at.saturating_add(REKEY_AFTER));
        let keep_alive = opens.map(|_| keep_alive);
        let all = [retry, next, rekey, keep_alive];
        all.into_iter().chain(dies).flatten().min()
    }
}
