//! The rings between us and the kernel: one side puts in, the other takes out, each with an index of its
//! own that only grows.
#![expect(unsafe_code, reason = "the kernel reads and writes the same memory")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::xdp::XdpRingOffset;

use super::mapping::Mapping;

/// A frame with what it holds: where the bytes begin in the shared memory, and how many.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) size: u32,
    pub(super) options: u32,
}

/// What rings hold.
///
/// # Safety
/// It is of integers without padding: any bytes are a value.
pub(super) unsafe trait Entry: Copy {}

// SAFETY: an integer.
unsafe impl Entry for u64 {}

// SAFETY: 8, 4 and 4 bytes of integers, without padding.
unsafe impl Entry for Descriptor {}

/// The kernel sleeps until it is told that there is something.
const NEED_WAKEUP: u32 = 1;

struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// A power of two.
    count: u32,
    /// Our index, which may be ahead of what the kernel was told.
    own: u32,
    /// The kernel's, as last seen.
    seen: u32,
    /// What all of these point into, and lives as long.
    _mapping: Mapping,
}

impl<T: Entry> Ring<T> {
    /// Maps a ring of a socket, whose size was set to `count` before.
    fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: &XdpRingOffset,
        count: u32,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a ring's size is a power of two");
        let room = count as usize * size_of::<T>();
        let end = usize::try_from(offsets.desc).unwrap_or(usize::MAX);
        let size = end.checked_add(room).ok_or(io::ErrorKind::InvalidData)?;
        let mapping = Mapping::of(socket, size, page_offset)?;
        let places = (|| {
            Some((
                mapping.place(offsets.producer, 1)?,
                mapping.place(offsets.consumer, 1)?,
                mapping.place(offsets.flags?, 1)?,
                mapping.place(offsets.desc, count as usize)?,
            ))
        })();
        let (producer, consumer, flags, entries) = places.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self {
            producer,
            consumer,
            flags,
            entries,
            count,
            own: 0,
            seen: 0,
            _mapping: mapping,
        })
    }

    fn index(place: &NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: it points to an aligned u32 of the mapping, which lives as long as the ring that the
        // place is of, and which both sides change atomically only.
        unsafe { place.as_ref() }
    }

    /// The place of an entry.
    fn entry(&self, index: u32) -> *mut T {
        let place = index & (self.count - 1);
        self.entries.as_ptr().wrapping_add(place as usize)
    }

    fn needs_wakeup(&self) -> bool {
        Self::index(&self.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// A ring that we put into.
pub(super) struct Producer<T>(Ring<T>);

impl<T: Entry> Producer<T> {
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: &XdpRingOffset,
        count: u32,
    ) -> io::Result<Self> {
        Ring::map(socket, page_offset, offsets, count).map(Self)
    }

    /// How many entries the kernel has not yet taken.
    pub(super) fn pending(&mut self) -> u32 {
        self.0.seen = Ring::<T>::index(&self.0.consumer).load(Ordering::Acquire);
        self.0.own.wrapping_sub(self.0.seen)
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&mut self) -> bool {
        self.0.own.wrapping_sub(self.0.seen) < self.0.count || self.pending() < self.0.count
    }

    /// Puts one in, which the kernel is told by `publish`; false if there is no room.
    #[must_use]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if !self.has_room() {
            return false;
        }
        // SAFETY: the place is one of the entries of the mapping, aligned for them. The kernel has taken
        // what was there, by its index, and does not read it before ours is past it.
        unsafe { self.0.entry(self.0.own).write(entry) };
        self.0.own = self.0.own.wrapping_add(1);
        true
    }

    /// Tells the kernel of what was put in.
    pub(super) fn publish(&self) {
        Ring::<T>::index(&self.0.producer).store(self.0.own, Ordering::Release);
    }

    /// Whether the kernel has to be told by a system call too.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

/// A ring that we take from.
pub(super) struct Consumer<T>(Ring<T>);

impl<T: Entry> Consumer<T> {
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: &XdpRingOffset,
        count: u32,
    ) -> io::Result<Self> {
        Ring::map(socket, page_offset, offsets, count).map(Self)
    }

    /// Takes one out, whose place the kernel gets back by `release`.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.0.own == self.0.seen {
            self.0.seen = Ring::<T>::index(&self.0.producer).load(Ordering::Acquire);
            if self.0.own == self.0.seen {
                return None;
            }
        }
        // SAFETY: the place is one of the entries of the mapping, aligned for them, and any bytes are a
        // value. The kernel wrote it before its index went past it, and writes it again only when ours
        // has.
        let entry = unsafe { self.0.entry(self.0.own).read() };
        self.0.own = self.0.own.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of what was taken back.
    pub(super) fn release(&self) {
        Ring::<T>::index(&self.0.consumer).store(self.0.own, Ordering::Release);
    }
}
