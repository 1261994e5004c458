//! A ZMTP connection with the NULL mechanism, sans-IO: bytes in, messages out (RFC 23/ZMTP, "The NULL
//! security mechanism"; `../shared/protocol/session-node.md`, 5.1). This is how a node talks to its
//! chain daemon.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use super::{
    Assembler, Decoder, Frame, HANDSHAKE_SIZE_MAX, MESSAGE_SIZE_MAX, Mechanism, ZmtpError,
    find_property, join_command, join_metadata, split_command,
};

/// Longest routing id of ZMTP.
pub const IDENTITY_SIZE_MAX: usize = 255;
/// Longest context of a PING (RFC 37).
const PING_CONTEXT_SIZE_MAX: usize = 16;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The peer broke the rules of ZMTP.
    #[error("peer misbehaved: {0}")]
    Zmtp(ZmtpError),
    /// A frame or command came where it has no place.
    #[error("peer misbehaved: command is out of turn")]
    OutOfTurn,
    /// The peer's socket is of a type that does not talk to ours.
    #[error("peer is neither DEALER nor ROUTER")]
    SocketType,
    /// The peer's routing id is longer than [`IDENTITY_SIZE_MAX`].
    #[error("peer's routing id is too long")]
    Identity,
    /// The peer ended the handshake with an ERROR command.
    #[error("peer refused the handshake")]
    Refused,
    /// The connection ended in an error before.
    #[error("connection has ended")]
    Ended,
}

