//! Outcomes against what the model knows.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::option_option,
    reason = "for tests, and one match shows a whole table"
)]

use cepa_storage::command::Direction;
use cepa_storage::{Command, Outcome, StoreFault, StoredMessage, Ticket};
use cepa_wire::{Mailbox, MessageHash, Namespace, Timestamp};

use super::model::*;
use super::{Key, World};

impl World {
    pub(super) fn judge(&mut self, ticket: Ticket, asked: &Asked, outcome: Outcome) {
        match (&asked.command, outcome) {
            (
                Command::Store {
                    mailbox,
                    hash,
                    expiry,
                    ..
                },
                Outcome::Stored {
                    already,
                    expiry: answered,
                },
            ) => {
                self.forget_failed();
                let key = (*mailbox, *hash);
                self.end_change(ticket, key);
                for other in replaced_by(key) {
                    self.end_change(ticket, other);
                    let belief = self.beliefs.get_mut(&other).expect("asked");
                    belief.certain = None;
                    belief.settle_maybe(ticket);
                }
                let belief = self.beliefs.get_mut(&key).expect("asked");
                if !belief.maybe.is_empty() {
                    // Whatever it was, it is this now.
                    belief.arrival = (!already).then_some(self.next_arrival);
                    self.next_arrival += 1;
                    belief.maybe.retain(|(other, _)| *other > ticket);
                    belief.certain = Some(answered);
                    return;
                }
                // Between asking and answering it may have expired.
                let may_live = belief.certain.is_some_and(|current| current > asked.at);
                let must_live = belief.certain.is_some_and(|current| current > self.now);
                if already {
                    assert!(may_live || self.weather.flips_bits, "{key:?} was not there");
                } else {
                    assert!(!must_live || self.weather.flips_bits, "{key:?} was there");
                    belief.certain = None;
                    belief.arrival = Some(self.next_arrival);
                    self.next_arrival += 1;
                }
                let expected = Change::Store(*expiry).apply(belief.certain);
                if !self.weather.flips_bits {
                    assert_eq!(Some(answered), expected, "the larger expiry of {key:?}");
                }
                belief.certain = Some(answered);
            }
            (Command::Delete { mailbox, hashes }, Outcome::Deleted(deleted)) => {
                self.forget_failed();
                assert!(deleted.is_sorted(), "sorted");
                assert!(
                    deleted.iter().all(|hash| hashes.contains(hash)),
                    "asked for"
                );
                for hash in hashes {
                    let is_deleted = deleted.contains(hash);
                    self.judge_deleted(ticket, asked, (*mailbox, *hash), is_deleted);
                }
            }
            (
                Command::DeleteAll {
                    mailbox,
                    scope,
                    before,
                },
                Outcome::DeletedAll(deleted),
            ) => {
                self.forget_failed();
                assert!(deleted.is_sorted(), "sorted");
                for key in in_scope(*mailbox, *scope) {
                    let is_deleted = deleted.contains(&(namespace(key.1), key.1));
                    if before.is_none_or(|before| timestamp(key.1) <= before) {
                        self.judge_deleted(ticket, asked, key, is_deleted);
                    } else {
                        assert!(!is_deleted, "{key:?} is newer");
                    }
                }
            }
            (
                Command::Expire {
                    mailbox,
                    targets,
                    direction,
                },
                Outcome::Expired { updated, unchanged },
            ) => {
                self.forget_failed();
                assert!(updated.is_sorted() && unchanged.is_sorted(), "sorted");
                for (hash, expiry) in targets {
                    let is_updated = updated.contains(&(*hash, *expiry));
                    let kept = unchanged.iter().find(|(other, _)| other == hash);
                    let kept = kept.map(|(_, expiry)| *expiry);
                    let change = (*expiry, *direction);
                    self.judge_expired(
                        ticket,
                        asked,
                        (*mailbox, *hash),
                        change,
                        (is_updated, kept),
                    );
                }
            }
            (
                Command::ExpireAll {
                    mailbox,
                    scope,
                    expiry,
                },
                Outcome::ExpiredAll(updated),
            ) => {
                self.forget_failed();
                for key in in_scope(*mailbox, *scope) {
                    self.end_change(ticket, key);
                    let is_updated = updated.contains(&(namespace(key.1), key.1));
                    let belief = self.beliefs.get_mut(&key).expect("asked");
                    let current = belief.certain.filter(|_| belief.maybe.is_empty());
                    if !self.weather.flips_bits && belief.maybe.is_empty() {
                        let must = current.is_some_and(|at| at > self.now && at > *expiry);
                        assert!(is_updated || !must, "{key:?} lives longer");
                        let may = current.is_some_and(|at| at > asked.at && at > *expiry);
                        assert!(!is_updated || may, "{key:?} does not live longer");
                    }
                    if is_updated {
                        belief.certain = Some(*expiry);
                        belief.settle_maybe(ticket);
                    } else if let Some(at) = &mut belief.certain {
                        *at = (*at).min((*expiry).max(self.now));
                    }
                }
            }
            (Command::Expiries { mailbox, hashes }, Outcome::Expiries(found)) => {
                for hash in hashes {
                    let Some(belief) = self.quiet(asked, (*mailbox, *hash)) else {
                        continue;
                    };
                    let answered = found.iter().find(|(other, _)| other == hash);
                    let answered = answered.map(|(_, expiry)| *expiry);
                    let live = belief.certain.filter(|expiry| *expiry > self.now);
                    assert!(
                        answered == live || belief.certain == answered || self.weather.flips_bits,
                        "{hash:?} expires at {live:?}, not {answered:?}"
                    );
                }
            }
            (
                Command::Revoke { mailbox, .. } | Command::Unrevoke { mailbox, .. },
                Outcome::Revoked { .. },
            ) => {
                self.forget_failed();
                let revoked = self.revoked.get_mut(mailbox).expect("asked");
                let change = revoked.in_flight.take().expect("asked");
                change.apply(&mut revoked.certain);
            }
            (Command::KeepCursor { .. }, Outcome::CursorKept) => {
                self.forget_failed();
                self.cursor.certain = self.cursor.in_flight.take().expect("asked");
            }
            (Command::Dump { .. }, Outcome::Dumped { messages, next }) => {
                for dumped in &messages {
                    assert_eq!(namespace(dumped.message.hash), dumped.namespace);
                    self.judge_message(dumped.mailbox, &dumped.message);
                }
                self.events.dumped += messages.len() as u64;
                self.cursor.seen.extend(next);
            }
            (Command::Retrieve { .. }, Outcome::Retrieved { messages, more }) => {
                self.judge_retrieved(asked, &messages, more);
            }
            (command, Outcome::Failed(fault)) => self.judge_failed(ticket, command, fault),
            (command, outcome) => panic!("{outcome:?} is no outcome of {command:?}"),
        }
    }

