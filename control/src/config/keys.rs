//! The keys of `cepa.toml`, and what each may be.

/// A key and what may stand there, in the words of the error.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
}

pub(super) const BIND_IP: Key = Key {
    name: "bind_ip",
    expected: "an IPv4 address such as \"203.0.113.7\"",
};
pub(super) const HTTPS_PORT: Key = Key {
    name: "https_port",
    expected: "a port from 1 to 65535",
};
pub(super) const OMQ_PORT: Key = Key {
    name: "omq_port",
    expected: "a port from 1 to 65535 other than https_port",
};
pub(super) const DATA_DIR: Key = Key {
    name: "data_dir",
    expected: "the path of a directory, such as \"/var/lib/cepa\"",
};
pub(super) const NETWORK_FILE: Key = Key {
    name: "network_file",
    expected: "the path of a file, such as \"network.json\"",
};
pub(super) const SHARD_CPUS: Key = Key {
    name: "shard_cpus",
    expected: "a list of different core numbers such as [0, 1]",
};
pub(super) const ALLOW_AES_CBC: Key = Key {
    name: "allow_aes_cbc",
    expected: "true or false",
};
pub(super) const SEGMENT_SIZE_MIB: Key = Key {
    name: "segment_size_mib",
    expected: "a number of MiB from 4 to 1024",
};
pub(super) const STORE_CAPACITY_MIB: Key = Key {
    name: "store_capacity_mib",
    expected: "a number of MiB, at least 64",
};
pub(super) const ACCOUNT_SIZE_MAX_MIB: Key = Key {
    name: "account_size_max_mib",
    expected: "a number of MiB, at least 1",
};
pub(super) const FOREIGN_GRACE_HOURS: Key = Key {
    name: "foreign_grace_hours",
    expected: "a number of hours from 1 to 720",
};
pub(super) const RELAXED_DURABILITY_MS: Key = Key {
    name: "relaxed_durability_ms",
    expected: "a number of milliseconds from 1 to 60000",
};
pub(super) const ADMIN_LISTEN: Key = Key {
    name: "admin_listen",
    expected: "a loopback address and port such as \"127.0.0.1:9100\"",
};
pub(super) const SEED_LISTEN: Key = Key {
    name: "seed_listen",
    expected: "an address and port such as \"127.0.0.1:38157\"",
};
pub(super) const OXEND_RPC: Key = Key {
    name: "oxend_rpc",
    expected: "an address such as \"ipc:///run/oxend.sock\" or \"tcp://127.0.0.1:22025\"",
};
pub(super) const BOOTSTRAP_NODES: Key = Key {
    name: "bootstrap_nodes",
    expected: "a list of at most 64 addresses such as [\"curve://HOST:PORT/KEY\"], the key of 64 hex digits",
};
pub(super) const TESTNET: Key = Key {
    name: "testnet",
    expected: "true or false",
};
pub(super) const QUIC: Key = Key {
    name: "quic",
    expected: "true or false",
};
pub(super) const STATS_ACCESS_KEYS: Key = Key {
    name: "stats_access_keys",
    expected: "a list of at most 64 X25519 keys, each of 64 hex digits in quotes",
};
pub(super) const PROXY_EXCEPTIONS: Key = Key {
    name: "proxy_exceptions",
    expected: "a list of at most 64 hosts such as [\"files.lab\", \"10.0.0.7:80\"]",
};
pub(super) const RATE_LIMIT_PER_SECOND: Key = Key {
    name: "rate_limit_per_second",
    expected: "a number of requests from 1 to 1000000",
};
pub(super) const RATE_LIMIT_BURST: Key = Key {
    name: "rate_limit_burst",
    expected: "a number of requests from 1 to 1000000",
};
pub(super) const MONITOR_COUNT_MAX: Key = Key {
    name: "monitor_count_max",
    expected: "a number of subscriptions from 0 to 10000000",
};
pub(super) const STOP_TIMEOUT_SECONDS: Key = Key {
    name: "stop_timeout_seconds",
    expected: "a number of seconds from 0 to 600",
};
pub(super) const PACKET_LANE: Key = Key {
    name: "packet_lane",
    expected: "true or false",
};
pub(super) const PACKET_PORT: Key = Key {
    name: "packet_port",
    expected: "a port from 1 to 65535 other than omq_port",
};
pub(super) const PACKET_IO: Key = Key {
    name: "packet_io",
    expected: "\"auto\", \"io_uring\", \"af_xdp\" or \"mmsg\"",
};
pub(super) const PACKET_CPU: Key = Key {
    name: "packet_cpu",
    expected: "a core number such as 1",
};
pub(super) const PACKET_EPOCH_SECONDS: Key = Key {
    name: "packet_epoch_seconds",
    expected: "a number of seconds from 20 to 604800",
};
pub(super) const REPLAY_FILTER_MIB: Key = Key {
    name: "replay_filter_mib",
    expected: "a number of MiB from 1 to 65536",
};
pub(super) const X25519: Key = Key {
    name: "x25519",
    expected: "\"auto\" or \"scalar\"",
};
pub(super) const AF_XDP_INTERFACE: Key = Key {
    name: "af_xdp_interface",
    expected: "the name of a network interface such as \"eth0\"",
};
pub(super) const AF_XDP_QUEUE: Key = Key {
    name: "af_xdp_queue",
    expected: "a number of a queue from 0 to 4095",
};

pub(super) const SANDBOX: Key = Key {
    name: "sandbox",
    expected: "\"auto\", \"require\" or \"off\"",
};

/// Every key, in the order of `config/cepa.toml`.
pub(super) const KEYS: [&Key; 34] = [
    &BIND_IP,
    &HTTPS_PORT,
    &OMQ_PORT,
    &DATA_DIR,
    &NETWORK_FILE,
    &OXEND_RPC,
    &BOOTSTRAP_NODES,
    &TESTNET,
    &QUIC,
    &SHARD_CPUS,
    &ALLOW_AES_CBC,
    &SEGMENT_SIZE_MIB,
    &STORE_CAPACITY_MIB,
    &ACCOUNT_SIZE_MAX_MIB,
    &FOREIGN_GRACE_HOURS,
    &RELAXED_DURABILITY_MS,
    &RATE_LIMIT_PER_SECOND,
    &RATE_LIMIT_BURST,
    &MONITOR_COUNT_MAX,
    &STATS_ACCESS_KEYS,
    &PROXY_EXCEPTIONS,
    &STOP_TIMEOUT_SECONDS,
    &PACKET_LANE,
    &PACKET_PORT,
    &PACKET_IO,
    &PACKET_CPU,
    &PACKET_EPOCH_SECONDS,
    &REPLAY_FILTER_MIB,
    &X25519,
    &AF_XDP_INTERFACE,
    &AF_XDP_QUEUE,
    &ADMIN_LISTEN,
    &SEED_LISTEN,
    &SANDBOX,
];

pub(super) fn key_names() -> String {
    KEYS.map(|key| key.name).join(", ")
}
