//! A chain without proofs: a list of nodes, and blocks that a test makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cepa_wire::ServiceNode;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

/// Events that a daemon may be late for: more than a test makes between two looks.
const EVENT_COUNT_MAX: usize = 1024;
/// The hard fork that is told unless a test says another.
const HARD_FORK: (u16, u16) = (19, 4);

/// What subscribers are told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A new block, with its height and hash.
    Block(u64, [u8; 32]),
    /// A node has another address than before.
    Contact(Box<ServiceNode>),
}

/// The state that all daemons of a network share. Clones are the same chain.
///
/// Nodes come, go and move at once, but a daemon tells them only to who asks after the next block: call
/// [`Self::advance`].
#[derive(Clone, Debug)]
pub struct Chain {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<[u8; 32], ServiceNode>,
    height: u64,
    hard_fork: (u16, u16),
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// A chain of one block and no node.
    pub fn new() -> Self {
        let state = State {
            nodes: BTreeMap::new(),
            height: 1,
            hard_fork: HARD_FORK,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::Sender::new(EVENT_COUNT_MAX),
        }
    }

    /// Registers a node, or replaces the one with the same legacy key.
    pub fn add(&self, node: ServiceNode) {
        self.lock().nodes.insert(node.pubkey_legacy, node);
    }

    /// Deregisters a node.
    pub fn remove(&self, pubkey_legacy: &[u8; 32]) {
        self.lock().nodes.remove(pubkey_legacy);
    }

    /// Moves a node to another swarm; [`ServiceNode::NO_SWARM`] decommissions it.
    pub fn set_swarm(&self, pubkey_legacy: &[u8; 32], swarm_id: u64) {
        if let Some(node) = self.lock().nodes.get_mut(pubkey_legacy) {
            node.swarm_id = swarm_id;
        }
    }

    /// Replaces a node as a new proof of its own does, and tells the subscribers of addresses.
    pub fn prove(&self, node: ServiceNode) {
        self.add(node.clone());
        self.publish(Event::Contact(Box::new(node)));
    }

    /// Sets the hard fork, `(major, minor)`, that is told with the next block.
    pub fn set_hard_fork(&self, hard_fork: (u16, u16)) {
        self.lock().hard_fork = hard_fork;
    }

    /// Makes a block, tells the subscribers, and gives its height.
    pub fn advance(&self) -> u64 {
        let mut state = self.lock();
        state.height += 1;
        let height = state.height;
        drop(state);
        self.publish(Event::Block(height, hash_of(height)));
        height
    }

    /// The height of the newest block.
    pub fn height(&self) -> u64 {
        self.lock().height
    }

    /// The hash of the newest block.
    pub fn block_hash(&self) -> [u8; 32] {
        hash_of(self.height())
    }

    /// The nodes, by their legacy keys.
    pub fn nodes(&self) -> Vec<ServiceNode> {
        self.lock().nodes.values().cloned().collect()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// `rpc.get_block_hash`: one height, one hash as text.
    pub(crate) fn block_hash_json(&self, params: &Value) -> Option<Value> {
        let height = params.get("height")?.get(0)?.as_u64()?;
        (height <= self.height()).then(|| hex::encode(hash_of(height)).into())
    }

    /// `rpc.get_service_nodes`: `fields` (names, or an object of booleans), `poll_block_hash`,
    /// `active_only`.
    pub(crate) fn service_nodes_json(&self, params: &Value) -> Value {
        let state = self.lock();
        let block_hash = hex::encode(hash_of(state.height));
        let mut answer = json!({
            "status": "OK",
            "height": state.height,
            "target_height": 0,
            "block_hash": block_hash,
            "hardfork": state.hard_fork.0,
            "snode_revision": state.hard_fork.1,
        });
        if params.get("poll_block_hash").and_then(Value::as_str) == Some(&block_hash) {
            answer["unchanged"] = true.into();
            return answer;
        }
        let active_only = params.get("active_only").and_then(Value::as_bool) == Some(true);
        let fields = params.get("fields");
        let states: Vec<Value> = state
            .nodes
            .values()
            .filter(|node| !active_only || node.swarm_id != ServiceNode::NO_SWARM)
            .map(|node| Value::Object(project(node.to_oxend_json(), fields)))
            .collect();
        answer["service_node_states"] = states.into();
        answer
    }

    fn publish(&self, event: Event) {
        // Without a daemon nobody listens.
        drop(self.events.send(event));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the fields that were asked for.
fn project(mut entry: Map<String, Value>, fields: Option<&Value>) -> Map<String, Value> {
    match fields {
        Some(Value::Array(names)) => {
            entry.retain(|name, _| names.iter().any(|wanted| wanted.as_str() == Some(name)));
        }
        Some(Value::Object(names)) => {
            entry.retain(|name, _| names.get(name).and_then(Value::as_bool) == Some(true));
        }
        _ => {}
    }
    entry
}

/// A hash that no two heights share (splitmix64, four times).
fn hash_of(height: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    let mut state = height;
    for word in hash.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    hash
}