impl From<ZmtpError> for ConnectionError {
    fn from(error: ZmtpError) -> Self {
        Self::Zmtp(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitGreeting,
    AwaitReady,
    Ready,
    Ended,
}

/// One connection, either side. Both sides send and receive messages alike once it is ready. It has no
/// `Debug`: keys go through it.
pub struct Connection {
    state: State,
    socket_type: &'static str,
    identity: Vec<u8>,
    peer_identity: Bytes,
    decoder: Decoder,
    assembler: Assembler,
    messages: VecDeque<Vec<Bytes>>,
    output: Vec<u8>,
}

impl Connection {
    /// The side that connects: a DEALER. `identity` is its routing id; an empty one leaves the choice
    /// to the peer.
    ///
    /// # Panics
    /// When `identity` is longer than [`IDENTITY_SIZE_MAX`].
    pub fn dealer(identity: &[u8]) -> Self {
        assert!(
            identity.len() <= IDENTITY_SIZE_MAX,
            "a routing id has its limit"
        );
        Self::new("DEALER", identity)
    }

    /// The side that listens: a ROUTER.
    pub fn router() -> Self {
        Self::new("ROUTER", b"")
    }

    fn new(socket_type: &'static str, identity: &[u8]) -> Self {
        Self {
            state: State::AwaitGreeting,
            socket_type,
            identity: identity.to_vec(),
            peer_identity: Bytes::new(),
            decoder: Decoder::new(),
            assembler: Assembler::default(),
            messages: VecDeque::new(),
            output: Mechanism::Null.greeting(false).to_vec(),
        }
    }

    /// Takes bytes that arrived, however they are cut. After an error the connection is dead. Take
    /// the messages after each call.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<(), ConnectionError> {
        if self.state == State::Ended {
            return Err(ConnectionError::Ended);
        }
        self.decoder.handle_bytes(input);
        let result = self.handle_buffered();
        if result.is_err() {
            self.state = State::Ended;
            self.decoder = Decoder::new();
            self.assembler = Assembler::default();
        }
        result
    }

    /// The next whole message, in the order of arrival.
    pub fn poll_message(&mut self) -> Option<Vec<Bytes>> {
        self.messages.pop_front()
    }

    /// Writes a message into the output.
    ///
    /// # Panics
    /// When the handshake is not done, the message has no part, or is larger than
    /// [`MESSAGE_SIZE_MAX`]: our own faults.
    pub fn send(&mut self, parts: &[Bytes]) {
        if self.state == State::Ended {
            // A connection that just ended takes what was on its way to it, and drops it.
            return;
        }
        assert!(self.is_ready(), "send comes after the handshake");
        let size: usize = parts.iter().map(Bytes::len).sum();
        assert!(
            !parts.is_empty() && size <= MESSAGE_SIZE_MAX,
            "a message has parts and a limit"
        );
        for (part, left) in parts.iter().zip((0..parts.len()).rev()) {
            let frame = Frame {
                more: left > 0,
                command: false,
                body: part.clone(),
            };
            frame.encode(&mut self.output);
        }
    }

    /// Sends a ZMTP PING, which the peer's stack answers with PONG.
    pub fn send_ping(&mut self) {
        /// The peer may end the connection when it hears nothing for so long (tenths of a second).
        const TTL: [u8; 2] = 300_u16.to_be_bytes();
        if self.is_ready() {
            self.send_command(join_command("PING", &TTL));
        }
    }

    /// Bytes to be written to the socket now; empty when there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The routing id that the peer asked for; empty before the handshake is done, or when it asked
    /// for none.
    pub fn peer_identity(&self) -> &[u8] {
        &self.peer_identity
    }

    fn handle_buffered(&mut self) -> Result<(), ConnectionError> {
        if self.state == State::AwaitGreeting {
            let Some(greeting) = self.decoder.poll_greeting()? else {
                return Ok(());
            };
            Mechanism::Null.check_greeting(&greeting)?;
            self.state = State::AwaitReady;
            let metadata = join_metadata([
                ("Socket-Type", self.socket_type.as_bytes()),
                ("Identity", self.identity.as_slice()),
            ]);
            self.send_command(join_command("READY", &metadata));
        }
        loop {
            let limit = if self.is_ready() {
                MESSAGE_SIZE_MAX
            } else {
                HANDSHAKE_SIZE_MAX
            };
            let Some(frame) = self.decoder.poll_frame(limit)? else {
                return Ok(());
            };
            self.handle_frame(frame)?;
        }
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        if !frame.command {
            if !self.is_ready() {
                return Err(ConnectionError::OutOfTurn);
            }
            if let Some(message) = self.assembler.handle_part(frame.body, frame.more)? {
                self.messages.push_back(message);
            }
            return Ok(());
        }
        match (self.state, split_command(&frame.body)?) {
            (State::AwaitReady, (b"READY", metadata)) => self.handle_ready(metadata),
            (State::AwaitReady, (b"ERROR", _)) => Err(ConnectionError::Refused),
            // A TTL that only the peer's timer needs, and some bytes to be echoed.
            (State::Ready, (b"PING", [_, _, context @ ..]))
                if context.len() <= PING_CONTEXT_SIZE_MAX =>
            {
                let pong = join_command("PONG", context);
                self.send_command(pong);
                Ok(())
            }
            (State::Ready, (b"PONG", _)) => Ok(()),
            _ => Err(ConnectionError::OutOfTurn),
        }
    }

    fn handle_ready(&mut self, metadata: &[u8]) -> Result<(), ConnectionError> {
        match find_property(metadata, "Socket-Type")? {
            Some(b"DEALER" | b"ROUTER") => {}
            _ => return Err(ConnectionError::SocketType),
        }
        let identity = find_property(metadata, "Identity")?.unwrap_or_default();
        if identity.len() > IDENTITY_SIZE_MAX {
            return Err(ConnectionError::Identity);
        }
        self.peer_identity = Bytes::copy_from_slice(identity);
        self.state = State::Ready;
        Ok(())
    }

    fn send_command(&mut self, body: Vec<u8>) {
        let frame = Frame {
            more: false,
            command: true,
            body: body.into(),
        };
        frame.encode(&mut self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PART_COUNT_MAX;
    use super::*;

    fn ready() -> (Connection, Connection) {
        let mut dealer = Connection::dealer(b"us");
        let mut router = Connection::router();
        while !dealer.is_ready() || !router.is_ready() {
            router.handle_bytes(&dealer.take_output()).unwrap();
            dealer.handle_bytes(&router.take_output()).unwrap();
        }
        (dealer, router)
    }

    /// A ROUTER that has seen a good greeting.
    fn greeted() -> Connection {
        let mut router = Connection::router();
        let greeting = Mechanism::Null.greeting(false);
        router.handle_bytes(&greeting).unwrap();
        router
    }

    fn frame(body: &[u8], more: bool, command: bool) -> Vec<u8> {
        let frame = Frame {
            more,
            command,
            body: Bytes::copy_from_slice(body),
        };
        let mut output = Vec::new();
        frame.encode(&mut output);
        output
    }

    fn ready_command(socket_type: &[u8], identity: &[u8]) -> Vec<u8> {
        let metadata = join_metadata([("Socket-Type", socket_type), ("Identity", identity)]);
        frame(&join_command("READY", &metadata), false, true)
    }

    #[test]
    fn messages_of_all_sizes_go_both_ways_however_they_are_cut() {
        let (mut dealer, mut router) = ready();
        assert_eq!(router.peer_identity(), b"us");
        assert_eq!(dealer.peer_identity(), b"");
        let sizes = [0, 1, 255, 256, 70_000];
        let parts: Vec<Bytes> = sizes.map(|size| vec![7; size].into()).into();
        dealer.send(&parts);
        for byte in dealer.take_output() {
            router.handle_bytes(&[byte]).unwrap();
        }
        assert_eq!(router.poll_message().as_deref(), Some(&parts[..]));
        assert_eq!(router.poll_message(), None);
        router.send(&parts);
        router.send(&parts[..1]);
        dealer.handle_bytes(&router.take_output()).unwrap();
        assert_eq!(dealer.poll_message().as_deref(), Some(&parts[..]));
        assert_eq!(dealer.poll_message().as_deref(), Some(&parts[..1]));
    }

    #[test]
    fn a_ping_is_echoed_with_its_context() {
        let (mut dealer, mut router) = ready();
        dealer.send_ping();
        router.handle_bytes(&dealer.take_output()).unwrap();
        let pong = router.take_output();
        assert_eq!(pong, frame(b"\x04PONG", false, true));
        dealer.handle_bytes(&pong).unwrap();
        let ping = frame(b"\x04PING\x00\x10sixteen bytes ok", false, true);
        router.handle_bytes(&ping).unwrap();
        let pong = frame(b"\x04PONGsixteen bytes ok", false, true);
        assert_eq!(router.take_output(), pong);
    }

    #[test]
    fn strangers_are_cut_off_in_the_handshake() {
        let long = [7; IDENTITY_SIZE_MAX + 1];
        let large = [5; HANDSHAKE_SIZE_MAX + 1];
        let command = |body: &[u8]| frame(body, false, true);
        let table = [
            (ready_command(b"SUB", b""), ConnectionError::SocketType),
            (command(b"\x05READY"), ConnectionError::SocketType),
            (ready_command(b"DEALER", &long), ConnectionError::Identity),
            (command(b"\x05ERROR"), ConnectionError::Refused),
            (frame(b"HI", false, false), ConnectionError::OutOfTurn),
            (command(b"\x04PING\0\0"), ConnectionError::OutOfTurn),
            (command(&large), ConnectionError::Zmtp(ZmtpError::Size)),
        ];
        for (bytes, error) in table {
            let mut router = greeted();
            assert_eq!(router.handle_bytes(&bytes), Err(error));
            assert_eq!(router.handle_bytes(b"x"), Err(ConnectionError::Ended));
        }
        let curve = Mechanism::Curve.greeting(true);
        let refused = Err(ConnectionError::Zmtp(ZmtpError::Mechanism));
        assert_eq!(Connection::router().handle_bytes(&curve), refused);
    }

    #[test]
    fn peers_that_misbehave_are_cut_off() {
        let commands = [
            &b"\x04PING"[..],
            b"\x04PING\x00",
            b"\x04PING\x00\x10seventeen letters",
            b"\x05READY",
            b"",
        ];
        for command in commands {
            let (_, mut router) = ready();
            let command = frame(command, false, true);
            assert!(router.handle_bytes(&command).is_err());
            assert!(router.take_output().is_empty());
        }
        let (_, mut router) = ready();
        for _ in 0..PART_COUNT_MAX {
            assert_eq!(router.handle_bytes(&frame(b"", true, false)), Ok(()));
        }
        let refused = Err(ConnectionError::Zmtp(ZmtpError::PartCount));
        assert_eq!(router.handle_bytes(&frame(b"", false, false)), refused);
        assert_eq!(router.poll_message(), None);
    }
}
