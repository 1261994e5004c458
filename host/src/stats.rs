//! What a node tells of itself to those who may ask (`service.get_stats`), under the reference's names.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::tile::Tile;

/// The statistics, as JSON.
pub(crate) fn json(tile: &Tile) -> Bytes {
    let network = tile.network.load();
    let report = tile.board.report();
    let [major, minor, patch] = cepa_swarm::limits::VERSION;
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let counters = &tile.counters;
    let namespaces: Map<String, Value> = report
        .namespaces
        .iter()
        .map(|(namespace, tally)| (namespace.0.to_string(), tally.count.into()))
        .collect();
    let statistics = &report.statistics;
    let stats = json!({
        "version": format!("{major}.{minor}.{patch}"),
        "height": network.view.chain().height,
        "target_height": network.view.chain().height,
        "total_stored": statistics.message_count,
        "accounts": statistics.mailbox_count,
        "namespace_messages": namespaces,
        "db_used": statistics.message_bytes,
        "total_store_requests": count(&counters.message_stored) + count(&counters.message_duplicate),
        "total_onion_requests": count(&counters.onion_delivered) + count(&counters.onion_forwarded),
        "total_proxy_requests": count(&counters.onion_proxied),
    });
    stats.to_string().into()
}
