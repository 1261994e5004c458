//! The network as the node will see it: where its view comes from, what the view says of us, and whether
//! peers agree with our clock. Whether they reach us is [`super::reach`]'s.

use core::net::Ipv4Addr;
use core::time::Duration;

use cepa_control::oxend::{self, OxendAddress, OxendProbe};
use cepa_control::{Config, Network, NetworkSource};
use cepa_crypto::NodeKeys;
use cepa_host::clock::{self, Stopwatch};
use cepa_wire::{Ed25519PublicKey, ServiceNode};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::clock::judge_offsets;
use super::finding::Finding;
use super::{Context, reach};
use crate::commands::run::identity;

/// How long oxend may take for both questions: a busy one needs seconds.
const OXEND_TIMEOUT: Duration = Duration::from_secs(25);
/// Peers whose clocks are asked for.
const CLOCK_COUNT: usize = 5;
/// How long one of them may take.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What the node's sources told.
struct Known {
    nodes: Vec<ServiceNode>,
    us: Option<Ed25519PublicKey>,
}

pub(super) async fn check(context: &Context<'_>) -> Vec<Finding> {
    let Some(config) = context.config else {
        return vec![Finding::skip("view", "the network is that of a config")];
    };
    let (known, mut findings) = match &config.network {
        NetworkSource::File(file) => {
            let keys = identity::load(&config.data_dir).map_err(|fault| fault.to_string());
            from_file(keys, Network::read(file).map_err(|fault| fault.to_string()))
        }
        NetworkSource::Oxend(address) => ask_oxend(address).await,
    };
    let Some(Known { nodes, us }) = known else {
        return findings;
    };
    let entry = us.and_then(|us| nodes.iter().find(|node| node.pubkey_ed25519 == us));
    findings.push(judge_entry(us.as_ref(), entry, config));
    if context.is_offline {
        findings.push(Finding::skip("peers", "not asked: --offline"));
        return findings;
    }
    let peers: Vec<_> = nodes
        .iter()
        .filter(|node| Some(node.pubkey_ed25519) != us && node.is_contactable())
        .cloned()
        .collect();
    if peers.is_empty() {
        findings.push(Finding::skip("peers", "the view has no other node"));
        return findings;
    }
    findings.push(ask_clocks(some_of(peers, CLOCK_COUNT)).await);
    match entry {
        Some(entry) if context.is_running => {
            findings.extend(reach::check(&nodes, entry, config).await);
        }
        Some(_) => findings.push(Finding::skip("reached", "the node does not run")),
        None => findings.push(Finding::skip("reached", "the network does not know us")),
    }
    findings
}

fn from_file(
    keys: Result<Option<NodeKeys>, String>,
    network: Result<Network, String>,
) -> (Option<Known>, Vec<Finding>) {
    let mut findings = Vec::new();
    let us = match keys {
        Ok(keys) => keys.map(|keys| keys.ed25519_public()),
        Err(fault) => {
            let advice = "see data_dir and the mode of its key_ed25519, or ask as the node's user";
            findings.push(Finding::fail("key", fault, advice));
            None
        }
    };
    match network {
        Ok(network) => {
            let count = network.service_nodes.len();
            findings.push(judge_count(count));
            let nodes = network.service_nodes;
            (Some(Known { nodes, us }), findings)
        }
        Err(fault) => {
            let advice = "mend the file that network_file names, or give oxend_rpc instead";
            findings.push(Finding::fail("view", fault, advice));
            (None, findings)
        }
    }
}

fn judge_count(count: usize) -> Finding {
    const NAME: &str = "view";
    if count == 0 {
        let advice = "put the entries of the network's nodes into the file";
        Finding::fail(NAME, "no node is in it", advice)
    } else {
        Finding::pass(NAME, format!("{count} nodes"))
    }
}

async fn ask_oxend(address: &str) -> (Option<Known>, Vec<Finding>) {
    let address: OxendAddress = match address.parse() {
        Ok(address) => address,
        Err(fault) => {
            let advice = "give oxend_rpc as `ipc:///PATH` or `tcp://HOST:PORT`";
            return (
                None,
                vec![Finding::fail("oxend", format!("{fault}"), advice)],
            );
        }
    };
    let asked = timeout(OXEND_TIMEOUT, oxend::probe(&address)).await;
    let asked = asked.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
    judge_oxend(&address, asked)
}

