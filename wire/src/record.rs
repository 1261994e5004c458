//! Records of the storage log: what stands in a segment file. Ours alone; no other node reads it.
//!
//! A segment is a header block of [`SEGMENT_HEADER_SIZE`] bytes and records at multiples of
//! [`RECORD_ALIGN`], with zeros between and behind them. All integers are little-endian.
//!
//! ```text
//! record:  magic 4 | header crc 4 | body crc 4 | body size 4 | kind 4 | body
//! Store:   mailbox 33 | namespace 2 | hash 32 | sequence 8 | timestamp 8 | expiry 8 | data
//! Expire:  mailbox 33 | hash 32 | sequence 8 | expiry 8
//! Delete:  mailbox 33 | (hash 32 | sequence 8), one or more
//! segment: magic 8 | version 2 | flags 2 | segment 4 | void segment 4 | void offset 8 | crc 4
//! ```
//!
//! Two checksums (CRC-32, IEEE), because they answer two questions. The header's says "here stands a
//! record, and it is so long": it lets a reader step over a damaged body without looking for records
//! inside of it, where a stranger chose the bytes. The body's says "and it is whole". The header's
//! checksum covers the body's, and begins with the record's [`Position`]: bytes that were written
//! for another place (a misdirected write, an older file's block, a record that somebody hid in a
//! payload) are no record here.
//!
//! After [`parse`] succeeded no accessor fails. Nothing here allocates but the encoders, which
//! append to the caller's vector.

use crate::mailbox::{Mailbox, MessageHash, Namespace};
use crate::request::MESSAGE_SIZE_MAX;
use crate::timestamp::Timestamp;

/// Version of the format, in the header of every segment.
pub const VERSION: u16 = 1;

/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;

/// Size of a record's header.
pub const HEADER_SIZE: usize = 4 + 4 + 4 + 4 + 4;

/// Size of a segment's header: the first block of the file, of which [`SegmentHeader::SIZE`] bytes
/// are used. A whole block, so that it is never rewritten together with a record.
pub const SEGMENT_HEADER_SIZE: usize = 4096;

/// What a Store record takes beside its payload.
pub const STORE_OVERHEAD: usize = HEADER_SIZE + STORE_FIELDS_SIZE;

/// No record is larger: a Store of the largest message.
pub const RECORD_SIZE_MAX: usize = STORE_OVERHEAD + MESSAGE_SIZE_MAX;

/// So many targets fit into one Delete record.
pub const DELETE_TARGET_COUNT_MAX: usize =
    (RECORD_SIZE_MAX - HEADER_SIZE - MAILBOX_SIZE) / Target::SIZE;

const MAILBOX_SIZE: usize = 33;
const STORE_FIELDS_SIZE: usize = MAILBOX_SIZE + 2 + 32 + 8 + 8 + 8;
const BODY_SIZE_MAX: usize = RECORD_SIZE_MAX - HEADER_SIZE;

/// High bit set: no text begins so.
const RECORD_MAGIC: [u8; 4] = [0xCE, b'p', b'a', 0x01];
const SEGMENT_MAGIC: [u8; 8] = [0xCE, b'p', b'a', b's', b'e', b'g', 0x0D, 0x0A];
const FLAG_VOID: u16 = 1;

const KIND_STORE: u32 = 1;
const KIND_EXPIRE: u32 = 2;
const KIND_DELETE: u32 = 3;

const _: () = assert!(BODY_SIZE_MAX <= u32::MAX as usize);
const _: () = assert!(SegmentHeader::SIZE <= SEGMENT_HEADER_SIZE);
const _: () = assert!(SEGMENT_HEADER_SIZE.is_multiple_of(RECORD_ALIGN));

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
    /// A message came.
    Store(Store<'a>),
    /// A message's expiry moved.
    Expire(Expire),
    /// Messages went.
    Delete(Delete<'a>),
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
    /// When it was sent.
    pub timestamp: Timestamp,
    /// When to forget it.
    pub expiry: Timestamp,
    /// The payload, at most [`MESSAGE_SIZE_MAX`] bytes.
    pub data: &'a [u8],
}

/// A message's expiry moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expire {
    /// Whose.
    pub mailbox: Mailbox,
    /// Which.
    pub target: Target,
    /// The new expiry.
    pub expiry: Timestamp,
}

