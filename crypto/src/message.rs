//! Session 1:1 messages (`../shared/protocol/session-client.md`, section 2).
//!
//! Inside out: a text in a `Content`, padded; the sender's key and signature behind it; a sealed box
//! for the recipient; an `Envelope`; a `WebSocketMessage`. Nobody but the recipient learns the sender.

mod protobuf;

use cepa_wire::{Ed25519PublicKey, Mailbox, Signature, Timestamp, X25519PublicKey};
use prost::Message as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::{ed25519_to_x25519, verify};
use crate::primitive::{box_key, sealed_box_nonce, secretbox_open, secretbox_seal};
use crate::{Account, X25519SecretKey};
use protobuf::{Content, DataMessage, Envelope, WebSocketMessage, WebSocketRequest};

/// A padded content's size is one less than a multiple of this.
const PADDING_BLOCK: usize = 160;
/// Begins the padding.
const PADDING_MARK: u8 = 0x80;
/// `WebSocketMessage.type`: a request.
const REQUEST: u32 = 1;
/// `Envelope.type`: a message between two accounts.
const SESSION_MESSAGE: u32 = 6;
/// What follows the padded content: the sender's Ed25519 key and signature.
const TRAILER_SIZE: usize = Ed25519PublicKey::SIZE + Signature::SIZE;

/// Why a message can't be read (or written).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The recipient is no account.
    #[error("the recipient is not an account id (05...)")]
    Recipient,
    /// Not the format that it should be.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The sealed box does not open with our key.
    #[error("not sealed for this account")]
    NotForUs,
    /// The sender's signature does not verify.
    #[error("the sender's signature does not verify")]
    Signature,
    /// No text in it (a receipt, a call, a typing notice, ...).
    #[error("holds no text")]
    NoText,
}

/// A decrypted message whose sender is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who wrote it.
    pub sender: Mailbox,
    /// When, as the sender says.
    pub sent: Timestamp,
    /// The text.
    pub text: String,
}

/// Encrypts a text for `recipient`. The result is a `WebSocketMessage`: the raw `data` of `store`.
/// `ephemeral` are 32 random bytes for the sealed box.
pub fn encrypt(
    sender: &Account,
    recipient: &Mailbox,
    text: &str,
    sent: Timestamp,
    ephemeral: [u8; 32],
) -> Result<Vec<u8>, MessageError> {
    if recipient.prefix != Mailbox::ACCOUNT {
        return Err(MessageError::Recipient);
    }
    let recipient = X25519PublicKey(recipient.key);
    let millis = Some(sent.as_millis());
    let data_message = DataMessage {
        body: Some(text.to_owned()),
        timestamp: millis,
    };
    let content = Content {
        data_message: Some(data_message),
        sig_timestamp: millis,
    };
    let content = Zeroizing::new(content.encode_to_vec());
    let plaintext = sign(sender, &recipient, pad(&content));
    let sealed = seal(&recipient, &plaintext, ephemeral)?;
    let envelope = Envelope {
        kind: Some(SESSION_MESSAGE),
        source: Some(String::new()),
        timestamp: millis,
        content: Some(sealed),
    };
    let request = WebSocketRequest {
        verb: Some("PUT".to_owned()),
        path: Some("/api/v1/message".to_owned()),
        body: Some(envelope.encode_to_vec()),
        id: Some(0),
    };
    Ok(WebSocketMessage {
        kind: Some(REQUEST),
        request: Some(request),
    }
    .encode_to_vec())
}

