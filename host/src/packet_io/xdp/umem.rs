//! The frames that are shared with the kernel, each of which either side has.
#![expect(
    unsafe_code,
    reason = "the kernel reads and writes frames while it has them"
)]

use core::ptr::NonNull;
use std::io;

use super::mapping::Mapping;

/// Bytes of a frame: what XDP keeps free before a packet (256) and a packet of an MTU of 1500. Two fit a
/// page.
pub(super) const FRAME_SIZE: u32 = 2048;

/// A frame that is ours. There is one of these for each of ours, and none for those of the kernel.
pub(super) struct Frame(u32);

/// All frames.
pub(super) struct Umem {
    memory: NonNull<u8>,
    count: u32,
    /// What `memory` points into, and lives as long.
    _mapping: Mapping,
}

impl Umem {
    /// As many frames, all ours.
    pub(super) fn new(count: u32) -> io::Result<(Self, Vec<Frame>)> {
        let size = count as usize * FRAME_SIZE as usize;
        let mapping = Mapping::anonymous(size)?;
        let memory = mapping.place(0, size).ok_or(io::ErrorKind::OutOfMemory)?;
        let umem = Self {
            memory,
            count,
            _mapping: mapping,
        };
        Ok((umem, (0..count).map(Frame).collect()))
    }

    /// Where they begin, and how many bytes they are, for the kernel.
    pub(super) fn range(&self) -> (u64, u64) {
        let size = u64::from(self.count) * u64::from(FRAME_SIZE);
        (self.memory.as_ptr().expose_provenance() as u64, size)
    }

    /// Gives a frame away: its address, for a ring that goes to the kernel.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever lends it has it no more"
    )]
    pub(super) fn lend(frame: Frame) -> u64 {
        u64::from(frame.0) * u64::from(FRAME_SIZE)
    }

    /// A frame that the kernel gave back, and where in it the address points to.
    ///
    /// # Safety
    /// The address was just taken from a ring by which the kernel gives frames back, and is given here
    /// once.
    pub(super) unsafe fn take_back(&self, address: u64) -> (Frame, usize) {
        let index = u32::try_from(address / u64::from(FRAME_SIZE)).unwrap_or(u32::MAX);
        assert!(index < self.count, "the kernel gives back what it got");
        let offset = u32::try_from(address % u64::from(FRAME_SIZE)).unwrap_or_default();
        (Frame(index), offset as usize)
    }

    /// The bytes of a frame.
    pub(super) fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: the index is below the count, so that the bytes are of the mapping, which lives as long
        // as `self`, and initialised. The frame is ours for as long as it is borrowed: lending consumes it.
        unsafe { core::slice::from_raw_parts(self.start(frame), FRAME_SIZE as usize) }
    }

    /// The bytes of a frame, to be written.
    pub(super) fn bytes_mut<'a>(&'a mut self, frame: &'a mut Frame) -> &'a mut [u8] {
        // SAFETY: as for `bytes`; and no other bytes of frames are borrowed while `self` is.
        unsafe { core::slice::from_raw_parts_mut(self.start(frame), FRAME_SIZE as usize) }
    }

    fn start(&self, frame: &Frame) -> *mut u8 {
        let offset = frame.0 as usize * FRAME_SIZE as usize;
        self.memory.as_ptr().wrapping_add(offset)
    }
}
