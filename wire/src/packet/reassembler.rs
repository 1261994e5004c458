//! Puts messages together from their pieces, whatever their order, within bounds.

use core::time::Duration;
use std::collections::BTreeMap;

use super::fragment::{Fragment, FragmentData, MessageHeader, MessageId, MessageKind};
use super::geometry::{FRAGMENT_COUNT_MAX, FRAGMENT_DATA_SIZE};
use crate::Timestamp;

/// What pieces may cost.
#[derive(Clone, Copy, Debug)]
pub struct ReassemblerLimits {
    /// Messages of which pieces are missing. Each costs up to 2 KiB beside its pieces.
    pub message_count_max: usize,
    /// Pieces that wait for others, of all messages, of 800 bytes each. At least
    /// [`FRAGMENT_COUNT_MAX`], or the largest message could never be whole.
    pub fragment_count_max: usize,
    /// Finished messages whose names are remembered, so that a late copy of a piece begins nothing.
    pub finished_count_max: usize,
    /// How long an unfinished message waits for its next piece, and a finished one is remembered.
    pub timeout: Duration,
}

impl ReassemblerLimits {
    /// For one tile: 16 MiB of pieces, 20,971 of them, which is 80 of the largest messages at once.
    pub const TILE: Self = Self {
        message_count_max: 4096,
        fragment_count_max: (16 << 20) / FRAGMENT_DATA_SIZE,
        finished_count_max: 65_536,
        timeout: Duration::from_mins(1),
    };
}

/// A message that is whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// What it is.
    pub kind: MessageKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a piece led to.
pub enum Progress {
    /// Others are missing.
    Pending,
    /// It was the last: the message is whole, once.
    Complete(Message),
    /// It was here before, or its message is finished.
    Duplicate,
    /// It contradicts what came first: another size or kind, or other data at the same place. What came
    /// first stays.
    Conflict,
}

/// Unfinished messages, and the names of finished ones.
///
/// When there is no room, the message that waited longest for its next piece goes, never the one that
/// the piece belongs to. A stranger can so push others out; but then it must send as many packets as
/// the bounds hold in the time that a message needs, and its link does not let it.
pub struct Reassembler {
    limits: ReassemblerLimits,
    messages: BTreeMap<MessageId, Entry>,
    /// Unfinished messages, the longest waiting first.
    pending: Order,
    /// Finished ones, the oldest first.
    finished: Order,
    /// Pieces held.
    fragment_count: usize,
    /// Numbers the steps, so that two of one moment differ.
    step: u64,
}

/// Deadlines, the first first.
type Order = BTreeMap<(Timestamp, u64), MessageId>;

struct Entry {
    /// Its place in [`Reassembler::pending`] or [`Reassembler::finished`].
    place: (Timestamp, u64),
    /// `None` when it is finished.
    parts: Option<Parts>,
}

struct Parts {
    header: MessageHeader,
    /// One place for each piece.
    data: Vec<Option<Box<FragmentData>>>,
    /// How many are there.
    count: usize,
}

impl Reassembler {
    /// Without any message.
    pub fn new(limits: ReassemblerLimits) -> Self {
        assert!(
            limits.message_count_max > 0 && limits.fragment_count_max >= FRAGMENT_COUNT_MAX,
            "the largest message has room"
        );
        Self {
            limits,
            messages: BTreeMap::new(),
            pending: Order::new(),
            finished: Order::new(),
            fragment_count: 0,
            step: 0,
        }
    }

    /// Takes a piece. What is over at `now` is forgotten before.
    pub fn handle_fragment(&mut self, now: Timestamp, fragment: &Fragment<'_>) -> Progress {
        self.handle_timeout(now);
        let id = fragment.message().id();
        let index = usize::from(fragment.index());
        if let Some(entry) = self.messages.get(&id) {
            let Some(parts) = &entry.parts else {
                return Progress::Duplicate;
            };
            if parts.header != fragment.message() {
                return Progress::Conflict;
            }
            if let Some(Some(data)) = parts.data.get(index) {
                let filled = data.get(..fragment.data().len());
                return if filled == Some(fragment.data()) {
                    Progress::Duplicate
                } else {
                    Progress::Conflict
                };
            }
        }
        let mut parts = self.take_parts(fragment.message());
        if let Some(place) = parts.data.get_mut(index) {
            let mut data = Box::new([0; FRAGMENT_DATA_SIZE]);
            let bytes = fragment.data();
            data.iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            *place = Some(data);
            parts.count += 1;
        }
        let progress = if parts.count == parts.data.len() {
            self.put(now, id, None);
            Progress::Complete(parts.into_message())
        } else {
            self.put(now, id, Some(parts));
            Progress::Pending
        };
        self.make_room();
        progress
    }

