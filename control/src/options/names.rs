//! Every option that a version of the C++ storage server took, under every name that it had
//! (`oxenss/daemon/command_line.cpp` and its history), and our own few beside.

/// What an option is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// One of ours, under its present name.
    Option,
    /// The former name of another, which is to be used instead.
    Alias(&'static str),
    /// It does nothing any more, and why.
    Ignored(&'static str),
}

/// An option that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Without the dashes.
    pub name: &'static str,
    /// What it is to us.
    pub meaning: Meaning,
    /// It is said or not; others have a value.
    pub is_flag: bool,
}

impl Known {
    const fn new(name: &'static str, meaning: Meaning) -> Self {
        Self {
            name,
            meaning,
            is_flag: false,
        }
    }

    const fn flag(mut self) -> Self {
        self.is_flag = true;
        self
    }
}

/// On the command line, the file that the others are read from.
pub const CONFIG_FILE: &str = "config-file";
/// On the command line, of all commands.
pub const LOG_LEVEL: &str = "log-level";
pub(super) const DATA_DIR: &str = "data-dir";
pub(super) const OXEND_RPC: &str = "oxend-rpc";
pub(super) const NETWORK_FILE: &str = "network-file";
pub(super) const BIND_IP: &str = "bind-ip";
pub(super) const HTTPS_PORT: &str = "https-port";
pub(super) const OMQ_PORT: &str = "omq-port";
pub(super) const TESTNET: &str = "testnet";
pub(super) const STATS_ACCESS_KEY: &str = "stats-access-key";

const OXEND_RPC_HINT: &str =
    "oxend is asked at --oxend-rpc, such as ipc:///var/lib/oxen/oxend.sock";
const KEY_HINT: &str = "the node's keys come from oxend, or from key_ed25519 in the data directory";
const LOG_HINT: &str = "the log goes to standard error, where systemd's journal takes it";

const fn option(name: &'static str) -> Known {
    Known::new(name, Meaning::Option)
}

const fn alias(name: &'static str, of: &'static str) -> Known {
    Known::new(name, Meaning::Alias(of))
}

const fn ignored(name: &'static str, why: &'static str) -> Known {
    Known::new(name, Meaning::Ignored(why))
}

/// Every option.
pub const NAMES: [Known; 29] = [
    option(DATA_DIR),
    option(LOG_LEVEL),
    option(OXEND_RPC),
    option(NETWORK_FILE),
    option(BIND_IP),
    option(HTTPS_PORT),
    option(OMQ_PORT),
    option(TESTNET).flag(),
    option(STATS_ACCESS_KEY),
    alias("lmq-port", OMQ_PORT),
    alias("port", HTTPS_PORT),
    alias("db-location", DATA_DIR),
    ignored("ip", "the address to listen on is --bind-ip"),
    ignored(
        "force-start",
        "a node always starts, and serves when it is in a swarm",
    )
    .flag(),
    ignored("disable-file-logging", LOG_HINT).flag(),
    ignored("output-log", LOG_HINT),
    ignored("oxend-rpc-ip", OXEND_RPC_HINT),
    ignored("oxend-rpc-port", OXEND_RPC_HINT),
    ignored("lokid-rpc-ip", OXEND_RPC_HINT),
    ignored("lokid-rpc-port", OXEND_RPC_HINT),
    ignored("oxend-key", KEY_HINT),
    ignored("oxend-x25519-key", KEY_HINT),
    ignored("oxend-ed25519-key", KEY_HINT),
    ignored("lokid-key", KEY_HINT),
    ignored("lokid-x25519-key", KEY_HINT),
    ignored("lokid-ed25519-key", KEY_HINT),
    ignored("lokinet-identity", KEY_HINT),
    ignored(
        "disable-snode-signature",
        "signatures of service nodes are always checked",
    )
    .flag(),
    ignored(CONFIG_FILE, "a config file names no other"),
];

/// Finds one by its name, without dashes before it.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    NAMES.iter().find(|known| known.name == name)
}

/// The names that are not former ones, for whoever wrote one that is none.
pub(super) fn present() -> String {
    let present = NAMES
        .iter()
        .filter(|known| known.meaning == Meaning::Option);
    present
        .map(|known| known.name)
        .collect::<Vec<_>>()
        .join(", ")
}
