//! Messages as the kernel takes them, each a run of datagrams to one peer. Their bytes are not copied:
//! the kernel gathers them from the slots.

use core::marker::PhantomData;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::name::{CONTROL_SIZE, Control, NAME_SIZE, Name, write_name, write_segment_size};
use super::runs::{Grouper, RUN_COUNT_MAX, run_count};
use super::socket;
use super::statistics::IoStatistics;
use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Datagram};

/// A message: so many datagrams of the order, from a place in it.
#[derive(Clone, Copy)]
struct Run {
    begin: usize,
    count: usize,
    bytes: usize,
}

/// Room for the messages of a batch, bought once.
pub(super) struct Outgoing {
    grouper: Grouper,
    order: Vec<u16>,
    runs: Vec<Run>,
    /// What is sent once more, one by one: runs that the way to the peer does not take.
    again: Vec<u16>,
    is_again: bool,
    run_count_max: usize,
    is_ipv6: bool,
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
}

impl Outgoing {
    /// For a socket of IPv6 or IPv4.
    pub(super) fn new(is_ipv6: bool) -> Self {
        const COUNT: usize = BATCH_CAPACITY_MAX;
        let iovec = libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            grouper: Grouper::new(),
            order: Vec::with_capacity(COUNT),
            runs: Vec::with_capacity(COUNT),
            again: Vec::with_capacity(COUNT),
            is_again: false,
            run_count_max: RUN_COUNT_MAX,
            is_ipv6,
            headers: (0..COUNT).map(|_| socket::empty_header()).collect(),
            iovecs: vec![iovec; COUNT].into_boxed_slice(),
            names: vec![Name([0; NAME_SIZE]); COUNT].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_SIZE]); COUNT].into_boxed_slice(),
        }
    }

    /// Makes messages of those of these datagrams, of which there are at most [`BATCH_CAPACITY_MAX`],
    /// whose indexes are given.
    pub(super) fn prepare<'a>(
        &'a mut self,
        datagrams: &'a [Datagram],
        indexes: impl Iterator<Item = u16>,
        statistics: &'a mut IoStatistics,
    ) -> Prepared<'a> {
        self.order.clear();
        let order = self.grouper.order(datagrams, indexes);
        self.order.extend_from_slice(order);
        self.is_again = false;
        self.lay_out(datagrams, self.run_count_max)
            .prepared(statistics)
    }

    /// Makes messages of those that are to be sent once more, if there are any.
    pub(super) fn prepare_again<'a>(
        &'a mut self,
        datagrams: &'a [Datagram],
        statistics: &'a mut IoStatistics,
    ) -> Option<Prepared<'a>> {
        if self.again.is_empty() {
            return None;
        }
        self.order.clear();
        self.order.append(&mut self.again);
        self.is_again = true;
        Some(self.lay_out(datagrams, 1).prepared(statistics))
    }

    const fn prepared<'a>(&'a mut self, statistics: &'a mut IoStatistics) -> Prepared<'a> {
        Prepared {
            outgoing: self,
            statistics,
            sent: 0,
            datagrams: PhantomData,
        }
    }

    /// Lays out runs of the order.
    fn lay_out(&mut self, datagrams: &[Datagram], count_max: usize) -> &mut Self {
        self.runs.clear();
        let mut begin = 0;
        while let Some(rest) = self.order.get(begin..).filter(|rest| !rest.is_empty()) {
            let count = run_count(rest, datagrams, count_max).max(1);
            self.lay_out_run(begin, count, datagrams);
            begin += count;
        }
        // From here on the arrays are only read: what the headers point to stays.
        let iovecs = self.iovecs.as_mut_ptr();
        let names = self.names.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        for ((index, run), header) in self.runs.iter().enumerate().zip(&mut self.headers) {
            let header = &mut header.msg_hdr;
            header.msg_iov = iovecs.wrapping_add(run.begin);
            header.msg_name = names.wrapping_add(index).cast();
            header.msg_control = if header.msg_controllen == 0 {
                core::ptr::null_mut()
            } else {
                controls.wrapping_add(index).cast()
            };
        }
        self
    }

    /// Lays out one, without its pointers.
    fn lay_out_run(&mut self, begin: usize, count: usize, datagrams: &[Datagram]) {
        let message = self.runs.len();
        let of_run = self.order.get(begin..begin + count).unwrap_or_default();
        let of_run = of_run
            .iter()
            .filter_map(|index| datagrams.get(usize::from(*index)));
        let mut first: Option<&Datagram> = None;
        let mut bytes = 0;
        let iovecs = self.iovecs.get_mut(begin..).unwrap_or_default();
        for (datagram, iovec) in of_run.zip(iovecs) {
            first = first.or(Some(datagram));
            bytes += datagram.bytes().len();
            iovec.iov_base = datagram.bytes().as_ptr().cast_mut().cast();
            iovec.iov_len = datagram.bytes().len();
        }
        let (Some(first), Some(header), Some(name), Some(control)) = (
            first,
            self.headers.get_mut(message),
            self.names.get_mut(message),
            self.controls.get_mut(message),
        ) else {
            return;
        };
        let name_size = write_name(name, first.peer(), self.is_ipv6);
        header.msg_hdr.msg_namelen = u32::try_from(name_size).unwrap_or_default();
        header.msg_hdr.msg_iovlen = count;
        header.msg_hdr.msg_controllen = if count > 1 {
            // A datagram's size is far below 2^16.
            write_segment_size(
                control,
                u16::try_from(first.bytes().len()).unwrap_or_default(),
            )
        } else {
            0
        };
        header.msg_hdr.msg_flags = 0;
        header.msg_len = 0;
        self.runs.push(Run {
            begin,
            count,
            bytes,
        });
    }
}

