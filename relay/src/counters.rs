//! How often each thing happened: one counter for every way an onion or a request can end. And how much
//! there is of something now: gauges.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How often something happened since the start; never less than before.
    Count,
    /// How much there is now.
    Gauge,
}

/// A number, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it may go down.
    pub kind: Kind,
    /// What it is.
    pub value: u64,
}

/// Declares a struct of relaxed atomics, each with its help text, and what reads them: a name alone is a
/// count, `name: gauge` a gauge. Names begin with a prefix when they are read.
#[macro_export]
macro_rules! counters {
    (
        $(#[$about:meta])*
        $vis:vis struct $counters:ident, named $prefix:literal;
        $($(#[doc = $doc:literal])+ $name:ident $(: $kind:ident)?,)+
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        $vis struct $counters {
            $($(#[doc = $doc])+ pub $name: ::core::sync::atomic::AtomicU64,)+
        }

        impl $counters {
            /// All of them, in the order of declaration.
            $vis fn snapshot(&self) -> Vec<$crate::counters::Sample> {
                vec![$($crate::counters::Sample {
                    name: concat!($prefix, stringify!($name)),
                    help: concat!($($doc),+).trim_ascii(),
                    kind: $crate::counters!(@kind $($kind)?),
                    value: self.$name.load(::core::sync::atomic::Ordering::Relaxed),
                },)+]
            }
        }
    };
    (@kind) => { $crate::counters::Kind::Count };
    (@kind gauge) => { $crate::counters::Kind::Gauge };
}

counters! {
    /// Written by shards, read by control.
    pub struct Counters, named "";
    /// Onions passed to the next relay.
    onion_forwarded,
    /// Onions whose payload was a request for this node.
    onion_delivered,
    /// Onions refused because their framing or control is malformed.
    onion_malformed,
    /// Onions whose layer did not open with our key.
    onion_undecryptable,
    /// Onions whose layer opened to something unreadable.
    onion_bad_payload,
    /// Onions past the hop limit.
    onion_hop_limit,
    /// Onions whose next relay is not in the view.
    onion_next_unknown,
    /// Onions whose next relay was known to be unreachable.
    onion_next_unreachable,
    /// Onions whose next relay did not answer in time.
    onion_next_timeout,
    /// Onions whose next relay answered something unreadable.
    onion_next_invalid,
    /// Onions passed to a server that answered.
    onion_proxied,
    /// Onions addressed to a server that this node does not ask: path, address, or too many at once.
    onion_proxy_refused,
    /// Onions whose server did not answer in time.
    onion_proxy_timeout,
    /// Onions whose server could not be reached, or whose answer could not be read.
    onion_proxy_failed,
    /// Onions and requests refused because this node is not ready.
    refused_not_ready,
    /// Requests refused because too many are running.
    refused_busy,
    /// Requests and onions refused because their address asks too often.
    refused_rate_limited,
    /// Connections and first requests of strangers refused because a shard is overloaded.
    refused_overloaded,
    /// Requests that came as packets.
    packet_request,
    /// Messages of packets that are no request.
    packet_request_malformed,
    /// Requests that came as packets, with no way back for an answer.
    packet_request_unanswered,
    /// Packets of answers dropped because too many waited for their tile.
    packet_return_dropped,
    /// Client requests answered with a status of 2xx.
    request_ok,
    /// Client requests answered with a status of 4xx.
    request_refused,
    /// Client requests answered with 421 wrong swarm.
    request_wrong_swarm,
    /// Client requests answered with a status of 5xx.
    request_failed,
    /// Requests forwarded to swarm members.
    member_forwarded,
    /// Forwarded requests that a member answered.
    member_answered,
    /// Forwarded requests that a member did not answer in time.
    member_timeout,
    /// Forwarded requests not sent because the member is known to be down.
    member_down,
    /// Messages durably stored.
    message_stored,
    /// Stores of a message that was there already.
    message_duplicate,
    /// Messages given out.
    message_retrieved,
    /// Messages deleted by request.
    message_deleted,
    /// Subscriptions to new messages that were accepted or renewed.
    monitor_subscribed,
    /// Subscriptions that were refused.
    monitor_refused,
    /// Subscribers told of a new message.
    monitor_notified,
    /// Subscribers that were not told because they take too little.
    monitor_dropped,
    /// Changes kept for a member that was away.
    missed_kept,
    /// Batches of such changes that a member got when it was back.
    missed_delivered,
    /// Times that a member missed so much that it is given everything anew.
    missed_overflowed,
    /// Changes that are kept now for members that are away.
    missed_entries: gauge,
    /// Bytes of these.
    missed_bytes: gauge,
    /// Logs that hand mailboxes over now.
    handover_running: gauge,
    /// Peers that a log has yet to give something, or the rest of it.
    handover_pending: gauge,
    /// Messages given by handovers.
    handover_given,
    /// Messages handed over to other nodes: by handovers, or since they missed them.
    transfer_sent,
    /// Handovers that stopped and go on later.
    transfer_failed,
    /// Messages handed over by a member that are not ours, expired, or not what their hash says.
    transfer_refused,
    /// Commands that the store could not carry out.
    store_failed,
    /// HTTPS connections accepted.
    https_accepted,
    /// HTTPS connections that ended in an error.
    https_failed,
    /// HTTPS connections closed because they were too slow, or idle longest when one too many came.
    https_evicted,
    /// HTTPS connections refused because too many are being served.
    https_refused,
    /// OMQ connections accepted.
    omq_accepted,
    /// OMQ connections opened to peers.
    omq_dialled,
    /// OMQ connections that ended in an error.
    omq_failed,
    /// OMQ connections closed because they were too slow, or idle longest when one too many came.
    omq_evicted,
    /// OMQ connections refused because too many are being served.
    omq_refused,
    /// OMQ messages dropped: unknown word, unknown tag, queue full.
    omq_dropped,
    /// Reachability tests of this node over HTTPS.
    ping_https,
    /// Reachability tests of this node over OMQ.
    ping_omq,
    /// Reachability tests of this node over QUIC.
    ping_quic,
    /// Peers that passed a reachability test of ours.
    peer_reachable,
    /// Peers that failed a reachability test of ours.
    peer_unreachable,
    /// Commands between shards dropped because the ring was full.
    ring_dropped,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What one thread adds to a gauge that several share.
#[derive(Debug, Default)]
pub struct Share(Cell<u64>);

impl Share {
    /// Tells how much it is now; the gauge has the sum of all.
    pub fn set(&self, gauge: &AtomicU64, value: u64) {
        let before = self.0.replace(value);
        gauge.fetch_add(value.wrapping_sub(before), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    counters! {
        /// For this test.
        struct Both, named "test_";
        /// How often.
        often,
        /// How much.
        much: gauge,
    }

    #[test]
    fn numbers_have_a_name_a_help_and_a_kind() {
        let both = Both::default();
        count(&both.often);
        let [one, other] = [Share::default(), Share::default()];
        one.set(&both.much, 5);
        other.set(&both.much, 7);
        one.set(&both.much, 2);
        let sample = |name, help, kind, value| Sample {
            name,
            help,
            kind,
            value,
        };
        let expected = [
            sample("test_often", "How often.", Kind::Count, 1),
            sample("test_much", "How much.", Kind::Gauge, 9),
        ];
        assert_eq!(both.snapshot(), expected);
    }
}
