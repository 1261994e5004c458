//! All that a node tells of itself: gathered when somebody asks, declared where it is counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_control::{Standing, process};
use cepa_crypto::packet::HopKeys;
use cepa_edge::quic;
use cepa_host::{NetworkView, PacketSettings, StoreBoard, clock};
use cepa_meter::Sample;
use cepa_relay::Counters;
use cepa_relay::packet::directory::PacketDirectory;
use cepa_relay::packet::relay::Counted;
use cepa_wire::Timestamp;
use rustix::fs::statvfs;

cepa_meter::numbers! {
    /// What is looked up when somebody asks.
    struct NodeNumbers, named "";
    /// 1, with the version of this binary.
    gauges(version) build_info,
    /// When this node started, in seconds since 1970.
    gauge start_time_seconds / 1000,
    /// The clock of this node, in seconds since 1970: a request is refused when its time is not ours.
    gauge clock_seconds / 1000,
    /// 1 while clients are served: the view has this node in a swarm. 0 means that they get 503.
    gauge ready,
    /// Height of the chain that the view is of; 1 of a network file.
    gauge view_height,
    /// Nodes of the view.
    gauge view_nodes,
    /// Members of our swarm, this node with them.
    gauge swarm_members,
    /// Bytes that are free on the file system of `data_dir`.
    maybe disk_free_bytes,
    /// Bytes of that file system.
    maybe disk_size_bytes,
}

cepa_meter::numbers! {
    /// Of the packet lane's keys and relays.
    struct LaneNumbers, named "packet_";
    /// The epoch of the current hop key.
    gauge epoch,
    /// Seconds until that epoch ends, and the next key is taken.
    gauge epoch_left_seconds / 1000,
    /// Relays whose descriptor is known, so that packets can go to them.
    gauge relays_known,
}

/// What is counted, and where the rest is looked up.
pub(super) struct Observed {
    counters: Arc<Counters>,
    view: Arc<ArcSwap<NetworkView>>,
    data_dir: PathBuf,
    lane: Option<ObservedLane>,
    started: Timestamp,
    /// What shards tell, once they run.
    pub(super) stores: Arc<StoreBoard>,
    /// What the QUIC listener counts, if there is one.
    pub(super) quic: Option<Arc<quic::Counters>>,
    /// How the node stands, if a chain daemon tells.
    pub(super) standing: Option<Arc<Standing>>,
}

/// What is seen of the packet lane.
struct ObservedLane {
    counted: Arc<Counted>,
    hop_keys: Arc<ArcSwap<HopKeys>>,
    directory: Arc<ArcSwap<PacketDirectory>>,
}

impl ObservedLane {
    /// The lane that is made of these settings.
    fn new(settings: &PacketSettings) -> Self {
        Self {
            counted: Arc::clone(&settings.counted),
            hop_keys: Arc::clone(&settings.hop_keys),
            directory: Arc::clone(&settings.directory),
        }
    }

    fn samples(&self, now: Timestamp) -> Vec<Sample> {
        let keys = self.hop_keys.load();
        let numbers = LaneNumbers {
            epoch: keys.epoch().0,
            epoch_left_seconds: millis(keys.epoch_end().saturating_since(now)),
            relays_known: wide(self.directory.load().relays().len()),
        };
        let mut samples = numbers.samples();
        samples.extend(self.counted.snapshot());
        samples
    }
}

impl Observed {
    /// A node that starts now.
    pub(super) fn new(
        counters: &Arc<Counters>,
        view: &Arc<ArcSwap<NetworkView>>,
        data_dir: &Path,
        packet: Option<&PacketSettings>,
    ) -> Self {
        Self {
            counters: Arc::clone(counters),
            view: Arc::clone(view),
            data_dir: data_dir.to_owned(),
            lane: packet.map(ObservedLane::new),
            started: clock::now(),
            stores: Arc::default(),
            quic: None,
            standing: None,
        }
    }

