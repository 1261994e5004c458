//! Arbitrary bytes as `sn.onion_request`.
#![no_main]

use cepa_wire::onion::RelayedOnion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| match RelayedOnion::parse(input) {
    Ok(onion) => assert_eq!(RelayedOnion::parse(&onion.encode()), Ok(onion)),
    Err(text) => assert!(text.starts_with("Invalid internal onion request: ")),
});
