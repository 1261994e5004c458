//! What a devnet will look like, before anything runs: directories, keys, ports, swarms, configs.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::num::NonZeroU16;
use std::fs::DirBuilder;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use cepa_control::config::PacketConfig;
use cepa_control::{Config, Network, NetworkSource};
use cepa_crypto::swarm_space::{nearest_swarm, swarm_space};
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::{Mailbox, ServiceNode};

use super::super::run::identity;
use crate::failure::Failure;

/// Ports that are tried when none is asked for: below those that Linux gives to outgoing connections
/// (32,768 and up), one of which could otherwise take a node's port before the node does.
const PORT_MIN: u16 = 12_000;
const PORT_MAX: u16 = 32_000;
/// The message log of a node that carries some messages only.
const SEGMENT_SIZE_MIB: u64 = 16;

/// The packets of a node that carries some messages only: a million an epoch.
const REPLAY_FILTER_MIB: u64 = 4;
/// HTTPS, OMQ, packets, metrics.
const NODE_PORT_COUNT: usize = 4;

/// A network that is ready to be started.
pub(super) struct Plan {
    pub(super) directory: PathBuf,
    pub(super) nodes: Vec<PlannedNode>,
    pub(super) swarm_count: usize,
    pub(super) seed_address: SocketAddr,
}

/// What is wanted of it.
pub(super) struct Shape {
    pub(super) node_count: usize,
    pub(super) swarm_count: usize,
    /// Epochs of the packet lane.
    pub(super) epoch: EpochLength,
}

pub(super) struct PlannedNode {
    /// Holds `cepa.toml`, `network.json`, `log` and `data`.
    pub(super) directory: PathBuf,
    pub(super) entry: ServiceNode,
    /// UDP port of the packet lane.
    pub(super) packet_port: u16,
    /// Where it tells its metrics.
    pub(super) admin_port: u16,
    epoch: EpochLength,
}

impl Plan {
    /// Makes directories and keys, finds ports, writes every node's files. What is there from an
    /// earlier devnet is used again: nodes keep their keys and messages.
    pub(super) fn make(
        directory: PathBuf,
        shape: &Shape,
        base_port: Option<u16>,
    ) -> Result<Self, Failure> {
        let Shape {
            node_count,
            swarm_count,
            epoch,
        } = *shape;
        make_directory(&directory)?;
        let ports = free_ports(NODE_PORT_COUNT * node_count + 1, base_port)?;
        let [node_ports @ .., seed_port] = ports.as_slice() else {
            return Err(Failure::new("a devnet needs ports"));
        };
        let mut nodes = Vec::with_capacity(node_count);
        for (index, ports) in node_ports
            .as_chunks::<NODE_PORT_COUNT>()
            .0
            .iter()
            .enumerate()
        {
            let swarm_id = swarm_id(index % swarm_count, swarm_count);
            let directory = directory.join(format!("node-{index:02}"));
            nodes.push(PlannedNode::make(directory, *ports, swarm_id, epoch)?);
        }
        let plan = Self {
            directory,
            nodes,
            swarm_count,
            seed_address: (Ipv4Addr::LOCALHOST, *seed_port).into(),
        };
        plan.write_files()?;
        Ok(plan)
    }

    pub(super) fn service_nodes(&self) -> Vec<ServiceNode> {
        self.nodes.iter().map(|node| node.entry.clone()).collect()
    }

    /// The members of the swarm that keeps a mailbox, as this plan has it.
    pub(super) fn members(&self, mailbox: &Mailbox) -> Vec<ServiceNode> {
        let mut nodes = self.service_nodes();
        let mut swarm_ids: Vec<_> = nodes.iter().map(|node| node.swarm_id).collect();
        swarm_ids.sort_unstable();
        let swarm_id = nearest_swarm(swarm_space(mailbox), &swarm_ids);
        nodes.retain(|node| Some(node.swarm_id) == swarm_id);
        nodes
    }

