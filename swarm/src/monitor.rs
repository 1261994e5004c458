//! Subscriptions to new messages: who may have one, who is told, when they end.
//!
//! Each shard has a table of the subscriptions to its mailboxes. In memory a subscription takes some 300
//! bytes; what is asked for is bounded for the node and for each connection.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cepa_storage::Command;
use cepa_wire::answer::Tree;
use cepa_wire::monitor::{ErrorCode, Notification, Refusal, Subscription, Watched, encode_ended};
use cepa_wire::request::Proof;
use cepa_wire::{Mailbox, MessageHash, Namespace, SubaccountToken, Timestamp};

use crate::Local;
use crate::answers::swarm_tree;

/// A subscription ends after this unless it is renewed, as in the reference.
pub const LIFETIME: Duration = Duration::from_mins(65);
/// How old a signature may be.
const SIGNATURE_AGE_MAX: Duration = Duration::from_hours(14 * 24);
/// How far in the future.
const SIGNATURE_AHEAD_MAX: Duration = Duration::from_hours(24);

/// A connection that is told of new messages.
pub trait Subscriber: Send + Sync {
    /// Tells it of a message; false when the connection takes no more at the moment, and the
    /// notification is dropped.
    fn notify(&self, notification: Bytes) -> bool;
    /// Tells it that a subscription has ended: this node keeps the mailbox no more.
    fn end(&self, mailbox: Bytes);
    /// Whether the connection has ended.
    fn is_gone(&self) -> bool;
}

/// A subscription that was authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorised {
    /// Whose messages.
    pub mailbox: Mailbox,
    /// In which boxes; ascending.
    pub namespaces: Vec<Namespace>,
    /// With their payload.
    pub want_data: bool,
    /// A subaccount that may be revoked: the mailbox's log is to be asked.
    pub token: Option<SubaccountToken>,
}

/// Checks who asks, and that the mailbox is ours.
pub fn authorise(subscription: &Subscription, local: Local<'_>) -> Result<Authorised, Refusal> {
    check_time(subscription.signed_at, local.now)?;
    let mut verifier = local.verifier.borrow_mut();
    let (mailbox, ed25519) = match subscription.watched {
        Watched::Mailbox(mailbox) => (mailbox, None),
        Watched::Account(key) => {
            let account = verifier
                .account_of(&key)
                .ok_or_else(|| Refusal::new(ErrorCode::Pubkey, "Invalid P= ed25519 public key"))?;
            (account, Some(key))
        }
    };
    let proof = Proof {
        ed25519,
        signature: subscription.signature,
        subaccount: subscription.subaccount,
    };
    let text = signed_text(&mailbox, subscription);
    verifier
        .verify(&mailbox, &proof, SubaccountToken::READ, text)
        .map_err(|_| Refusal::new(ErrorCode::Signature, "Signature verification failed"))?;
    if !local.view.is_ours(&mailbox) {
        let text = "Wrong swarm: this node does not keep that account";
        return Err(Refusal::new(ErrorCode::WrongSwarm, text));
    }
    Ok(Authorised {
        mailbox,
        namespaces: subscription.namespaces.clone(),
        want_data: subscription.want_data,
        token: subscription.subaccount.map(|subaccount| subaccount.token),
    })
}

fn check_time(signed_at: i64, now: Timestamp) -> Result<(), Refusal> {
    let refuse = |why: &'static str| Refusal::new(ErrorCode::Timestamp, why);
    let seconds = u64::try_from(signed_at).unwrap_or(0);
    let signed_at = Timestamp::from_millis(seconds.saturating_mul(1000));
    if signed_at < now.saturating_sub(SIGNATURE_AGE_MAX) {
        return Err(refuse(
            "Invalid t= signature timestamp: timestamp is too old",
        ));
    }
    if signed_at > now.saturating_add(SIGNATURE_AHEAD_MAX) {
        return Err(refuse(
            "Invalid t= signature timestamp: timestamp is in the future",
        ));
    }
    Ok(())
}

