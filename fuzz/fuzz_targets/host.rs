//! Arbitrary text as the host of an onion for a server: what is taken is a name of plain letters or an
//! address, is written as it is read, and hides no other host from whoever reads the URL.
#![no_main]

use core::net::IpAddr;

use cepa_wire::host::Host;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((host, port)) = Host::parse_with_port(text, 443) else { return };
    assert!(port != 0);
    let written = host.to_text();
    assert_eq!(Host::parse(&written).as_ref(), Some(&host));
    assert_eq!(Host::parse_with_port(&format!("{written}:{port}"), port), Some((host.clone(), port)));
    assert!(text.is_ascii() && text.to_ascii_lowercase().starts_with('[') == written.starts_with('['));
    match host {
        Host::Name(name) => {
            assert!(name.len() <= 253 && name.parse::<IpAddr>().is_err());
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            assert!(name.bytes().all(plain) && name == name.to_ascii_lowercase());
        }
        Host::Address(IpAddr::V4(address)) => assert!(text.starts_with(&address.to_string())),
        Host::Address(IpAddr::V6(_)) => {}
    }
});