    /// When [`Self::handle_timeout`] is due, if anything is held.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let first = |order: &Order| order.first_key_value().map(|((at, _), _)| *at);
        first(&self.pending)
            .into_iter()
            .chain(first(&self.finished))
            .min()
    }

    /// Forgets what is over at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(id) = due(&self.pending, now).or_else(|| due(&self.finished, now)) {
            self.remove(id);
        }
    }

    /// The pieces of an unfinished message that did not come yet; none of one that is not known.
    pub fn missing(&self, id: MessageId) -> impl Iterator<Item = u16> {
        let parts = self
            .messages
            .get(&id)
            .and_then(|entry| entry.parts.as_ref());
        let places = parts.into_iter().flat_map(|parts| &parts.data).zip(0..);
        places.filter_map(|(data, index)| data.is_none().then_some(index))
    }

    /// Unfinished messages.
    pub fn message_count(&self) -> usize {
        self.pending.len()
    }

    /// Pieces held.
    pub const fn fragment_count(&self) -> usize {
        self.fragment_count
    }

    /// Finished messages that are remembered.
    pub fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// What is there of a message, taken out, or a new one.
    fn take_parts(&mut self, header: MessageHeader) -> Parts {
        self.remove(header.id()).unwrap_or_else(|| Parts {
            header,
            data: (0..header.count()).map(|_| None).collect(),
            count: 0,
        })
    }

    fn put(&mut self, now: Timestamp, id: MessageId, parts: Option<Parts>) {
        self.step += 1;
        let place = (now.saturating_add(self.limits.timeout), self.step);
        let order = match &parts {
            Some(parts) => {
                self.fragment_count += parts.count;
                &mut self.pending
            }
            None => &mut self.finished,
        };
        order.insert(place, id);
        self.messages.insert(id, Entry { place, parts });
    }

    fn remove(&mut self, id: MessageId) -> Option<Parts> {
        let entry = self.messages.remove(&id)?;
        self.pending.remove(&entry.place);
        self.finished.remove(&entry.place);
        let parts = entry.parts?;
        self.fragment_count -= parts.count;
        Some(parts)
    }

    /// Drops what is over the bounds. What was put last is last in its order, and fits alone.
    fn make_room(&mut self) {
        while self.pending.len() > self.limits.message_count_max
            || self.fragment_count > self.limits.fragment_count_max
        {
            let Some((_, id)) = self.pending.pop_first() else {
                return;
            };
            self.remove(id);
        }
        while self.finished.len() > self.limits.finished_count_max {
            let Some((_, id)) = self.finished.pop_first() else {
                return;
            };
            self.remove(id);
        }
    }
}

/// The first of an order, if it is over.
fn due(order: &Order, now: Timestamp) -> Option<MessageId> {
    let ((at, _), id) = order.first_key_value()?;
    (*at <= now).then_some(*id)
}

