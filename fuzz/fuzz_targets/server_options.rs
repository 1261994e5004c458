//! Arbitrary text as the config file of the C++ storage server: what is taken is a config that holds to
//! its bounds, and what is refused is refused with a word about it.
#![no_main]

use std::path::Path;

use cepa_control::config::LIST_COUNT_MAX;
use cepa_control::options::{Options, ini};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pairs) = ini::parse(text) {
        assert!(pairs.len() <= text.len());
        for pair in pairs {
            assert!(pair.line >= 1 && pair.line <= text.lines().count());
            assert!(!pair.key.is_empty() && text.contains(pair.key) && !pair.value.contains('\n'));
        }
    }
    let mut options = Options::default();
    match options.add_file(text, Path::new("/storage.conf")) {
        Ok(()) => match options.config(Path::new("/home")) {
            Ok(config) => {
                assert!(config.https_port != config.omq_port && config.omq_port != 0);
                assert!(config.stats_access_keys.len() <= LIST_COUNT_MAX);
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        },
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
});
