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

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Traffic, Traffic) {
        let agreed = || Agreed {
            key: Zeroizing::new([1; 32]),
            peer: X25519PublicKey([2; 32]),
            sent: 2,
            received: 2,
        };
        (Traffic::new(agreed(), false), Traffic::new(agreed(), true))
    }

    #[test]
    fn a_box_without_flags_is_refused() {
        let (client, mut server) = ends();
        let seal = |plaintext: &[u8]| {
            let nonce = short_nonce(client.send_prefix, 3);
            let sealed = secretbox_seal(&client.key, &nonce, plaintext);
            [3_u64.to_be_bytes().as_slice(), &sealed].concat()
        };
        let empty = server.open(&seal(b"")).map(|opened| opened.body);
        let short = Err(ConnectionError::PeerMisbehaved("MESSAGE is short"));
        assert_eq!(empty, short);
        let (_, mut server) = ends();
        let flags = server.open(&seal(b"\x01")).map(|opened| opened.more);
        assert_eq!(flags, Ok(true));
    }

    #[test]
    fn a_forged_number_does_not_lock_the_peer_out() {
        let (mut client, mut server) = ends();
        let mut forged = u64::MAX.to_be_bytes().to_vec();
        forged.extend([7; 40]);
        let refused = server.open(&forged).map(|opened| opened.body);
        assert_eq!(refused, Err(ConnectionError::Decrypt));
        let mut frame = Vec::new();
        client.seal(b"text", false, false, &mut frame);
        // Past the frame's head and the command's name.
        let opened = server.open(&frame[10..]).map(|opened| opened.body);
        assert_eq!(opened, Ok(Bytes::from_static(b"text")));
    }

    #[test]
    fn what_one_end_sent_does_not_come_back_as_the_others() {
        let (mut client, _) = ends();
        let mut frame = Vec::new();
        client.seal(b"text", false, false, &mut frame);
        let reflected = client.open(&frame[10..]).map(|opened| opened.body);
        assert_eq!(reflected, Err(ConnectionError::Decrypt));
    }
}
