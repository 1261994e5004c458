//! Arbitrary bytes as a message: nothing that its sender did not sign is read.
#![no_main]

use cepa_crypto::{Account, message};
use cepa_wire::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let recipient = Account::from_entropy([12; 16]);
    if let Ok(received) = message::decrypt(&recipient, input) {
        // Only the seeds hold messages for this account, and all of them say this.
        assert_eq!(received.text, "Hello from libsodium");
        assert_eq!(received.sender, Account::from_entropy([11; 16]).id());
    }
    if let Ok(text) = core::str::from_utf8(input) {
        let sender = Account::from_entropy([13; 16]);
        let (to, now) = (recipient.id(), Timestamp::from_millis(1));
        let data = message::encrypt(&sender, &to, text, now, [1; 32]).expect("an account");
        let received = message::decrypt(&recipient, &data);
        assert_eq!(received.map(|received| received.text).unwrap_or_default(), text);
    }
});
