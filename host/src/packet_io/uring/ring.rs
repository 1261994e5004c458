//! The ring itself: what is submitted, and what has completed.
#![expect(
    unsafe_code,
    reason = "whoever submits vouches for what an operation points to"
)]

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd as _;

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use socket2::Socket;

use super::buffers::{self, Buffers, Filled};
use crate::packet_io::cut::{Cut, deliver};
use crate::packet_io::mmsg::is_passing;
use crate::packet_io::name::{CONTROL_SIZE, NAME_SIZE, read_name, read_segment_size};
use crate::packet_io::outgoing::Prepared;
use crate::packet_io::socket;
use crate::packet_io::statistics::IoStatistics;
use crate::packet_io::waker::Waker;
use cepa_relay::packet::batch::Batch;

/// Operations that are submitted at a time: more sends go in several turns.
const SUBMISSION_COUNT: u32 = 256;

/// Completions that fit: one for each buffer, for each send of a batch, and room to spare.
const COMPLETION_COUNT: u32 = 4096;

/// How often in a row submitting may bring nothing, before the ring is given up. The kernel refuses
/// while it has no memory.
const TRY_COUNT: usize = 64;

/// What the kernel can count to, and longer than anybody waits.
const WAIT_MAX: Duration = Duration::from_hours(24 * 365);

/// How long a send is waited for that did not complete as it was submitted. None is known to.
const SEND_WAIT: Duration = Duration::from_millis(10);

const SOCKET: Fixed = Fixed(0);
const WAKER: Fixed = Fixed(1);

/// Whose a completion is; below these, it is the send of that number.
const RECEIVE: u64 = u64::MAX;
const WATCH: u64 = u64::MAX - 1;

/// The ring and its buffers.
pub(super) struct Ring {
    kernel: IoUring,
    buffers: Buffers,
    /// What the receive says of names and control messages. It has no pointers.
    header: Box<libc::msghdr>,
    /// At most as many as there are buffers.
    filled: VecDeque<Filled>,
    /// How far the first of those is delivered.
    cut: Option<(SocketAddr, Cut)>,
    is_receiving: bool,
    is_watching: bool,
    is_woken: bool,
    exhausted: u64,
    waker: Waker,
    /// What ended this ring. Nothing is submitted afterwards: what lies there may point to what is gone.
    failure: Option<Errno>,
}

