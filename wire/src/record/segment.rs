//! What a segment begins and ends with.

use super::{Fields, SEGMENT_HEADER_SIZE, VERSION, is_same_crc};

const HEADER_MAGIC: [u8; 8] = [0xCE, b'p', b'a', b's', b'e', b'g', 0x0D, 0x0A];
const TRAILER_MAGIC: [u8; 8] = [0xCE, b'p', b'a', b'e', b'n', b'd', 0x0D, 0x0A];

/// Magic, version, class, segment, two numbers, checksum. In every version such a block begins with
/// magic and version and ends with a checksum over them.
const SIZE: usize = 8 + 2 + 2 + 4 + 2 * 8 + 4;

const _: () = assert!(SIZE <= SEGMENT_HEADER_SIZE);

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's own number.
    pub segment: u32,
    /// Which expiry class its messages are of.
    pub class: u16,
    /// Records with these sequence numbers, the second not among them, count nowhere: their commits
    /// failed. Empty when both are the same.
    pub void: (u64, u64),
}

/// What a sealed segment ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentTrailer {
    /// The segment's own number.
    pub segment: u32,
    /// Which expiry class its messages are of.
    pub class: u16,
    /// Where the records end that count. What follows up to the index are commits that failed.
    pub data_end: u64,
    /// Where its Index records begin: a multiple of the block size.
    pub index_begin: u64,
    /// Where they end.
    pub index_end: u64,
}

/// Why a block is not a segment's header or trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// None: unwritten, damaged or of another segment.
    Absent,
    /// Of another version; the segment must be left as it is.
    Version(u16),
}

impl SegmentHeader {
    /// Checks the header of segment number `segment`.
    pub fn parse(block: &[u8], segment: u32) -> Result<Self, SegmentError> {
        let block = Block::parse(block, HEADER_MAGIC, segment)?;
        Ok(Self {
            segment,
            class: block.class,
            void: (block.numbers[0], block.numbers[1]),
        })
    }

    /// Appends the whole block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let block = Block {
            class: self.class,
            numbers: [self.void.0, self.void.1],
        };
        block.encode(HEADER_MAGIC, self.segment, out);
    }
}

impl SegmentTrailer {
    /// Checks the trailer of segment number `segment`.
    pub fn parse(block: &[u8], segment: u32) -> Result<Self, SegmentError> {
        let block = Block::parse(block, TRAILER_MAGIC, segment)?;
        let [index_begin, ends] = block.numbers;
        let (data_end, index_end) = (ends >> 32, ends & u64::from(u32::MAX));
        if data_end > index_begin || index_begin > index_end {
            return Err(SegmentError::Absent);
        }
        Ok(Self {
            segment,
            class: block.class,
            data_end,
            index_begin,
            index_end,
        })
    }

    /// Appends the whole block. Segments are smaller than 4 GiB.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let block = Block {
            class: self.class,
            numbers: [self.index_begin, self.data_end << 32 | self.index_end],
        };
        block.encode(TRAILER_MAGIC, self.segment, out);
    }
}

struct Block {
    class: u16,
    numbers: [u64; 2],
}

impl Block {
    fn parse(block: &[u8], magic: [u8; 8], segment: u32) -> Result<Self, SegmentError> {
        let (version, found, block) =
            Self::parse_fields(block, magic).ok_or(SegmentError::Absent)?;
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        if found != segment {
            return Err(SegmentError::Absent);
        }
        Ok(block)
    }

    fn parse_fields(block: &[u8], magic: [u8; 8]) -> Option<(u16, u32, Self)> {
        let mut fields = Fields(block.get(..SIZE)?);
        let (covered, _) = fields.0.split_last_chunk::<4>()?;
        let crc = crc32fast::hash(covered);
        if fields.array::<8>()? != magic {
            return None;
        }
        let version = u16::from_le_bytes(fields.array()?);
        let class = u16::from_le_bytes(fields.array()?);
        let segment = u32::from_le_bytes(fields.array()?);
        let numbers = [fields.u64()?, fields.u64()?];
        let found = u32::from_le_bytes(fields.array()?);
        is_same_crc(found, crc).then_some((version, segment, Self { class, numbers }))
    }

    fn encode(&self, magic: [u8; 8], segment: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&magic);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.class.to_le_bytes());
        out.extend_from_slice(&segment.to_le_bytes());
        for number in self.numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(start + SEGMENT_HEADER_SIZE, 0);
    }
}
