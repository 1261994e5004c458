//! Memory that is shared with the kernel.
#![expect(unsafe_code, reason = "mmap and munmap")]

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Mapped pages, which go when this does. The kernel may keep the pages for as long as it uses them;
/// nobody else gets them before.
pub(super) struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

impl Mapping {
    /// Fresh pages of zeros.
    pub(super) fn anonymous(size: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: without an address and a fixed place, the kernel takes room that nobody uses.
        let start = unsafe { mmap_anonymous(null_mut(), size, read_and_write(), flags) };
        Self::new(start?, size)
    }

    /// Pages of a socket.
    pub(super) fn of(socket: BorrowedFd<'_>, size: usize, offset: u64) -> io::Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: as above.
        let start = unsafe { mmap(null_mut(), size, read_and_write(), flags, socket, offset) };
        Self::new(start?, size)
    }

    fn new(start: *mut c_void, size: usize) -> io::Result<Self> {
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size })
    }

    /// Where values of a type begin, so many bytes from the start; none if they do not fit or would not
    /// be aligned.
    pub(super) fn place<T>(&self, offset: u64, count: usize) -> Option<NonNull<T>> {
        let offset = usize::try_from(offset).ok()?;
        let end = count.checked_mul(size_of::<T>())?.checked_add(offset)?;
        let place = self.start.as_ptr().wrapping_add(offset).cast::<T>();
        let fits = end <= self.size && place.is_aligned();
        NonNull::new(place).filter(|_| fits)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and whoever has a pointer into it has this too.
        // Where unmapping fails, the pages stay.
        unsafe { munmap(self.start.as_ptr().cast(), self.size) }.unwrap_or_default();
    }
}

fn read_and_write() -> ProtFlags {
    ProtFlags::READ | ProtFlags::WRITE
}
