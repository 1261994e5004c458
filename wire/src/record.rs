//! Records of the storage log: what stands in a segment file. Ours alone; no other node reads it.
//!
//! A segment is a header block, commits, and, once it is sealed, the index of what stands in it and
//! a trailer block at the file's end. A commit begins at a block's beginning with a Commit record;
//! records stand at multiples of [`RECORD_ALIGN`], with zeros between and behind them. All integers
//! are little-endian.
//!
//! ```text
//! record:  magic 4 | header crc 4 | body crc 4 | body size 4 | kind 4 | body
//! Commit:  sequence 8 | settled 8 | size 8
//! Store:   mailbox 33 | namespace 2 | hash 32 | sequence 8 | version 8 | timestamp 8 | expiry 8 | data
//! Expire:  mailbox 33 | sequence 8 | (hash 32 | segment 4 | expiry 8), one or more
//! Delete:  mailbox 33 | sequence 8 | (hash 32 | segment 4), one or more
//! State:   mailbox 33 | subject 1 | sequence 8 | timestamp 8 | value
//! Index:   (offset / 8 4 | record size 4 | kind 4 | body without a Store's data), one or more
//! header:  magic 8 | version 2 | class 2 | segment 4 | void from 8 | void to 8 | crc 4
//! trailer: magic 8 | version 2 | class 2 | segment 4 | index begin 8 | index end 8 | crc 4
//! ```
//!
//! **Order.** Several segments are open at a time, so a record's place says nothing about its order.
//! Its sequence number does: a Delete ends every Store of its hash with a smaller number, an Expire
//! moves the expiry of a Store with a smaller version, of two States the larger number counts.
//! Records may therefore be read in any order, and be copied elsewhere: a copy keeps its number.
//!
//! **Checksums** (CRC-32, IEEE). Two, because they answer two questions. The header's says "here
//! stands a record, and it is so long": it lets a reader step over a damaged body without looking
//! for records inside of it, where a stranger chose the bytes. The body's says "and it is whole". The
//! header's checksum covers the body's, and begins with the record's [`Position`]: bytes that were
//! written for another place (a misdirected write, an older file's block) are no record here.
//!
//! After [`parse`] succeeded no accessor fails. Nothing here allocates but the encoders, which
//! append to the caller's vector.

use crate::mailbox::{Mailbox, MessageHash, Namespace};
use crate::request::MESSAGE_SIZE_MAX;
use crate::timestamp::Timestamp;

mod index;
mod segment;
#[cfg(test)]
mod tests;

pub use index::{Index, IndexEncoder};
pub use segment::{SegmentError, SegmentHeader, SegmentTrailer};

/// Version of the format, in the header of every segment.
pub const VERSION: u16 = 2;

/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;

/// Size of a record's header.
pub const HEADER_SIZE: usize = 4 + 4 + 4 + 4 + 4;

/// Size of a segment's header and of its trailer: the first and the last block of the file. Whole
/// blocks, so that they are never rewritten together with a record.
pub const SEGMENT_HEADER_SIZE: usize = 4096;

/// What a Store record takes beside its payload.
pub const STORE_OVERHEAD: usize = HEADER_SIZE + STORE_FIELDS_SIZE;

/// No record is larger: a Store of the largest message.
pub const RECORD_SIZE_MAX: usize = STORE_OVERHEAD + MESSAGE_SIZE_MAX;

/// So many targets fit into one Delete record.
pub const DELETE_TARGET_COUNT_MAX: usize =
    (BODY_SIZE_MAX - TARGETS_FIELDS_SIZE) / DELETE_TARGET_SIZE;

/// So many targets fit into one Expire record.
pub const EXPIRE_TARGET_COUNT_MAX: usize =
    (BODY_SIZE_MAX - TARGETS_FIELDS_SIZE) / EXPIRE_TARGET_SIZE;

/// The largest value of a State.
pub const STATE_VALUE_SIZE_MAX: usize = 4096;

const MAILBOX_SIZE: usize = 33;
const STORE_FIELDS_SIZE: usize = MAILBOX_SIZE + 2 + 32 + 8 + 8 + 8 + 8;
const TARGETS_FIELDS_SIZE: usize = MAILBOX_SIZE + 8;
const DELETE_TARGET_SIZE: usize = 32 + 4;
const EXPIRE_TARGET_SIZE: usize = 32 + 4 + 8;
const STATE_FIELDS_SIZE: usize = MAILBOX_SIZE + 1 + 8 + 8;
const BODY_SIZE_MAX: usize = RECORD_SIZE_MAX - HEADER_SIZE;

/// High bit set: no text begins so.
const RECORD_MAGIC: [u8; 4] = [0xCE, b'p', b'a', 0x02];

