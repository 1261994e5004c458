//! Arbitrary bytes as a message, nothing of which is read that its sender did not sign; as the content
//! of a message that is signed and sealed well; as a text.
#![no_main]

use cepa_crypto::message::{self, MessageError};
use cepa_crypto::primitive::{box_key, sealed_box_nonce, secretbox_seal};
use cepa_crypto::{Account, X25519SecretKey};
use cepa_wire::{Timestamp, X25519PublicKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let recipient = Account::from_entropy([12; 16]);
    if let Ok(received) = message::decrypt(&recipient, input) {
        // Only the seeds hold messages for this account, and all of them say this.
        assert_eq!(received.text, "Hello from libsodium");
        assert_eq!(received.sender, Account::from_entropy([11; 16]).id());
    }
    let sender = Account::from_entropy([11; 16]);
    match message::decrypt(&recipient, &around(&sender, &recipient, input)) {
        Ok(received) => assert_eq!(received.sender, sender.id()),
        Err(MessageError::Malformed("padding" | "Content") | MessageError::NoText) => {}
        Err(error) => panic!("what is signed and sealed well is {error}"),
    }
    if let Ok(text) = core::str::from_utf8(input) {
        let sender = Account::from_entropy([13; 16]);
        let (to, now) = (recipient.id(), Timestamp::from_millis(1));
        let data = message::encrypt(&sender, &to, text, now, [1; 32]).expect("an account");
        let received = message::decrypt(&recipient, &data);
        assert_eq!(received.map(|received| received.text).unwrap_or_default(), text);
    }
});

/// A message around a padded content: signature, sealed box, Envelope, WebSocketMessage.
fn around(sender: &Account, recipient: &Account, padded: &[u8]) -> Vec<u8> {
    let to = recipient.id().key;
    let named = [padded, sender.ed25519().public_key().as_bytes()].concat();
    let signature = sender.ed25519().sign(&[named.as_slice(), &to].concat());
    let plaintext = [named.as_slice(), signature.as_bytes()].concat();
    let ephemeral = X25519SecretKey::from_bytes([1; 32]);
    let public = ephemeral.public_key().0;
    let shared = ephemeral.diffie_hellman(&X25519PublicKey(to)).expect("an account's key");
    let nonce = sealed_box_nonce(&public, &to);
    let sealed = secretbox_seal(&box_key(&shared), &nonce, &plaintext);
    let envelope = [&b"\x08\x06"[..], &field(8, &[&public[..], &sealed].concat())].concat();
    field(2, &field(3, &envelope))
}

/// A protobuf field of bytes.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut output = vec![tag << 3 | 2];
    let mut size = value.len();
    while size > 0x7f {
        output.push(size.to_le_bytes()[0] | 0x80);
        size >>= 7;
    }
    output.push(size.to_le_bytes()[0]);
    [output.as_slice(), value].concat()
}
