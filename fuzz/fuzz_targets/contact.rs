//! Arbitrary bytes as the contact of a node.
#![no_main]

use cepa_wire::contact::Contact;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(contact) = Contact::parse(input) else { return };
    assert_eq!(Contact::parse(&contact.encode()), Ok(contact));
});
