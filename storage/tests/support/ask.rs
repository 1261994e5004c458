//! Commands of every kind, as a seed draws them.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::option_option,
    reason = "for tests, and one match shows a whole table"
)]

use std::collections::{BTreeMap, BTreeSet};

use cepa_storage::command::{Direction, DumpCursor, Scope};
use cepa_storage::territory::Territory;
use cepa_storage::{Command, Ticket};
use cepa_wire::{MessageHash, Namespace, SubaccountToken, Timestamp};

use super::model::*;
use super::{HASH_COUNT, Key, MAILBOX_COUNT, NAMESPACES, PEER, World};

impl World {
    pub(super) fn ask(&mut self, command: Command) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let mut versions = BTreeMap::new();
        match &command {
            Command::Store {
                mailbox,
                hash,
                expiry,
                ..
            } => {
                for key in replaced_by((*mailbox, *hash)) {
                    self.begin_change(ticket, key, Change::Delete);
                }
                self.begin_change(ticket, (*mailbox, *hash), Change::Store(*expiry));
            }
            Command::Delete { mailbox, hashes } => {
                for hash in hashes {
                    self.begin_change(ticket, (*mailbox, *hash), Change::Delete);
                }
            }
            Command::Retrieve {
                mailbox, namespace, ..
            } => {
                let quiet = self.beliefs.iter().filter(|(key, belief)| {
                    key.0 == *mailbox
                        && self::namespace(key.1) == *namespace
                        && belief.in_flight.is_empty()
                });
                versions.extend(quiet.map(|(key, belief)| (*key, belief.version)));
            }
            Command::DeleteAll {
                mailbox,
                scope,
                before,
            } => {
                for key in in_scope(*mailbox, *scope) {
                    if before.is_none_or(|before| timestamp(key.1) <= before) {
                        self.begin_change(ticket, key, Change::Delete);
                    }
                }
            }
            Command::Expire {
                mailbox,
                targets,
                direction,
            } => {
                for (hash, expiry) in targets {
                    let change = Change::Expire(*expiry, *direction);
                    self.begin_change(ticket, (*mailbox, *hash), change);
                }
            }
            Command::ExpireAll {
                mailbox,
                scope,
                expiry,
            } => {
                for key in in_scope(*mailbox, *scope) {
                    self.begin_change(ticket, key, Change::Lower(*expiry));
                }
            }
            Command::Expiries { mailbox, .. } => {
                let quiet = self
                    .beliefs
                    .iter()
                    .filter(|(key, belief)| key.0 == *mailbox && belief.in_flight.is_empty());
                versions.extend(quiet.map(|(key, belief)| (*key, belief.version)));
            }
            _ => {}
        }
        let asked = Asked {
            command: command.clone(),
            at: self.now,
            versions,
        };
        self.asked.insert(ticket, asked);
        self.shard.handle_command(ticket, command, self.now);
        self.hear();
    }

    pub(super) fn begin_change(&mut self, ticket: Ticket, key: Key, change: Change) {
        let belief = self.beliefs.entry(key).or_default();
        belief.in_flight.push((ticket, change));
        belief.version += 1;
    }

    pub(super) fn ask_store(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let hash = hash(self.rng.below(HASH_COUNT));
        let span = self.span();
        self.ask(Command::Store {
            mailbox,
            namespace: namespace(hash),
            hash,
            timestamp: timestamp(hash),
            expiry: Timestamp::from_millis(self.now.as_millis() + span),
            data: data(mailbox, hash),
        });
    }

    /// How long a message lives: seconds mostly, and now and then weeks.
    pub(super) fn span(&mut self) -> u64 {
        if self.rng.permille(300) {
            self.rng.next() % (40 * 24 * 3_600_000)
        } else {
            self.rng.next() >> (47 + self.rng.below(16))
        }
    }

    pub(super) fn some_hashes(&mut self) -> BTreeSet<MessageHash> {
        let count = 1 + self.rng.below(4);
        (0..count)
            .map(|_| hash(self.rng.below(HASH_COUNT)))
            .collect()
    }

    pub(super) fn scope(&mut self) -> Scope {
        if self.rng.permille(400) {
            Scope::All
        } else {
            Scope::One(Namespace(NAMESPACES[self.rng.below(4)]))
        }
    }

    pub(super) fn ask_delete_all(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let scope = self.scope();
        let before = self.rng.permille(500).then(|| {
            let any = hash(self.rng.below(HASH_COUNT));
            timestamp(any)
        });
        self.ask(Command::DeleteAll {
            mailbox,
            scope,
            before,
        });
    }

    pub(super) fn ask_expire(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let direction = [Direction::Any, Direction::Shorten, Direction::Extend][self.rng.below(3)];
        let targets = self.some_hashes();
        let targets = targets.into_iter().map(|hash| {
            let span = self.span();
            (hash, Timestamp::from_millis(self.now.as_millis() + span))
        });
        let targets = targets.collect();
        self.ask(Command::Expire {
            mailbox,
            targets,
            direction,
        });
    }

    pub(super) fn ask_expire_all(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let scope = self.scope();
        let span = self.span();
        self.ask(Command::ExpireAll {
            mailbox,
            scope,
            expiry: Timestamp::from_millis(self.now.as_millis() + span),
        });
    }

    pub(super) fn ask_expiries(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let hashes = self.some_hashes().into_iter().collect();
        self.ask(Command::Expiries { mailbox, hashes });
    }

    pub(super) fn ask_rights(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let count = 1 + self.rng.below(30);
        let tokens: BTreeSet<_> = (0..count)
            .map(|_| SubaccountToken([u8::try_from(self.rng.below(80)).unwrap(); 36]))
            .collect();
        let tokens: Vec<_> = tokens.into_iter().collect();
        let revoked = self.revoked.entry(mailbox).or_default();
        if revoked.in_flight.is_some() {
            return;
        }
        let is_revoke = self.rng.permille(600);
        let rights = if is_revoke {
            Rights::Revoke(tokens.clone())
        } else {
            Rights::Unrevoke(tokens.clone())
        };
        revoked.in_flight = Some(rights);
        self.ask(if is_revoke {
            Command::Revoke { mailbox, tokens }
        } else {
            Command::Unrevoke { mailbox, tokens }
        });
    }

    pub(super) fn ask_cursor(&mut self) {
        if self.cursor.in_flight.is_some() {
            return;
        }
        let seen = &self.cursor.seen;
        let cursor =
            (!seen.is_empty() && self.rng.permille(800)).then(|| seen[self.rng.below(seen.len())]);
        self.cursor.in_flight = Some(cursor);
        self.ask(Command::KeepCursor { peer: PEER, cursor });
    }

    pub(super) fn ask_dump(&mut self) {
        let seen = &self.cursor.seen;
        let from = if seen.is_empty() || self.rng.permille(500) {
            DumpCursor::START
        } else {
            seen[self.rng.below(seen.len())]
        };
        let size_max = self.rng.below(200_000);
        self.ask(Command::Dump {
            from,
            territory: Territory::everything(),
            size_max,
        });
    }

    pub(super) fn ask_delete(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let count = 1 + self.rng.below(4);
        let hashes: BTreeSet<_> = (0..count)
            .map(|_| hash(self.rng.below(HASH_COUNT)))
            .collect();
        self.ask(Command::Delete {
            mailbox,
            hashes: hashes.into_iter().collect(),
        });
    }

    pub(super) fn ask_retrieve(&mut self) {
        let mailbox = mailbox(self.rng.below(MAILBOX_COUNT));
        let any = hash(self.rng.below(HASH_COUNT));
        let command = Command::Retrieve {
            mailbox,
            namespace: namespace(any),
            after: self.rng.permille(300).then_some(any),
            count_max: 1 + self.rng.below(20),
            size_max: self.rng.below(200_000),
        };
        self.ask(command);
    }
}
