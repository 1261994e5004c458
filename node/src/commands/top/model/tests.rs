use core::time::Duration;
use std::fs;
use std::path::Path;

use super::super::names::ALL;
use super::super::reading::Reading;
use super::*;

/// What a node told, and what it told two seconds later.
pub(in super::super) const BEFORE: &str = include_str!("tests/before.txt");
pub(in super::super) const AFTER: &str = include_str!("tests/after.txt");

/// The view of two seconds between two texts.
pub(in super::super) fn view(before: &str, after: &str) -> View {
    let before = Reading::parse(before).unwrap();
    let after = Reading::parse(after).unwrap();
    let interval = Interval::new(&before, &after, Duration::from_secs(2)).unwrap();
    View::make(&interval, &mut Trails::default())
}

/// The row of a panel of a page, as text.
fn row(view: &View, page: usize, panel: &str, row: &str) -> (Tone, String) {
    let page = &view.pages[page];
    let panels = page.wide.iter().chain(&page.panels);
    let panel = panels.clone().find(|one| one.title == panel).unwrap();
    let found = panel.rows.iter().find(|one| one.name == row);
    let found = found.unwrap_or_else(|| panic!("{row} in {panel:?}"));
    let cells = found.cells.iter().filter_map(|cell| match cell {
        Cell::Number(value, unit) => Some(unit.format(*value)),
        Cell::Bar(_) | Cell::Trail(_) => None,
    });
    (found.tone, cells.collect::<Vec<_>>().join(" | "))
}

#[test]
fn the_pages_tell_what_happened_in_the_time() {
    let view = view(BEFORE, AFTER);
    let table = [
        (0, "per second", "requests", "25.0"),
        (0, "per second", "packets", "1000"),
        (0, "per second", "cpu", "150.0 %"),
        (0, "node", "log used", "25.0 %"),
        (0, "node", "disk free", "20.0 GiB"),
        (0, "node", "https connections", "12"),
        (0, "node", "onion batch, mean", "3.0"),
        (0, "cores", "shard-0", "50.0 %"),
        (1, "requests", "all", "25.0 | 3.12 ms | 9.75 ms"),
        (1, "requests", "https", "20.0 | 2.50 ms | 4.95 ms"),
        (1, "requests", "onion", "5.0 | 7.50 ms | 9.95 ms"),
        (1, "onions", "of clients", "10.0 | 5.00 ms | 9.90 ms"),
        (1, "onions", "passed on", "6.0"),
        (1, "onions", "failed", "0.0"),
        (1, "connections", "https", "12 | 1.5 | 0.0"),
        (1, "connections", "quic", "- | - | -"),
        (1, "onion batches", "1", "50.0 %"),
        (1, "onion batches", "5 to 8", "50.0 %"),
        (2, "packets", "peeled", "1000"),
        (2, "links", "clients", "3"),
        (3, "log", "commits", "7.0 | 750 us | 995 us"),
        (3, "space", "capacity", "1.00 GiB"),
        (4, "swarm and peers", "members", "7"),
        (4, "standing", "tested by omq", "42 s"),
        (4, "process", "memory", "128 MiB"),
    ];
    for (page, panel, name, expected) in table {
        let (tone, cells) = row(&view, page, panel, name);
        assert_eq!(
            (tone, cells.as_str()),
            (Tone::Plain, expected),
            "{panel}: {name}"
        );
    }
    let header = &view.header;
    assert_eq!(header.version.as_deref(), Some("0.1.0"));
    assert_eq!(
        (header.up_time, header.height),
        (Some(7200.0), Some(1_234_567.0))
    );
    assert_eq!(header.alarms, []);
}

