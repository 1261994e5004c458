//! What a shard tells of itself, beside what it counts: how much there is now.

use std::borrow::Cow;

use cepa_meter::LabelValue;
use cepa_meter::bounds::LATENCY;

use crate::tile::Tile;

cepa_meter::numbers! {
    /// Of all shards together, as it was a second ago at most.
    pub(crate) struct ShardNumbers, named "";
    /// Shards that have told of themselves.
    gauge shards,
    /// Requests and onions that are being served.
    gauge requests_running,
    /// HTTPS connections that are open.
    gauge https_connections,
    /// OMQ connections that are open and were opened by others.
    gauge omq_connections,
    /// Links that are held for requests to peers, whoever opened them.
    gauge peer_links,
    /// Commands that wait for their outcome at another shard.
    gauge ring_commands_waiting,
    /// Onions that wait for their Diffie-Hellman.
    gauge onions_waiting,
    /// Bytes of bodies that are arriving, beyond 8 KiB each.
    gauge input_bytes,
    /// Bytes of answers that wait to be taken, beyond 8 KiB each.
    gauge output_bytes,
    /// Shards that refuse strangers, since their tasks run late or too many requests are running.
    gauge shards_overloaded,
    /// Nodes that a shard knows to be down, by shard: it asks nothing of them, and probes them.
    gauges(shard) peers_down,
    /// Members of our swarm among those, by shard.
    gauges(shard) members_down,
    /// Seconds that a shard took at its start to read its logs.
    gauges(shard) store_recovery_seconds / 1000,
    /// Seconds of one durable write of a commit, as the disk took them.
    histogram(LATENCY) store_write_seconds,
}

cepa_meter::numbers! {
    /// What is seen of shards from outside.
    pub(crate) struct ShardsSeen, named "";
    /// Seconds since a shard told something: it does so each second while it runs.
    gauges(shard) shard_silent_seconds / 1000,
}

/// The label of a shard.
pub(crate) fn shard_label(index: usize) -> LabelValue {
    Cow::Owned(index.to_string())
}

impl Tile {
    /// How much there is now.
    pub(crate) fn numbers(&self) -> ShardNumbers {
        let (down, members) = self.down_counts();
        let shard = || shard_label(self.index());
        let recovery = u64::try_from(self.recovery_time().as_millis()).unwrap_or(u64::MAX);
        let mut numbers = ShardNumbers {
            shards: 1,
            requests_running: wide(self.running_count()),
            https_connections: wide(self.door.https.count()),
            omq_connections: wide(self.door.omq.count()),
            peer_links: wide(self.links.count()),
            ring_commands_waiting: wide(self.ring_waiting_count()),
            onions_waiting: wide(self.batcher.waiting_count()),
            input_bytes: wide(self.door.input.size()),
            output_bytes: wide(self.door.output.size()),
            shards_overloaded: u64::from(self.is_overloaded()),
            peers_down: vec![(shard(), down)],
            members_down: vec![(shard(), members)],
            store_recovery_seconds: vec![(shard(), recovery)],
            ..ShardNumbers::default()
        };
        for log in self.stores.local() {
            numbers.store_write_seconds += log.write_seconds();
        }
        numbers
    }

    /// Nodes that are down, and how many of these are members of our swarm.
    fn down_counts(&self) -> (u64, u64) {
        let network = self.network.load();
        let view = &network.view;
        let health = self.health.borrow();
        let is_down = |key| health.is_down(key);
        let ours = view.us().map(|us| us.swarm_id);
        let members = ours.into_iter().flat_map(|swarm| view.members(swarm));
        let members = members.filter(|(_, node)| is_down(&node.pubkey_ed25519));
        (wide(health.down_count()), wide(members.count()))
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
