//! Arbitrary bytes as a file of what a member missed: what is read is written back the same.
#![no_main]

use cepa_wire::missed::Missed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok(Some((missed, size))) = Missed::parse(rest) {
        let mut written = Vec::new();
        missed.encode(&mut written).expect("what was read is small enough");
        assert_eq!(written, rest[..size]);
        rest = &rest[size..];
    }
});
