//! The UDP socket of a tile, and the system calls for it that no library wraps.
#![expect(
    unsafe_code,
    reason = "UDP_GRO, SO_MEMINFO, recvmmsg and sendmmsg have no safe wrapper"
)]

use core::net::SocketAddr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::mmsg::Incoming;
use super::outgoing::Prepared;
use super::{OpenError, PacketIoSettings};

/// Opens a socket that shares its port with those of the other tiles (`SO_REUSEPORT`).
pub(super) fn open(settings: &PacketIoSettings) -> Result<Socket, OpenError> {
    bind(settings).map_err(|source| OpenError::Bind {
        address: settings.address,
        source,
    })
}

fn bind(settings: &PacketIoSettings) -> io::Result<Socket> {
    let domain = Domain::for_address(settings.address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(true)?;
    if settings.address.is_ipv6() {
        // An unspecified address means both; a tile has one socket.
        socket.set_only_v6(false)?;
    }
    set_buffer_sizes(&socket, settings.socket_buffer_size)?;
    socket.bind(&settings.address.into())?;
    Ok(socket)
}

/// Asks for buffers of a size: past the machine's limit if we may, else up to it.
fn set_buffer_sizes(socket: &Socket, size: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        socket.set_recv_buffer_size(size)?;
    }
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, value).is_err() {
        socket.set_send_buffer_size(size)?;
    }
    Ok(())
}

/// Has the kernel join datagrams of one sender as they come (`UDP_GRO`).
pub(super) fn join_received(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// The address that a socket is bound to.
pub(super) fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn set_option(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<c_int>()` bytes at the pointer, which is to a live `c_int`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            socket_size::<libc::c_int>(),
        )
    };
    check(result).map(drop)
}

/// Datagrams that the kernel dropped since the socket's buffer was full (`SO_MEMINFO`); none if it does
/// not say.
pub(super) fn dropped(socket: &Socket) -> Option<u64> {
    /// Where `SO_MEMINFO` has it, and how many fields are asked for (`SK_MEMINFO_DROPS`).
    const DROPS: usize = 8;
    let mut fields = [0_u32; DROPS + 1];
    let mut size = socket_size::<[u32; DROPS + 1]>();
    // SAFETY: the kernel writes at most `size` bytes at the first pointer, which is to as many, and a
    // size at the second, which is to a live `socklen_t`. Any bytes are numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            (&raw mut fields).cast(),
            &raw mut size,
        )
    };
    let is_whole = result == 0 && size == socket_size::<[u32; DROPS + 1]>();
    is_whole.then(|| u64::from(fields[DROPS]))
}

/// A header that points to nothing.
pub(super) fn empty_header() -> libc::mmsghdr {
    // SAFETY: integers and pointers only: zeros are a value of it, with null pointers.
    unsafe { core::mem::zeroed() }
}

/// Receives messages into buffers, without waiting; gives how many.
pub(super) fn receive(from: BorrowedFd<'_>, into: &mut Incoming) -> io::Result<usize> {
    let headers = into.lay_out();
    let count = libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: there are at least `count` headers. `lay_out` has just pointed each to a buffer, a name and
    // a control message of the sizes that it says, all of them owned by `into`, which is borrowed.
    let result = unsafe {
        libc::recvmmsg(
            from.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
            core::ptr::null_mut(),
        )
    };
    check(result)
}

/// Sends messages from one on, without waiting; gives how many of them went.
pub(super) fn send(
    to: BorrowedFd<'_>,
    prepared: &mut Prepared<'_>,
    message: usize,
) -> io::Result<usize> {
    let headers = prepared.headers_from(message);
    let count = libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: there are at least `count` headers, and what they point to is live: `Prepared` borrows the
    // datagrams and owns the rest. The kernel writes to nothing but the headers.
    let result = unsafe {
        libc::sendmmsg(
            to.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    check(result)
}

fn check(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A size as sockets have it.
fn socket_size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}