/// The message that an Expire or Delete means: the one that came with this sequence number, and no
/// older or newer message of the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The message's hash.
    pub hash: MessageHash,
    /// The sequence number of its Store.
    pub sequence: u64,
}

/// Messages went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    mailbox: Mailbox,
    targets: &'a [[u8; Target::SIZE]],
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
    let record = match header.kind {
        KIND_STORE => Store::parse(body).map(Record::Store),
        KIND_EXPIRE => Expire::parse(body).map(Record::Expire),
        KIND_DELETE => Delete::parse(body).map(Record::Delete),
        _ => None,
    };
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

impl<'a> Store<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            mailbox: fields.mailbox()?,
            namespace: Namespace(i16::from_le_bytes(fields.array()?)),
            hash: MessageHash(fields.array()?),
            sequence: fields.u64()?,
            timestamp: Timestamp::from_millis(fields.u64()?),
            expiry: Timestamp::from_millis(fields.u64()?),
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
            out.extend_from_slice(&self.timestamp.as_millis().to_le_bytes());
            out.extend_from_slice(&self.expiry.as_millis().to_le_bytes());
            out.extend_from_slice(self.data);
        })
    }
}

impl Expire {
    /// Size of the record.
    pub const SIZE: usize = HEADER_SIZE + MAILBOX_SIZE + Target::SIZE + 8;

    fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let record = Self {
            mailbox: fields.mailbox()?,
            target: Target::from_bytes(fields.array()?),
            expiry: Timestamp::from_millis(fields.u64()?),
        };
        fields.0.is_empty().then_some(record)
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the padding.
    pub fn encode(&self, position: Position, out: &mut Vec<u8>) -> usize {
        encode(out, position, KIND_EXPIRE, |out| {
            out.extend_from_slice(&self.mailbox.to_bytes());
            out.extend_from_slice(&self.target.to_bytes());
            out.extend_from_slice(&self.expiry.as_millis().to_le_bytes());
        })
    }
}

impl Target {
    const SIZE: usize = 32 + 8;

    fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let mut hash = [0; 32];
        let mut sequence = [0; 8];
        copy(&mut hash, &bytes);
        copy(&mut sequence, bytes.get(32..).unwrap_or_default());
        Self {
            hash: MessageHash(hash),
            sequence: u64::from_le_bytes(sequence),
        }
    }

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (to, from) in bytes
            .iter_mut()
            .zip(self.hash.0.into_iter().chain(self.sequence.to_le_bytes()))
        {
            *to = from;
        }
        bytes
    }
}

impl<'a> Delete<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mailbox = fields.mailbox()?;
        let (targets, rest) = fields.0.as_chunks();
        (rest.is_empty() && !targets.is_empty()).then_some(Self { mailbox, targets })
    }

    /// Whose messages.
    pub const fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    /// Which messages.
    pub fn targets(&self) -> impl Iterator<Item = Target> + 'a {
        self.targets.iter().map(|bytes| Target::from_bytes(*bytes))
    }

    /// Size of a record with so many targets.
    pub const fn size(target_count: usize) -> usize {
        HEADER_SIZE + MAILBOX_SIZE + target_count * Target::SIZE
    }

    /// Appends the record that will stand at `position`, padded; gives its size without the
    /// padding. There must be 1 to [`DELETE_TARGET_COUNT_MAX`] targets.
    pub fn encode(
        mailbox: Mailbox,
        targets: &[Target],
        position: Position,
        out: &mut Vec<u8>,
    ) -> usize {
        assert!(!targets.is_empty(), "a Delete deletes something");
        encode(out, position, KIND_DELETE, |out| {
            out.extend_from_slice(&mailbox.to_bytes());
            for target in targets {
                out.extend_from_slice(&target.to_bytes());
            }
        })
    }
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's own number.
    pub segment: u32,
    /// From here up to the beginning of this segment the log is void: what stands there was never
    /// acknowledged, because a commit failed or was torn. `None` when nothing is void.
    pub void_from: Option<Position>,
}

/// Why a block is not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentHeaderError {
    /// No header: unwritten, damaged or of another segment.
    Absent,
    /// A header of a later version; the segment must be left as it is.
    Version(u16),
}

