//! What the I/O of a packet tile counts. It is declared here, beside the other counters of the lane; host fills
//! it.

cepa_meter::counters! {
    /// Since the start, over all back ends that were opened.
    pub struct IoCounters, named "packet_io_";
    /// Datagrams received.
    received,
    /// Their bytes.
    received_bytes,
    /// Datagrams that the kernel took for sending.
    sent,
    /// Their bytes.
    sent_bytes,
    /// Datagrams larger than any of ours.
    oversized,
    /// Frames with wrong checksums or lengths, where the kernel does not look at these.
    malformed,
    /// How often receiving stopped since all buffers were in use.
    exhausted,
    /// Datagrams that the kernel dropped since we were too slow, as far as it tells.
    kernel_dropped,
    /// Datagrams that did not come by the queue of `AF_XDP`.
    received_otherwise,
    /// Datagrams that did not go by the queue of `AF_XDP`.
    sent_otherwise,
    /// Datagrams not sent since socket, ring or device was full.
    send_full,
    /// Datagrams not sent since there is no way to their address.
    send_unreachable,
    /// Datagrams not sent since nobody listens there.
    send_refused,
    /// Datagrams not sent since they are larger than the way takes.
    send_too_large,
    /// Datagrams not sent since a rule of this machine forbids it.
    send_forbidden,
    /// Datagrams not sent for another reason.
    send_failed,
    /// Times that the port failed and was opened anew.
    reopened,
}
