//! The keys of `cepa.toml`, and what each may be.

/// A key of `cepa.toml`.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// As it stands in the file.
    pub name: &'static str,
    /// What may stand there, in the words of the error.
    pub expected: &'static str,
    /// Whether a running node takes a new value when it reads the file again.
    pub is_reloaded: bool,
}

pub(super) const BIND_IP: Key = Key {
    name: "bind_ip",
    expected: "an IPv4 address such as \"203.0.113.7\"",
    is_reloaded: false,
};
pub(super) const HTTPS_PORT: Key = Key {
    name: "https_port",
    expected: "a port from 1 to 65535",
    is_reloaded: false,
};
pub(super) const OMQ_PORT: Key = Key {
    name: "omq_port",
    expected: "a port from 1 to 65535 other than https_port",
    is_reloaded: false,
};
pub(super) const DATA_DIR: Key = Key {
    name: "data_dir",
    expected: "the path of a directory, such as \"/var/lib/cepa\"",
    is_reloaded: false,
};
pub(super) const NETWORK_FILE: Key = Key {
    name: "network_file",
    expected: "the path of a file, such as \"network.json\"",
    is_reloaded: false,
};
pub(super) const SHARD_CPUS: Key = Key {
    name: "shard_cpus",
    expected: "a list of different core numbers such as [0, 1]",
    is_reloaded: false,
};
pub(super) const ALLOW_AES_CBC: Key = Key {
    name: "allow_aes_cbc",
    expected: "true or false",
    is_reloaded: true,
};
pub(super) const SEGMENT_SIZE_MIB: Key = Key {
    name: "segment_size_mib",
    expected: "a number of MiB from 4 to 1024",
    is_reloaded: false,
};
pub(super) const STORE_CAPACITY_MIB: Key = Key {
    name: "store_capacity_mib",
    expected: "a number of MiB, at least 64",
    is_reloaded: false,
};
pub(super) const ACCOUNT_SIZE_MAX_MIB: Key = Key {
    name: "account_size_max_mib",
    expected: "a number of MiB, at least 1",
    is_reloaded: true,
};
pub(super) const FOREIGN_GRACE_HOURS: Key = Key {
    name: "foreign_grace_hours",
    expected: "a number of hours from 1 to 720",
    is_reloaded: true,
};
pub(super) const RELAXED_DURABILITY_MS: Key = Key {
    name: "relaxed_durability_ms",
    expected: "a number of milliseconds from 1 to 60000",
    is_reloaded: false,
};
pub(super) const LOG_LEVEL: Key = Key {
    name: "log_level",
    expected: "a level such as \"info\", or a list such as \"info,cepa_host=debug\"",
    is_reloaded: true,
};
pub(super) const LOG_FORMAT: Key = Key {
    name: "log_format",
    expected: "\"text\", \"json\" or \"journald\"",
    is_reloaded: true,
};
pub(super) const ADMIN_LISTEN: Key = Key {
    name: "admin_listen",
    expected: "a loopback address and port such as \"127.0.0.1:9100\"",
    is_reloaded: false,
};
pub(super) const SEED_LISTEN: Key = Key {
    name: "seed_listen",
    expected: "an address and port such as \"127.0.0.1:38157\"",
    is_reloaded: false,
};
pub(super) const OXEND_RPC: Key = Key {
    name: "oxend_rpc",
    expected: "an address such as \"ipc:///run/oxend.sock\" or \"tcp://127.0.0.1:22025\"",
    is_reloaded: false,
};
pub(super) const BOOTSTRAP_NODES: Key = Key {
    name: "bootstrap_nodes",
    expected: "a list of at most 64 addresses such as [\"curve://HOST:PORT/KEY\"], the key of 64 hex digits",
    is_reloaded: false,
};
pub(super) const TESTNET: Key = Key {
    name: "testnet",
    expected: "true or false",
    is_reloaded: false,
};
pub(super) const QUIC: Key = Key {
    name: "quic",
    expected: "true or false",
    is_reloaded: false,
};
pub(super) const STATS_ACCESS_KEYS: Key = Key {
    name: "stats_access_keys",
    expected: "a list of at most 64 X25519 keys, each of 64 hex digits in quotes",
    is_reloaded: true,
};
pub(super) const PROXY_EXCEPTIONS: Key = Key {
    name: "proxy_exceptions",
    expected: "a list of at most 64 hosts such as [\"files.lab\", \"10.0.0.7:80\"]",
    is_reloaded: true,
};
pub(super) const BENCH_HOSTS: Key = Key {
    name: "bench_hosts",
    expected: "a list of at most 64 hosts such as [\"192.0.2.7\", \"node.lab\"]",
    is_reloaded: false,
};
pub(super) const RATE_LIMIT_PER_SECOND: Key = Key {
    name: "rate_limit_per_second",
    expected: "a number of requests from 1 to 1000000",
    is_reloaded: true,
};
pub(super) const RATE_LIMIT_BURST: Key = Key {
    name: "rate_limit_burst",
    expected: "a number of requests from 1 to 1000000",
    is_reloaded: true,
};
pub(super) const MONITOR_COUNT_MAX: Key = Key {
    name: "monitor_count_max",
    expected: "a number of subscriptions from 0 to 10000000",
    is_reloaded: true,
};
pub(super) const STOP_TIMEOUT_SECONDS: Key = Key {
    name: "stop_timeout_seconds",
    expected: "a number of seconds from 0 to 600",
    is_reloaded: true,
};
pub(super) const PACKET_LANE: Key = Key {
    name: "packet_lane",
    expected: "true or false",
    is_reloaded: false,
};
pub(super) const PACKET_PORT: Key = Key {
    name: "packet_port",
    expected: "a port from 1 to 65535 other than omq_port",
    is_reloaded: false,
};
pub(super) const PACKET_IO: Key = Key {
    name: "packet_io",
    expected: "\"auto\", \"io_uring\", \"af_xdp\" or \"mmsg\"",
    is_reloaded: false,
};
pub(super) const PACKET_CPU: Key = Key {
    name: "packet_cpu",
    expected: "a core number such as 1",
    is_reloaded: false,
};
pub(super) const PACKET_EPOCH_SECONDS: Key = Key {
    name: "packet_epoch_seconds",
    expected: "a number of seconds from 20 to 604800",
    is_reloaded: false,
};
pub(super) const REPLAY_FILTER_MIB: Key = Key {
    name: "replay_filter_mib",
    expected: "a number of MiB from 1 to 65536",
    is_reloaded: false,
};
pub(super) const X25519: Key = Key {
    name: "x25519",
    expected: "\"auto\" or \"scalar\"",
    is_reloaded: false,
};
pub(super) const AF_XDP_INTERFACE: Key = Key {
    name: "af_xdp_interface",
    expected: "the name of a network interface such as \"eth0\"",
    is_reloaded: false,
};
pub(super) const AF_XDP_QUEUE: Key = Key {
    name: "af_xdp_queue",
    expected: "a number of a queue from 0 to 4095",
    is_reloaded: false,
};