impl SegmentHeader {
    /// Bytes of the block that are used. In every version they begin with magic and version and end
    /// with a checksum over them.
    pub const SIZE: usize = 8 + 2 + 2 + 4 + 4 + 8 + 4;

    /// Checks the header of segment number `segment`.
    pub fn parse(block: &[u8], segment: u32) -> Result<Self, SegmentHeaderError> {
        let (version, header) = Self::parse_fields(block).ok_or(SegmentHeaderError::Absent)?;
        if version > VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        if header.segment != segment {
            return Err(SegmentHeaderError::Absent);
        }
        Ok(header)
    }

    fn parse_fields(block: &[u8]) -> Option<(u16, Self)> {
        let mut fields = Fields(block.get(..Self::SIZE)?);
        let (covered, _) = fields.0.split_last_chunk::<4>()?;
        let crc = crc32fast::hash(covered);
        if fields.array::<8>()? != SEGMENT_MAGIC {
            return None;
        }
        let version = u16::from_le_bytes(fields.array()?);
        let flags = u16::from_le_bytes(fields.array()?);
        let segment = u32::from_le_bytes(fields.array()?);
        let void_from = Position {
            segment: u32::from_le_bytes(fields.array()?),
            offset: fields.u64()?,
        };
        let header = Self {
            segment,
            void_from: (flags & FLAG_VOID != 0).then_some(void_from),
        };
        is_same_crc(u32::from_le_bytes(fields.array()?), crc).then_some((version, header))
    }