    pub(super) fn judge_deleted(
        &mut self,
        ticket: Ticket,
        asked: &Asked,
        key: Key,
        is_deleted: bool,
    ) {
        self.end_change(ticket, key);
        let belief = self.beliefs.get_mut(&key).expect("asked");
        let may_live = belief.certain.is_some_and(|current| current > asked.at);
        let must_live = belief.certain.is_some_and(|current| current > self.now);
        if !self.weather.flips_bits && belief.maybe.is_empty() {
            assert!(!is_deleted || may_live, "{key:?} was not there");
            assert!(is_deleted || !must_live, "{key:?} was there");
        }
        if is_deleted || !belief.maybe.is_empty() {
            belief.certain = None;
            belief.settle_maybe(ticket);
        }
    }

    pub(super) fn judge_expired(
        &mut self,
        ticket: Ticket,
        asked: &Asked,
        key: Key,
        (expiry, direction): (Timestamp, Direction),
        (is_updated, kept): (bool, Option<Timestamp>),
    ) {
        self.end_change(ticket, key);
        let belief = self.beliefs.get_mut(&key).expect("asked");
        if !self.weather.flips_bits && belief.maybe.is_empty() {
            let current = belief.certain.filter(|current| *current > asked.at);
            let must_live = current.is_some_and(|current| current > self.now);
            let allows = current.is_some_and(|current| direction.allows(current, expiry));
            assert!(!is_updated || allows, "{key:?} may not move");
            assert!(is_updated || !(must_live && allows), "{key:?} must move");
            assert!(
                kept.is_none() || kept == current && !allows,
                "{key:?} stays"
            );
            assert!(kept.is_some() || !must_live || allows, "{key:?} is there");
        }
        if is_updated || kept.is_some() {
            belief.certain = if is_updated { Some(expiry) } else { kept };
            belief.settle_maybe(ticket);
        }
    }

    pub(super) fn judge_failed(&mut self, ticket: Ticket, command: &Command, fault: StoreFault) {
        let faults = self.weather.faults;
        let is_calm = faults.write == 0 && faults.create == 0 && !self.weather.fills_up;
        let is_expected = match fault {
            StoreFault::Busy => true,
            StoreFault::MailboxFull => self.weather.small_quota,
            StoreFault::StoreFull => self.weather.small_capacity,
            _ => !is_calm,
        };
        let is_question = matches!(command, Command::Retrieve { .. } | Command::Dump { .. });
        assert!(
            is_expected || is_question && self.weather.faults.shorten > 0,
            "{fault:?} of {command:?}"
        );
        self.events.refused += u64::from(matches!(
            fault,
            StoreFault::MailboxFull | StoreFault::StoreFull
        ));
        let was_judged = fault != StoreFault::Busy;
        if let Command::Revoke { mailbox, .. } | Command::Unrevoke { mailbox, .. } = command {
            let revoked = self.revoked.get_mut(mailbox).expect("asked");
            let change = revoked.in_flight.take();
            revoked.failed.extend(change.filter(|_| was_judged));
        }
        if let Command::KeepCursor { .. } = command {
            let change = self.cursor.in_flight.take();
            self.cursor.failed.extend(change.filter(|_| was_judged));
        }
        let is_stepwise = is_stepwise(command);
        for key in keys_of(command) {
            let change = self.end_change(ticket, key);
            let belief = self.beliefs.get_mut(&key).expect("asked");
            let failed = (ticket, change);
            if was_judged && is_stepwise {
                belief.maybe.push(failed);
            } else if was_judged {
                belief.failed.push(failed);
            }
        }
    }

