//! Why a datagram or a packet ends here: one counter for each.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::counters::{Kind, Sample};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident $name:ident,)+) => {
        /// Why a datagram or a packet went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl DropReason {
            /// All of them, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$reason,)+];

            /// Whether a link says it of a datagram, so that there never was a packet.
            pub const fn is_of_link(self) -> bool {
                self as usize <= Self::RateLimited as usize
            }

            /// Its name in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($name),)+
                }
            }
        }

        /// Relaxed atomics; written by packet tiles, read by control.
        #[derive(Debug, Default)]
        pub struct DropCounters {
            $($name: AtomicU64,)+
        }

        impl DropCounters {
            /// Adds to the counter of a reason.
            pub fn add(&self, reason: DropReason, count: u64) {
                let counter = match reason {
                    $(DropReason::$reason => &self.$name,)+
                };
                counter.fetch_add(count, Ordering::Relaxed);
            }

            /// All of them, in the order of declaration.
            pub fn snapshot(&self) -> Vec<Sample> {
                vec![$(Sample {
                    name: stringify!($name),
                    help: concat!($($doc),+).trim_ascii(),
                    kind: Kind::Count,
                    value: self.$name.load(Ordering::Relaxed),
                },)+]
            }
        }
    };
}

drop_reasons! {
    /// Datagrams that are no link frame: size, type or suite.
    MalformedFrame packet_malformed_frame,
    /// Datagrams for a link that is not, or no longer.
    UnknownLink packet_unknown_link,
    /// Messages of handshakes whose mac does not verify: nothing was computed for them.
    BadMac packet_bad_mac,
    /// Messages of handshakes that do not open, or say something malformed.
    HandshakeFailed packet_handshake_failed,
    /// Initiations of relays that are not in the view.
    HandshakeUnknown packet_handshake_unknown,
    /// Initiations that are not newer than the last of their sender.
    HandshakeReplayed packet_handshake_replayed,
    /// Initiations beyond what is computed in a second, from an address or in all, or with too many begun.
    HandshakeLimit packet_handshake_limit,
    /// Frames under keys that are too old.
    LinkSpent packet_link_spent,
    /// Frames whose counter was seen before, or is too far behind.
    LinkReplayed packet_link_replayed,
    /// Frames that do not open.
    LinkBadTag packet_link_bad_tag,
    /// Packets beyond what their link may send.
    RateLimited packet_rate_limited,
    /// Packets for a relay that is not in the view.
    UnknownRelay packet_unknown_relay,
    /// Packets for a client that has no link here.
    UnknownClient packet_unknown_client,
    /// Packets for a link whose handshake is not done, with too many waiting or none to come.
    LinkNotReady packet_link_not_ready,
    /// Packets with a key of low order.
    WeakKey packet_weak_key,
    /// Packets whose header's tag does not verify: forged, changed, or of another epoch.
    BadTag packet_bad_tag,
    /// Packets that were seen before.
    Replayed packet_replayed,
    /// Packets of an epoch that no replay filter serves: of keys that are over.
    WrongEpoch packet_wrong_epoch,
    /// Packets whose routing block is malformed.
    BadRoutingBlock packet_bad_routing_block,
    /// Packets for us whose payload was changed on the way.
    PayloadTampered packet_payload_tampered,
    /// Packets for us that are no piece of a request.
    BadFragment packet_bad_fragment,
    /// Packets for us whose piece of a request was here before.
    DuplicateFragment packet_duplicate_fragment,
    /// Packets that a client of this guard would send to another of its clients, past the path.
    ClientToClient packet_client_to_client,
    /// Packets that are to wait when as many do as may.
    DelayWheelFull packet_delay_wheel_full,
    /// Packets that are to be sent when as many wait for that as may.
    OutboxFull packet_outbox_full,
    /// Packets for this node when as many wait for it as may.
    DeliverFull packet_deliver_full,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_documented_counter() {
        let counters = DropCounters::default();
        for (nth, reason) in (1..).zip(DropReason::ALL) {
            counters.add(*reason, nth);
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.len(), DropReason::ALL.len());
        let mut names = BTreeSet::new();
        for ((nth, reason), sample) in (1..).zip(DropReason::ALL).zip(snapshot) {
            let Sample {
                name, help, value, ..
            } = sample;
            assert_eq!((name, value), (reason.name(), nth));
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            assert!(names.insert(name), "{name} stands twice");
        }
    }
}
