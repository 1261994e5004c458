//! hyper's view of a TLS stream on glommio.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;
use std::rc::Rc;

use futures_rustls::server::TlsStream;
use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::connections::Seat;

/// One read: a request's head, or a piece of its body. Copied once more into hyper's buffer, which
/// keeps this file free of unsafe code; 8 KiB cost a quarter of a microsecond.
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.seat.handle_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
