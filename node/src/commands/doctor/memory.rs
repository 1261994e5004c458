//! Memory: what the node may need, against what there is.

use cepa_control::Config;
use cepa_host::EdgeLimits;

use super::cgroup;
use super::finding::Finding;
use super::{Context, read_text};

/// A record of the log with one message, in bytes: most of them are shorter than 1 KiB and longer than
/// half of it.
const RECORD_SIZE: u64 = 768;
/// What the index holds of a message: its cell, its place in the tables, its part of box and mailbox.
const INDEX_SIZE: u64 = 96;
/// Threads, rings, buffers of the packet tile, views: measured at 150 MiB and less.
const REST_SIZE: u64 = 256 << 20;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let info = read_text("/proc/meminfo").unwrap_or_default();
    let there = Memory {
        total: read_size(&info, "MemTotal"),
        available: read_size(&info, "MemAvailable"),
        limit: cgroup::memory_limit(),
        has_swap: read_size(&info, "SwapTotal").is_some_and(|size| size > 0),
    };
    let budget = context.config.map(Budget::of);
    // What a node that runs holds is not available, and its own.
    vec![judge(&there, budget.as_ref(), context.is_running)]
}

struct Memory {
    total: Option<u64>,
    available: Option<u64>,
    /// Of the control group.
    limit: Option<u64>,
    has_swap: bool,
}

/// What the config lets the node use, in bytes.
struct Budget {
    /// With a full log and a full replay filter, and nobody there.
    at_rest: u64,
    /// What strangers can make it hold beside.
    edges: u64,
}

impl Budget {
    fn of(config: &Config) -> Self {
        let messages = config.store_capacity_mib.saturating_mul(1 << 20) / RECORD_SIZE;
        let filter = if config.packet.is_on {
            config.packet.replay_filter_mib.saturating_mul(1 << 20)
        } else {
            0
        };
        let shards = u64::try_from(config.shard_cpus.len()).unwrap_or(u64::MAX);
        let of_shard = EdgeLimits::default().memory_budget();
        Self {
            at_rest: messages
                .saturating_mul(INDEX_SIZE)
                .saturating_add(filter)
                .saturating_add(REST_SIZE),
            edges: shards.saturating_mul(u64::try_from(of_shard).unwrap_or(u64::MAX)),
        }
    }
}

fn judge(there: &Memory, budget: Option<&Budget>, is_running: bool) -> Finding {
    const NAME: &str = "memory";
    let Some(total) = there.total else {
        return Finding::skip(NAME, "the system does not tell");
    };
    let usable = if is_running { None } else { there.available };
    let usable = usable.unwrap_or(total).min(there.limit.unwrap_or(u64::MAX));
    let mut found = format!("{} of {} may be used", show(usable), show(total));
    if let Some(limit) = there.limit {
        found = format!("{found}, {} by the control group", show(limit));
    }
    let Some(Budget { at_rest, edges }) = budget else {
        return Finding::pass(NAME, found);
    };
    let most = at_rest.saturating_add(*edges);
    found = format!(
        "{found}; the node needs {} with a full log, {} at most",
        show(*at_rest),
        show(most)
    );
    if *at_rest > usable {
        let advice = "lower store_capacity_mib or replay_filter_mib, or give the node more memory";
        Finding::fail(NAME, found, advice)
    } else if most > usable && !there.has_swap {
        let advice = "fewer shard_cpus (1.4 GiB each under attack), a lower store_capacity_mib, or more \
                      memory: beyond it the kernel ends the node";
        Finding::warn(NAME, found, advice)
    } else {
        Finding::pass(NAME, found)
    }
}

fn show(size: u64) -> String {
    let tenths = size.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// A line of `/proc/meminfo`, in bytes.
fn read_size(info: &str, name: &str) -> Option<u64> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Pass, Warn};
    use super::super::tests::config;
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let info = "MemTotal:       16384 kB\nMemAvailable:    8192 kB\nHugePages_Total: 0\n";
        assert_eq!(read_size(info, "MemTotal"), Some(16 << 20));
        assert_eq!(read_size(info, "MemAvailable"), Some(8 << 20));
        assert_eq!(read_size(info, "HugePages_Total"), None);
        assert_eq!(read_size(info, "Mem"), None);
    }

    #[test]
    fn the_default_budget_is_some_gib() {
        let mut config = config();
        config.shard_cpus = vec![0, 1];
        let Budget { at_rest, edges } = Budget::of(&config);
        assert_eq!(at_rest.div_ceil(1 << 20), 1280 + 256 + 256);
        assert_eq!(edges >> 20, 2 * 1416);
        config.packet.is_on = false;
        assert_eq!(Budget::of(&config).at_rest.div_ceil(1 << 20), 1280 + 256);
    }

    #[test]
    fn what_is_needed_must_be_there() {
        const GIB: u64 = 1 << 30;
        let budget = Budget {
            at_rest: 2 * GIB,
            edges: 4 * GIB,
        };
        // Available, limit, swap, running.
        let table: [(u64, Option<u64>, bool, bool, Verdict); 7] = [
            (8, None, false, false, Pass),
            (5, None, false, false, Warn),
            (5, None, true, false, Pass),
            (1, None, false, false, Fail),
            (1, None, false, true, Pass),
            (8, Some(1), false, false, Fail),
            (8, Some(3), false, true, Warn),
        ];
        for (available, limit, has_swap, is_running, expected) in table {
            let there = Memory {
                total: Some(16 * GIB),
                available: Some(available * GIB),
                limit: limit.map(|limit| limit * GIB),
                has_swap,
            };
            let finding = judge(&there, Some(&budget), is_running);
            assert_eq!(finding.verdict, expected, "{finding:?}");
            assert_eq!(judge(&there, None, is_running).verdict, Pass);
        }
    }
}
