//! Arbitrary bytes as a request for subscriptions: what is read is the same after writing and reading it.
#![no_main]

use cepa_wire::monitor::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(request) = Request::parse(input) else { return };
    for item in request.items {
        match item {
            Ok(subscription) => {
                let again = Request::parse(&subscription.encode()).expect("what was written is read");
                assert_eq!(again.items, [Ok(subscription)]);
            }
            Err(refusal) => assert!(!refusal.text.is_empty()),
        }
    }
});