const KIND_STORE: u32 = 1;
const KIND_EXPIRE: u32 = 2;
const KIND_DELETE: u32 = 3;
const KIND_STATE: u32 = 4;
const KIND_COMMIT: u32 = 5;
const KIND_INDEX: u32 = 6;

const _: () = assert!(BODY_SIZE_MAX <= u32::MAX as usize);
const _: () = assert!(SEGMENT_HEADER_SIZE.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(STATE_FIELDS_SIZE + STATE_VALUE_SIZE_MAX <= BODY_SIZE_MAX);

/// Where a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// In which segment.
    pub segment: u32,
    /// How many bytes from the segment's beginning.
    pub offset: u64,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes end too early: so many are needed from the record's beginning on.
    Short {
        /// At most [`RECORD_SIZE_MAX`].
        needed: usize,
    },
    /// No record begins here: wrong magic or header checksum, or an impossible size.
    Absent,
    /// A record begins here and takes so many bytes, but its body is damaged, or of a kind or shape
    /// that this version does not know.
    Damaged {
        /// Size of the record, header and body.
        size: usize,
    },
}

/// A record that was checked, borrowing the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A commit begins.
    Commit(Commit),
    /// A message came.
    Store(Store<'a>),
    /// The expiry of messages moved.
    Expire(Expire<'a>),
    /// Messages went.
    Delete(Delete<'a>),
    /// What is kept of a mailbox beside its messages.
    State(State<'a>),
    /// What stands in the segment, a part of it.
    Index(Index<'a>),
}

/// A commit begins: what was written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its records have this sequence number and larger ones.
    pub sequence: u64,
    /// Records with smaller numbers than this were durable when it was written.
    pub settled: u64,
    /// Bytes from the Commit record's beginning to the end of the commit's last record.
    pub size: u64,
}

/// A message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// For whom.
    pub mailbox: Mailbox,
    /// Which box.
    pub namespace: Namespace,
    /// Its identity.
    pub hash: MessageHash,
    /// Its place in the order of arrival: unique in a log, ascending.
    pub sequence: u64,
    /// Expires with smaller numbers are in its expiry already: a copy's is larger than its sequence.
    pub version: u64,
    /// When it was sent.
    pub timestamp: Timestamp,
    /// When to forget it.
    pub expiry: Timestamp,
    /// The payload, at most [`MESSAGE_SIZE_MAX`] bytes. Empty in an Index.
    pub data: &'a [u8],
}

/// The expiry of messages moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expire<'a> {
    mailbox: Mailbox,
    sequence: u64,
    targets: &'a [[u8; EXPIRE_TARGET_SIZE]],
}

/// A message whose expiry moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireTarget {
    /// Which.
    pub hash: MessageHash,
    /// The segment that its Store stood in.
    pub segment: u32,
    /// Its expiry from now on.
    pub expiry: Timestamp,
}

/// Messages went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    mailbox: Mailbox,
    sequence: u64,
    targets: &'a [[u8; DELETE_TARGET_SIZE]],
}

/// A message that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteTarget {
    /// Which.
    pub hash: MessageHash,
    /// The segment that its Store stood in.
    pub segment: u32,
}

/// What is kept of a mailbox beside its messages; the newest of a subject counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    /// Whose.
    pub mailbox: Mailbox,
    /// What it is about.
    pub subject: u8,
    /// Its place in the order of records.
    pub sequence: u64,
    /// When it was last changed.
    pub timestamp: Timestamp,
    /// At most [`STATE_VALUE_SIZE_MAX`] bytes; what they mean is the store's affair.
    pub value: &'a [u8],
}

/// Checks the record that `bytes` begin with, read at `position`. Gives it and its size without the
/// padding behind it. `bytes` may go on behind the record.
pub fn parse(bytes: &[u8], position: Position) -> Result<(Record<'_>, usize), RecordError> {
    let short = |needed| RecordError::Short { needed };
    let (header, rest) = bytes
        .split_first_chunk::<HEADER_SIZE>()
        .ok_or_else(|| short(HEADER_SIZE))?;
    let header = Header::parse(header, position).ok_or(RecordError::Absent)?;
    let size = HEADER_SIZE + header.body_size;
    let body = rest.get(..header.body_size).ok_or_else(|| short(size))?;
    if !is_same_crc(crc32fast::hash(body), header.body_crc) {
        return Err(RecordError::Damaged { size });
    }
    let record = parse_body(header.kind, body);
    Ok((record.ok_or(RecordError::Damaged { size })?, size))
}

/// What a record of `size` bytes takes of the segment: its size and the padding behind it.
pub const fn footprint(size: usize) -> usize {
    size.next_multiple_of(RECORD_ALIGN)
}

