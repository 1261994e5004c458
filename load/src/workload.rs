//! What is asked: requests of each kind, made and signed ahead of time.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use cepa_client::onion::wrap_request;
use cepa_crypto::request_signature::{delete_text, expire_text, retrieve_text};
use cepa_crypto::swarm_space::{message_hash, nearest_swarm, swarm_space};
use cepa_crypto::{Account, Ed25519SecretKey};
use cepa_wire::onion::EncType;
use cepa_wire::request::{ClientRequest, Delete, Expire, Proof, Retrieve, Store};
use cepa_wire::{Direction, Mailbox, Namespace, ServiceNode, Signature, Timestamp};

use crate::clock;
use crate::engine::{Made, Make};
use crate::https::Post;
use crate::packets::PacketAsk;
use crate::schedule::SplitMix;

/// Where clients send requests to a node itself.
pub const RPC_PATH: &str = "/storage_rpc/v1";
/// Where a guard takes onions.
pub const ONION_PATH: &str = "/onion_req/v2";
/// Stored messages that may be deleted later: those of some seconds.
const STORED_COUNT_MAX: usize = 1024;
/// A message is deleted when so many others were stored after it: it is there by then.
const STORED_COUNT_MIN: usize = 64;

/// What a request does at the node that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The node says its version and time: the least that a node can be asked.
    Info,
    /// A message is stored in all of a swarm.
    Store,
    /// An account fetches one message, signed.
    Retrieve,
    /// An account deletes a message, signed.
    Delete,
    /// An account makes a message expire sooner, signed.
    Expire,
}

impl Action {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Store => "store",
            Self::Retrieve => "retrieve",
            Self::Delete => "delete",
            Self::Expire => "expire",
        }
    }
}

/// Actions and their weights: what of a hundred requests does what.
pub type Mix = &'static [(Action, usize)];

/// What a node does all day: clients poll, some write, few delete.
pub const MIXED: Mix = &[
    (Action::Retrieve, 70),
    (Action::Store, 25),
    (Action::Delete, 3),
    (Action::Expire, 2),
];

/// An account, and who keeps its messages.
pub struct Owner {
    account: Account,
    members: Vec<ServiceNode>,
}

impl Owner {
    /// A new account, that no run had before, and the members of its swarm among `nodes`.
    pub fn draw(nodes: &[ServiceNode]) -> Result<Self, String> {
        let account = draw_account()?;
        let ids = nodes.iter().map(|node| node.swarm_id);
        let mut ids: Vec<u64> = ids.filter(|id| *id != ServiceNode::NO_SWARM).collect();
        ids.sort_unstable();
        let id = nearest_swarm(swarm_space(&account.id()), &ids);
        let members = nodes.iter().filter(|node| Some(node.swarm_id) == id);
        let members = members.cloned().collect();
        Ok(Self { account, members })
    }

    /// A new account whose messages are asked for at `node`.
    pub fn at(account: Account, node: &ServiceNode) -> Self {
        let members = vec![node.clone()];
        Self { account, members }
    }

    /// Only those of its members that `accept` accepts are asked; false if none is left.
    pub fn keep_members(&mut self, accept: impl Fn(&ServiceNode) -> bool) -> bool {
        self.members.retain(accept);
        !self.members.is_empty()
    }

    /// What it is asked for by.
    pub fn account_id(&self) -> Mailbox {
        self.account.id()
    }

    /// Who keeps its messages.
    pub fn members(&self) -> &[ServiceNode] {
        &self.members
    }

    /// A store of `size` bytes that expires after `ttl`.
    pub fn store(&self, size: usize, ttl: Duration, number: u64) -> ClientRequest {
        ClientRequest::Store(self.message(size, ttl, number))
    }

    fn message(&self, size: usize, ttl: Duration, number: u64) -> Store {
        let now = clock::date();
        let mut data = vec![0x5a; size];
        // No two are the same: a message that is there already is not stored again.
        for (to, from) in data.iter_mut().zip(number.to_be_bytes()) {
            *to = from;
        }
        Store {
            mailbox: self.account.id(),
            namespace: Namespace::INBOX,
            timestamp: now,
            expiry: now.saturating_add(ttl),
            data: Bytes::from(data),
            sig_timestamp: None,
            proof: None,
        }
    }