    /// It was the first of those in flight: commands are answered in their order, but those that
    /// are refused at once.
    pub(super) fn end_change(&mut self, ticket: Ticket, key: Key) -> Change {
        let belief = self.beliefs.get_mut(&key).expect("asked");
        belief.version += 1;
        let index = belief
            .in_flight
            .iter()
            .position(|(other, _)| *other == ticket);
        belief.in_flight.remove(index.expect("in flight")).1
    }

    /// After a success what failed before it can never count.
    pub(super) fn forget_failed(&mut self) {
        for belief in self.beliefs.values_mut() {
            belief.failed.clear();
        }
        for revoked in self.revoked.values_mut() {
            revoked.failed.clear();
        }
        self.cursor.failed.clear();
    }

    pub(super) fn judge_message(&self, mailbox: Mailbox, message: &StoredMessage) {
        let hash = message.hash;
        assert_eq!(message.timestamp, timestamp(hash), "nothing is invented");
        assert!(message.data == data(mailbox, hash), "nothing is invented");
        assert!(message.expiry > self.now, "expired");
        assert!(
            self.beliefs.contains_key(&(mailbox, hash)),
            "nothing is invented"
        );
    }

    pub(super) fn judge_retrieved(&self, asked: &Asked, messages: &[StoredMessage], more: bool) {
        let Command::Retrieve {
            mailbox,
            namespace,
            after,
            count_max,
            size_max,
        } = &asked.command
        else {
            return;
        };
        assert!(messages.len() <= *count_max, "count_max");
        let size: usize = messages
            .iter()
            .map(|message| message.data.len().div_ceil(3) * 4 + 100)
            .sum();
        assert!(size <= *size_max || messages.len() == 1, "size_max");
        let mut arrivals = Vec::new();
        for message in messages {
            self.judge_message(*mailbox, message);
            assert_eq!(self::namespace(message.hash), *namespace);
            let Some(belief) = self.quiet(asked, (*mailbox, message.hash)) else {
                continue;
            };
            let is_same = belief.certain == Some(message.expiry);
            assert!(is_same || self.weather.flips_bits, "deleted stays deleted");
            arrivals.extend(belief.arrival);
        }
        // One that was stored twice may be what is left of the first time.
        let is_sorted = arrivals.is_sorted() || self.weather.flips_bits;
        assert!(is_sorted, "in the order of arrival");
        let Some(from) = self.arrival_of_cursor(asked, *mailbox, *namespace, *after) else {
            return;
        };
        if let Some(first) = arrivals.first()
            && !self.weather.flips_bits
        {
            assert!(*first >= from, "after the cursor");
        }
        let last = arrivals.last().copied();
        let until = if more { last } else { Some(u64::MAX) };
        if !self.weather.flips_bits {
            self.judge_complete(asked, messages, from, until);
        }
    }

    /// Messages that arrived from then on are behind the cursor. `None` when that is not known.
    pub(super) fn arrival_of_cursor(
        &self,
        asked: &Asked,
        mailbox: Mailbox,
        namespace: Namespace,
        after: Option<MessageHash>,
    ) -> Option<u64> {
        let Some(hash) = after else {
            return Some(0);
        };
        let belief = self.quiet(asked, (mailbox, hash))?;
        let Some(expiry) = belief.certain else {
            return Some(0);
        };
        if expiry <= asked.at || self::namespace(hash) != namespace {
            Some(0)
        } else if expiry > self.now {
            Some(belief.arrival? + 1)
        } else {
            None
        }
    }

    /// Everything that must be in the page is.
    pub(super) fn judge_complete(
        &self,
        asked: &Asked,
        messages: &[StoredMessage],
        from: u64,
        until: Option<u64>,
    ) {
        for key in asked.versions.keys() {
            let Some(belief) = self.quiet(asked, *key) else {
                continue;
            };
            let is_live = belief.certain.is_some_and(|expiry| expiry > self.now);
            let is_in_page = belief.arrival.is_some_and(|arrival| {
                arrival >= from && until.is_some_and(|until| arrival <= until)
            });
            if is_live && is_in_page {
                let is_there = messages.iter().any(|message| message.hash == key.1);
                assert!(is_there, "{key:?} is missing");
            }
        }
    }

    /// What is known of a message that nothing happened to since the question.
    pub(super) fn quiet(&self, asked: &Asked, key: Key) -> Option<&Belief> {
        let belief = self.beliefs.get(&key)?;
        let is_same = asked.versions.get(&key) == Some(&belief.version);
        (is_same && belief.maybe.is_empty()).then_some(belief)
    }
}