#[test]
fn what_is_wrong_is_told_and_marked() {
    let after = AFTER
        .replace(
            "cepa_members_down{shard=\"0\"} 0",
            "cepa_members_down{shard=\"0\"} 2",
        )
        .replace("cepa_store_logs_in_doubt 0", "cepa_store_logs_in_doubt 1")
        .replace(
            "cepa_decommission_in_seconds 3600",
            "cepa_decommission_in_seconds 1200",
        )
        .replace(
            "cepa_onion_next_timeout_total 0",
            "cepa_onion_next_timeout_total 4",
        )
        .replace("reason=\"bad_tag\"} 10", "reason=\"bad_tag\"} 30")
        .replace("reason=\"bad_mac\"} 5", "reason=\"bad_mac\"} 205");
    let view = view(BEFORE, &after);
    let table = [
        (0, "node", "members down", Tone::Warn, "2"),
        (0, "node", "decommission in", Tone::Warn, "20m 00s"),
        (1, "onions", "failed", Tone::Warn, "2.0"),
        (1, "onions that failed", "next timeout", Tone::Warn, "2.0"),
        (2, "packets", "dropped", Tone::Warn, "110"),
        (2, "drops by reason", "bad tag", Tone::Warn, "10.0"),
        (3, "faults", "logs in doubt", Tone::Bad, "1"),
    ];
    for (page, panel, name, tone, expected) in table {
        let found = row(&view, page, panel, name);
        assert_eq!(found, (tone, expected.to_owned()), "{panel}: {name}");
    }
    let alarms: Vec<_> = view
        .header
        .alarms
        .iter()
        .map(|alarm| alarm.text.as_str())
        .collect();
    assert_eq!(alarms, ["log in doubt", "may be voted out in 20m 00s"]);
    let drops = view.pages[2]
        .panels
        .iter()
        .find(|panel| panel.title == "drops by reason");
    let reasons: Vec<_> = drops
        .unwrap()
        .rows
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(
        reasons,
        ["bad mac", "bad tag"],
        "the most frequent first, the others not"
    );
}

#[test]
fn each_alarm_has_its_number() {
    let table = [
        ("cepa_node_active 0", "decommissioned"),
        ("cepa_ready 0", "in no swarm"),
        ("cepa_store_disk_faults_total 1", "the disk fails"),
        (
            "cepa_shard_silent_seconds{shard=\"0\"} 11",
            "a shard is silent",
        ),
        ("cepa_oxend_connected 0", "no connection to oxend"),
        ("cepa_disk_free_bytes 1000", "the disk is full"),
        (
            "cepa_store_used_bytes 95\ncepa_store_capacity_bytes 100",
            "the log is nearly full",
        ),
        ("cepa_shards_overloaded 1", "overloaded"),
        ("cepa_view_age_seconds 301", "the view is old"),
        (
            "cepa_process_open_fds 9\ncepa_process_max_fds 10",
            "many open files",
        ),
        ("cepa_decommission_in_seconds 0", "may be voted out in 0 s"),
    ];
    for (text, expected) in table {
        let view = view("", text);
        let [alarm] = view.header.alarms.as_slice() else {
            panic!("{expected}: {:?}", view.header.alarms)
        };
        assert!(alarm.text.starts_with(expected), "{alarm:?}");
        assert!(alarm.tone > Tone::Plain);
    }
    assert_eq!(view("", "").header.alarms, []);
}

/// What a node does not tell is a dash, and no line is missing for it.
#[test]
fn what_is_not_told_is_a_dash() {
    let view = view("cepa_x 1", "cepa_x 1");
    for page in &view.pages {
        for panel in page.wide.iter().chain(&page.panels) {
            assert!(!panel.rows.is_empty(), "{}", panel.title);
            for row in &panel.rows {
                let is_unknown = |cell: &Cell| match cell {
                    Cell::Number(value, _) | Cell::Bar(value) => value.is_none(),
                    Cell::Trail(_) => true,
                };
                assert!(row.cells.iter().all(is_unknown), "{row:?}");
                assert_eq!(row.tone, Tone::Plain, "{row:?}");
            }
        }
    }
}

#[test]
fn sizes_of_a_bucket_are_whole_numbers() {
    assert_eq!(size_range(0.0, 1.0), "1");
    assert_eq!(size_range(4.0, 8.0), "5 to 8");
    assert_eq!(size_range(256.0, f64::INFINITY), "257 and more");
}

/// The names are those that nodes tell.
#[test]
fn every_number_that_is_shown_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    for name in ALL {
        assert!(
            text.contains(&format!("`{name}`")),
            "{name} is told by no node"
        );
    }
}
