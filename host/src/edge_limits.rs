//! What the HTTPS and OMQ edges of one executor may cost, in connections, memory and time.

use core::time::Duration;

/// The bounds of one executor's edges. The defaults are for a node of the network; tests take smaller
/// ones.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLimits {
    /// HTTPS connections. Beyond, whoever has been idle longest goes.
    pub https_connection_count_max: usize,
    /// OMQ connections that others opened: a few thousand nodes and the clients of a busy hour.
    pub omq_connection_count_max: usize,
    /// Connections of each kind that one IPv4 address or IPv6 /64 has: the clients behind one address of
    /// a mobile network, and an eighth of all, so that one address does not push out everybody.
    pub connection_per_prefix_count_max: usize,
    /// Bytes of requests that are arriving or being served: HTTPS bodies, unfinished OMQ messages.
    pub input_size_max: usize,
    /// Bytes of answers that wait to be taken.
    pub output_size_max: usize,
    /// How much of each of these one prefix has: six of the largest, and a quarter of all.
    pub held_per_prefix_size_max: usize,
    /// A handshake, of TLS or CURVE, is done within this; as in the reference.
    pub handshake_timeout: Duration,
    /// The head of a request arrives within this of its first byte: it is some hundred bytes.
    pub head_timeout: Duration,
    /// A body, or the rest of an OMQ message, arrives within this.
    pub body_timeout: Duration,
    /// A body that brings less than [`BODY_PROGRESS_SIZE`] bytes within this ends its connection.
    pub body_progress_timeout: Duration,
    /// An HTTPS connection that asks nothing for so long is closed.
    pub idle_timeout: Duration,
    /// An answer is taken within this: the largest on half a megabit a second.
    pub response_timeout: Duration,
    /// How late the executor may run what is due, on average, before strangers have to wait. None: they
    /// never have to.
    pub lag_max: Option<Duration>,
}

/// The least that a body brings within [`EdgeLimits::body_progress_timeout`]: a phone at the edge of its
/// network brings ten times as much.
pub const BODY_PROGRESS_SIZE: usize = 1 << 10;

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            https_connection_count_max: 4096,
            omq_connection_count_max: 8192,
            connection_per_prefix_count_max: 512,
            input_size_max: 256 << 20,
            output_size_max: 256 << 20,
            held_per_prefix_size_max: 64 << 20,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            body_progress_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            response_timeout: Duration::from_mins(2),
            lag_max: Some(Duration::from_millis(200)),
        }
    }
}

/// Bytes of one HTTPS connection beside large bodies and answers: TLS records (one that arrives, two that
/// leave: 48 KiB), a head (16 KiB), a small body and a small answer, one read (8 KiB each), TLS state and
/// tables (8 KiB). An idle one was measured at half of that, with its client's end.
const HTTPS_CONNECTION_SIZE: usize = 96 << 10;
/// Bytes of one OMQ connection beside messages and answers: one read of 32 KiB, CURVE state, tables.
const OMQ_CONNECTION_SIZE: usize = 40 << 10;
/// Bytes of one running request beside its body and its answer.
const REQUEST_SIZE: usize = 50 << 10;

impl EdgeLimits {
    /// What strangers can make one executor hold at most, in bytes: each bound times what one costs. The
    /// connections that we opened and the messages of proven peers are beside it: those are as many as
    /// the network has nodes; and so is the table of the rate limit, which all executors share.
    pub const fn memory_budget(&self) -> usize {
        self.https_connection_count_max * HTTPS_CONNECTION_SIZE
            + self.omq_connection_count_max * OMQ_CONNECTION_SIZE
            + crate::tile::RUNNING_COUNT_MAX * REQUEST_SIZE
            + self.input_size_max
            + self.output_size_max
    }

    /// The part of [`Self::memory_budget`] that connections cost which ask nothing.
    pub const fn idle_memory_budget(&self) -> usize {
        self.https_connection_count_max * HTTPS_CONNECTION_SIZE
            + self.omq_connection_count_max * OMQ_CONNECTION_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_what_architecture_says() {
        let limits = EdgeLimits::default();
        assert_eq!(limits.idle_memory_budget() >> 20, 384 + 320);
        assert_eq!(limits.memory_budget() >> 20, 384 + 320 + 200 + 256 + 256);
        // Nobody alone takes the room of all.
        assert!(limits.connection_per_prefix_count_max * 4 <= limits.https_connection_count_max);
        assert!(limits.held_per_prefix_size_max * 4 <= limits.input_size_max);
    }
}
