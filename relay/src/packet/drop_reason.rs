//! Why a datagram or a packet ends here: one counter for each.

use core::sync::atomic::Ordering;

cepa_meter::labels! {
    /// Why a datagram or a packet went no further.
    pub enum DropReason, named "reason";
    /// Datagrams that are no link frame: size, type or suite.
    MalformedFrame "malformed_frame",
    /// Datagrams for a link that is not, or no longer.
    UnknownLink "unknown_link",
    /// Messages of handshakes whose mac does not verify: nothing was computed for them.
    BadMac "bad_mac",
    /// Messages of handshakes that do not open, or say something malformed.
    HandshakeFailed "handshake_failed",
    /// Initiations of relays that are not in the view.
    HandshakeUnknown "handshake_unknown",
    /// Initiations that are not newer than the last of their sender.
    HandshakeReplayed "handshake_replayed",
    /// Initiations beyond what is computed in a second, from an address or in all, or with too many begun.
    HandshakeLimit "handshake_limit",
    /// Frames under keys that are too old.
    LinkSpent "link_spent",
    /// Frames whose counter was seen before, or is too far behind.
    LinkReplayed "link_replayed",
    /// Frames that do not open.
    LinkBadTag "link_bad_tag",
    /// Packets beyond what their link may send.
    RateLimited "rate_limited",
    /// Packets for a relay that is not in the view.
    UnknownRelay "unknown_relay",
    /// Packets for a client that has no link here.
    UnknownClient "unknown_client",
    /// Packets for a link whose handshake is not done, with too many waiting or none to come.
    LinkNotReady "link_not_ready",
    /// Packets with a key of low order.
    WeakKey "weak_key",
    /// Packets whose header's tag does not verify: forged, changed, or of another epoch.
    BadTag "bad_tag",
    /// Packets that were seen before.
    Replayed "replayed",
    /// Packets of an epoch that no replay filter serves: of keys that are over.
    WrongEpoch "wrong_epoch",
    /// Packets whose routing block is malformed.
    BadRoutingBlock "bad_routing_block",
    /// Packets for us whose payload was changed on the way.
    PayloadTampered "payload_tampered",
    /// Packets for us that are no piece of a request.
    BadFragment "bad_fragment",
    /// Packets for us whose piece of a request was here before.
    DuplicateFragment "duplicate_fragment",
    /// Packets that a client of this guard would send to another of its clients, past the path.
    ClientToClient "client_to_client",
    /// Packets that are to wait when as many do as may.
    DelayWheelFull "delay_wheel_full",
    /// Packets that are to be sent when as many wait for that as may.
    OutboxFull "outbox_full",
    /// Packets for this node when as many wait for it as may.
    DeliverFull "deliver_full",
}

impl DropReason {
    /// All of them, in the order of declaration.
    pub const ALL: &[Self] = <Self as cepa_meter::Label>::ALL;

    /// Whether a link says it of a datagram, so that there never was a packet.
    pub const fn is_of_link(self) -> bool {
        self as usize <= Self::RateLimited as usize
    }
}

cepa_meter::counters! {
    /// Written by packet tiles, read by control.
    pub struct DropCounters, named "packet_";
    /// Datagrams and packets that went no further, by the reason.
    dropped: each(DropReason),
}

impl DropCounters {
    /// Adds to the counter of a reason.
    pub fn add(&self, reason: DropReason, count: u64) {
        self.dropped.of(reason).fetch_add(count, Ordering::Relaxed);
    }

    /// How many of a reason there were.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.dropped.of(reason).load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cepa_meter::Label as _;

    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let counters = DropCounters::default();
        for (nth, reason) in (1..).zip(DropReason::ALL) {
            counters.add(*reason, nth);
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.len(), DropReason::ALL.len());
        let mut names = BTreeSet::new();
        for ((nth, reason), sample) in (1..).zip(DropReason::ALL).zip(snapshot) {
            assert_eq!(sample.name(), "cepa_packet_dropped_total");
            assert_eq!(sample.label.as_deref(), Some(reason.name()));
            assert_eq!((sample.recorded(), counters.count(*reason)), (nth, nth));
            assert!(names.insert(reason.name()), "{reason:?} stands twice");
        }
    }
}