/// Opens the raw `data` of a retrieved message.
pub fn decrypt(recipient: &Account, data: &[u8]) -> Result<Received, MessageError> {
    let message =
        WebSocketMessage::decode(data).map_err(|_| MessageError::Malformed("WebSocketMessage"))?;
    let body = message.request.and_then(|request| request.body);
    let body = body.ok_or(MessageError::Malformed("WebSocketMessage"))?;
    let envelope =
        Envelope::decode(body.as_slice()).map_err(|_| MessageError::Malformed("Envelope"))?;
    if envelope.kind != Some(SESSION_MESSAGE) {
        return Err(MessageError::Malformed("Envelope"));
    }
    let sealed = envelope
        .content
        .ok_or(MessageError::Malformed("Envelope"))?;
    let plaintext = open(recipient, &sealed)?;
    let (sender, padded) = check_signature(recipient, &plaintext)?;
    let content = unpad(padded).ok_or(MessageError::Malformed("padding"))?;
    let content = Content::decode(content).map_err(|_| MessageError::Malformed("Content"))?;
    let data_message = content.data_message.ok_or(MessageError::NoText)?;
    let text = data_message
        .body
        .filter(|text| !text.is_empty())
        .ok_or(MessageError::NoText)?;
    // What is signed counts before what only stands on the envelope.
    let sent = content
        .sig_timestamp
        .or(data_message.timestamp)
        .or(envelope.timestamp);
    Ok(Received {
        sender,
        sent: Timestamp::from_millis(sent.unwrap_or(0)),
        text,
    })
}

/// content ‖ 0x80 ‖ zeros, as the TypeScript clients pad.
fn pad(content: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = (content.len() + 2).next_multiple_of(PADDING_BLOCK) - 1;
    // With room for the trailer: a vector that grows leaves its old bytes behind.
    let mut padded = Zeroizing::new(Vec::with_capacity(size + TRAILER_SIZE));
    padded.extend_from_slice(content);
    padded.push(PADDING_MARK);
    padded.resize(size, 0);
    padded
}

fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let mark = padded.iter().rposition(|byte| *byte != 0)?;
    let (content, rest) = padded.split_at_checked(mark)?;
    (rest.first() == Some(&PADDING_MARK)).then_some(content)
}

/// padded ‖ `sender_ed_pk` ‖ Ed25519(padded ‖ `sender_ed_pk` ‖ `recipient_x_pk`)
fn sign(
    sender: &Account,
    recipient: &X25519PublicKey,
    mut padded: Zeroizing<Vec<u8>>,
) -> Zeroizing<Vec<u8>> {
    padded.extend_from_slice(sender.ed25519().public_key().as_bytes());
    let signed = Zeroizing::new([padded.as_slice(), recipient.as_bytes()].concat());
    padded.extend_from_slice(sender.ed25519().sign(&signed).as_bytes());
    padded
}

fn check_signature<'a>(
    recipient: &Account,
    plaintext: &'a [u8],
) -> Result<(Mailbox, &'a [u8]), MessageError> {
    let short = MessageError::Malformed("sealed content");
    let size = plaintext.len().checked_sub(TRAILER_SIZE).ok_or(short)?;
    let (padded, trailer) = plaintext.split_at(size);
    let (key, signature) = trailer.split_at(Ed25519PublicKey::SIZE);
    let key = Ed25519PublicKey::from_slice(key).ok_or(MessageError::Signature)?;
    let signature = Signature::from_slice(signature).ok_or(MessageError::Signature)?;
    let signed = [padded, &key.0, &recipient.id().key].concat();
    verify(&key, &signed, &signature).map_err(|_| MessageError::Signature)?;
    let sender = ed25519_to_x25519(&key).ok_or(MessageError::Signature)?;
    Ok((
        Mailbox {
            prefix: Mailbox::ACCOUNT,
            key: sender.0,
        },
        padded,
    ))
}

/// libsodium's `crypto_box_seal`: a box from a key that is thrown away.
fn seal(
    recipient: &X25519PublicKey,
    plaintext: &[u8],
    ephemeral: [u8; 32],
) -> Result<Vec<u8>, MessageError> {
    let ephemeral = X25519SecretKey::from_bytes(ephemeral);
    let public = ephemeral.public_key();
    let shared = ephemeral
        .diffie_hellman(recipient)
        .map_err(|_| MessageError::Recipient)?;
    let nonce = sealed_box_nonce(&public.0, &recipient.0);
    let sealed = secretbox_seal(&box_key(&shared), &nonce, plaintext);
    Ok([public.as_bytes().as_slice(), &sealed].concat())
}