    /// All of it.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let now = clock::now();
        let mut samples = self.numbers(now).samples();
        samples.extend(self.counters.snapshot());
        samples.extend(self.stores.samples());
        samples.extend(self.quic.iter().flat_map(|quic| quic.snapshot()));
        samples.extend(self.lane.iter().flat_map(|lane| lane.samples(now)));
        let standing = self.standing.iter();
        samples.extend(standing.flat_map(|standing| standing.samples(now.as_millis() / 1000)));
        samples.extend(process::samples());
        samples
    }

    fn numbers(&self, now: Timestamp) -> NodeNumbers {
        let view = &self.view.load().view;
        let disk = statvfs(&self.data_dir).ok();
        let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
        let members = view.us().map_or(0, |us| match us.swarm_id {
            cepa_wire::ServiceNode::NO_SWARM => 0,
            swarm => view.members(swarm).count(),
        });
        NodeNumbers {
            build_info: vec![(env!("CARGO_PKG_VERSION").into(), 1)],
            start_time_seconds: self.started.as_millis(),
            clock_seconds: now.as_millis(),
            ready: u64::from(view.unready_reason().is_none()),
            view_height: view.chain().height,
            view_nodes: wide(view.nodes().len()),
            swarm_members: wide(members),
            disk_free_bytes: disk
                .as_ref()
                .map(|disk| bytes(disk.f_bavail, disk.f_frsize)),
            disk_size_bytes: disk
                .as_ref()
                .map(|disk| bytes(disk.f_blocks, disk.f_frsize)),
        }
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn millis(span: core::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use core::fmt::Write as _;
    use std::collections::BTreeSet;
    use std::env;
    use std::fs;

    use cepa_edge::quic;
    use cepa_meter::{Declared, Kind};
    use cepa_relay::packet::drop_reason::DropCounters;
    use cepa_relay::packet::io_counters::IoCounters;
    use cepa_relay::packet::relay::PacketCounters;
    use cepa_storage::Report;

    use super::*;

    const HEAD: &str = "\
# What a node tells of itself

`GET /metrics` at `admin_listen`, in Prometheus' text format 0.0.4. Written from the declarations in the code by
`CEPA_WRITE=1 cargo test -p cepa-node --bin cepa metrics`; a test compares. No label has an address, an account or a
hash: the only labels are those of these tables, and `le` of histograms.

A histogram has `_bucket`, `_sum` and `_count`. What is not known is not told: the numbers of the packet lane while
it is off, those of oxend with a network file.
";

    fn sections() -> Vec<(&'static str, Vec<&'static Declared>)> {
        vec![
            ("The node", NodeNumbers::DECLARED.iter().collect()),
            (
                "Requests, onions and members",
                Counters::DECLARED.iter().collect(),
            ),
            (
                "Shards and the message log",
                StoreBoard::declared().chain(Report::declared()).collect(),
            ),
            ("QUIC", quic::Counters::DECLARED.iter().collect()),
            (
                "The packet lane",
                [
                    LaneNumbers::DECLARED,
                    PacketCounters::DECLARED,
                    DropCounters::DECLARED,
                    IoCounters::DECLARED,
                ]
                .into_iter()
                .flatten()
                .collect(),
            ),
            (
                "How the node stands with the network",
                Standing::declared().collect(),
            ),
            ("The process", process::declared().collect()),
        ]
    }

    fn push_row(text: &mut String, declared: &Declared) {
        let kind = match declared.kind {
            Kind::Count => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let values = (declared.label_values)().join(", ");
        let label = match declared.label {
            Some(label) if values.is_empty() => format!("`{label}`"),
            Some(label) => format!("`{label}`: {values}"),
            None => String::new(),
        };
        let help: Vec<_> = declared.help.split_ascii_whitespace().collect();
        let help = help.join(" ");
        let name = declared.name;
        writeln!(text, "| `{name}` | {kind} | {label} | {help} |").unwrap();
    }

    #[test]
    fn the_metrics_are_documented_as_they_are_declared() {
        let mut text = HEAD.to_owned();
        for (title, all) in sections() {
            write!(text, "\n## {title}\n\n").unwrap();
            text.push_str("| name | kind | label | what it says |\n| --- | --- | --- | --- |\n");
            for declared in all {
                push_row(&mut text, declared);
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/metrics.md");
        if env::var_os("CEPA_WRITE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "config/metrics.md is stale: CEPA_WRITE=1 cargo test -p cepa-node --bin cepa metrics"
        );
    }

    #[test]
    fn every_metric_has_one_name_and_a_sentence() {
        let mut names = BTreeSet::new();
        for declared in sections().into_iter().flat_map(|(_, all)| all) {
            let Declared {
                name, help, kind, ..
            } = declared;
            assert!(names.insert(*name), "{name} stands twice");
            assert!(help.len() > 8 && help.ends_with('.'), "{name}: {help:?}");
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(name.bytes().all(is_plain), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Count, "{name}");
            for bad in ["_count", "_sum", "_bucket", "_ms", "_millis"] {
                assert!(!name.ends_with(bad), "{name}");
            }
        }
        assert!(names.len() > 150, "{} are not all", names.len());
    }
}
