//! The fall-back of a node whose oxend has just started: nodes that are known to everybody tell how the
//! others are reached, and how high the chain is.
//!
//! Oxend learns the contacts of the others from their proofs, which takes up to an hour. Whose list is
//! sparse at the start asks each bootstrap node once for its list, by `rpc.get_service_nodes` over
//! CURVE, and takes two things from it: addresses of nodes that oxend has none of, and the height that
//! oxend has to reach before the node serves anybody. Swarms and keys are never taken: so a bootstrap
//! node that lies makes us call the wrong address, where nobody has the right key.

use core::fmt;
use core::net::Ipv4Addr;
use core::num::NonZeroU16;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_crypto::X25519SecretKey;
use cepa_wire::host::Host;
use cepa_wire::oxend::Listing;
use cepa_wire::{ServiceNode, X25519PublicKey};
use futures_util::future::join_all;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::OxendView;
use crate::curve::{self, Question};

/// How long all of them together may keep us waiting: the reference's limit.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before one that failed is asked again, within [`TIMEOUT`].
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// The largest list: one of some 2,500 nodes takes a MiB.
const LIST_SIZE_MAX: usize = 8 << 20;
/// More members than this part of them, in percent, that can't be reached are too many.
const MISSING_PERCENT_MAX: usize = 3;

/// Those of the main network, as the reference has them.
const MAINNET: [&str; 4] = [
    "curve://public.loki.foundation:22027/\
     3c157ed3c675f56280dc5d8b2f00b327b5865c127bf2c6c42becc3ca73d9132b",
    "curve://imaginary.stream:22027/\
     449a8011d3abcb97f5db6d91529b1106b0590d2f2a86635104fe7059ffeeef47",
    "curve://storage.seed1.loki.network:22027/\
     6d4146b51404576efa6f582ea0562532b25ba4aceddb0d5d12bc127360678551",
    "curve://storage.seed3.loki.network:22027/\
     146fb2840583c32f7e281b81d8c5568cc7bb04155fb9968987bb265b6ca9816e",
];
/// That of the testnet.
const TESTNET: [&str; 1] = ["curve://public.loki.foundation:38161/\
     80adaead94db3b0402a6057869bdbe63204a28e93589fd95a035480ed6c03b45"];

/// Where a bootstrap node listens, and the CURVE key that it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapNode {
    /// A name or an address; an IPv6 address without its brackets.
    host: String,
    port: NonZeroU16,
    key: X25519PublicKey,
}

/// A text that is no [`BootstrapNode`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no address of a bootstrap node: it must be curve://HOST:PORT/KEY")]
pub struct BootstrapNodeError {
    text: String,
}

impl BootstrapNode {
    /// The beginning of its key: it names the node in a log that has no addresses.
    fn key_prefix(&self) -> String {
        self.key.to_hex().chars().take(8).collect()
    }
}

impl FromStr for BootstrapNode {
    type Err = BootstrapNodeError;

    fn from_str(text: &str) -> Result<Self, BootstrapNodeError> {
        let read = || {
            let (address, key) = text.strip_prefix("curve://")?.split_once('/')?;
            let (host, port) = address.rsplit_once(':')?;
            let host = match Host::parse(host)? {
                Host::Name(name) => name,
                Host::Address(address) => address.to_string(),
            };
            Some(Self {
                host,
                port: port.parse().ok()?,
                key: X25519PublicKey::from_hex(key.as_bytes())?,
            })
        };
        read().ok_or_else(|| BootstrapNodeError { text: text.into() })
    }
}

impl fmt::Display for BootstrapNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, key } = self;
        if host.contains(':') {
            write!(formatter, "curve://[{host}]:{port}/{}", key.to_hex())
        } else {
            write!(formatter, "curve://{host}:{port}/{}", key.to_hex())
        }
    }
}