fn open(recipient: &Account, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, MessageError> {
    let (public, sealed) = sealed.split_first_chunk().ok_or(MessageError::NotForUs)?;
    let shared = recipient.x25519().diffie_hellman(&X25519PublicKey(*public));
    let shared = shared.map_err(|_| MessageError::NotForUs)?;
    let nonce = sealed_box_nonce(public, &recipient.id().key);
    let plaintext = secretbox_open(&box_key(&shared), &nonce, sealed);
    plaintext
        .map(Zeroizing::new)
        .map_err(|_| MessageError::NotForUs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Timestamp = Timestamp::from_millis(1_800_000_000_123);

    fn accounts() -> (Account, Account) {
        (
            Account::from_entropy([1; 16]),
            Account::from_entropy([2; 16]),
        )
    }

    #[test]
    fn what_is_encrypted_is_decrypted_and_its_sender_known() {
        let (alice, bob) = accounts();
        for text in ["x", "Grüße, 世界 🧅", &"long ".repeat(2000)] {
            let data = encrypt(&alice, &bob.id(), text, SENT, [3; 32]).unwrap();
            let received = decrypt(&bob, &data).unwrap();
            let expected = Received {
                sender: alice.id(),
                sent: SENT,
                text: text.to_owned(),
            };
            assert_eq!(received, expected);
            assert_eq!(decrypt(&alice, &data), Err(MessageError::NotForUs));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed_or_harmless() {
        let (alice, bob) = accounts();
        let data = encrypt(&alice, &bob.id(), "text", SENT, [3; 32]).unwrap();
        let good = decrypt(&bob, &data).unwrap();
        for index in 0..data.len() {
            let mut changed = data.clone();
            changed[index] ^= 1;
            if let Ok(received) = decrypt(&bob, &changed) {
                assert_eq!(received, good, "byte {index}");
            }
            assert!(decrypt(&bob, &data[..index]).is_err());
        }
    }

    #[test]
    fn padding_is_that_of_the_typescript_clients_and_both_kinds_are_stripped() {
        for (size, padded) in [(0, 159), (1, 159), (158, 159), (159, 319), (160, 319)] {
            let content = vec![1; size];
            assert_eq!(pad(&content).len(), padded, "{size}");
            assert_eq!(unpad(&pad(&content)), Some(&content[..]));
            let mut to_multiple = [content.as_slice(), &[PADDING_MARK]].concat();
            to_multiple.resize(to_multiple.len().next_multiple_of(160), 0);
            assert_eq!(unpad(&to_multiple), Some(&content[..]));
        }
        assert_eq!(unpad(&[]), None);
        assert_eq!(unpad(&[0; 9]), None);
        assert_eq!(unpad(&[1, 0]), None);
    }

    #[test]
    fn groups_and_weak_keys_are_no_recipients() {
        let (alice, _) = accounts();
        let group = Mailbox {
            prefix: 3,
            key: [9; 32],
        };
        let weak = Mailbox {
            prefix: 5,
            key: [0; 32],
        };
        for recipient in [group, weak] {
            let refused = encrypt(&alice, &recipient, "text", SENT, [3; 32]);
            assert_eq!(refused, Err(MessageError::Recipient));
        }
    }

    /// Made by libsodium and a hand-written protobuf encoder: see `message/vector.py`.
    #[test]
    fn a_message_made_by_libsodium_opens() {
        let vector: Vec<&str> = include_str!("message/vector.txt").lines().collect();
        let [sender, recipient, data] = vector.try_into().unwrap();
        let entropy = |text| hex::decode(text).unwrap().try_into().unwrap();
        let recipient = Account::from_entropy(entropy(recipient));
        let received = decrypt(&recipient, &hex::decode(data).unwrap()).unwrap();
        assert_eq!(received.sender, Account::from_entropy(entropy(sender)).id());
        assert_eq!(received.text, "Hello from libsodium");
        assert_eq!(received.sent, SENT);
    }
}