struct Header {
    body_crc: u32,
    body_size: usize,
    kind: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_SIZE], position: Position) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.array::<4>()? != RECORD_MAGIC {
            return None;
        }
        let header_crc = u32::from_le_bytes(fields.array()?);
        if !is_same_crc(header_crc, Self::crc(fields.0, position)) {
            return None;
        }
        let body_crc = u32::from_le_bytes(fields.array()?);
        let body_size = usize::try_from(u32::from_le_bytes(fields.array()?)).ok()?;
        let kind = u32::from_le_bytes(fields.array()?);
        (body_size <= BODY_SIZE_MAX).then_some(Self {
            body_crc,
            body_size,
            kind,
        })
    }

    fn crc(covered: &[u8], position: Position) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&position.segment.to_le_bytes());
        hasher.update(&position.offset.to_le_bytes());
        hasher.update(covered);
        hasher.finalize()
    }
}

/// Appends a record that will stand at `position`, padded to [`RECORD_ALIGN`]: a body that `write`
/// appends, and the header before it. Gives its size without the padding.
fn encode(
    out: &mut Vec<u8>,
    position: Position,
    kind: u32,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_SIZE]);
    write(out);
    let body = out.get(start + HEADER_SIZE..).unwrap_or_default();
    assert!(body.len() <= BODY_SIZE_MAX, "the caller keeps the limits");
    let size = HEADER_SIZE + body.len();

    let mut covered = [0; 12];
    let fields = [
        crc32fast::hash(body).to_le_bytes(),
        u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes(),
        kind.to_le_bytes(),
    ];
    copy(&mut covered, fields.as_flattened());
    let header_crc = Header::crc(&covered, position).to_le_bytes();
    let header = RECORD_MAGIC.iter().chain(&header_crc).chain(&covered);
    for (to, from) in out.iter_mut().skip(start).zip(header) {
        *to = *from;
    }
    out.resize(start + footprint(size), 0);
    size
}

fn parse_body(kind: u32, body: &[u8]) -> Option<Record<'_>> {
    match kind {
        KIND_COMMIT => Commit::parse(body).map(Record::Commit),
        KIND_STORE => Store::parse(body).map(Record::Store),
        KIND_EXPIRE => Expire::parse(body).map(Record::Expire),
        KIND_DELETE => Delete::parse(body).map(Record::Delete),
        KIND_STATE => State::parse(body).map(Record::State),
        KIND_INDEX => Index::parse(body).map(Record::Index),
        _ => None,
    }
}

impl Commit {
    /// Size of the record.
    pub const SIZE: usize = HEADER_SIZE + 3 * 8;

    fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let record = Self {
            sequence: fields.u64()?,
            settled: fields.u64()?,
            size: fields.u64()?,
        };
        fields.0.is_empty().then_some(record)
    }

    /// Appends the record that will stand at `position`, padded.
    pub fn encode(&self, position: Position, out: &mut Vec<u8>) {
        encode(out, position, KIND_COMMIT, |out| {
            out.extend_from_slice(&self.sequence.to_le_bytes());
            out.extend_from_slice(&self.settled.to_le_bytes());
            out.extend_from_slice(&self.size.to_le_bytes());
        });
    }
}

impl<'a> Store<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            mailbox: fields.mailbox()?,
            namespace: Namespace(i16::from_le_bytes(fields.array()?)),
            hash: MessageHash(fields.array()?),
            sequence: fields.u64()?,
            version: fields.u64()?,
            timestamp: fields.timestamp()?,
            expiry: fields.timestamp()?,
            data: fields.0,
        })
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the
    /// padding. The data must not be larger than [`MESSAGE_SIZE_MAX`].
    pub fn encode(&self, position: Position, out: &mut Vec<u8>) -> usize {
        encode(out, position, KIND_STORE, |out| {
            out.extend_from_slice(&self.mailbox.to_bytes());
            out.extend_from_slice(&self.namespace.0.to_le_bytes());
            out.extend_from_slice(&self.hash.0);
            out.extend_from_slice(&self.sequence.to_le_bytes());
            out.extend_from_slice(&self.version.to_le_bytes());
            out.extend_from_slice(&self.timestamp.as_millis().to_le_bytes());
            out.extend_from_slice(&self.expiry.as_millis().to_le_bytes());
            out.extend_from_slice(self.data);
        })
    }
}

