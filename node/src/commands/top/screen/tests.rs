use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::tests::{AFTER, BEFORE, view};
use super::super::model::{PAGE_COUNT, View};
use super::*;

fn shown(view: Option<&View>) -> Shown<'_> {
    Shown {
        address: "127.0.0.1:9100",
        pace: Duration::from_secs(1),
        is_paused: false,
        silence: None,
        page: 0,
        scroll: 0,
        has_help: false,
        view,
    }
}

/// The lines of a screen of this size, and how far it can be scrolled.
fn lines(shown: &Shown<'_>, (width, height): (u16, u16)) -> (Vec<String>, u16) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut scroll_max = 0;
    terminal
        .draw(|frame| scroll_max = draw(frame, shown))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
    ((0..height).map(line).collect(), scroll_max)
}

fn text(shown: &Shown<'_>, size: (u16, u16)) -> String {
    lines(shown, size).0.join("\n")
}

#[test]
fn the_overview_stands_on_a_small_terminal() {
    let view = view(BEFORE, AFTER);
    let (lines, scroll_max) = lines(&shown(Some(&view)), (80, 24));
    assert!(lines[0].starts_with("cepa 0.1.0  127.0.0.1:9100  up 2h 00m  height 1234567"));
    assert!(lines[1].starts_with("ok "), "{}", lines[1]);
    assert!(lines[1].ends_with("every 1.00 s"), "{}", lines[1]);
    assert!(lines[2].starts_with(" 1 overview  2 requests  3 packets  4 log  5 network "));
    assert!(lines[23].starts_with("q quit"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = words(&lines.join("\n"));
    for expected in [
        "requests 25.0",
        "https 20.0 2.50 ms 4.95 ms",
        "log used 25.0 % ██······",
        "disk free 20.0 GiB",
    ] {
        assert!(all.contains(expected), "{expected} in\n{all}");
    }
    assert!(scroll_max > 0, "the rest is below");
}

#[test]
fn a_large_terminal_has_all_of_each_page() {
    let view = view(BEFORE, AFTER);
    let words = [
        "decommission in",
        "onions that failed",
        "delay wheel",
        "changes of a commit",
        "what others miss",
    ];
    for (page, words) in words.into_iter().enumerate() {
        let shown = Shown {
            page,
            ..shown(Some(&view))
        };
        let (lines, scroll_max) = lines(&shown, (200, 50));
        assert!(lines.join("\n").contains(words), "{words}");
        assert_eq!(scroll_max, 0);
    }
}

#[test]
fn numbers_stand_in_columns() {
    let view = view(BEFORE, AFTER);
    let (lines, _) = lines(&shown(Some(&view)), (80, 24));
    let end = |start: &str, words: &str| {
        let line = lines.iter().find(|line| line.starts_with(start)).unwrap();
        line.find(words).map(|at| at + words.len()).unwrap()
    };
    assert_eq!(end("requests", "p50"), end("  https", "2.50 ms"));
    assert_eq!(end("  https", "20.0"), end("  onion ", "5.0"));
}

#[test]
fn a_page_is_scrolled_to_its_end() {
    let view = view(BEFORE, AFTER);
    let mut shown = shown(Some(&view));
    let (_, scroll_max) = lines(&shown, (80, 24));
    let end = "  packet-0";
    assert!(!text(&shown, (80, 24)).contains(end) || scroll_max == 0);
    shown.scroll = u16::MAX;
    let scrolled = text(&shown, (80, 24));
    shown.scroll = scroll_max;
    assert_eq!(scrolled, text(&shown, (80, 24)));
    assert!(scrolled.contains("process"), "{scrolled}");
}

#[test]
fn silence_pause_alarms_and_help_are_told() {
    let after = AFTER.replace("cepa_store_logs_in_doubt 0", "cepa_store_logs_in_doubt 1");
    let view = view(BEFORE, &after);
    let mut shown = shown(Some(&view));
    assert!(text(&shown, (80, 24)).contains("!! log in doubt"));
    shown.silence = Some((Duration::from_secs(12), "nobody listens there"));
    shown.is_paused = true;
    let told = text(&shown, (80, 24));
    assert!(
        told.contains("!! no answer for 12 s: nobody listens there"),
        "{told}"
    );
    assert!(told.contains("paused\n"), "{told}");
    shown.has_help = true;
    assert!(text(&shown, (80, 24)).contains("q, esc, ctrl-c   quit"));
    shown.view = None;
    shown.has_help = false;
    assert!(text(&shown, (80, 24)).contains("waiting for the second answer"));
}

#[test]
fn no_size_of_a_terminal_ends_it() {
    let full = view(BEFORE, AFTER);
    let bare = view("cepa_x 1", "cepa_x 2");
    let sizes = (1..30).flat_map(|width| (1..12).map(move |height| (width, height)));
    let sizes = sizes.chain([(20, 5), (1, 200), (300, 1), (41, 9), (79, 10), (500, 100)]);
    for size in sizes {
        for view in [None, Some(&full), Some(&bare)] {
            for page in 0..=PAGE_COUNT {
                let shown = Shown {
                    page,
                    scroll: 7,
                    has_help: page == 0,
                    ..shown(view)
                };
                drop(lines(&shown, size));
            }
        }
    }
}

#[test]
fn many_labels_do_not_make_a_page_without_end() {
    use core::fmt::Write as _;
    let mut after = String::new();
    for reason in 0..4000 {
        writeln!(after, "cepa_packet_dropped_total{{reason=\"r{reason}\"}} 1").unwrap();
    }
    let view = view("cepa_x 1", &after);
    let shown = Shown {
        page: 2,
        ..shown(Some(&view))
    };
    let (_, scroll_max) = lines(&shown, (80, 24));
    assert!(usize::from(scroll_max) < 2 * ROW_COUNT_MAX, "{scroll_max}");
}

#[test]
fn bars_are_as_long_as_shares() {
    let table = [
        (0.0, "········"),
        (0.25, "██······"),
        (0.06, "▌·······"),
        (1.0, "████████"),
        (7.0, "████████"),
        (-1.0, "········"),
    ];
    for (share, expected) in table {
        assert_eq!(bar(Some(share)), expected);
    }
    assert_eq!(bar(None), "");
}