    fn retrieve(&self) -> ClientRequest {
        let mut retrieve = Retrieve {
            mailbox: self.account.id(),
            namespace: Namespace::INBOX,
            last_hash: None,
            max_count: Some(1),
            max_size: None,
            timestamp: Some(clock::date()),
            proof: None,
        };
        retrieve.proof = Some(self.proof(&retrieve_text(&retrieve)));
        ClientRequest::Retrieve(retrieve)
    }

    fn delete(&self, hash: String) -> ClientRequest {
        let mut delete = Delete {
            mailbox: self.account.id(),
            messages: vec![hash],
            required: false,
            proof: Proof::owner(None, Signature([0; 64])),
        };
        delete.proof = self.proof(&delete_text(&delete));
        ClientRequest::Delete(delete)
    }

    fn expire(&self, hash: String, at: Timestamp) -> ClientRequest {
        let mut expire = Expire {
            mailbox: self.account.id(),
            messages: vec![hash],
            expiries: vec![at],
            direction: Direction::Shorten,
            proof: Proof::owner(None, Signature([0; 64])),
        };
        expire.proof = self.proof(&expire_text(&expire));
        ClientRequest::Expire(expire)
    }

    fn proof(&self, text: &str) -> Proof {
        let key: &Ed25519SecretKey = self.account.ed25519();
        Proof::owner(Some(key.public_key()), key.sign(text.as_bytes()))
    }
}

/// A new account.
pub fn draw_account() -> Result<Account, String> {
    Ok(Account::from_entropy(random()?))
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|fault| format!("no randomness: {fault}"))?;
    Ok(bytes)
}

/// What requests are about.
pub struct Subject {
    /// What is done, and how often.
    pub mix: Mix,
    /// Whose messages; not empty unless the mix is of `info` alone.
    pub owners: Vec<Owner>,
    /// Who is asked for what concerns no account; not empty.
    pub nodes: Vec<ServiceNode>,
    /// Bytes of a message.
    pub body_size: usize,
    /// How long a message is kept.
    pub ttl: Duration,
}

/// Draws actions, accounts and nodes.
pub struct Asker {
    subject: Subject,
    random: SplitMix,
    number: u64,
    /// Account and hash of messages that were stored, the oldest first.
    stored: VecDeque<(usize, String)>,
}

/// A request, and who is to answer it.
struct Drawn {
    kind: usize,
    node: ServiceNode,
    request: ClientRequest,
}

impl Asker {
    /// Begins at the same place each time, but with fresh contents.
    pub fn new(subject: Subject) -> Result<Self, String> {
        Ok(Self {
            subject,
            random: SplitMix(1),
            number: u64::from_be_bytes(random()?),
            stored: VecDeque::new(),
        })
    }

    fn draw(&mut self) -> Result<Drawn, String> {
        let (kind, action) = self.draw_action();
        if action == Action::Info {
            let node = pick(&mut self.random, &self.subject.nodes);
            return Ok(Drawn {
                kind,
                node: node.ok_or("there is no node to ask")?.clone(),
                request: ClientRequest::Info,
            });
        }
        let (action, known) = self.draw_message(action);
        let (index, hash) = known.unwrap_or_else(|| {
            let index = self.random.below(self.subject.owners.len());
            (index, String::new())
        });
        // A message that can't be deleted yet is one more that is stored, and counts as that.
        let kind = self.kind_of(action).unwrap_or(kind);
        self.number = self.number.wrapping_add(1);
        let subject = &self.subject;
        let owner = subject.owners.get(index).ok_or("there is no account")?;
        let node = pick(&mut self.random, &owner.members);
        let node = node.ok_or("an account has no swarm")?.clone();
        let request = match action {
            Action::Info => ClientRequest::Info,
            Action::Retrieve => owner.retrieve(),
            Action::Delete => owner.delete(hash),
            Action::Expire => owner.expire(hash, clock::date()),
            Action::Store => {
                let store = owner.message(subject.body_size, subject.ttl, self.number);
                let hash = message_hash(&store.mailbox, store.namespace, &store.data);
                self.stored.push_back((index, hash.to_text()));
                if self.stored.len() > STORED_COUNT_MAX {
                    self.stored.pop_front();
                }
                ClientRequest::Store(store)
            }
        };
        Ok(Drawn {
            kind,
            node,
            request,
        })
    }

