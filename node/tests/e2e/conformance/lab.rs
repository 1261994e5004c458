//! Nodes as an operator runs them: processes with the C++ server's options, each beside an `oxend` of its
//! own, all of one chain.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::process::{Child, Command, Stdio};

use cepa_crypto::{NodeKeys, SecretKeys};
use cepa_lab::{Chain, Listen, Oxend};
use cepa_wire::ServiceNode;
use cepa_wire::request::ClientRequest;
use tempfile::TempDir;

use crate::network::{exchange, free_port};

pub(crate) struct Lab {
    pub(crate) chain: Chain,
    pub(crate) nodes: Vec<LabNode>,
}

pub(crate) struct LabNode {
    pub(crate) node: ServiceNode,
    pub(crate) oxend: Oxend,
    dir: TempDir,
    child: Option<Child>,
}

impl Lab {
    /// A node for each swarm id; all run and are ready when this returns.
    pub(crate) fn start(swarms: &[u64]) -> Self {
        let chain = Chain::new();
        let mut lab = Self {
            chain: chain.clone(),
            nodes: Vec::new(),
        };
        for (number, swarm) in (1_u8..).zip(swarms) {
            let node = LabNode::new(&chain, number, *swarm);
            chain.add(node.node.clone());
            lab.nodes.push(node);
        }
        chain.advance();
        for node in &mut lab.nodes {
            node.start();
        }
        for node in &lab.nodes {
            node.await_ready();
        }
        lab
    }

    /// All nodes as the chain has them.
    pub(crate) fn view(&self) -> Vec<ServiceNode> {
        self.nodes.iter().map(|node| node.node.clone()).collect()
    }

    /// Moves nodes to swarms with the next block.
    pub(crate) fn assign(&mut self, swarms: &[u64]) {
        for (node, swarm) in self.nodes.iter_mut().zip(swarms) {
            node.node.swarm_id = *swarm;
            self.chain.set_swarm(&node.node.pubkey_legacy, *swarm);
        }
        self.chain.advance();
    }
}

impl LabNode {
    fn new(chain: &Chain, number: u8, swarm_id: u64) -> Self {
        let secrets = SecretKeys::from_seed([number; 32]);
        let keys = NodeKeys::from_secret_keys(&secrets).expect("keys that fit");
        let node = ServiceNode {
            ip: Ipv4Addr::LOCALHOST,
            port: free_port(),
            omq_port: free_port(),
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.legacy_public(),
            storage_server_version: ServiceNode::VERSION_DEFAULT,
            swarm_id,
        };
        let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        Self {
            node,
            oxend: Oxend::start(chain, secrets, listen).expect("an oxend starts"),
            dir: TempDir::new().unwrap(),
            child: None,
        }
    }

    /// Starts the process, with the options that operators of the C++ server know.
    pub(crate) fn start(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_cepa"))
            .args(["run", "--oxend-rpc", &self.oxend.address()])
            .args(["--bind-ip", "127.0.0.1", "--testnet"])
            .args(["--https-port", &self.node.port.to_string()])
            .args(["--omq-port", &self.node.omq_port.to_string()])
            .arg("--data-dir")
            .arg(self.dir.path())
            .args(["--log-level", "warning"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cepa runs");
        self.child = Some(child);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn await_ready(&self) {
        let body = ClientRequest::Info.encode_json();
        let head = format!(
            "POST /storage_rpc/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), &body].concat();
        let mut last = String::new();
        for _ in 0..600 {
            match exchange(self.node.port, &request) {
                Ok(reply) if reply.status == 200 => return,
                Ok(reply) => last = format!("{:?}", reply.text()),
                Err(error) => last = error.to_string(),
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("a node is not ready: {last}");
    }
}

impl Drop for LabNode {
    fn drop(&mut self) {
        self.kill();
    }
}