pub(super) const SANDBOX: Key = Key {
    name: "sandbox",
    expected: "\"auto\", \"require\" or \"off\"",
    is_reloaded: false,
};

/// Every key, in the order of `config/cepa.toml`.
pub const KEYS: [&Key; 37] = [
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
    &LOG_LEVEL,
    &LOG_FORMAT,
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
    &BENCH_HOSTS,
];

pub(super) fn key_names() -> String {
    KEYS.map(|key| key.name).join(", ")
}

/// How alike a name must be to one that there is to be taken for a slip of the pen: of eight letters
/// three may be wrong.
const LIKENESS_MIN: f64 = 0.6;

/// The name that was probably meant; none if none is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short: a long one costs its length times theirs, and is none of them.
    const NAME_SIZE_MAX: usize = 64;
    if name.len() > NAME_SIZE_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let likeness = |other: &str| {
        let other = other.replace('-', "_");
        strsim::normalized_damerau_levenshtein(&name, &other)
    };
    known
        .into_iter()
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_what_was_meant() {
        let table = [
            ("htps_port", Some("https_port")),
            ("https-port", Some("https_port")),
            ("OMQ_PORT", Some("omq_port")),
            ("omqport", Some("omq_port")),
            ("rate_limit", Some("rate_limit_burst")),
            ("rate_limit_per_secnd", Some("rate_limit_per_second")),
            ("storage_capacity_mib", Some("store_capacity_mib")),
            ("network", None),
            ("extra", None),
            ("", None),
        ];
        for (name, expected) in table {
            let names = KEYS.map(|key| key.name);
            assert_eq!(nearest(name, names), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(65), ["x"]), None);
    }
}