    /// Where clients ask for the node list.
    pub(super) fn seed_url(&self) -> String {
        format!("http://{}/json_rpc", self.seed_address)
    }

    /// The network file for clients.
    pub(super) fn network_file(&self) -> PathBuf {
        self.directory.join("network.json")
    }

    fn write_files(&self) -> Result<(), Failure> {
        let network = Network {
            seed_url: Some(self.seed_url()),
            service_nodes: self.service_nodes(),
        };
        network.write(&self.network_file()).map_err(Failure::new)?;
        let core_count = thread::available_parallelism().map_or(1, usize::from);
        for (index, node) in self.nodes.iter().enumerate() {
            let file = node.directory.join("network.json");
            network.write(&file).map_err(Failure::new)?;
            let config = node.config(index % core_count)?;
            let file = node.config_file();
            fs::write(&file, config.to_toml()).map_err(|fault| {
                Failure::new(format!("cannot write {}: {fault}", file.display()))
            })?;
        }
        Ok(())
    }
}

impl PlannedNode {
    fn make(
        directory: PathBuf,
        [port, omq_port, packet_port, admin_port]: [u16; NODE_PORT_COUNT],
        swarm_id: u64,
        epoch: EpochLength,
    ) -> Result<Self, Failure> {
        let keys = identity::load_or_create(&directory.join("data"))?;
        let entry = ServiceNode {
            ip: Ipv4Addr::LOCALHOST,
            port,
            omq_port,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.legacy_public(),
            swarm_id,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        };
        Ok(Self {
            directory,
            entry,
            packet_port,
            admin_port,
            epoch,
        })
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.directory.join("cepa.toml")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub(super) fn https_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.entry.ip, self.entry.port)
    }

    fn config(&self, cpu: usize) -> Result<Config, Failure> {
        let ports = [self.entry.port, self.entry.omq_port].map(NonZeroU16::new);
        let [Some(port), Some(omq_port)] = ports else {
            return Err(Failure::new("port 0 is none to listen on"));
        };
        let network = NetworkSource::File("network.json".into());
        let config = Config::new(self.entry.ip, [port, omq_port], "data".into(), network);
        let packet = PacketConfig {
            port: self.packet_port,
            cpu,
            epoch: self.epoch,
            replay_filter_mib: REPLAY_FILTER_MIB,
            ..config.packet
        };
        Ok(Config {
            packet,
            admin_listen: Some((self.entry.ip, self.admin_port).into()),
            shard_cpus: vec![cpu],
            segment_size_mib: SEGMENT_SIZE_MIB,
            store_capacity_mib: 1024,
            ..config
        })
    }
}

/// Readable by its owner alone: keys stand below it.
fn make_directory(directory: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|fault| Failure::new(format!("cannot make {}: {fault}", directory.display())))
}

/// The middle of the swarm's share of the ring.
fn swarm_id(index: usize, count: usize) -> u64 {
    let share = u64::MAX / count as u64;
    share / 2 + share * index as u64
}

/// Free loopback ports: `base_port` and those that follow, or any.
fn free_ports(count: usize, base_port: Option<u16>) -> Result<Vec<u16>, Failure> {
    match base_port {
        Some(base) => ports_from(count, base),
        None => any_ports(count),
    }
}

/// A port is free when nobody answers there. (To bind it would tell less: what an earlier devnet left
/// in `TIME_WAIT` refuses us, and not the nodes.)
fn ports_from(count: usize, base: u16) -> Result<Vec<u16>, Failure> {
    let ports: Vec<u16> = (base..=u16::MAX).take(count).collect();
    if base == 0 || ports.len() < count {
        let reason = format!("--base-port {base}: {count} ports from there are not to be had");
        return Err(Failure::new(reason));
    }
    let is_taken = |port: &&u16| TcpStream::connect((Ipv4Addr::LOCALHOST, **port)).is_ok();
    match ports.iter().find(is_taken) {
        None => Ok(ports),
        Some(port) => Err(Failure::new(format!(
            "--base-port {base}: somebody listens on 127.0.0.1:{port}"
        ))),
    }
}

