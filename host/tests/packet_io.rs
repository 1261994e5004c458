//! One suite that every back end of datagram I/O passes: over loopback, and for `AF_XDP` over a pair of
//! virtual interfaces between two network namespaces of its own.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what fails in a test ends it; what is skipped is said"
)]

#[path = "packet_io/bed.rs"]
mod bed;
#[path = "packet_io/pair.rs"]
mod pair;
#[path = "packet_io/suite.rs"]
mod suite;

use bed::Kind;
use cepa_host::packet_io::{IoChoice, XdpMode};

/// A test of each case, on one kind of bed.
macro_rules! suite_on {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            suite_on!(
                @case $kind,
                datagrams_of_all_sizes_come_from_several_peers
                datagrams_of_all_sizes_go_to_several_peers
                what_is_joined_is_cut_again
                what_goes_together_arrives_one_by_one
                a_small_batch_loses_nothing
                large_ones_are_dropped_and_counted
                a_wake_ends_a_wait
                a_wait_ends_by_itself
                a_dead_port_spoils_nothing
                exhausted_buffers_recover
                a_bounded_flood_is_sent_without_waiting
            );
        }
    };
    (@case $kind:expr, $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                bed::run($kind, suite::$case);
            }
        )*
    };
}

suite_on!(mmsg_ipv4, Kind::loopback(IoChoice::Mmsg, false));
suite_on!(mmsg_ipv6, Kind::loopback(IoChoice::Mmsg, true));
suite_on!(uring_ipv4, Kind::loopback(IoChoice::IoUring, false));
suite_on!(uring_ipv6, Kind::loopback(IoChoice::IoUring, true));
suite_on!(xdp_generic_ipv4, Kind::xdp(XdpMode::Generic, false));
suite_on!(xdp_generic_ipv6, Kind::xdp(XdpMode::Generic, true));
suite_on!(xdp_native_ipv4, Kind::xdp(XdpMode::Native, false));
suite_on!(xdp_native_ipv6, Kind::xdp(XdpMode::Native, true));

#[test]
fn frames_pass_the_stack_by() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        for is_ipv6 in [false, true] {
            bed::run(Kind::xdp(mode, is_ipv6), suite::frames_pass_the_stack_by);
        }
    }
}