    /// Appends the whole block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (flags, void_from) = match self.void_from {
            Some(position) => (FLAG_VOID, position),
            None => (0, Position::default()),
        };
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&void_from.segment.to_le_bytes());
        out.extend_from_slice(&void_from.offset.to_le_bytes());
        let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(start + SEGMENT_HEADER_SIZE, 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position {
        segment: 7,
        offset: 8192,
    };

    fn mailbox() -> Mailbox {
        Mailbox {
            prefix: Mailbox::ACCOUNT,
            key: [0xA1; 32],
        }
    }

    fn store(data: &[u8]) -> Store<'_> {
        Store {
            mailbox: mailbox(),
            namespace: Namespace(-21),
            hash: MessageHash([0xB2; 32]),
            sequence: 0x0102_0304_0506_0708,
            timestamp: Timestamp::from_millis(1_700_000_000_000),
            expiry: Timestamp::from_millis(1_700_000_086_400),
            data,
        }
    }

    fn targets() -> [Target; 2] {
        [3, 9].map(|byte| Target {
            hash: MessageHash([byte; 32]),
            sequence: u64::from(byte) << 40,
        })
    }

    #[test]
    fn layout_is_fixed() {
        let mut out = Vec::new();
        let size = store(b"onion").encode(AT, &mut out);
        assert_eq!((size, out.len()), (STORE_OVERHEAD + 5, 120));
        assert_eq!(
            hex::encode(&out),
            concat!(
                "ce706101a440d403a55842fd6000000001000000",
                "05a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
                "ebff",
                "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
                "0807060504030201",
                "0068e5cf8b010000",
                "80b9e6cf8b010000",
                "6f6e696f6e",
                "00000000",
            )
        );
    }

    #[test]
    fn every_kind_comes_back() {
        let largest = vec![0x5A; MESSAGE_SIZE_MAX];
        for data in [&b""[..], b"x", &largest] {
            let mut out = vec![0xFF; 16];
            let size = store(data).encode(AT, &mut out);
            assert_eq!(out.len(), 16 + footprint(size));
            assert_eq!(
                parse(&out[16..], AT),
                Ok((Record::Store(store(data)), size))
            );
        }

        let expire = Expire {
            mailbox: mailbox(),
            target: targets()[1],
            expiry: Timestamp::MAX,
        };
        let mut out = Vec::new();
        assert_eq!(expire.encode(AT, &mut out), Expire::SIZE);
        assert_eq!(parse(&out, AT), Ok((Record::Expire(expire), Expire::SIZE)));

        let mut out = Vec::new();
        let size = Delete::encode(mailbox(), &targets(), AT, &mut out);
        assert_eq!(size, Delete::size(2));
        let Ok((Record::Delete(delete), parsed_size)) = parse(&out, AT) else {
            panic!("not a Delete");
        };
        assert_eq!((delete.mailbox(), parsed_size), (mailbox(), size));
        assert!(delete.targets().eq(targets()));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut out = Vec::new();
        let size = store(b"a payload").encode(AT, &mut out);
        for index in 0..size * 8 {
            let mut bytes = out.clone();
            bytes[index / 8] ^= 1 << (index % 8);
            let error = parse(&bytes, AT).unwrap_err();
            if index < HEADER_SIZE * 8 {
                assert_eq!(error, RecordError::Absent, "bit {index}");
            } else {
                assert_eq!(error, RecordError::Damaged { size }, "bit {index}");
            }
        }
    }

    #[test]
    fn every_cut_asks_for_the_rest() {
        let mut out = Vec::new();
        let size = store(b"a payload").encode(AT, &mut out);
        for end in 0..size {
            let needed = if end < HEADER_SIZE { HEADER_SIZE } else { size };
            assert_eq!(parse(&out[..end], AT), Err(RecordError::Short { needed }));
        }
    }

    #[test]
    fn a_record_elsewhere_is_no_record() {
        let mut out = Vec::new();
        store(b"moved").encode(AT, &mut out);
        for elsewhere in [
            Position { segment: 8, ..AT },
            Position { offset: 4096, ..AT },
        ] {
            assert_eq!(parse(&out, elsewhere), Err(RecordError::Absent));
        }
    }

    #[test]
    fn sizes_and_shapes_are_not_trusted() {
        // The header's checksum is right, what it says is not.
        let forged = |kind: u32, body: &[u8]| {
            let mut out = Vec::new();
            encode(&mut out, AT, kind, |out| out.extend_from_slice(body));
            out
        };
        for (kind, body_size) in [(0, 0), (4, 99), (KIND_STORE, 90), (KIND_EXPIRE, 80)] {
            let size = HEADER_SIZE + body_size;
            let bytes = forged(kind, &vec![0; body_size]);
            assert_eq!(parse(&bytes, AT), Err(RecordError::Damaged { size }));
        }
        for body_size in [33, 34, 72, 74] {
            let size = HEADER_SIZE + body_size;
            let bytes = forged(KIND_DELETE, &vec![0; body_size]);
            assert_eq!(parse(&bytes, AT), Err(RecordError::Damaged { size }));
        }

        let mut covered = [0; 12];
        covered[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = Header::crc(&covered, AT).to_le_bytes();
        let bytes = [&RECORD_MAGIC[..], &crc, &covered, &[0; 64]].concat();
        assert_eq!(parse(&bytes, AT), Err(RecordError::Absent));
    }

    #[test]
    fn segment_header_comes_back_or_not_at_all() {
        for void_from in [None, Some(AT)] {
            let header = SegmentHeader {
                segment: 9,
                void_from,
            };
            let mut block = Vec::new();
            header.encode(&mut block);
            assert_eq!(block.len(), SEGMENT_HEADER_SIZE);
            assert_eq!(SegmentHeader::parse(&block, 9), Ok(header));
            let absent = Err(SegmentHeaderError::Absent);
            assert_eq!(SegmentHeader::parse(&block, 10), absent);
            assert_eq!(SegmentHeader::parse(&block[..31], 9), absent);
            assert_eq!(SegmentHeader::parse(&[0; 4096], 9), absent);
            for index in 0..SegmentHeader::SIZE * 8 {
                let mut bytes = block.clone();
                bytes[index / 8] ^= 1 << (index % 8);
                assert_eq!(SegmentHeader::parse(&bytes, 9), absent, "bit {index}");
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut block = Vec::new();
        SegmentHeader {
            segment: 9,
            void_from: None,
        }
        .encode(&mut block);
        block[8..10].copy_from_slice(&2_u16.to_le_bytes());
        let crc = crc32fast::hash(&block[..SegmentHeader::SIZE - 4]).to_le_bytes();
        block[SegmentHeader::SIZE - 4..SegmentHeader::SIZE].copy_from_slice(&crc);
        assert_eq!(
            SegmentHeader::parse(&block, 9),
            Err(SegmentHeaderError::Version(2))
        );
    }
}