    fn draw_action(&mut self) -> (usize, Action) {
        let all: usize = self.subject.mix.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.below(all);
        for (kind, (action, weight)) in self.subject.mix.iter().enumerate() {
            if drawn < *weight {
                return (kind, *action);
            }
            drawn -= weight;
        }
        (0, Action::Info)
    }

    /// A message for what needs one; without one, one is stored instead.
    fn draw_message(&mut self, action: Action) -> (Action, Option<(usize, String)>) {
        if !matches!(action, Action::Delete | Action::Expire) {
            return (action, None);
        }
        if self.stored.len() <= STORED_COUNT_MIN {
            return (Action::Store, None);
        }
        (action, self.stored.pop_front())
    }

    fn kind_of(&self, action: Action) -> Option<usize> {
        let mut kinds = self.subject.mix.iter();
        kinds.position(|(other, _)| *other == action)
    }
}

fn pick<'a, T>(random: &mut SplitMix, all: &'a [T]) -> Option<&'a T> {
    all.get(random.below(all.len()))
}

/// Requests to the nodes themselves.
pub struct Direct(pub Asker);

impl Make for Direct {
    type Request = Post;

    fn make(&mut self) -> Result<Made<Post>, String> {
        let drawn = self.0.draw()?;
        Ok(Made {
            kind: drawn.kind,
            request: Post {
                address: SocketAddrV4::new(drawn.node.ip, drawn.node.port),
                path: RPC_PATH,
                body: drawn.request.encode_json().into(),
                onion: None,
            },
        })
    }
}

/// Onion requests.
pub struct Onions {
    asker: Asker,
    /// All that paths may lead through.
    nodes: Vec<ServiceNode>,
    /// Who may be a guard.
    guards: Vec<ServiceNode>,
    hop_count: usize,
}

impl Onions {
    /// Through paths of `hop_count` nodes, the destination with them, that begin at one of `guards`. With one
    /// hop the guard is the destination: what is asked goes to it.
    pub const fn new(
        asker: Asker,
        nodes: Vec<ServiceNode>,
        guards: Vec<ServiceNode>,
        hop_count: usize,
    ) -> Self {
        Self {
            asker,
            nodes,
            guards,
            hop_count,
        }
    }

    /// Relays before the destination, no node twice.
    fn path(&mut self, destination: &ServiceNode) -> Result<Vec<ServiceNode>, String> {
        let mut path: Vec<ServiceNode> = Vec::new();
        while path.len() + 1 < self.hop_count {
            let from = if path.is_empty() {
                &self.guards
            } else {
                &self.nodes
            };
            let key = |node: &ServiceNode| node.pubkey_ed25519;
            let is_free = |node: &&ServiceNode| {
                key(node) != key(destination) && path.iter().all(|hop| key(hop) != key(node))
            };
            let free: Vec<_> = from.iter().filter(is_free).collect();
            let chosen = pick(&mut self.asker.random, &free);
            let chosen = chosen.ok_or("the network has too few nodes for such a path")?;
            path.push((*chosen).clone());
        }
        Ok(path)
    }
}

impl Make for Onions {
    type Request = Post;

