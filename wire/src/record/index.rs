//! The index of a segment: its records without the payloads, so that a restart need not read those.

use super::{
    BODY_SIZE_MAX, Fields, HEADER_SIZE, KIND_INDEX, KIND_STORE, Position, RECORD_ALIGN, Record,
    STORE_FIELDS_SIZE, encode, parse_body,
};

/// Offset, size and kind of an entry.
const ENTRY_HEADER_SIZE: usize = 4 + 4 + 4;

/// An Index record takes no further entry when its body has so many bytes.
const BODY_SIZE_GOAL: usize = 32 << 10;

/// What stands in a segment, a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index<'a> {
    entries: &'a [u8],
}

impl<'a> Index<'a> {
    /// Every entry must be whole, so that no accessor fails.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        while !rest.is_empty() {
            (_, rest) = Entry::parse(rest)?;
        }
        (!body.is_empty()).then_some(Self { entries: body })
    }

    /// The records, each with its offset in the segment and its size without padding. A Store has
    /// no data; its size counts it.
    pub fn records(&self) -> impl Iterator<Item = (Record<'a>, u64, usize)> + 'a {
        let mut rest = self.entries;
        core::iter::from_fn(move || {
            let (entry, behind) = Entry::parse(rest)?;
            rest = behind;
            Some((entry.record, entry.offset, entry.size))
        })
    }
}

struct Entry<'a> {
    record: Record<'a>,
    offset: u64,
    size: usize,
}

impl<'a> Entry<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields(bytes);
        let offset = u64::from(u32::from_le_bytes(fields.array()?)) * RECORD_ALIGN as u64;
        let size = usize::try_from(u32::from_le_bytes(fields.array()?)).ok()?;
        let kind = u32::from_le_bytes(fields.array()?);
        let body_size = size.checked_sub(HEADER_SIZE)?;
        if kind == KIND_INDEX || body_size > BODY_SIZE_MAX {
            return None;
        }
        let kept_size = if kind == KIND_STORE {
            STORE_FIELDS_SIZE.min(body_size)
        } else {
            body_size
        };
        let (body, rest) = fields.0.split_at_checked(kept_size)?;
        let record = parse_body(kind, body)?;
        Some((
            Self {
                record,
                offset,
                size,
            },
            rest,
        ))
    }
}

/// Collects the entries of a segment, and encodes them in records of some 32 KiB.
#[derive(Debug, Default)]
pub struct IndexEncoder {
    /// The bodies of the records, none empty: many small pieces, so that growing never moves much.
    bodies: Vec<Vec<u8>>,
    size: usize,
}

impl IndexEncoder {
    /// What the entry of a record of `size` bytes takes.
    pub const fn entry_size(size: usize, is_store: bool) -> usize {
        let kept = if is_store {
            STORE_FIELDS_SIZE
        } else {
            size - HEADER_SIZE
        };
        ENTRY_HEADER_SIZE + kept
    }

    /// Entries of so many bytes are encoded in at most so many: two neighbouring records have more
    /// than the goal together.
    pub const fn encoded_size_max(entries_size: usize) -> usize {
        let record_count_max = 2 * entries_size / BODY_SIZE_GOAL + 2;
        entries_size + record_count_max * (HEADER_SIZE + RECORD_ALIGN)
    }

    /// Adds a record that was encoded as `bytes` at `offset` of the segment.
    pub fn push(&mut self, bytes: &[u8], offset: u64) {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return;
        };
        let [.., a, b, c, d] = *header;
        let kind = u32::from_le_bytes([a, b, c, d]);
        let kept = if kind == KIND_STORE {
            body.get(..STORE_FIELDS_SIZE).unwrap_or(body)
        } else {
            body
        };
        let unit = u32::try_from(offset / RECORD_ALIGN as u64).unwrap_or(u32::MAX);
        let record_size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry_size = ENTRY_HEADER_SIZE + kept.len();
        let last = self.body_with_room(entry_size);
        last.extend_from_slice(&unit.to_le_bytes());
        last.extend_from_slice(&record_size.to_le_bytes());
        last.extend_from_slice(&kind.to_le_bytes());
        last.extend_from_slice(kept);
        self.size += entry_size;
    }

    /// Adds what another collected, behind what is here.
    pub fn append(&mut self, other: Self) {
        self.size += other.size;
        let mut bodies = other.bodies.into_iter();
        if let Some(first) = bodies.next() {
            self.body_with_room(first.len()).extend_from_slice(&first);
        }
        self.bodies.extend(bodies);
    }

    /// The last body, or a fresh one if that has no room for so many bytes.
    fn body_with_room(&mut self, size: usize) -> &mut Vec<u8> {
        let last = self.bodies.pop();
        let (full, last) = match last {
            Some(body) if body.len() + size > BODY_SIZE_GOAL => (Some(body), Vec::new()),
            last => (None, last.unwrap_or_default()),
        };
        self.bodies.extend(full);
        self.bodies.push_mut(last)
    }

    /// Whether nothing was added.
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Bytes of the entries.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many records it makes.
    pub const fn record_count(&self) -> usize {
        self.bodies.len()
    }

    /// Appends record number `number`, padded, which will stand at `position`. Gives `false` when
    /// there is no such record.
    pub fn encode(&self, number: usize, position: Position, out: &mut Vec<u8>) -> bool {
        let Some(body) = self.bodies.get(number) else {
            return false;
        };
        encode(out, position, KIND_INDEX, |out| out.extend_from_slice(body));
        true
    }
}
