//! What the numbers are called that are shown: `cepa_` is what all of ours begin with.

/// Constants, and a list of them for the test.
macro_rules! names {
    ($($name:ident = $text:literal;)+) => {
        $(pub(super) const $name: &str = $text;)+
        #[cfg(test)]
        pub(super) const ALL: &[&str] = &[$($text),+];
    };
}

names! {
    REQUEST_SECONDS = "cepa_request_seconds";
    REQUEST_OK = "cepa_request_ok_total";
    REQUEST_REFUSED = "cepa_request_refused_total";
    REQUEST_WRONG_SWARM = "cepa_request_wrong_swarm_total";
    REQUEST_FAILED = "cepa_request_failed_total";
    REQUESTS_RUNNING = "cepa_requests_running";
    REFUSED_NOT_READY = "cepa_refused_not_ready_total";
    REFUSED_BUSY = "cepa_refused_busy_total";
    REFUSED_RATE_LIMITED = "cepa_refused_rate_limited_total";
    REFUSED_OVERLOADED = "cepa_refused_overloaded_total";
    GATE_WAITING = "cepa_gate_waiting";
    MONITOR_NOTIFIED = "cepa_monitor_notified_total";

    ONION_SECONDS = "cepa_onion_seconds";
    ONION_FORWARDED = "cepa_onion_forwarded_total";
    ONION_DELIVERED = "cepa_onion_delivered_total";
    ONION_PROXIED = "cepa_onion_proxied_total";
    ONION_MALFORMED = "cepa_onion_malformed_total";
    ONION_UNDECRYPTABLE = "cepa_onion_undecryptable_total";
    ONION_BAD_PAYLOAD = "cepa_onion_bad_payload_total";
    ONION_HOP_LIMIT = "cepa_onion_hop_limit_total";
    ONION_NEXT_UNKNOWN = "cepa_onion_next_unknown_total";
    ONION_NEXT_UNREACHABLE = "cepa_onion_next_unreachable_total";
    ONION_NEXT_TIMEOUT = "cepa_onion_next_timeout_total";
    ONION_NEXT_INVALID = "cepa_onion_next_invalid_total";
    ONION_PROXY_REFUSED = "cepa_onion_proxy_refused_total";
    ONION_PROXY_TIMEOUT = "cepa_onion_proxy_timeout_total";
    ONION_PROXY_FAILED = "cepa_onion_proxy_failed_total";
    ONION_BATCH_SIZE = "cepa_onion_batch_size";
    ONIONS_WAITING = "cepa_onions_waiting";

    HTTPS_CONNECTIONS = "cepa_https_connections";
    HTTPS_ACCEPTED = "cepa_https_accepted_total";
    HTTPS_REFUSED = "cepa_https_refused_total";
    OMQ_CONNECTIONS = "cepa_omq_connections";
    OMQ_ACCEPTED = "cepa_omq_accepted_total";
    OMQ_REFUSED = "cepa_omq_refused_total";
    QUIC_COMMANDS = "cepa_quic_commands_total";
    QUIC_ACCEPTED = "cepa_quic_accepted_total";
    QUIC_REFUSED = "cepa_quic_refused_total";
    PEER_LINKS = "cepa_peer_links";
    OMQ_DIALLED = "cepa_omq_dialled_total";

    SHARDS_OVERLOADED = "cepa_shards_overloaded";
    SHARD_SILENT = "cepa_shard_silent_seconds";
    PROCESS_CPU = "cepa_process_cpu_seconds_total";
    PROCESS_MEMORY = "cepa_process_resident_memory_bytes";
    PROCESS_OPEN_FILES = "cepa_process_open_fds";
    PROCESS_MAX_FILES = "cepa_process_max_fds";
    PROCESS_THREADS = "cepa_process_threads";
    START = "cepa_start_time_seconds";
    CLOCK = "cepa_clock_seconds";
    READY = "cepa_ready";
    BUILD = "cepa_build_info";
    HEIGHT = "cepa_view_height";

    STORE_COMMITS = "cepa_store_commits_total";
    STORE_COMMIT_CHANGES = "cepa_store_commit_changes";
    STORE_WRITE_SECONDS = "cepa_store_write_seconds";
    STORE_COMMAND_SECONDS = "cepa_store_command_seconds";
    STORE_COMMITTED_BYTES = "cepa_store_committed_bytes_total";
    STORE_USED = "cepa_store_used_bytes";
    STORE_CAPACITY = "cepa_store_capacity_bytes";
    DISK_FREE = "cepa_disk_free_bytes";
    DISK_SIZE = "cepa_disk_size_bytes";
    STORE_MESSAGES = "cepa_store_messages";
    STORE_MESSAGE_BYTES = "cepa_store_message_bytes";
    STORE_MAILBOXES = "cepa_store_mailboxes";
    STORE_SEGMENTS = "cepa_store_segments";
    STORE_INDEX_MEMORY = "cepa_store_index_memory_bytes";
    STORE_CHANGES_WAITING = "cepa_store_changes_waiting";
    STORE_READS = "cepa_store_reads_total";
    STORE_EXPIRED = "cepa_store_expired_total";
    STORE_COMPACTED = "cepa_store_compacted_segments_total";
    STORE_IN_DOUBT = "cepa_store_logs_in_doubt";
    STORE_DISK_FAULTS = "cepa_store_disk_faults_total";
    STORE_FAILED_READS = "cepa_store_failed_reads_total";
    STORE_FAILED = "cepa_store_failed_total";
    MESSAGE_STORED = "cepa_message_stored_total";
    MESSAGE_DUPLICATE = "cepa_message_duplicate_total";
    MESSAGE_RETRIEVED = "cepa_message_retrieved_total";
    MESSAGE_DELETED = "cepa_message_deleted_total";

    PACKET_PEELED = "cepa_packet_peeled_total";
    PACKET_FORWARDED = "cepa_packet_forwarded_total";
    PACKET_DELIVERED = "cepa_packet_delivered_total";
    PACKET_REPLIED = "cepa_packet_replied_total";
    PACKET_ANSWERED = "cepa_packet_answered_total";
    PACKET_DELAYED = "cepa_packet_delayed_total";
    PACKET_WAITING = "cepa_packet_waiting";
    PACKET_DROPPED = "cepa_packet_dropped_total";
    PACKET_BATCH_SIZE = "cepa_packet_batch_size";
    PACKET_STEP_SECONDS = "cepa_packet_step_seconds";
    PACKET_CLIENTS = "cepa_packet_clients";
    PACKET_RELAYS_KNOWN = "cepa_packet_relays_known";
    PACKET_EPOCH_LEFT = "cepa_packet_epoch_left_seconds";
    PACKET_RELAYS = "cepa_packet_relays_linked";
    PACKET_HALF_OPEN = "cepa_packet_link_half_open";
    PACKET_HANDSHAKES = "cepa_packet_link_handshakes_total";
    PACKET_QUEUED = "cepa_packet_link_queued";
    PACKET_FRAGMENTS = "cepa_packet_fragments_waiting";
    PACKET_ANSWERS_WAITING = "cepa_packet_answers_waiting";
    PACKET_REPLAY_FILL = "cepa_packet_replay_fill_ratio";
    PACKET_IO_RECEIVED = "cepa_packet_io_received_total";
    PACKET_IO_SENT = "cepa_packet_io_sent_total";
    PACKET_IO_KERNEL_DROPPED = "cepa_packet_io_kernel_dropped_total";
    PACKET_IO_SEND_FULL = "cepa_packet_io_send_full_total";
    PACKET_IO_SEND_FAILED = "cepa_packet_io_send_failed_total";

    SWARM_MEMBERS = "cepa_swarm_members";
    MEMBERS_DOWN = "cepa_members_down";
    VIEW_NODES = "cepa_view_nodes";
    PEERS_DOWN = "cepa_peers_down";
    PEERS_FAILING = "cepa_peers_failing";
    PEERS_PASSING = "cepa_peers_passing";
    MEMBER_SECONDS = "cepa_member_seconds";
    MEMBER_FORWARDED = "cepa_member_forwarded_total";
    MEMBER_TIMEOUT = "cepa_member_timeout_total";
    MISSED_ENTRIES = "cepa_missed_entries";
    MISSED_BYTES = "cepa_missed_bytes";
    HANDOVER_RUNNING = "cepa_handover_running";
    HANDOVER_PENDING = "cepa_handover_pending";
    HANDOVER_GIVEN = "cepa_handover_given_total";
    PEER_TEST_SILENT = "cepa_peer_test_silent_seconds";
    OXEND_CONNECTED = "cepa_oxend_connected";
    OXEND_PING_SILENT = "cepa_oxend_ping_silent_seconds";
    VIEW_AGE = "cepa_view_age_seconds";
    NODE_ACTIVE = "cepa_node_active";
    UPTIME_PROOF_AGE = "cepa_uptime_proof_age_seconds";
    DECOMMISSION_CREDIT = "cepa_decommission_credit_seconds";
    DECOMMISSION_IN = "cepa_decommission_in_seconds";
}
