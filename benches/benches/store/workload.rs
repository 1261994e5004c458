//! What is asked of every engine: the same operations on the same data, from a seed.

use core::time::Duration;

use bytes::Bytes;
use cepa_wire::{Mailbox, MessageHash, Timestamp};

/// When everything happens; an expiry lies behind it.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// How long a message lives: what desktop gives to one.
pub(crate) const TTL: Duration = Duration::from_hours(14 * 24);

/// Most messages of a retrieve without a cursor.
pub(crate) const PAGE: usize = 10;

/// Payloads are slices of so many random bytes.
const RANDOM_SIZE: usize = 1 << 20;

/// Splitmix64.
#[derive(Clone, Copy)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }
}

const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A message to store.
pub(crate) struct Message {
    pub(crate) mailbox: Mailbox,
    pub(crate) hash: MessageHash,
    pub(crate) timestamp: Timestamp,
    pub(crate) expiry: Timestamp,
    pub(crate) data: Bytes,
}

/// An operation.
pub(crate) enum Op {
    Store(Message),
    /// The messages of an inbox behind one of them, or the first page.
    Retrieve(Mailbox, Option<MessageHash>),
    Delete(Mailbox, MessageHash),
    /// Moves the expiry.
    Expire(Mailbox, MessageHash, Timestamp),
}

/// Makes operations. Accounts are drawn evenly. Of a hundred mixed operations 70 retrieve, 25 store,
/// and 5 delete or expire a message that was stored before, half each. Four of five retrieves ask for
/// what came after the account's second newest message, as a client does that polls; the fifth reads
/// the first page, as a new device does.
pub(crate) struct Workload {
    rng: Rng,
    seed: u64,
    random: Bytes,
    payload_size: usize,
    /// The numbers of each account's messages, in the order of their coming.
    accounts: Vec<Vec<u32>>,
    next: u32,
}

impl Workload {
    pub(crate) fn new(seed: u64, account_count: usize, payload_size: usize) -> Self {
        let mut rng = Rng(seed);
        let random: Vec<u8> = (0..RANDOM_SIZE / 8)
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        Self {
            rng,
            seed,
            random: random.into(),
            payload_size,
            accounts: vec![Vec::new(); account_count.max(1)],
            next: 0,
        }
    }

    /// Takes memory for the numbers of so many messages now, so that it is not counted as an engine's.
    pub(crate) fn reserve(&mut self, message_count: usize) {
        let each = message_count / self.accounts.len() * 2 + 8;
        for account in &mut self.accounts {
            account.reserve(each);
            account.resize(each, 0);
            account.clear();
        }
    }

    fn mailbox(&self, account: usize) -> Mailbox {
        let mut rng = Rng(self.seed ^ mix(account as u64 + 1));
        let mut key = [0; 32];
        for (to, from) in key
            .chunks_mut(8)
            .zip(core::iter::repeat_with(|| rng.next()))
        {
            to.copy_from_slice(&from.to_le_bytes());
        }
        Mailbox {
            prefix: Mailbox::ACCOUNT,
            key,
        }
    }

    fn hash(&self, number: u32) -> MessageHash {
        let mut rng = Rng(self.seed ^ mix(u64::from(number) << 20 | 7));
        let mut hash = [0; 32];
        for (to, from) in hash
            .chunks_mut(8)
            .zip(core::iter::repeat_with(|| rng.next()))
        {
            to.copy_from_slice(&from.to_le_bytes());
        }
        MessageHash(hash)
    }

    /// The next message.
    pub(crate) fn store(&mut self) -> Message {
        let account = self.rng.below(self.accounts.len());
        let number = self.next;
        self.next += 1;
        if let Some(messages) = self.accounts.get_mut(account) {
            messages.push(number);
        }
        let begin = self.rng.below(RANDOM_SIZE - self.payload_size);
        let timestamp = NOW;
        Message {
            mailbox: self.mailbox(account),
            hash: self.hash(number),
            timestamp,
            expiry: NOW.saturating_add(TTL),
            // A copy, as a request's body would be.
            data: Bytes::copy_from_slice(
                self.random
                    .get(begin..begin + self.payload_size)
                    .unwrap_or_default(),
            ),
        }
    }

    /// The next of the mixed operations.
    pub(crate) fn mixed(&mut self) -> Op {
        let kind = self.rng.below(100);
        if kind < 25 {
            return Op::Store(self.store());
        }
        let account = self.rng.below(self.accounts.len());
        let mailbox = self.mailbox(account);
        let messages = self.accounts.get(account).map_or(&[][..], Vec::as_slice);
        if kind < 95 {
            let second_newest = messages.iter().rev().nth(1).copied();
            let polls = self.rng.below(5) > 0;
            let after = second_newest.filter(|_| polls);
            return Op::Retrieve(mailbox, after.map(|number| self.hash(number)));
        }
        if messages.is_empty() {
            return Op::Retrieve(mailbox, None);
        }
        let at = self.rng.below(messages.len());
        let count = messages.len();
        let number = messages.get(at).copied().unwrap_or_default();
        let hash = self.hash(number);
        if kind.is_multiple_of(2) && count > 2 {
            if let Some(messages) = self.accounts.get_mut(account) {
                messages.remove(at);
            }
            Op::Delete(mailbox, hash)
        } else {
            let later = Duration::from_secs(self.rng.next() % 1_000_000);
            Op::Expire(mailbox, hash, NOW.saturating_add(TTL + later))
        }
    }
}