fn judge_oxend(
    address: &OxendAddress,
    asked: Result<OxendProbe, String>,
) -> (Option<Known>, Vec<Finding>) {
    let OxendProbe { keys, view } = match asked {
        Ok(probe) => probe,
        Err(fault) => {
            let advice = "start oxend; see oxend_rpc, and that we may use its socket (its group)";
            let finding = Finding::fail("oxend", format!("{address}: {fault}"), advice);
            return (None, vec![finding]);
        }
    };
    let mut findings = Vec::new();
    let us = match keys {
        Ok(keys) => {
            findings.push(Finding::pass("oxend", format!("{address} answers")));
            Some(keys.ed25519_public())
        }
        Err(fault) => {
            let advice = "run oxend with --service-node, and let this node's user ask it as admin";
            let found = format!("{address} gives no keys: {fault}");
            findings.push(Finding::fail("oxend", found, advice));
            None
        }
    };
    let view = match view {
        Ok(view) => view,
        Err(fault) => {
            let advice = "see oxend's log: it may still be reading the chain";
            findings.push(Finding::fail("view", fault, advice));
            return (None, findings);
        }
    };
    let (total, height) = (view.nodes.len() + view.keyless_count, view.height);
    let unknown = view.uncontactable_count();
    let found = format!("{total} nodes at height {height}, {unknown} without an address yet");
    // A daemon that has just started learns them within an hour.
    findings.push(if unknown.saturating_mul(2) > total {
        let advice = "oxend has just started or does not sync: see `oxend status`, and ask again";
        Finding::warn("view", found, advice)
    } else {
        Finding::pass("view", found)
    });
    let nodes = view.nodes;
    (Some(Known { nodes, us }), findings)
}

/// What the view says of us, against what the config says.
fn judge_entry(
    us: Option<&Ed25519PublicKey>,
    entry: Option<&ServiceNode>,
    config: &Config,
) -> Finding {
    const NAME: &str = "our_entry";
    let Some(us) = us else {
        return Finding::skip(NAME, "we have no key yet: the first start makes one");
    };
    let Some(entry) = entry else {
        return Finding::warn(
            NAME,
            format!("{} is not in the view", us.to_hex()),
            "until it is, the node answers 503: register it (oxend), or put its entry into network_file",
        );
    };
    let found = format!("{}, HTTPS {}, OMQ {}", entry.ip, entry.port, entry.omq_port);
    if !entry.is_contactable() {
        return Finding::warn(
            NAME,
            format!("{found}: nobody knows how to reach us"),
            "oxend tells it with the first uptime proof: see that it is pinged, by `oxend status`",
        );
    }
    if [entry.port, entry.omq_port] != [config.https_port, config.omq_port] {
        return Finding::fail(
            NAME,
            format!(
                "{found}; the config has HTTPS {}, OMQ {}",
                config.https_port, config.omq_port
            ),
            "give the same ports here and there: peers ask those of the view",
        );
    }
    if config.bind_ip != Ipv4Addr::UNSPECIFIED && config.bind_ip != entry.ip {
        return Finding::warn(
            NAME,
            format!("{found}; the node listens on {} only", config.bind_ip),
            "give bind_ip = \"0.0.0.0\", or see that this address is forwarded to it",
        );
    }
    if entry.swarm_id == ServiceNode::NO_SWARM {
        return Finding::warn(
            NAME,
            format!("{found}, in no swarm"),
            "it is new or decommissioned: see `oxend status`; it is put into a swarm when it is reached",
        );
    }
    Finding::pass(NAME, format!("{found}, swarm {:016x}", entry.swarm_id))
}

/// Some peers, at random.
pub(super) fn some_of(mut peers: Vec<ServiceNode>, count: usize) -> Vec<ServiceNode> {
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count && !peers.is_empty() {
        // Nothing here must be unpredictable.
        let random = getrandom::u64().unwrap_or(0);
        let bound = u64::try_from(peers.len()).unwrap_or(u64::MAX);
        chosen.push(peers.swap_remove(usize::try_from(random % bound).unwrap_or(0)));
    }
    chosen
}

async fn ask_clocks(peers: Vec<ServiceNode>) -> Finding {
    let offsets = join_all(peers.iter().map(ask_clock)).await;
    judge_offsets(offsets.into_iter().flatten().collect(), peers.len())
}

/// What a peer's clock is ahead of ours, in milliseconds, taken in the middle between question and answer.
async fn ask_clock(peer: &ServiceNode) -> Option<i64> {
    let (asked, took) = (clock::now(), Stopwatch::start());
    let info = timeout(CLOCK_TIMEOUT, cepa_client::direct_info(peer));
    let info = info.await.ok()?.ok()?;
    let ours = asked.saturating_add(took.elapsed() / 2).as_millis();
    let [theirs, ours] = [info.time.as_millis(), ours].map(i64::try_from);
    Some(theirs.ok()?.saturating_sub(ours.ok()?))
}

