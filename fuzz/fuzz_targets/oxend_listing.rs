//! Arbitrary JSON as the chain daemon's list of nodes.
#![no_main]

use cepa_wire::oxend::{Listing, Registration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let found = Registration::find(input, &[1; 32]);
    assert!(found.is_none_or(|found| found.last_proof != Some(0)));
    if let Ok(Listing::View(view)) = Listing::parse(input) {
        assert!(view.uncontactable_count() <= view.nodes.len() + view.keyless_count);
        assert!(view.nodes.len() + view.keyless_count <= input.len());
    }
});
