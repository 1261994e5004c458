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