impl Parts {
    fn into_message(self) -> Message {
        let mut bytes = Vec::with_capacity(self.data.len() * FRAGMENT_DATA_SIZE);
        for data in self.data.into_iter().flatten() {
            bytes.extend_from_slice(data.as_slice());
        }
        bytes.truncate(self.header.size());
        Message {
            id: self.header.id(),
            kind: self.header.kind(),
            bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{ContentBytes, fragments};
    use super::*;

    const LIMITS: ReassemblerLimits = ReassemblerLimits {
        message_count_max: 3,
        fragment_count_max: FRAGMENT_COUNT_MAX,
        finished_count_max: 2,
        timeout: Duration::from_mins(1),
    };
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn message(number: u8, size: usize) -> (Vec<u8>, Vec<ContentBytes>) {
        let bytes: Vec<u8> = (0..size)
            .map(|at| (at % 251).to_le_bytes()[0] ^ number)
            .collect();
        let id = MessageId([number; 16]);
        let contents = fragments(id, MessageKind::Request, &bytes)
            .unwrap()
            .collect();
        (bytes, contents)
    }

    fn handle(reassembler: &mut Reassembler, now: Timestamp, content: &ContentBytes) -> Progress {
        reassembler.handle_fragment(now, &Fragment::parse(content).unwrap())
    }

    #[test]
    fn any_order_gives_the_message_once() {
        let mut reassembler = Reassembler::new(LIMITS);
        let (bytes, contents) = message(1, 2000);
        for at in [2, 0] {
            assert!(matches!(
                handle(&mut reassembler, NOW, &contents[at]),
                Progress::Pending
            ));
            let again = handle(&mut reassembler, NOW, &contents[at]);
            assert!(matches!(again, Progress::Duplicate));
        }
        assert_eq!(
            reassembler.missing(MessageId([1; 16])).collect::<Vec<_>>(),
            [1]
        );
        let Progress::Complete(whole) = handle(&mut reassembler, NOW, &contents[1]) else {
            panic!("the message is whole");
        };
        assert_eq!((whole.bytes, whole.kind), (bytes, MessageKind::Request));
        assert_eq!(
            (reassembler.message_count(), reassembler.fragment_count()),
            (0, 0)
        );
        for content in &contents {
            assert!(matches!(
                handle(&mut reassembler, NOW, content),
                Progress::Duplicate
            ));
        }
    }

    #[test]
    fn one_piece_is_enough_for_a_small_message() {
        let mut reassembler = Reassembler::new(LIMITS);
        for (number, size) in [(1, 0), (2, 800)] {
            let (bytes, contents) = message(number, size);
            let progress = handle(&mut reassembler, NOW, &contents[0]);
            assert!(matches!(progress, Progress::Complete(whole) if whole.bytes == bytes));
        }
    }

    #[test]
    fn what_contradicts_changes_nothing() {
        let mut reassembler = Reassembler::new(LIMITS);
        let (bytes, contents) = message(1, 1000);
        handle(&mut reassembler, NOW, &contents[0]);
        let mut other = contents[0];
        other[30] ^= 1;
        assert!(matches!(
            handle(&mut reassembler, NOW, &other),
            Progress::Conflict
        ));
        let (_, longer) = message(1, 1001);
        assert!(matches!(
            handle(&mut reassembler, NOW, &longer[1]),
            Progress::Conflict
        ));
        let progress = handle(&mut reassembler, NOW, &contents[1]);
        assert!(matches!(progress, Progress::Complete(whole) if whole.bytes == bytes));
    }

    #[test]
    fn time_frees_everything() {
        let mut reassembler = Reassembler::new(LIMITS);
        let (_, contents) = message(1, 2000);
        assert_eq!(reassembler.poll_timeout(), None);
        handle(&mut reassembler, NOW, &contents[0]);
        handle(&mut reassembler, NOW, &message(2, 1).1[0]);
        let over = NOW.saturating_add(LIMITS.timeout);
        assert_eq!(reassembler.poll_timeout(), Some(over));
        reassembler.handle_timeout(over.saturating_sub(Duration::from_millis(1)));
        assert_eq!(
            (reassembler.message_count(), reassembler.finished_count()),
            (1, 1)
        );
        reassembler.handle_timeout(over);
        assert_eq!(
            (reassembler.message_count(), reassembler.finished_count()),
            (0, 0)
        );
        assert_eq!(
            (reassembler.fragment_count(), reassembler.poll_timeout()),
            (0, None)
        );
        assert!(matches!(
            handle(&mut reassembler, over, &contents[0]),
            Progress::Pending
        ));
    }

    #[test]
    fn the_longest_waiting_goes_first() {
        let mut reassembler = Reassembler::new(LIMITS);
        for number in 1..=3 {
            handle(&mut reassembler, NOW, &message(number, 2000).1[0]);
        }
        // The first has news, so the second has waited longest.
        handle(&mut reassembler, NOW, &message(1, 2000).1[1]);
        handle(&mut reassembler, NOW, &message(4, 2000).1[0]);
        assert_eq!(reassembler.message_count(), 3);
        let known = |number| reassembler.missing(MessageId([number; 16])).count() > 0;
        assert_eq!([1, 2, 3, 4].map(known), [true, false, true, true]);
        // The largest message needs every place, and gets it.
        let (bytes, contents) = message(9, super::super::geometry::MESSAGE_SIZE_MAX);
        let mut whole = None;
        for content in &contents {
            if let Progress::Complete(message) = handle(&mut reassembler, NOW, content) {
                whole = Some(message.bytes);
            }
            assert!(reassembler.fragment_count() <= LIMITS.fragment_count_max);
        }
        assert_eq!(whole, Some(bytes));
    }

    #[test]
    fn few_names_are_remembered() {
        let mut reassembler = Reassembler::new(LIMITS);
        for number in 1..=9 {
            handle(&mut reassembler, NOW, &message(number, 5).1[0]);
            assert!(reassembler.finished_count() <= 2);
        }
        let oldest = handle(&mut reassembler, NOW, &message(1, 5).1[0]);
        assert!(matches!(oldest, Progress::Complete(_)));
    }
}
