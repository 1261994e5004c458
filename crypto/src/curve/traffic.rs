//! Messages after the handshake (RFC 26/CURVEZMQ, "MESSAGE"): a box each, its nonce a number that
//! only grows.

use bytes::{Buf as _, Bytes};
use cepa_wire::X25519PublicKey;
use cepa_wire::zmtp::encode_message_head;
use zeroize::Zeroizing;

use super::ConnectionError;
use super::handshake::{Agreed, short_nonce};
use crate::primitive::{TAG_SIZE, secretbox_open, secretbox_seal};

const NAME: &[u8] = b"\x07MESSAGE";
const NUMBER_SIZE: usize = 8;
/// What a MESSAGE adds to a part: name, number, tag, flags.
pub(super) const OVERHEAD: usize = NAME.len() + NUMBER_SIZE + TAG_SIZE + 1;

const FLAG_MORE: u8 = 1;
const FLAG_COMMAND: u8 = 2;

/// The two directions of a connection.
pub(super) struct Traffic {
    key: Zeroizing<[u8; 32]>,
    peer: X25519PublicKey,
    sent: u64,
    received: u64,
    send_prefix: [u8; 16],
    receive_prefix: [u8; 16],
}

/// What was in a MESSAGE.
pub(super) struct Opened {
    pub(super) more: bool,
    pub(super) command: bool,
    pub(super) body: Bytes,
}

impl Traffic {
    pub(super) fn new(agreed: Agreed, as_server: bool) -> Self {
        let (client, server) = (*b"CurveZMQMESSAGEC", *b"CurveZMQMESSAGES");
        let (send_prefix, receive_prefix) = if as_server {
            (server, client)
        } else {
            (client, server)
        };
        let Agreed {
            key,
            peer,
            sent,
            received,
        } = agreed;
        Self {
            key,
            peer,
            sent,
            received,
            send_prefix,
            receive_prefix,
        }
    }

    pub(super) const fn peer(&self) -> X25519PublicKey {
        self.peer
    }

    /// Appends a MESSAGE frame with `body` to `output`. libzmq sends them as ordinary frames.
    pub(super) fn seal(&mut self, body: &[u8], more: bool, command: bool, output: &mut Vec<u8>) {
        self.sent += 1;
        let flags = u8::from(more) * FLAG_MORE + u8::from(command) * FLAG_COMMAND;
        let plaintext = Zeroizing::new([&[flags], body].concat());
        let nonce = short_nonce(self.send_prefix, self.sent);
        let sealed = secretbox_seal(&self.key, &nonce, &plaintext);
        encode_message_head(NAME.len() + NUMBER_SIZE + sealed.len(), output);
        output.extend_from_slice(NAME);
        output.extend_from_slice(&self.sent.to_be_bytes());
        output.extend_from_slice(&sealed);
    }

    /// Opens what follows the name of a MESSAGE.
    pub(super) fn open(&mut self, data: &[u8]) -> Result<Opened, ConnectionError> {
        let (number, sealed) = data
            .split_first_chunk()
            .ok_or(ConnectionError::PeerMisbehaved("MESSAGE is short"))?;
        let number = u64::from_be_bytes(*number);
        if number <= self.received {
            return Err(ConnectionError::PeerMisbehaved("nonce does not grow"));
        }
        let nonce = short_nonce(self.receive_prefix, number);
        let plaintext = secretbox_open(&self.key, &nonce, sealed);
        let mut body = Bytes::from(plaintext.map_err(|_| ConnectionError::Decrypt)?);
        // Only a box that opened moves the window: a forged number must not lock the peer out.
        self.received = number;
        let flags = body.first().copied();
        let flags = flags.ok_or(ConnectionError::PeerMisbehaved("MESSAGE is short"))?;
        body.advance(1);
        Ok(Opened {
            more: flags & FLAG_MORE != 0,
            command: flags & FLAG_COMMAND != 0,
            body,
        })
    }
}