/// `MONITOR`, the mailbox in hex, seconds, 0 or 1, the namespaces with commas between.
pub fn signed_text(mailbox: &Mailbox, subscription: &Subscription) -> String {
    let namespaces: Vec<String> = subscription
        .namespaces
        .iter()
        .map(|namespace| namespace.0.to_string())
        .collect();
    format!(
        "MONITOR{mailbox}{}{}{}",
        subscription.signed_at,
        u8::from(subscription.want_data),
        namespaces.join(",")
    )
}

/// The reply to one subscription: `success`, or `errcode` and `error`; who asks the wrong swarm is told
/// the right one.
pub fn reply_tree(
    result: &Result<Mailbox, Refusal>,
    subscription: Option<&Subscription>,
    local: Local<'_>,
) -> Tree {
    let Err(refusal) = result else {
        return Tree::dict([("success", Tree::Integer(1))]);
    };
    let (code, text) = (refusal.code, refusal.text.clone());
    let mut fields = [
        ("errcode", Tree::Integer(i64::from(code as u8))),
        ("error", Tree::Text(text)),
        ("swarm", Tree::Null),
    ];
    if code == ErrorCode::WrongSwarm
        && let Some(subscription) = subscription
    {
        let mailbox = match subscription.watched {
            Watched::Mailbox(mailbox) => Some(mailbox),
            Watched::Account(key) => local.verifier.borrow_mut().account_of(&key),
        };
        if let Some(mailbox) = mailbox {
            fields[2].1 = swarm_tree(local, &mailbox);
        }
    }
    // bt leaves out what is null.
    Tree::dict(fields)
}

/// One connection's subscription to one mailbox.
struct Entry {
    /// Names the connection.
    connection: u64,
    subscriber: Arc<dyn Subscriber>,
    namespaces: Box<[Namespace]>,
    want_data: bool,
    ends: Timestamp,
}

/// What a message that is about to be stored will be told as.
#[derive(Debug, PartialEq, Eq)]
pub struct Draft {
    mailbox: Mailbox,
    hash: MessageHash,
    namespace: Namespace,
    timestamp: Timestamp,
    data: Bytes,
}

/// The subscriptions of one shard.
#[derive(Default)]
pub struct Subscriptions {
    by_mailbox: BTreeMap<Mailbox, Vec<Entry>>,
    count: usize,
    /// The sweep goes on behind this.
    swept: Option<Mailbox>,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Subscriptions that ended.
    pub ended: usize,
}