/// Whom a node asks when its oxend knows too little, and when that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Who is asked; nobody: whatever oxend tells is taken as it is.
    pub nodes: Vec<BootstrapNode>,
    /// A list of fewer members of swarms is sparse, however complete it is.
    pub node_count_min: usize,
}

impl Bootstrap {
    /// The bootstrap nodes and the measure of the reference, for the testnet or the main network.
    pub fn of_network(is_testnet: bool) -> Self {
        let (nodes, node_count_min) = if is_testnet {
            (&TESTNET[..], 10)
        } else {
            (&MAINNET[..], 100)
        };
        Self {
            nodes: nodes.iter().filter_map(|node| node.parse().ok()).collect(),
            node_count_min,
        }
    }

    /// Whether a first list is so sparse that somebody else is to be asked.
    pub(super) fn is_needed(&self, view: &OxendView) -> bool {
        let (missing, total) = member_counts(view);
        let is_sparse = total < self.node_count_min || is_incomplete(missing, total);
        is_sparse && !self.nodes.is_empty()
    }

    /// Asks all of them at once; gives the lists of those that answered in time.
    pub(super) async fn ask_all(&self, us: &X25519SecretKey) -> Vec<OxendView> {
        let asked = self.nodes.iter().map(|node| ask_patiently(us, node));
        let lists: Vec<OxendView> = join_all(asked).await.into_iter().flatten().collect();
        info!(
            asked = self.nodes.len(),
            answered = lists.len(),
            "asked the bootstrap nodes"
        );
        lists
    }
}

/// Members of swarms that can't be reached yet, and all members.
fn member_counts(view: &OxendView) -> (usize, usize) {
    let members = view.nodes.iter();
    let members = members.filter(|node| node.swarm_id != ServiceNode::NO_SWARM);
    members.fold((0, 0), |(missing, total), node| {
        (missing + usize::from(!node.is_contactable()), total + 1)
    })
}

pub(super) const fn is_incomplete(missing: usize, total: usize) -> bool {
    missing > total * MISSING_PERCENT_MAX / 100
}

/// Gives nodes without any contact the one that they have in `known`. Gives how many.
pub(super) fn fill_contacts(nodes: &mut [ServiceNode], known: &[ServiceNode]) -> usize {
    let is_missing = |node: &ServiceNode| {
        node.ip == Ipv4Addr::UNSPECIFIED && node.port == 0 && node.omq_port == 0
    };
    let missing = nodes.iter_mut().filter(|node| is_missing(node));
    let mut missing: BTreeMap<[u8; 32], &mut ServiceNode> =
        missing.map(|node| (node.pubkey_legacy, node)).collect();
    let mut count = 0;
    for known in known.iter().filter(|known| known.is_contactable()) {
        if let Some(node) = missing.remove(&known.pubkey_legacy) {
            (node.ip, node.port, node.omq_port) = (known.ip, known.port, known.omq_port);
            count += 1;
        }
    }
    count
}

/// Asks one, again and again if it fails, until the time is over.
async fn ask_patiently(us: &X25519SecretKey, node: &BootstrapNode) -> Option<OxendView> {
    let mut last_fault = "it does not answer".to_owned();
    let asking = async {
        loop {
            match ask(us, node).await {
                Ok(view) => return view,
                Err(fault) => last_fault = fault,
            }
            sleep(RETRY_PAUSE).await;
        }
    };
    let answer = timeout(TIMEOUT, asking).await;
    if answer.is_err() {
        debug!(%node, "this one gave no list");
        warn!(
            key = node.key_prefix(),
            fault = last_fault,
            "a bootstrap node gave no list"
        );
    }
    answer.ok()
}

