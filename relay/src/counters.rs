//! How often each thing happened: one counter for every way an onion or a request can end. And how much
//! there is of something now: gauges.

use cepa_meter::bounds::{BATCH, LATENCY};
use cepa_meter::{counters, labels};

labels! {
    /// How a request came.
    pub enum Via, named "via";
    /// As `POST /storage_rpc/v1`.
    Https "https",
    /// As a command of a client's OMQ connection.
    Omq "omq",
    /// As a command of a client's QUIC connection.
    Quic "quic",
    /// In an onion.
    Onion "onion",
    /// As packets.
    Packet "packet",
    /// From a member of the swarm.
    Member "member",
}

labels! {
    /// Who an onion came from.
    pub enum OnionFrom, named "from";
    /// A client: we are the guard.
    Client "client",
    /// Another relay.
    Relay "relay",
}

labels! {
    /// What a command does with the message log.
    pub enum Work, named "work";
    /// It changes something, and is answered when that is durable.
    Change "change",
    /// It reads messages.
    Read "read",
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
    /// Seconds from a request that was read to its answer, by how it came: what waits for members and the disk is
    /// in it, what the network takes is not.
    request_seconds: histogram_each(Via, LATENCY),
    /// Seconds from an onion that was read to its answer, by who it came from: with all that other relays and
    /// servers took.
    onion_seconds: histogram_each(OnionFrom, LATENCY),
    /// Onions whose Diffie-Hellman was computed at once: eight cost about as much as one.
    onion_batch_size: histogram(BATCH),
    /// Seconds that a member took to answer what was forwarded to it; who did not answer is in
    /// `cepa_member_timeout_total`.
    member_seconds: histogram(LATENCY),
    /// Seconds from a command that was given to the message log to its outcome: of a change, that it is durable.
    store_command_seconds: histogram_each(Work, LATENCY),
    /// Requests of QUIC and of packets that wait for a shard to take them up.
    gate_waiting: gauge,
}
