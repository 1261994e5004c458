//! A ZMTP connection secured with CURVE, sans-IO: bytes in, messages out
//! (RFC 23/ZMTP, RFC 26/CURVEZMQ; `../shared/protocol/session-node.md`, 5.1).
//!
//! Before its key is proven a stranger can make us hold at most one frame of
//! [`HANDSHAKE_SIZE_MAX`] bytes.

mod handshake;
mod traffic;

use std::collections::VecDeque;

use bytes::Bytes;
use cepa_wire::X25519PublicKey;
use cepa_wire::zmtp::{
    self, Assembler, Decoder, Frame, HANDSHAKE_SIZE_MAX, MESSAGE_SIZE_MAX, ZmtpError,
    check_greeting, split_command,
};
use thiserror::Error;

use crate::X25519SecretKey;
use handshake::{Agreed, AwaitHello, AwaitInitiate, AwaitReady, AwaitWelcome};
use traffic::{Opened, Traffic};

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The peer's greeting, frame or command is malformed, too large or out of turn.
    #[error("peer misbehaved: {0}")]
    PeerMisbehaved(&'static str),
    /// The peer broke the rules of ZMTP.
    #[error("peer misbehaved: {0}")]
    Zmtp(ZmtpError),
    /// A box does not open: wrong server key, or bytes changed on the way.
    #[error("a CURVE box does not open")]
    Decrypt,
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

/// One connection, either side. Both sides send and receive messages alike once it is ready.
pub struct Connection {
    state: State,
    decoder: Decoder,
    greeted: bool,
    assembler: Assembler,
    messages: VecDeque<Vec<Bytes>>,
    output: Vec<u8>,
}

enum State {
    Client(Box<AwaitWelcome>),
    ClientInitiated(Box<AwaitReady>),
    Server(Box<AwaitHello>),
    ServerWelcomed(Box<AwaitInitiate>),
    Ready(Box<Traffic>),
    Ended,
}

impl Connection {
    /// The side that connects: a DEALER. `identity` is its routing id (`L` and its X25519 key between
    /// service nodes). `random` are the short-term key and a nonce.
    pub fn client(
        long_term: &X25519SecretKey,
        server: X25519PublicKey,
        identity: &[u8],
        random: [u8; 48],
    ) -> Self {
        let state = AwaitWelcome::new(long_term, server, identity, random);
        Self::new(State::Client(Box::new(state)), false)
    }

    /// The side that listens: a ROUTER. `random` are short-term key, cookie key and nonces.
    pub fn server(long_term: &X25519SecretKey, random: [u8; 96]) -> Self {
        Self::new(
            State::Server(Box::new(AwaitHello::new(long_term, random))),
            true,
        )
    }

    fn new(state: State, as_server: bool) -> Self {
        Self {
            state,
            decoder: Decoder::new(),
            greeted: false,
            assembler: Assembler::default(),
            messages: VecDeque::new(),
            output: zmtp::greeting(as_server).to_vec(),
        }
    }

    /// Takes bytes that arrived, however they are cut. After an error the connection is dead; what
    /// [`Self::take_output`] still has may be sent. Take the messages after each call.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<(), ConnectionError> {
        if matches!(self.state, State::Ended) {
            return Err(ConnectionError::Ended);
        }
        self.decoder.handle_bytes(input);
        let result = self.handle_buffered();
        if result.is_err() {
            self.state = State::Ended;
            self.decoder = Decoder::new();
        }
        result
    }

    /// The next whole message, in the order of arrival.
    pub fn poll_message(&mut self) -> Option<Vec<Bytes>> {
        self.messages.pop_front()
    }

    /// Encrypts a message into the output.
    ///
    /// # Panics
    /// When the handshake is not done, the message has no part, or is larger than
    /// [`MESSAGE_SIZE_MAX`]: our own faults.
    pub fn send(&mut self, parts: &[Bytes]) {
        let State::Ready(traffic) = &mut self.state else {
            // A connection that just ended takes what was on its way to it, and drops it.
            assert!(
                matches!(self.state, State::Ended),
                "send comes after the handshake"
            );
            return;
        };
        let size: usize = parts.iter().map(Bytes::len).sum();
        assert!(
            !parts.is_empty() && size <= MESSAGE_SIZE_MAX,
            "a message has parts and a limit"
        );
        for (index, part) in parts.iter().enumerate() {
            traffic.seal(part, index + 1 < parts.len(), false, &mut self.output);
        }
    }

    /// Sends a ZMTP PING, which the peer's stack answers with PONG.
    pub fn send_ping(&mut self) {
        /// The peer may end the connection when it hears nothing for so long (tenths of a second).
        const TTL: [u8; 2] = 300_u16.to_be_bytes();
        if let State::Ready(traffic) = &mut self.state {
            let ping = zmtp::join_command("PING", &TTL);
            traffic.seal(&ping, false, true, &mut self.output);
        }
    }

    /// Bytes of a message that has not ended yet.
    pub fn held_size(&self) -> usize {
        self.decoder.held_size() + self.assembler.held_size()
    }

    /// Bytes to be written to the socket now; empty when there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// Whether the handshake is done.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// The peer's long-term key, once it is proven.
    pub fn peer_key(&self) -> Option<X25519PublicKey> {
        match &self.state {
            State::Ready(traffic) => Some(traffic.peer()),
            _ => None,
        }
    }

    fn handle_buffered(&mut self) -> Result<(), ConnectionError> {
        if !self.greeted {
            let Some(greeting) = self.decoder.poll_greeting()? else {
                return Ok(());
            };
            check_greeting(&greeting)?;
            self.greeted = true;
            if let State::Client(client) = &self.state {
                let hello = client.hello()?;
                self.send_command(hello);
            }
        }
        loop {
            // What MESSAGE adds: its name, a nonce, the tag and a byte of flags.
            let limit = if self.is_ready() {
                MESSAGE_SIZE_MAX + traffic::OVERHEAD
            } else {
                HANDSHAKE_SIZE_MAX
            };
            let Some(frame) = self.decoder.poll_frame(limit)? else {
                return Ok(());
            };
            self.handle_frame(&frame)?;
        }
    }

    fn handle_frame(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        let (name, data) = split_command(&frame.body)?;
        if name == b"ERROR" && !self.is_ready() {
            return Err(ConnectionError::Refused);
        }
        match (core::mem::replace(&mut self.state, State::Ended), name) {
            (State::Client(state), b"WELCOME") => {
                let (next, initiate) = state.handle_welcome(data)?;
                self.state = State::ClientInitiated(Box::new(next));
                self.send_command(initiate);
            }
            (State::ClientInitiated(state), b"READY") => {
                self.agree(state.handle_ready(data)?, false);
            }
            (State::Server(state), b"HELLO") => {
                let (next, welcome) = state.handle_hello(data)?;
                self.state = State::ServerWelcomed(Box::new(next));
                self.send_command(welcome);
            }
            (State::ServerWelcomed(state), b"INITIATE") => {
                let (agreed, ready) = state.handle_initiate(data)?;
                self.send_command(ready);
                self.agree(agreed, true);
            }
            (State::Ready(mut traffic), b"MESSAGE") => {
                let opened = traffic.open(data)?;
                self.state = State::Ready(traffic);
                self.handle_opened(opened)?;
            }
            _ => return Err(ConnectionError::PeerMisbehaved("command is out of turn")),
        }
        Ok(())
    }

    fn handle_opened(&mut self, opened: Opened) -> Result<(), ConnectionError> {
        if !opened.command {
            if let Some(message) = self.assembler.handle_part(opened.body, opened.more)? {
                self.messages.push_back(message);
            }
            return Ok(());
        }
        match split_command(&opened.body)? {
            // PING: a TTL that only the peer's timer needs, and up to 16 bytes to be echoed.
            (b"PING", [_, _, context @ ..]) if context.len() <= 16 => {
                let pong = zmtp::join_command("PONG", context);
                if let State::Ready(traffic) = &mut self.state {
                    traffic.seal(&pong, false, true, &mut self.output);
                }
                Ok(())
            }
            (b"PONG", _) => Ok(()),
            _ => Err(ConnectionError::PeerMisbehaved("unknown command")),
        }
    }

    fn agree(&mut self, agreed: Agreed, as_server: bool) {
        self.state = State::Ready(Box::new(Traffic::new(agreed, as_server)));
    }

    fn send_command(&mut self, body: Vec<u8>) {
        Frame {
            more: false,
            command: true,
            body: body.into(),
        }
        .encode(&mut self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's end, which can seal what [`Connection`] never sends, and a server.
    fn ready() -> (Box<Traffic>, Connection) {
        let [client, server] = [1, 2].map(|byte| X25519SecretKey::from_bytes([byte; 32]));
        let mut client = Connection::client(&client, server.public_key(), b"", [3; 48]);
        let mut server = Connection::server(&server, [4; 96]);
        while !client.is_ready() {
            server.handle_bytes(&client.take_output()).unwrap();
            client.handle_bytes(&server.take_output()).unwrap();
        }
        match client.state {
            State::Ready(traffic) => (traffic, server),
            _ => unreachable!("the loop ends when it is ready"),
        }
    }

    fn sealed(traffic: &mut Traffic, body: &[u8], more: bool, command: bool) -> Vec<u8> {
        let mut output = Vec::new();
        traffic.seal(body, more, command, &mut output);
        output
    }

    #[test]
    fn a_ping_is_echoed_with_its_context() {
        for context in ["", "x", "sixteen bytes ok"] {
            let (mut client, mut server) = ready();
            let ping = [b"\x04PING\x00\x10", context.as_bytes()].concat();
            let ping = sealed(&mut client, &ping, false, true);
            server.handle_bytes(&ping).unwrap();
            let pong = server.take_output();
            // Past the frame's head and the command's name.
            let pong = client.open(&pong[10..]).unwrap();
            assert!(pong.command);
            assert_eq!(pong.body, [b"\x04PONG", context.as_bytes()].concat());
        }
    }

    #[test]
    fn proven_peers_that_misbehave_are_cut_off() {
        let commands = [
            &b"\x04PING"[..],
            b"\x04PING\x00",
            b"\x04PING\x00\x10seventeen letters",
            b"\x05HELLO",
            b"\x04PINGS",
            b"",
            b"\x09PING",
        ];
        for command in commands {
            let (mut client, mut server) = ready();
            let command = sealed(&mut client, command, false, true);
            assert!(server.handle_bytes(&command).is_err());
            assert!(server.take_output().is_empty());
            assert_eq!(server.poll_message(), None);
        }
    }

    #[test]
    fn messages_of_too_many_parts_or_bytes_are_refused() {
        let (mut client, mut server) = ready();
        for _ in 0..zmtp::PART_COUNT_MAX {
            let part = sealed(&mut client, b"", true, false);
            assert_eq!(server.handle_bytes(&part), Ok(()));
        }
        let part = sealed(&mut client, b"", false, false);
        let refused = Err(ConnectionError::Zmtp(ZmtpError::PartCount));
        assert_eq!(server.handle_bytes(&part), refused);

        let (mut client, mut server) = ready();
        let half = vec![0; MESSAGE_SIZE_MAX / 2];
        for _ in 0..2 {
            let part = sealed(&mut client, &half, true, false);
            assert_eq!(server.handle_bytes(&part), Ok(()));
        }
        let part = sealed(&mut client, b"x", false, false);
        let refused = Err(ConnectionError::Zmtp(ZmtpError::Size));
        assert_eq!(server.handle_bytes(&part), refused);
        assert_eq!(server.poll_message(), None);
    }
}