async fn ask(us: &X25519SecretKey, node: &BootstrapNode) -> Result<OxendView, String> {
    let question = Question {
        command: "rpc.get_service_nodes",
        parts: vec![Bytes::from(Listing::query(None).to_string())],
        answer_size_max: LIST_SIZE_MAX,
    };
    let address = (node.host.as_str(), node.port.get());
    let answer = curve::ask(us, node.key, address, question).await?;
    let [status, body] = answer.as_slice() else {
        return Err("its answer has not two parts".to_owned());
    };
    if status != "200" {
        return Err("it answered with another status than 200".to_owned());
    }
    match Listing::parse(body)? {
        Listing::View(view) => Ok(view),
        Listing::Unchanged => Err("it told of no node".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use cepa_wire::Ed25519PublicKey;

    use super::*;

    fn node(number: u8, ip: [u8; 4], port: u16) -> ServiceNode {
        ServiceNode {
            ip: ip.into(),
            port,
            omq_port: port,
            pubkey_ed25519: Ed25519PublicKey([number; 32]),
            pubkey_x25519: X25519PublicKey([number; 32]),
            pubkey_legacy: [number; 32],
            swarm_id: 5,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    #[test]
    fn the_networks_nodes_are_addresses_that_are_read_as_they_are_written() {
        for (is_testnet, texts) in [(false, &MAINNET[..]), (true, &TESTNET[..])] {
            let nodes = Bootstrap::of_network(is_testnet).nodes;
            let written: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            assert_eq!(written, texts);
        }
        let key = hex::encode([7; 32]);
        for host in ["[::1]", "127.0.0.1", "seed.example"] {
            let text = format!("curve://{host}:9/{key}");
            assert_eq!(text.parse::<BootstrapNode>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "curve://",
            &format!("tcp://seed.example:9/{key}"),
            &format!("curve://seed.example:0/{key}"),
            &format!("curve://seed.example/{key}"),
            &format!("curve://:9/{key}"),
            "curve://seed.example:9/ab",
            "curve://seed.example:9",
        ] {
            let fault = text.parse::<BootstrapNode>().unwrap_err().to_string();
            assert!(fault.contains(&format!("`{text}`")), "{fault}");
        }
    }

    #[test]
    fn a_list_is_sparse_that_is_short_or_lacks_more_than_three_of_a_hundred() {
        let bootstrap = Bootstrap::of_network(false);
        let view = |total: u8, missing: usize| {
            let mut nodes: Vec<_> = (0..total)
                .map(|number| node(number, [127, 0, 0, 1], 1))
                .collect();
            for node in nodes.iter_mut().take(missing) {
                node.port = 0;
            }
            // One that is decommissioned counts for nothing.
            nodes.push(node(255, [0; 4], 0));
            nodes.last_mut().unwrap().swarm_id = ServiceNode::NO_SWARM;
            OxendView {
                nodes,
                height: 1,
                block_hash: [1; 32],
                hard_fork: (19, 3),
                keyless_count: 0,
            }
        };
        for (total, missing, expected) in [
            (99, 0, true),
            (100, 0, false),
            (100, 3, false),
            (100, 4, true),
        ] {
            assert_eq!(bootstrap.is_needed(&view(total, missing)), expected);
        }
        assert!(
            !Bootstrap::default().is_needed(&view(1, 1)),
            "nobody to ask"
        );
        assert!(Bootstrap::of_network(true).is_needed(&view(9, 0)));
    }

    #[test]
    fn only_what_is_missing_is_filled() {
        let mut half = node(3, [0; 4], 9);
        half.omq_port = 0;
        let mut nodes = [node(1, [0; 4], 0), node(2, [127, 0, 0, 2], 2), half.clone()];
        let known = [
            node(1, [127, 0, 0, 9], 9),
            node(2, [127, 0, 0, 9], 9),
            node(3, [127, 0, 0, 9], 9),
            node(4, [127, 0, 0, 9], 9),
        ];
        assert_eq!(fill_contacts(&mut nodes, &known), 1);
        assert_eq!(
            nodes,
            [node(1, [127, 0, 0, 9], 9), node(2, [127, 0, 0, 2], 2), half]
        );
        let mut unknown = [node(1, [0; 4], 0)];
        assert_eq!(fill_contacts(&mut unknown, &[node(1, [0; 4], 0)]), 0);
    }
}
