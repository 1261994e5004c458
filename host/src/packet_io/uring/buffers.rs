//! The buffers that `io_uring` receives into, and the ring by which it gets them back.
#![expect(
    unsafe_code,
    reason = "the kernel reads the ring and writes to the buffers while we have them"
)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};
use std::io;

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

/// How many buffers: each may hold a whole run of what the kernel joined, or one datagram of a peer
/// that sends few. With 256, at half a million datagrams a second of which none are joined, the ring
/// lasts for half a millisecond while we peel; the socket holds what comes then.
pub(super) const COUNT: u16 = 256;

/// Bytes of a buffer: 64 KiB, more than the kernel ever joins, and what stands before: a header, name
/// and control message. A multiple of a cache line.
pub(super) const SIZE: u32 = 65_536 + 128;

/// By which number operations name these buffers.
pub(super) const GROUP: u16 = 0;

/// The ring is one page.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

const _: () = assert!(COUNT.is_power_of_two());
const _: () = assert!(COUNT as usize * size_of::<BufRingEntry>() <= size_of::<Page>());
const _: () = assert!(align_of::<BufRingEntry>() <= align_of::<Page>());

/// A buffer that the kernel has filled and given to us. There is one of these for a buffer that is not
/// in the ring, and none for one that is.
pub(super) struct Filled {
    index: u16,
    size: usize,
}

/// Ring and buffers. They are allocated here and freed in [`free`](Self::free), which is not called
/// unless the kernel has let go of them.
pub(super) struct Buffers {
    ring: NonNull<Page>,
    memory: NonNull<[u8]>,
    /// Of buffers given to the kernel, ever.
    tail: u16,
    /// How many the kernel may have.
    ready: u16,
}

impl Buffers {
    /// Makes them known to a ring, all of them ready.
    pub(super) fn register(ring: &IoUring) -> io::Result<Self> {
        let memory = vec![0_u8; usize::from(COUNT) * SIZE as usize].into_boxed_slice();
        let page = Box::new(Page([0; 4096]));
        let mut buffers = Self {
            ring: NonNull::from(Box::leak(page)),
            memory: NonNull::from(Box::leak(memory)),
            tail: 0,
            ready: 0,
        };
        let address = buffers.ring.as_ptr().expose_provenance() as u64;
        // SAFETY: the address is that of a page with room for `COUNT` entries, which lives until the
        // kernel has let go of it (see `free`).
        let registered = unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, COUNT, GROUP, 0)
        };
        if let Err(error) = registered {
            // SAFETY: the kernel refused them, so it knows neither ring nor buffers.
            unsafe { buffers.free() };
            return Err(error);
        }
        for index in 0..COUNT {
            buffers.give_back(Filled { index, size: 0 });
        }
        Ok(buffers)
    }

    /// How many the kernel may fill.
    pub(super) const fn ready(&self) -> u16 {
        self.ready
    }

    /// The buffer that a completion brings; none if it brings none.
    ///
    /// # Safety
    /// The completion is of the ring that these buffers were registered with, of an operation that
    /// takes from them, and is given here once.
    pub(super) unsafe fn take(&mut self, completion: &cqueue::Entry) -> Option<Filled> {
        let index = cqueue::buffer_select(completion.flags())?;
        assert!(index < COUNT, "the kernel gives back what it got");
        self.ready = self.ready.saturating_sub(1);
        Some(Filled {
            index,
            size: usize::try_from(completion.result()).unwrap_or_default(),
        })
    }

    /// What the kernel wrote.
    pub(super) fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8] {
        let size = filled.size.min(SIZE as usize);
        // SAFETY: the index is below `COUNT`, so that the bytes are of `memory`, and initialised. The
        // kernel does not write to this buffer: it was given to us, and whoever gives it back has to
        // give `filled` away, which is borrowed for as long as the bytes are.
        unsafe { core::slice::from_raw_parts(self.start(filled.index), size) }
    }

    /// Lets the kernel have a buffer again.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever gives it back has it no more"
    )]
    pub(super) fn give_back(&mut self, filled: Filled) {
        let index = filled.index;
        let place = usize::from(self.tail % COUNT);
        let address = self.start(index).expose_provenance() as u64;
        let entries = self.ring.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the place is below `COUNT`, so that the entry is of the page, which is aligned for it
        // and of integers only. The kernel does not read it before the tail says so.
        let entry = unsafe { &mut *entries.add(place) };
        entry.set_addr(address);
        entry.set_len(SIZE);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        self.ready += 1;
        // SAFETY: `entries` is the first entry of the ring, whose last field is the tail: an aligned
        // u16 that the kernel reads and we write, atomically on both sides.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Where a buffer begins.
    fn start(&self, index: u16) -> *mut u8 {
        let offset = usize::from(index) * SIZE as usize;
        self.memory.cast::<u8>().as_ptr().wrapping_add(offset)
    }

    /// Frees all of it.
    ///
    /// # Safety
    /// The kernel has let go of ring and buffers: no operation that takes from them runs or can be
    /// submitted any more. Nothing is called afterwards.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: both are from `Box::leak` in `register`, and by the caller's word nobody else has
        // them, nor will this be called again.
        unsafe {
            drop(Box::from_raw(self.ring.as_ptr()));
            drop(Box::from_raw(self.memory.as_ptr()));
        }
    }
}