fn any_ports(count: usize) -> Result<Vec<u16>, Failure> {
    // Another devnet that looks at the same time begins elsewhere.
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(Failure::new)?;
    let start = PORT_MIN + u16::from_le_bytes(random) % (PORT_MAX - PORT_MIN);
    // The listeners hold the ports until all of them are found.
    let listeners: Vec<_> = (start..PORT_MAX)
        .chain(PORT_MIN..start)
        .filter_map(|port| {
            let address = (Ipv4Addr::LOCALHOST, port);
            // QUIC and packets come by UDP.
            let socket = UdpSocket::bind(address).ok()?;
            Some((port, TcpListener::bind(address).ok()?, socket))
        })
        .take(count)
        .collect();
    if listeners.len() < count {
        return Err(Failure::new(format!(
            "{count} free ports are not to be had"
        )));
    }
    Ok(listeners.iter().map(|(port, ..)| *port).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHAPE: Shape = Shape {
        node_count: 5,
        swarm_count: 2,
        epoch: EpochLength::from_secs(77).unwrap(),
    };

    #[test]
    fn swarms_share_the_ring_evenly() {
        assert_eq!(swarm_id(0, 1), u64::MAX / 2);
        for count in 1..=40 {
            let ids: BTreeSet<_> = (0..count).map(|index| swarm_id(index, count)).collect();
            assert_eq!(ids.len(), count);
            assert!(!ids.contains(&ServiceNode::NO_SWARM));
            let ids: Vec<_> = ids.into_iter().collect();
            let wrap = ids[0].wrapping_sub(ids[count - 1]);
            for gap in ids.windows(2).map(|pair| pair[1] - pair[0]) {
                assert!(
                    count == 1 || gap.abs_diff(wrap) <= count as u64,
                    "{count}: {gap} {wrap}"
                );
            }
        }
    }

    #[test]
    fn a_plan_is_what_the_nodes_read() {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan::make(directory.path().join("net"), &SHAPE, None).unwrap();
        let network = Network::read(&plan.network_file()).unwrap();
        assert_eq!(network.seed_url, Some(plan.seed_url()));
        assert_eq!(network.service_nodes, plan.service_nodes());
        let mut ports = BTreeSet::from([plan.seed_address.port()]);
        let mut swarm_ids = BTreeSet::new();
        for node in &plan.nodes {
            let config = Config::read(&node.config_file()).unwrap();
            let NetworkSource::File(file) = &config.network else {
                panic!("a devnet has a file")
            };
            assert_eq!(Network::read(file).unwrap(), network);
            assert_eq!(
                (config.https_port, config.omq_port),
                (node.entry.port, node.entry.omq_port)
            );
            let keys = identity::load_or_create(&config.data_dir).unwrap();
            assert_eq!(keys.ed25519_public(), node.entry.pubkey_ed25519);
            assert!(ports.insert(config.https_port) && ports.insert(config.omq_port));
            assert!(ports.insert(config.packet.port));
            let admin = config.admin_listen.unwrap();
            assert!(admin.ip().is_loopback() && ports.insert(admin.port()));
            assert_eq!(config.packet.port, node.packet_port);
            assert_eq!(config.packet.epoch, SHAPE.epoch);
            swarm_ids.insert(node.entry.swarm_id);
        }
        assert_eq!(swarm_ids.len(), 2);

        let again = Plan::make(directory.path().join("net"), &SHAPE, None).unwrap();
        let keys = |plan: &Plan| -> Vec<_> {
            plan.nodes
                .iter()
                .map(|node| node.entry.pubkey_ed25519)
                .collect()
        };
        assert_eq!(keys(&plan), keys(&again), "nodes keep their keys");
    }

    #[test]
    fn a_taken_base_port_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_ports(1, Some(port)).is_err());
        assert!(free_ports(2, Some(u16::MAX)).is_err());
        assert!(free_ports(1, Some(0)).is_err());
    }
}