impl Ring {
    /// Makes it and begins to receive; an error is that of a kernel that can't or may not.
    pub(super) fn open(socket: &Socket, waker: Waker) -> io::Result<Self> {
        let kernel = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_COUNT)
            .build(SUBMISSION_COUNT)?;
        let files = [socket.as_raw_fd(), waker.fd().as_raw_fd()];
        kernel.submitter().register_files(&files)?;
        let buffers = Buffers::register(&kernel)?;
        let mut header = Box::new(socket::empty_header().msg_hdr);
        header.msg_namelen = u32::try_from(NAME_SIZE).unwrap_or_default();
        header.msg_controllen = CONTROL_SIZE;
        let mut ring = Self {
            kernel,
            buffers,
            header,
            filled: VecDeque::with_capacity(usize::from(buffers::COUNT)),
            cut: None,
            is_receiving: false,
            is_watching: false,
            is_woken: false,
            exhausted: 0,
            waker,
            failure: None,
        };
        ring.arm();
        ring.enter(None)?;
        // A kernel without multishot receives refuses them as they are submitted.
        ring.reap(None)?;
        Ok(ring)
    }

    /// How often there was no buffer to receive into.
    pub(super) const fn exhausted(&self) -> u64 {
        self.exhausted
    }

    /// Puts what is there into slots, as far as they are free.
    pub(super) fn receive(
        &mut self,
        batch: &mut Batch,
        statistics: &mut IoStatistics,
    ) -> io::Result<()> {
        self.reap(None)?;
        self.deliver(batch, statistics);
        // What the kernel has put off comes only with an enter; it says whether there is any.
        if !batch.is_full() && (self.kernel.submission().taskrun() || !self.is_receiving) {
            self.arm();
            self.enter(None)?;
            self.reap(None)?;
            self.deliver(batch, statistics);
        }
        Ok(())
    }

    /// Waits until something is received or somebody wakes, or did since the last wait.
    pub(super) fn wait(&mut self, wait: Duration) -> io::Result<()> {
        if !self.is_woken {
            self.arm();
            self.enter(Some(wait))?;
            self.reap(None)?;
        }
        self.is_woken = false;
        Ok(())
    }

    /// Sends messages and settles all of them.
    pub(super) fn send_all(&mut self, prepared: &mut Prepared<'_>) -> io::Result<()> {
        let mut pushed = 0;
        let mut settled = 0;
        let mut tries = 0;
        while settled < prepared.len() {
            while let Some(header) = prepared.header(pushed) {
                let send = opcode::SendMsg::new(SOCKET, header)
                    .flags(libc::MSG_DONTWAIT.cast_unsigned())
                    .build()
                    .user_data(pushed as u64);
                // SAFETY: the header and what it points to is borrowed by `prepared` until this returns. It
                // returns when all sends have completed; or with a failure, after which what was
                // not yet submitted never is. What was, is over too: by `MSG_DONTWAIT` it completes while
                // it is submitted.
                if !unsafe { self.push(&send) } {
                    break;
                }
                pushed += 1;
            }
            self.enter((tries > 0).then_some(SEND_WAIT))?;
            let count = self.reap(Some(prepared))?;
            settled += count;
            tries = if count > 0 { 0 } else { tries + 1 };
            if tries > TRY_COUNT {
                return self.fail(Errno::AGAIN);
            }
        }
        Ok(())
    }

    /// Submits what is to be submitted and runs what the kernel has put off; if there is a time, waits as
    /// long for a completion.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if let Some(errno) = self.failure {
            return Err(errno.into());
        }
        let entered = match wait {
            None => self.kernel.submitter().submit_and_wait(0),
            Some(wait) => {
                let time = Timespec::from(wait.min(WAIT_MAX));
                let arguments = SubmitArgs::new().timespec(&time);
                self.kernel.submitter().submit_with_args(1, &arguments)
            }
        };
        let Err(error) = entered else {
            return Ok(());
        };
        match Errno::from_io_error(&error) {
            Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
            errno => self.fail(errno.unwrap_or(Errno::IO)),
        }
    }

    /// The ring is of no more use.
    fn fail(&mut self, errno: Errno) -> io::Result<()> {
        self.failure = Some(errno);
        Err(errno.into())
    }

    /// Begins what has ended: the receive, if there are buffers for it, and the watch of the eventfd.
    fn arm(&mut self) {
        if !self.is_receiving && self.buffers.ready() > 0 {
            let header = &raw const *self.header;
            let receive = opcode::RecvMsgMulti::new(SOCKET, header, buffers::GROUP).build();
            // SAFETY: the header lives as long as the ring. The kernel writes to the buffers alone, which
            // are freed when it has let go of them.
            self.is_receiving = unsafe { self.push(&receive.user_data(RECEIVE)) };
        }
        if !self.is_watching {
            let mask = u32::from(libc::POLLIN.cast_unsigned());
            let watch = opcode::PollAdd::new(WAKER, mask).multi(true).build();
            // SAFETY: the operation points to nothing.
            self.is_watching = unsafe { self.push(&watch.user_data(WATCH)) };
        }
    }

    /// Whether there was room.
    ///
    /// # Safety
    /// What the operation points to is live and not changed until its last completion.
    unsafe fn push(&mut self, operation: &squeue::Entry) -> bool {
        // SAFETY: the caller's word is what is asked for.
        unsafe { self.kernel.submission().push(operation) }.is_ok()
    }

    /// Takes completions; gives how many were of sends, which are settled.
    fn reap(&mut self, mut sends: Option<&mut Prepared<'_>>) -> io::Result<usize> {
        let mut failure = None;
        let mut count = 0;
        for completion in self.kernel.completion() {
            let result = completion.result();
            let error = (result < 0).then(|| io::Error::from_raw_os_error(-result));
            match completion.user_data() {
                RECEIVE => {
                    // SAFETY: it is a completion of the one operation that takes from the buffers, and
                    // just left the queue.
                    self.filled
                        .extend(unsafe { self.buffers.take(&completion) });
                    self.is_receiving = cqueue::more(completion.flags());
                    match error {
                        Some(_) if result == -libc::ENOBUFS => self.exhausted += 1,
                        Some(error) if !is_passing(&error) => {
                            failure = Errno::from_io_error(&error);
                        }
                        _ => {}
                    }
                }
                WATCH => {
                    self.is_watching = cqueue::more(completion.flags());
                    self.waker.take();
                    self.is_woken = true;
                }
                message => {
                    count += 1;
                    let message = usize::try_from(message).unwrap_or(usize::MAX);
                    if let Some(sends) = &mut sends {
                        sends.settle(message, error.as_ref().map_or(Ok(()), Err));
                    }
                }
            }
        }
        match failure {
            Some(errno) => self.fail(errno).map(|()| count),
            None => Ok(count),
        }
    }

    /// Puts what was received into slots, and gives the buffers back.
    fn deliver(&mut self, batch: &mut Batch, statistics: &mut IoStatistics) {
        while let Some(filled) = self.filled.front() {
            let message = RecvMsgOut::parse(self.buffers.bytes(filled), &self.header);
            let is_done = message.map_or(true, |message| {
                let payload = message.payload_data();
                if self.cut.is_none() {
                    let size = read_segment_size(message.control_data());
                    let peer = read_name(message.name_data());
                    self.cut = peer.map(|peer| (peer, Cut::new(payload.len(), size)));
                }
                self.cut
                    .as_mut()
                    .is_none_or(|(peer, cut)| deliver(payload, cut, *peer, batch, statistics))
            });
            if !is_done {
                return;
            }
            self.cut = None;
            if let Some(filled) = self.filled.pop_front() {
                self.buffers.give_back(filled);
            }
        }
    }
}

impl Drop for Ring {
    /// Buffers are freed when the receive has ended; if that can't be learnt, never.
    fn drop(&mut self) {
        let submitter = self.kernel.submitter();
        let cancelled = submitter.register_sync_cancel(None, CancelBuilder::any());
        for _ in 0..TRY_COUNT {
            if cancelled.is_err() || !self.is_receiving {
                break;
            }
            if self.enter(Some(SEND_WAIT)).is_err() || self.reap(None).is_err() {
                break;
            }
        }
        let is_over = !self.is_receiving;
        if is_over
            && self
                .kernel
                .submitter()
                .unregister_buf_ring(buffers::GROUP)
                .is_ok()
        {
            // SAFETY: the one operation that takes from the buffers has had its last completion, none is
            // submitted any more, the kernel has forgotten the ring, and `self` is going.
            unsafe { self.buffers.free() };
        }
    }
}