impl Subscriptions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a subscription, or renews what the connection has for the mailbox: then its boxes are added,
    /// and that it wants payloads stays. True when it is new.
    pub fn add(
        &mut self,
        authorised: Authorised,
        connection: u64,
        subscriber: &Arc<dyn Subscriber>,
        now: Timestamp,
    ) -> bool {
        let ends = now.saturating_add(LIFETIME);
        let entries = self.by_mailbox.entry(authorised.mailbox).or_default();
        let known = entries
            .iter_mut()
            .find(|entry| entry.connection == connection);
        if let Some(entry) = known {
            let mut namespaces = entry.namespaces.to_vec();
            namespaces.extend(authorised.namespaces);
            namespaces.sort_unstable();
            namespaces.dedup();
            entry.namespaces = namespaces.into();
            entry.want_data |= authorised.want_data;
            entry.ends = ends;
            return false;
        }
        entries.push(Entry {
            connection,
            subscriber: Arc::clone(subscriber),
            namespaces: authorised.namespaces.into(),
            want_data: authorised.want_data,
            ends,
        });
        self.count += 1;
        true
    }

    /// What is to be told if a command stores a new message; `None` when nobody would hear it.
    pub fn draft(&self, command: &Command) -> Option<Draft> {
        if self.is_empty() {
            return None;
        }
        let Command::Store {
            mailbox,
            namespace,
            hash,
            timestamp,
            data,
            ..
        } = command
        else {
            return None;
        };
        self.by_mailbox.contains_key(mailbox).then(|| Draft {
            mailbox: *mailbox,
            hash: *hash,
            namespace: *namespace,
            timestamp: *timestamp,
            data: data.clone(),
        })
    }

    /// Tells of a message that was stored. Gives how many were told, and for how many there was no room.
    pub fn notify(&self, draft: &Draft, expiry: Timestamp, now: Timestamp) -> (u64, u64) {
        let mut notification = Notification {
            mailbox: draft.mailbox,
            hash: draft.hash,
            namespace: draft.namespace,
            timestamp: draft.timestamp,
            expiry,
            data: None,
        };
        let (mut bare, mut whole) = (None, None);
        let (mut told, mut dropped) = (0, 0);
        let entries = self.by_mailbox.get(&draft.mailbox).into_iter().flatten();
        let wanting = entries.filter(|entry| {
            entry.ends > now
                && !entry.subscriber.is_gone()
                && entry.namespaces.binary_search(&draft.namespace).is_ok()
        });
        for entry in wanting {
            let (encoded, data) = if entry.want_data {
                (&mut whole, Some(draft.data.as_ref()))
            } else {
                (&mut bare, None)
            };
            notification.data = data;
            let encoded: &Bytes = encoded.get_or_insert_with(|| notification.encode().into());
            if entry.subscriber.notify(encoded.clone()) {
                told += 1;
            } else {
                dropped += 1;
            }
        }
        (told, dropped)
    }

    /// Looks at some mailboxes: subscriptions whose time is over or whose connection is gone end, and so
    /// do those to mailboxes that are not ours any more, whose subscribers are told.
    pub fn sweep(
        &mut self,
        mailbox_count: usize,
        now: Timestamp,
        is_ours: impl Fn(&Mailbox) -> bool,
    ) -> Swept {
        use core::ops::Bound::{Excluded, Unbounded};
        let begin = self.swept.map_or(Unbounded, Excluded);
        let mut emptied = Vec::new();
        let mut swept = Swept::default();
        let mut last = None;
        let range = self.by_mailbox.range_mut((begin, Unbounded));
        for (mailbox, entries) in range.take(mailbox_count) {
            last = Some(*mailbox);
            let before = entries.len();
            if is_ours(mailbox) {
                entries.retain(|entry| entry.ends > now && !entry.subscriber.is_gone());
            } else {
                let told = Bytes::from(encode_ended(mailbox));
                for entry in entries.drain(..) {
                    entry.subscriber.end(told.clone());
                }
            }
            swept.ended += before - entries.len();
            if entries.is_empty() {
                emptied.push(*mailbox);
            }
        }
        // At the end it begins anew.
        self.swept = last;
        self.count -= swept.ended;
        for mailbox in emptied {
            self.by_mailbox.remove(&mailbox);
        }
        swept
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Listener {
        heard: Mutex<Vec<Bytes>>,
        ended: Mutex<Vec<Bytes>>,
        is_deaf: AtomicBool,
        is_gone: AtomicBool,
    }

    impl Subscriber for Listener {
        fn notify(&self, notification: Bytes) -> bool {
            if self.is_deaf.load(Ordering::Relaxed) {
                return false;
            }
            self.heard.lock().expect("nobody panics").push(notification);
            true
        }

        fn end(&self, mailbox: Bytes) {
            self.ended.lock().expect("nobody panics").push(mailbox);
        }

        fn is_gone(&self) -> bool {
            self.is_gone.load(Ordering::Relaxed)
        }
    }

    fn mailbox(number: u8) -> Mailbox {
        Mailbox {
            prefix: 5,
            key: [number; 32],
        }
    }

    fn wants(number: u8, namespaces: &[i16], want_data: bool) -> Authorised {
        Authorised {
            mailbox: mailbox(number),
            namespaces: namespaces.iter().copied().map(Namespace).collect(),
            want_data,
            token: None,
        }
    }

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    fn store(number: u8, namespace: i16) -> Command {
        Command::Store {
            mailbox: mailbox(number),
            namespace: Namespace(namespace),
            hash: MessageHash([7; 32]),
            timestamp: at(1),
            expiry: at(9),
            data: Bytes::from_static(b"payload"),
        }
    }

    /// Stores and tells; gives the counts.
    fn tell(subscriptions: &Subscriptions, number: u8, namespace: i16, now: u64) -> (u64, u64) {
        subscriptions
            .draft(&store(number, namespace))
            .map_or((0, 0), |draft| subscriptions.notify(&draft, at(9), at(now)))
    }

    #[test]
    fn subscribers_hear_of_their_boxes_once_and_with_data_if_they_want() {
        let (with, without) = (Arc::new(Listener::default()), Arc::new(Listener::default()));
        let as_dyn = |listener: &Arc<Listener>| Arc::clone(listener) as Arc<dyn Subscriber>;
        let mut subscriptions = Subscriptions::new();
        assert!(subscriptions.add(wants(1, &[0, 5], true), 1, &as_dyn(&with), at(0)));
        assert!(subscriptions.add(wants(1, &[5], false), 2, &as_dyn(&without), at(0)));
        assert_eq!(tell(&subscriptions, 1, 5, 1), (2, 0));
        assert_eq!(tell(&subscriptions, 1, 0, 1), (1, 0));
        assert_eq!(tell(&subscriptions, 1, -10, 1), (0, 0));
        assert_eq!(tell(&subscriptions, 2, 5, 1), (0, 0));
        assert_eq!(with.heard.lock().unwrap().len(), 2);
        let bare = without.heard.lock().unwrap().clone();
        assert!(!bare[0].windows(7).any(|window| window == b"payload"));
        assert!(
            with.heard.lock().unwrap()[0]
                .windows(7)
                .any(|window| window == b"payload")
        );
        without.is_deaf.store(true, Ordering::Relaxed);
        assert_eq!(tell(&subscriptions, 1, 5, 1), (1, 1));
    }

    #[test]
    fn a_renewal_adds_boxes_and_time() {
        let listener = Arc::new(Listener::default()) as Arc<dyn Subscriber>;
        let mut subscriptions = Subscriptions::new();
        assert!(subscriptions.add(wants(1, &[5], true), 1, &listener, at(0)));
        assert!(!subscriptions.add(wants(1, &[-10], false), 1, &listener, at(60)));
        assert_eq!(subscriptions.len(), 1);
        assert_eq!(tell(&subscriptions, 1, 5, 124), (1, 0));
        assert_eq!(tell(&subscriptions, 1, -10, 124), (1, 0));
        assert_eq!(tell(&subscriptions, 1, 5, 125), (0, 0), "its time is over");
    }

    #[test]
    fn what_is_over_is_freed_a_slice_at_a_time() {
        let listener = Arc::new(Listener::default());
        let subscriber = Arc::clone(&listener) as Arc<dyn Subscriber>;
        let mut subscriptions = Subscriptions::new();
        for number in 0..100 {
            let begun = if number % 2 == 0 { at(0) } else { at(30) };
            subscriptions.add(wants(number, &[0], false), 1, &subscriber, begun);
        }
        let mut sweep = |now, ours: u8| {
            let is_ours = |mailbox: &Mailbox| mailbox.key[0] < ours;
            // A round over all, and the one that finds the end.
            (0..11).for_each(|_| {
                subscriptions.sweep(10, now, is_ours);
            });
            (subscriptions.len(), subscriptions.by_mailbox.len())
        };
        assert_eq!(sweep(at(1), 100), (100, 100));
        assert_eq!(sweep(at(70), 100), (50, 50));
        assert_eq!(sweep(at(70), 50), (25, 25));
        assert_eq!(listener.ended.lock().unwrap().len(), 25);
        listener.is_gone.store(true, Ordering::Relaxed);
        assert_eq!(sweep(at(70), 100), (0, 0));
    }
}