impl<'a> Expire<'a> {
    /// Whose messages.
    pub const fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    /// Its place in the order of records.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    fn parse(body: &'a [u8]) -> Option<Self> {
        let (mailbox, sequence, targets) = parse_targets(body)?;
        Some(Self {
            mailbox,
            sequence,
            targets,
        })
    }

    /// Which messages.
    pub fn targets(&self) -> impl Iterator<Item = ExpireTarget> + 'a {
        self.targets.iter().filter_map(|bytes| {
            let mut fields = Fields(bytes);
            Some(ExpireTarget {
                hash: MessageHash(fields.array()?),
                segment: u32::from_le_bytes(fields.array()?),
                expiry: fields.timestamp()?,
            })
        })
    }

    /// Size of a record with so many targets.
    pub const fn size(target_count: usize) -> usize {
        HEADER_SIZE + TARGETS_FIELDS_SIZE + target_count * EXPIRE_TARGET_SIZE
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the
    /// padding. There must be 1 to [`EXPIRE_TARGET_COUNT_MAX`] targets.
    pub fn encode(
        mailbox: Mailbox,
        sequence: u64,
        targets: &[ExpireTarget],
        position: Position,
        out: &mut Vec<u8>,
    ) -> usize {
        assert!(!targets.is_empty(), "an Expire moves something");
        encode(out, position, KIND_EXPIRE, |out| {
            out.extend_from_slice(&mailbox.to_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
            for target in targets {
                out.extend_from_slice(&target.hash.0);
                out.extend_from_slice(&target.segment.to_le_bytes());
                out.extend_from_slice(&target.expiry.as_millis().to_le_bytes());
            }
        })
    }
}

impl<'a> Delete<'a> {
    /// Whose messages.
    pub const fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    /// Its place in the order of records.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    fn parse(body: &'a [u8]) -> Option<Self> {
        let (mailbox, sequence, targets) = parse_targets(body)?;
        Some(Self {
            mailbox,
            sequence,
            targets,
        })
    }

    /// Which messages.
    pub fn targets(&self) -> impl Iterator<Item = DeleteTarget> + 'a {
        self.targets.iter().filter_map(|bytes| {
            let mut fields = Fields(bytes);
            Some(DeleteTarget {
                hash: MessageHash(fields.array()?),
                segment: u32::from_le_bytes(fields.array()?),
            })
        })
    }

    /// Size of a record with so many targets.
    pub const fn size(target_count: usize) -> usize {
        HEADER_SIZE + TARGETS_FIELDS_SIZE + target_count * DELETE_TARGET_SIZE
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the
    /// padding. There must be 1 to [`DELETE_TARGET_COUNT_MAX`] targets.
    pub fn encode(
        mailbox: Mailbox,
        sequence: u64,
        targets: &[DeleteTarget],
        position: Position,
        out: &mut Vec<u8>,
    ) -> usize {
        assert!(!targets.is_empty(), "a Delete deletes something");
        encode(out, position, KIND_DELETE, |out| {
            out.extend_from_slice(&mailbox.to_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
            for target in targets {
                out.extend_from_slice(&target.hash.0);
                out.extend_from_slice(&target.segment.to_le_bytes());
            }
        })
    }
}

/// Mailbox, sequence and at least one target of `SIZE` bytes.
fn parse_targets<const SIZE: usize>(body: &[u8]) -> Option<(Mailbox, u64, &[[u8; SIZE]])> {
    let mut fields = Fields(body);
    let mailbox = fields.mailbox()?;
    let sequence = fields.u64()?;
    let (targets, rest) = fields.0.as_chunks();
    (rest.is_empty() && !targets.is_empty()).then_some((mailbox, sequence, targets))
}

impl<'a> State<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let state = Self {
            mailbox: fields.mailbox()?,
            subject: fields.array::<1>()?[0],
            sequence: fields.u64()?,
            timestamp: fields.timestamp()?,
            value: fields.0,
        };
        (state.value.len() <= STATE_VALUE_SIZE_MAX).then_some(state)
    }

    /// Size of the record.
    pub const fn size(&self) -> usize {
        Self::size_with(self.value.len())
    }

    /// Size of a record with a value of so many bytes.
    pub const fn size_with(value_size: usize) -> usize {
        HEADER_SIZE + STATE_FIELDS_SIZE + value_size
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the padding.
    pub fn encode(&self, position: Position, out: &mut Vec<u8>) -> usize {
        assert!(
            self.value.len() <= STATE_VALUE_SIZE_MAX,
            "bounded by its maker"
        );
        encode(out, position, KIND_STATE, |out| {
            out.extend_from_slice(&self.mailbox.to_bytes());
            out.push(self.subject);
            out.extend_from_slice(&self.sequence.to_le_bytes());
            out.extend_from_slice(&self.timestamp.as_millis().to_le_bytes());
            out.extend_from_slice(self.value);
        })
    }
}

/// A fuzzer can't find checksums: for it they are all right.
const fn is_same_crc(found: u32, expected: u32) -> bool {
    found == expected || cfg!(fuzzing)
}

/// Takes fields from the front; `None` when the bytes end too early.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const SIZE: usize>(&mut self) -> Option<[u8; SIZE]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        self.u64().map(Timestamp::from_millis)
    }

    fn mailbox(&mut self) -> Option<Mailbox> {
        self.array::<MAILBOX_SIZE>()
            .and_then(|bytes| Mailbox::from_slice(&bytes))
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
