//! All pages as text, for scripts and where there is no terminal.

use super::model::{Cell, Panel, Row, View};
use super::units::{Unit, WIDTH};

/// Columns of a name.
const NAME_WIDTH: usize = 24;

/// A block for each panel; numbers stand in columns.
pub(super) fn text(address: &str, view: &View) -> String {
    let mut text = String::new();
    let header = &view.header;
    let version = header.version.as_deref().unwrap_or_default();
    text.extend(["cepa ", version, "  ", address]);
    let facts = [
        ("  up ", header.up_time, Unit::Age),
        ("  height ", header.height, Unit::Whole),
        ("  view ", header.view_age, Unit::Age),
    ];
    for (name, value, unit) in facts {
        text.extend([name, &unit.format(value)]);
    }
    text.push('\n');
    for alarm in &header.alarms {
        text.extend([alarm.tone.mark(), " ", &alarm.text, "\n"]);
    }
    // The overview has what the others have, but for what happened in the time.
    let [overview, pages @ ..] = &view.pages;
    let panels = overview
        .wide
        .iter()
        .chain(pages.iter().flat_map(|page| &page.panels));
    for panel in panels {
        push_panel(&mut text, panel);
    }
    text
}

fn push_panel(text: &mut String, panel: &Panel) {
    let columns = panel.columns.iter().map(|column| (*column).to_owned());
    text.push('\n');
    push_line(text, panel.title, columns);
    for row in &panel.rows {
        let name = format!("{:<2} {}", row.tone.mark(), row.name);
        push_line(text, &name, numbers(row));
    }
}

/// Bars and trails are for the eye.
fn numbers(row: &Row) -> impl Iterator<Item = String> {
    row.cells.iter().filter_map(|cell| match cell {
        Cell::Number(value, unit) => Some(unit.format(*value)),
        Cell::Bar(_) | Cell::Trail(_) => None,
    })
}

fn push_line(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    text.extend([format!("{name:<NAME_WIDTH$}")]);
    for cell in cells {
        // Two blanks part columns; one is within a number.
        text.extend([format!(" {cell:>WIDTH$}")]);
    }
    let size = text.trim_end_matches(' ').len();
    text.truncate(size);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{AFTER, BEFORE, view};
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_number() {
        let text = text("127.0.0.1:9100", &view(BEFORE, AFTER));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines.first().copied(),
            Some("cepa 0.1.0  127.0.0.1:9100  up 2h 00m  height 1234567  view 12 s")
        );
        for line in [
            "requests                     per s       p50       p99",
            "   https                      20.0   2.50 ms   4.95 ms",
            "!  packet-0                100.0 %",
            "   quic                          -         -         -",
        ] {
            assert!(lines.contains(&line), "{line} in\n{text}");
        }
        assert!(lines.iter().all(|line| !line.ends_with(' ')));
    }
}
