//! One connection to oxend: a socket, and what makes messages of its bytes.

use core::time::Duration;
use std::io;

use bytes::Bytes;
use cepa_wire::omq::Message;
use cepa_wire::zmtp::null::{Connection, ConnectionError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::OxendAddress;

/// How long it takes at most until oxend has said HELLO.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long oxend may leave what we write unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// One read of the socket.
const READ_SIZE: usize = 64 << 10;

/// Why there is no connection, or no longer.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it does not speak OMQ without encryption: {0}")]
    Protocol(#[from] ConnectionError),
    #[error("it closed the connection")]
    Closed,
    #[error("it does not answer")]
    Silent,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that oxend has greeted.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    connection: Connection,
    /// Keys come through here.
    buffer: Zeroizing<Vec<u8>>,
}

impl Link {
    /// Connects, and greets as OMQ's clients do.
    pub(super) async fn open(address: &OxendAddress) -> Result<Self, LinkError> {
        timeout(HANDSHAKE_TIMEOUT, Self::shake_hands(address))
            .await
            .unwrap_or(Err(LinkError::Silent))
    }

    async fn shake_hands(address: &OxendAddress) -> Result<Self, LinkError> {
        let stream: Box<dyn Stream> = match address {
            OxendAddress::Ipc(path) => Box::new(UnixStream::connect(path).await?),
            OxendAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), port.get())).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        let mut link = Self {
            stream,
            // Without a routing id of ours: one that another connection has too would replace it.
            connection: Connection::dealer(b""),
            buffer: Zeroizing::new(vec![0; READ_SIZE]),
        };
        while !link.connection.is_ready() {
            link.flush().await?;
            link.read().await?;
        }
        link.send(&[Bytes::from_static(b"HI")]);
        loop {
            while let Some(message) = link.poll_message() {
                if message == Message::Hello {
                    return Ok(link);
                }
            }
            link.flush().await?;
            link.read().await?;
        }
    }

    /// Puts a message into the output; [`Self::flush`] sends it.
    pub(super) fn send(&mut self, parts: &[Bytes]) {
        self.connection.send(parts);
    }

    /// Puts a ZMTP ping into the output.
    pub(super) fn send_ping(&mut self) {
        self.connection.send_ping();
    }

    /// Writes the output. Not to be dropped half way.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        let output = self.connection.take_output();
        if output.is_empty() {
            return Ok(());
        }
        timeout(WRITE_TIMEOUT, self.stream.write_all(&output))
            .await
            .map_err(|_| LinkError::Silent)??;
        Ok(())
    }

    /// Waits for bytes and takes them. May be dropped at any time.
    pub(super) async fn read(&mut self) -> Result<(), LinkError> {
        let size = self.stream.read(&mut self.buffer).await?;
        if size == 0 {
            return Err(LinkError::Closed);
        }
        let input = self.buffer.get(..size).unwrap_or_default();
        Ok(self.connection.handle_bytes(input)?)
    }

    /// The next message that has arrived; what is none is passed over.
    pub(super) fn poll_message(&mut self) -> Option<Message> {
        loop {
            let parts = self.connection.poll_message()?;
            if let Some(message) = Message::parse(parts) {
                return Some(message);
            }
        }
    }

    /// Says good-bye, without waiting for an answer.
    pub(super) async fn close(mut self) {
        self.send(&[Bytes::from_static(b"BYE")]);
        // Who does not read it sees the end of the connection instead.
        drop(self.flush().await);
        drop(self.stream.shutdown().await);
    }
}
