//! Whom the load goes to, and whether it may.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::path::Path;

use cepa_control::{Config, Network};
use cepa_load::meter::{self, Process};
use cepa_load::target;
use cepa_wire::{Ed25519PublicKey, ServiceNode, X25519PublicKey};

use super::super::network_arguments::network_file;
use super::arguments::{BenchArguments, Kind};
use crate::failure::Failure;

/// Nodes that load goes to, all of them allowed.
pub(super) struct Aim {
    /// All that a request may pass.
    pub(super) nodes: Vec<ServiceNode>,
    /// Who is asked first; not empty.
    pub(super) entries: Vec<ServiceNode>,
    /// There is a network file, and `nodes` have their keys and swarms.
    pub(super) has_network: bool,
    /// Hosts beside this machine that may be aimed at.
    allowed: BTreeSet<IpAddr>,
}

impl Aim {
    /// Reads the network, and refuses what may not be aimed at before anything is sent.
    pub(super) fn take(arguments: &BenchArguments) -> Result<Self, Failure> {
        let named = resolve_all(&arguments.node)?;
        let file = match &arguments.network {
            None if !named.is_empty() => None,
            given => network_file(given.clone()),
        };
        let mut aim = match file {
            Some(file) => Self::of_network(&file, &named)?,
            None if named.is_empty() => {
                return Err(Failure::new(
                    "no network: start one with `cepa devnet`, or give --network FILE or --node HOST:PORT",
                ));
            }
            None => Self {
                nodes: named.iter().copied().map(stranger).collect(),
                entries: named.iter().copied().map(stranger).collect(),
                has_network: false,
                allowed: BTreeSet::new(),
            },
        };
        aim.allowed = allowed_hosts(arguments.config.as_deref())?;
        aim.check_hosts(&aim.nodes)?;
        aim.check(arguments)?;
        Ok(aim)
    }

    fn of_network(file: &Path, named: &[SocketAddrV4]) -> Result<Self, Failure> {
        let network = Network::read(file).map_err(Failure::new)?;
        let mut nodes = network.service_nodes;
        nodes.retain(ServiceNode::is_contactable);
        let is_named = |node: &ServiceNode| named.contains(&address(node));
        let is_entry = |node: &&ServiceNode| named.is_empty() || is_named(node);
        let entries: Vec<_> = nodes.iter().filter(is_entry).cloned().collect();
        if let Some(other) = named
            .iter()
            .find(|named| !nodes.iter().any(|node| address(node) == **named))
        {
            let file = file.display();
            return Err(Failure::new(format!(
                "--node {other}: {file} has no such node"
            )));
        }
        if entries.is_empty() {
            return Err(Failure::new(format!("{} has no nodes", file.display())));
        }
        Ok(Self {
            nodes,
            entries,
            has_network: true,
            allowed: BTreeSet::new(),
        })
    }

    /// Whether all of these may be aimed at.
    pub(super) fn check_hosts(&self, nodes: &[ServiceNode]) -> Result<(), Failure> {
        let targets = nodes.iter().map(|node| IpAddr::V4(node.ip));
        target::check(targets, &self.allowed).map_err(Failure::new)
    }

    fn check(&self, arguments: &BenchArguments) -> Result<(), Failure> {
        let is_wrapped = matches!(arguments.kind, Kind::Onion | Kind::Packet);
        if is_wrapped && !self.has_network {
            return Err(Failure::new(
                "onions and packets need the keys of nodes: give --network FILE",
            ));
        }
        let is_here = self.entries.iter().all(|node| node.ip.is_loopback());
        if arguments.source.is_some() && !is_here {
            return Err(Failure::new(
                "--source: only nodes of this machine are reached from loopback addresses",
            ));
        }
        Ok(())
    }

    /// The processes that are named, or else those of nodes on this machine.
    pub(super) fn processes(&self, pids: &[u32]) -> Result<Vec<Process>, Failure> {
        if pids.is_empty() {
            let ports: Vec<_> = self.nodes.iter().map(|node| (node.ip, node.port)).collect();
            return Ok(meter::find_listeners(&ports));
        }
        let find = |pid: &u32| {
            meter::find(*pid)
                .ok_or_else(|| Failure::new(format!("--pid {pid}: there is no such process")))
        };
        pids.iter().map(find).collect()
    }
}

/// Where a node takes HTTPS.
pub(super) fn address(node: &ServiceNode) -> SocketAddrV4 {
    SocketAddrV4::new(node.ip, node.port)
}

/// A node of which only the address is known.
fn stranger(address: SocketAddrV4) -> ServiceNode {
    ServiceNode {
        ip: *address.ip(),
        port: address.port(),
        omq_port: 0,
        pubkey_ed25519: Ed25519PublicKey([0; 32]),
        pubkey_x25519: X25519PublicKey([0; 32]),
        pubkey_legacy: [0; 32],
        swarm_id: 0,
        storage_server_version: ServiceNode::VERSION_DEFAULT,
    }
}

fn resolve_all(named: &[String]) -> Result<Vec<SocketAddrV4>, Failure> {
    named.iter().map(|text| resolve(text)).collect()
}

fn resolve(text: &str) -> Result<SocketAddrV4, Failure> {
    let fault = |reason: &str| Failure::new(format!("--node {text}: {reason}"));
    let mut found = text
        .to_socket_addrs()
        .map_err(|reason| fault(&format!("it must be HOST:PORT ({reason})")))?;
    let found = found.find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    });
    found.ok_or_else(|| fault("it has no IPv4 address"))
}

/// The addresses of the hosts that the config lists.
fn allowed_hosts(config: Option<&Path>) -> Result<BTreeSet<IpAddr>, Failure> {
    let Some(file) = config else {
        return Ok(BTreeSet::new());
    };
    let config = Config::read(file).map_err(Failure::new)?;
    let mut allowed = BTreeSet::new();
    for host in &config.bench_hosts {
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            allowed.insert(IpAddr::V4(address));
            continue;
        }
        let found = (host.as_str(), 0).to_socket_addrs();
        let found =
            found.map_err(|reason| Failure::new(format!("bench_hosts, {host}: {reason}")))?;
        allowed.extend(found.map(|address| address.ip()));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_swarm_are_as_much_aimed_at_as_who_is_asked() {
        let aim = Aim {
            nodes: Vec::new(),
            entries: Vec::new(),
            has_network: false,
            allowed: BTreeSet::from([Ipv4Addr::new(192, 0, 2, 2).into()]),
        };
        let node = |ip: [u8; 4]| stranger(SocketAddrV4::new(ip.into(), 1));
        let (here, own, other) = ([127, 0, 0, 1], [192, 0, 2, 2], [192, 0, 2, 1]);
        assert!(aim.check_hosts(&[here, own].map(node)).is_ok());
        let refused = aim.check_hosts(&[here, own, other].map(node)).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("192.0.2.1 is not this machine")
        );
    }
}