    fn make(&mut self) -> Result<Made<Post>, String> {
        let drawn = self.asker.draw()?;
        let path = self.path(&drawn.node)?;
        let payload = drawn.request.encode_json();
        let mut fault = None;
        let mut layer = || match (random(), random()) {
            (Ok(key), Ok(nonce)) => (key, nonce),
            (Err(reason), _) | (_, Err(reason)) => {
                fault = Some(reason);
                ([0; 32], [0; 24])
            }
        };
        let onion = wrap_request(&path, &drawn.node, &payload, EncType::XChaCha20, || {
            Ok(layer())
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        let onion = onion.map_err(|fault| fault.to_string())?;
        let guard = path.first().unwrap_or(&drawn.node);
        Ok(Made {
            kind: drawn.kind,
            request: Post {
                address: SocketAddrV4::new(guard.ip, guard.port),
                path: ONION_PATH,
                body: Bytes::copy_from_slice(onion.body()),
                onion: Some(onion),
            },
        })
    }
}

/// Requests over the packet lane.
pub struct Packets(pub Asker);

impl Make for Packets {
    type Request = PacketAsk;

    fn make(&mut self) -> Result<Made<PacketAsk>, String> {
        let drawn = self.0.draw()?;
        Ok(Made {
            kind: drawn.kind,
            request: PacketAsk {
                node: drawn.node,
                request: drawn.request,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cepa_crypto::NodeKeys;

    use super::*;

    fn node(number: u8) -> ServiceNode {
        let keys = NodeKeys::from_seed([number; 32]);
        ServiceNode {
            ip: [127, 0, 0, 1].into(),
            port: number.into(),
            omq_port: 1000,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.legacy_public(),
            swarm_id: u64::from(number % 2),
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    fn asker(mix: Mix, nodes: &[ServiceNode]) -> Asker {
        let owners = (0..4).map(|_| Owner::draw(nodes).unwrap());
        Asker::new(Subject {
            mix,
            owners: owners.collect(),
            nodes: nodes.to_vec(),
            body_size: 100,
            ttl: Duration::from_secs(30),
        })
        .unwrap()
    }

    #[test]
    fn a_mix_has_its_shares_and_deletes_what_was_stored_once() {
        let nodes: Vec<_> = (1..=6).map(node).collect();
        let mut asker = asker(MIXED, &nodes);
        let mut counts = [0; MIXED.len()];
        let mut stored = BTreeSet::new();
        for _ in 0..4000 {
            let drawn = asker.draw().unwrap();
            counts[drawn.kind] += 1;
            let gone = match drawn.request {
                ClientRequest::Store(store) => {
                    let hash = message_hash(&store.mailbox, store.namespace, &store.data);
                    assert!(stored.insert(hash.to_text()), "no two are the same");
                    continue;
                }
                ClientRequest::Delete(delete) => delete.messages,
                ClientRequest::Expire(expire) => expire.messages,
                _ => continue,
            };
            assert!(gone.iter().all(|hash| stored.remove(hash)));
        }
        let [retrieve, store, delete, expire] = counts;
        assert!((2600..3000).contains(&retrieve), "{counts:?}");
        assert!((850..1200).contains(&store), "{counts:?}");
        assert!(delete > 60 && expire > 40, "{counts:?}");
    }

    #[test]
    fn accounts_are_asked_for_at_their_swarm() {
        let nodes: Vec<_> = (1..=6).map(node).collect();
        for _ in 0..20 {
            let mut owner = Owner::draw(&nodes).unwrap();
            let swarms = owner.members().iter().map(|member| member.swarm_id);
            assert_eq!(swarms.collect::<BTreeSet<_>>().len(), 1);
            assert_eq!(owner.members().len(), 3);
            let is_left = owner.keep_members(|member| member.port == 1);
            assert_eq!(is_left, !owner.members().is_empty());
        }
    }

    #[test]
    fn no_node_is_twice_in_a_path_and_a_guard_begins_it() {
        const INFO: Mix = &[(Action::Info, 1)];
        let nodes: Vec<_> = (1..=4).map(node).collect();
        let guards = nodes[..2].to_vec();
        for hop_count in 1..=3 {
            let asker = asker(INFO, &nodes);
            let mut onions = Onions::new(asker, nodes.clone(), guards.clone(), hop_count);
            for destination in &nodes {
                let path = onions.path(destination).unwrap();
                assert_eq!(path.len() + 1, hop_count);
                let all = path.iter().chain([destination]).map(|hop| hop.port);
                assert_eq!(all.collect::<BTreeSet<_>>().len(), hop_count);
                assert!(path.first().is_none_or(|guard| guards.contains(guard)));
            }
            let made = onions.make().unwrap().request;
            assert!(made.onion.is_some() && made.path == ONION_PATH);
        }
        let few = nodes[..2].to_vec();
        let mut onions = Onions::new(asker(INFO, &few), few.clone(), few.clone(), 3);
        assert!(onions.path(&few[0]).is_err());
    }
}