/// Messages that are ready to be sent, while their datagrams are not changed.
pub(super) struct Prepared<'a> {
    outgoing: &'a mut Outgoing,
    statistics: &'a mut IoStatistics,
    sent: usize,
    datagrams: PhantomData<&'a [Datagram]>,
}

impl Prepared<'_> {
    /// How many messages there are.
    pub(super) const fn len(&self) -> usize {
        self.outgoing.runs.len()
    }

    /// How many datagrams went.
    pub(super) const fn sent(&self) -> usize {
        self.sent
    }

    /// One message: it and all that it points to is live, and not changed, as long as this is borrowed.
    pub(super) fn header(&self, message: usize) -> Option<*const libc::msghdr> {
        let header = self.outgoing.headers.get(message)?;
        (message < self.len()).then_some(&raw const header.msg_hdr)
    }

    /// The messages from one on, with the same promise.
    pub(super) fn headers_from(&mut self, message: usize) -> &mut [libc::mmsghdr] {
        let range = message..self.outgoing.runs.len();
        self.outgoing.headers.get_mut(range).unwrap_or_default()
    }

    /// Hands all messages to a socket, from the first; what does not fit is dropped.
    pub(super) fn send_all(&mut self, to: BorrowedFd<'_>) {
        let mut message = 0;
        while message < self.len() {
            match socket::send(to, self, message) {
                Ok(count) => {
                    for taken in message..message + count {
                        self.settle(taken, Ok(()));
                    }
                    // The kernel never says that it took none; that would be no progress.
                    message += count.max(1);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    for dropped in message..self.len() {
                        self.settle(dropped, Err(&error));
                    }
                    return;
                }
                Err(error) => {
                    self.settle(message, Err(&error));
                    message += 1;
                }
            }
        }
    }

    /// What became of a message.
    pub(super) fn settle(&mut self, message: usize, result: Result<(), &io::Error>) {
        let Some(run) = self.outgoing.runs.get(message).copied() else {
            return;
        };
        let error = match result {
            Ok(()) => {
                self.sent += run.count;
                self.statistics.sent += run.count as u64;
                self.statistics.sent_bytes += run.bytes as u64;
                return;
            }
            Err(error) => error,
        };
        if !self.outgoing.is_again && is_worth_again(error, run.count) {
            if Errno::from_io_error(error) == Some(Errno::IO) {
                // The device can't compute checksums, so the kernel can't cut for it.
                self.outgoing.run_count_max = 1;
            }
            let of_run = run.begin..run.begin + run.count;
            let again = self.outgoing.order.get(of_run).unwrap_or_default();
            self.outgoing.again.extend_from_slice(again);
        } else {
            self.statistics.failures.count(error, run.count as u64);
        }
    }
}

/// Whether a message may go if it is sent once more, its datagrams one by one: where the kernel can't cut
/// it (no checksums, an MTU too small for one datagram of a run), or where the error tells of an earlier
/// datagram.
fn is_worth_again(error: &io::Error, count: usize) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => true,
        Some(Errno::IO | Errno::INVAL | Errno::MSGSIZE | Errno::OPNOTSUPP) => count > 1,
        _ => false,
    }
}