#[cfg(test)]
mod tests {
    use cepa_wire::X25519PublicKey;
    use cepa_wire::oxend::OxendView;

    use super::super::finding::Verdict::{self, Fail, Pass, Skip, Warn};
    use super::super::tests::config;
    use super::*;

    fn node(number: u8) -> ServiceNode {
        ServiceNode {
            ip: Ipv4Addr::new(192, 0, 2, number),
            port: 22_021,
            omq_port: 22_020,
            pubkey_ed25519: Ed25519PublicKey([number; 32]),
            pubkey_x25519: X25519PublicKey([number; 32]),
            pubkey_legacy: [number; 32],
            swarm_id: 7,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    #[test]
    fn our_entry_is_what_the_config_says() {
        type Change = fn(&mut ServiceNode, &mut Config);
        let table: [(Change, Verdict, &str); 6] = [
            (|_, _| {}, Pass, "swarm 0000000000000007"),
            (|_, config| config.bind_ip = [192, 0, 2, 1].into(), Pass, ""),
            (
                |_, config| config.bind_ip = [10, 0, 0, 1].into(),
                Warn,
                "only",
            ),
            (|node, _| node.port = 443, Fail, "the config has"),
            (|node, _| node.omq_port = 0, Warn, "nobody knows"),
            (
                |node, _| node.swarm_id = ServiceNode::NO_SWARM,
                Warn,
                "no swarm",
            ),
        ];
        for (change, verdict, found) in table {
            let (mut node, mut config) = (node(1), config());
            change(&mut node, &mut config);
            let finding = judge_entry(Some(&node.pubkey_ed25519), Some(&node), &config);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
        let us = Ed25519PublicKey([1; 32]);
        assert_eq!(judge_entry(Some(&us), None, &config()).verdict, Warn);
        assert_eq!(judge_entry(None, None, &config()).verdict, Skip);
    }

    #[test]
    fn a_file_that_is_none_fails() {
        let (known, findings) = from_file(Ok(None), Err("network.json: no".into()));
        assert!(known.is_none());
        assert_eq!(findings[0].verdict, Fail);
        let (known, findings) = from_file(Err("mode 644".into()), Ok(Network::default()));
        assert!(known.is_some());
        assert_eq!([findings[0].verdict, findings[1].verdict], [Fail, Fail]);
        let network = Network {
            seed_url: None,
            service_nodes: vec![node(1)],
        };
        let (_, findings) = from_file(Ok(None), Ok(network));
        assert_eq!(findings[0].verdict, Pass);
    }

    #[test]
    fn oxend_is_judged_by_what_it_tells() {
        let address: OxendAddress = "tcp://127.0.0.1:1".parse().unwrap();
        let verdicts = |asked| {
            let (_, findings) = judge_oxend(&address, asked);
            findings.iter().map(|one| one.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(Err("refused".into())), [Fail]);
        let probe = |keys: bool, contactable: u8, others: u8| {
            let mut nodes: Vec<_> = (1..=contactable + others).map(node).collect();
            for node in nodes.iter_mut().skip(usize::from(contactable)) {
                node.port = 0;
            }
            let view = OxendView {
                nodes,
                height: 9,
                block_hash: [0; 32],
                hard_fork: (19, 4),
                keyless_count: 0,
            };
            Ok(OxendProbe {
                keys: keys
                    .then(|| NodeKeys::from_seed([1; 32]))
                    .ok_or_else(|| "no".to_owned()),
                view: Ok(view),
            })
        };
        assert_eq!(verdicts(probe(true, 9, 1)), [Pass, Pass]);
        assert_eq!(verdicts(probe(true, 1, 9)), [Pass, Warn]);
        assert_eq!(verdicts(probe(false, 9, 1)), [Fail, Pass]);
        let blind = OxendProbe {
            keys: Ok(NodeKeys::from_seed([1; 32])),
            view: Err("no list".into()),
        };
        assert_eq!(verdicts(Ok(blind)), [Pass, Fail]);
    }

    #[test]
    fn some_are_chosen_and_none_twice() {
        let chosen = some_of((1..=20).map(node).collect(), 5);
        let mut keys: Vec<_> = chosen.iter().map(|node| node.pubkey_ed25519).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5);
        assert_eq!(some_of(vec![node(1)], 5).len(), 1);
    }
}
