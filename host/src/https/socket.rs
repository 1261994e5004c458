//! hyper's view of a TLS stream on glommio.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, IoSlice};
use std::rc::Rc;

use futures_rustls::server::TlsStream;
use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::connections::Seat;

/// One read: a request's head, or a piece of its body. Copied once more into hyper's buffer, which
/// keeps this file free of unsafe code; 8 KiB cost a quarter of a microsecond. Small writes are gathered
/// in the same buffer.
const READ_SIZE: usize = 8 << 10;

/// A TLS stream with the traits of hyper, which tells its seat what it sees: the first byte of a head, the
/// last of an answer.
pub(crate) struct Socket {
    stream: TlsStream<TcpStream>,
    buffer: Box<[u8]>,
    seat: Rc<Seat>,
}

impl Socket {
    pub(crate) fn new(stream: TlsStream<TcpStream>, seat: Rc<Seat>) -> Self {
        Self {
            stream,
            buffer: vec![0; READ_SIZE].into(),
            seat,
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = cursor.remaining().min(this.buffer.len());
        let (buffer, _) = this.buffer.split_at_mut(room);
        let size = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        cursor.put_slice(buffer.get(..size).unwrap_or_default());
        if size > 0 {
            this.seat.handle_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// hyper copies answers into a buffer that it keeps for the life of the connection, unless it may
    /// hand over head and body by themselves.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A head and the beginning of its body go in one TLS record; the rest of a large body goes without
    /// a copy.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut slices = slices.iter().filter(|slice| !slice.is_empty());
        let first = slices.next().map_or(&[][..], |slice| slice);
        let mut size = 0;
        if first.len() < this.buffer.len() {
            for slice in core::iter::once(first).chain(slices.map(|slice| &**slice)) {
                let (_, room) = this.buffer.split_at_mut(size);
                let taken = slice.len().min(room.len());
                let ((room, _), (slice, _)) = (room.split_at_mut(taken), slice.split_at(taken));
                room.copy_from_slice(slice);
                size += taken;
            }
        }
        let gathered = this
            .buffer
            .get(..size)
            .filter(|gathered| !gathered.is_empty());
        Pin::new(&mut this.stream).poll_write(cx, gathered.unwrap_or(first))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.seat.handle_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
