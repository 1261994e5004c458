//! Arbitrary bytes as an Ethernet frame: what is taken is UDP of one family within the frame, and is read
//! the same when it is written again.
#![no_main]

use cepa_wire::udp_frame::UdpFrame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = UdpFrame::parse(bytes) else { return };
    let addresses = frame.addresses;
    assert_eq!(addresses.source.is_ipv4(), addresses.destination.is_ipv4());
    assert!(!addresses.source.ip().is_unspecified() && !addresses.source.ip().is_multicast());
    let size = addresses.headers_size() + frame.payload.len();
    assert!(size <= bytes.len());
    let mut written = vec![0xff; size];
    assert_eq!(addresses.write(frame.payload, &mut written), Some(size));
    assert_eq!(UdpFrame::parse(&written), Ok(frame));
    let mut small = vec![0; size - 1];
    assert_eq!(addresses.write(frame.payload, &mut small), None);
});
