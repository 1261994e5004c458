//! The seam to the disk: a trait of two words. Production's disk is in `host` (glommio's `DmaFile`);
//! a test's disk is memory that tears, loses and corrupts.

use bytes::Bytes;
use thiserror::Error;

/// Offsets, lengths and buffers of reads and writes are multiples of this (`O_DIRECT`).
pub const BLOCK_SIZE: usize = 4096;

/// Names a segment file; ascending in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// Names an operation until it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What the disk is to do. Operations may complete in any order; a `Sync` covers the writes to its
/// segment that had completed when it was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Tell which segments exist, and their sizes.
    List,
    /// Make a segment of `size` zeros, durably named, its blocks written and not merely reserved: a
    /// write into it changes nothing but data, and finds space. No segment of that name exists. If
    /// this fails the segment may be there or not.
    Create {
        /// Its name.
        segment: SegmentId,
        /// Its size in bytes.
        size: u64,
    },
    /// Write whole blocks. If this fails any of them may have been written, in part or whole.
    Write {
        /// Where.
        segment: SegmentId,
        /// Absolute, a multiple of [`BLOCK_SIZE`].
        offset: u64,
        /// A multiple of [`BLOCK_SIZE`] long.
        data: Bytes,
        /// Complete only when it is durable (`O_DSYNC`).
        is_durable: bool,
    },
    /// Make completed writes durable (fdatasync).
    Sync {
        /// Of which segment.
        segment: SegmentId,
    },
    /// Read bytes within the file; offset and size need no alignment. If fewer come back it has
    /// failed.
    Read {
        /// From where.
        segment: SegmentId,
        /// Absolute.
        offset: u64,
        /// How many.
        size: usize,
        /// How it will go on.
        access: Access,
    },
    /// Remove a segment, durably.
    Remove {
        /// Which.
        segment: SegmentId,
    },
}

/// Which reads come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Some records, here and there: worth a cache.
    Random,
    /// A whole file, once: not worth a cache.
    Sequential,
}

/// What a completed operation gives.
#[expect(
    clippy::enum_variant_names,
    reason = "an operation without a result is just done"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Segments, ascending, with their sizes in bytes.
    Listed(Vec<(SegmentId, u64)>),
    /// What was read.
    Read(Bytes),
    /// Created, written, synced or removed.
    Done,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiskError {
    /// No space (ENOSPC).
    #[error("no space left on the disk")]
    Full,
    /// Any other error (EIO).
    #[error("the disk failed")]
    Failed,
}

/// A completed operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which operation.
    pub token: Token,
    /// How it ended.
    pub result: Result<Done, DiskError>,
}

/// A disk.
pub trait Disk {
    /// Begins an operation.
    fn submit(&mut self, token: Token, operation: Operation);

    /// Takes a completed operation, if there is one.
    fn poll(&mut self) -> Option<Completion>;
}
