//! The screen: the pages as widgets. Colours are few, and none is a background: what is plain has the
//! terminal's own colours, light or dark. A mark in the first column says what colours say.

use core::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, RenderDirection, Sparkline, Widget as _};

use super::model::{Cell, Header, Page, Panel, Row, Tone, View};
use super::rates::Trail;
use super::units::{Unit, WIDTH};

/// Columns of a panel at least, where there is room for two: a name of ten letters and three numbers.
const PANEL_WIDTH_MIN: u16 = 39;
/// Blanks between two panels: the next one begins with the place of a mark.
const GAP: u16 = 1;
/// Most rows of a panel that are drawn: more than any node has of one kind.
const ROW_COUNT_MAX: usize = 200;
/// Blanks before a trail.
const TRAIL_GAP: u16 = 2;
/// Columns of a name beside a trail.
const TRAIL_NAME_WIDTH: u16 = 12;
/// Lines above the page: identity, state, titles of pages.
const HEAD_HEIGHT: u16 = 3;
/// The steps of a sparkline: more than eight lines of a terminal can show.
const TRAIL_STEPS: f64 = 1000.0;

const FOOTER: &str = "q quit  p pause  +/- interval  tab 1-5 page  up/down scroll  ? help";

const HELP: [&str; 12] = [
    "q, esc, ctrl-c   quit",
    "p, blank         pause: the screen stays, counting goes on",
    "+ and -          ask less often, ask more often",
    "tab, 1 to 5      another page",
    "up, down         scroll; page up and down too",
    "?                this text",
    "",
    "per s            in the time between two questions",
    "p50, p99         half, and 99 of 100, took no longer",
    "-                the node does not tell, or there was none",
    "! and yellow     look at it when there is time",
    "!! and red       something is broken",
];

/// What is on the screen now.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) address: &'a str,
    /// How often it is asked.
    pub(super) pace: Duration,
    pub(super) is_paused: bool,
    /// For how long there was no answer, and why.
    pub(super) silence: Option<(Duration, &'a str)>,
    /// Which page, counted from 0.
    pub(super) page: usize,
    /// How many lines of it are above the screen.
    pub(super) scroll: u16,
    pub(super) has_help: bool,
    /// `None` until the second answer.
    pub(super) view: Option<&'a View>,
}

/// Draws all of it. Gives the most lines that can be scrolled.
pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown<'_>) -> u16 {
    let area = frame.area();
    let layout = Layout::vertical([
        Constraint::Length(HEAD_HEIGHT),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [head, body, foot] = layout.areas(area);
    draw_head(frame, shown, head);
    let page = shown.view.and_then(|view| view.pages.get(shown.page));
    let scroll_max = page.map(|page| draw_page(frame.buffer_mut(), page, shown.scroll, body));
    if page.is_none() {
        let text = "waiting for the second answer: rates need two";
        frame.render_widget(Paragraph::new(text), body);
    }
    frame.render_widget(Paragraph::new(FOOTER).style(dim()), foot);
    if shown.has_help {
        draw_help(frame, area);
    }
    scroll_max.unwrap_or(0)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn draw_head(frame: &mut Frame<'_>, shown: &Shown<'_>, area: Rect) {
    let [identity, state, titles] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let header = shown.view.map(|view| &view.header);
    frame.render_widget(identity_line(shown.address, header), identity);
    frame.render_widget(state_line(shown, header), state);
    let pace = format!(
        "every {}",
        Unit::Latency.format(Some(shown.pace.as_secs_f64()))
    );
    let pace = if shown.is_paused {
        "paused".to_owned()
    } else {
        pace
    };
    let pace = Line::from(Span::styled(pace, dim())).alignment(Alignment::Right);
    frame.render_widget(pace, state);
    let pages = shown
        .view
        .iter()
        .flat_map(|view| view.pages.iter().zip(1..));
    let mut spans = Vec::new();
    for (page, number) in pages {
        let is_shown = number == shown.page + 1;
        let style = if is_shown {
            bold().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        spans.push(Span::styled(format!(" {number} {} ", page.title), style));
    }
    frame.render_widget(Line::from(spans), titles);
}

fn identity_line<'a>(address: &'a str, header: Option<&'a Header>) -> Line<'a> {
    let version = header.and_then(|header| header.version.as_deref());
    let mut spans = vec![
        Span::styled(format!("cepa {}", version.unwrap_or_default()), bold()),
        Span::raw(format!("  {address}")),
    ];
    if let Some(header) = header {
        let facts = [
            ("up", header.up_time, Unit::Age),
            ("height", header.height, Unit::Whole),
            ("view", header.view_age, Unit::Age),
        ];
        for (name, value, unit) in facts {
            spans.push(Span::styled(format!("  {name} "), dim()));
            spans.push(Span::raw(unit.format(value)));
        }
    }
    Line::from(spans)
}

fn state_line<'a>(shown: &Shown<'a>, header: Option<&'a Header>) -> Line<'a> {
    if let Some((silence, reason)) = shown.silence {
        let text = format!("!! no answer for {} s: {reason}", silence.as_secs());
        return Line::from(Span::styled(text, style(Tone::Bad)));
    }
    let alarms = header.map_or(&[][..], |header| &header.alarms);
    if alarms.is_empty() {
        return Line::from(if header.is_some() { "ok" } else { "" });
    }
    let spans = alarms.iter().map(|alarm| {
        Span::styled(
            format!("{} {}  ", alarm.tone.mark(), alarm.text),
            style(alarm.tone),
        )
    });
    spans.collect()
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0);
    let size = |length: usize| u16::try_from(length + 2).unwrap_or(u16::MAX);
    let [area] = Layout::horizontal([Constraint::Max(size(width))])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [area] = Layout::vertical([Constraint::Max(size(HELP.len()))])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    frame.render_widget(Clear, area);
    let lines = HELP.map(Line::from).to_vec();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title("keys")),
        area,
    );
}

/// Draws the lines of a page that are on the screen. Gives how many are not.
fn draw_page(buffer: &mut Buffer, page: &Page, scroll: u16, area: Rect) -> u16 {
    if area.is_empty() {
        return 0;
    }
    let places = arrange(page, area.width);
    let height = places.iter().map(|(_, place)| place.bottom()).max();
    let height = height.unwrap_or(0).max(area.height);
    let mut whole = Buffer::empty(Rect::new(0, 0, area.width, height));
    for (panel, place) in places {
        draw_panel(&mut whole, panel, place);
    }
    let scroll_max = height - area.height;
    let scroll = scroll.min(scroll_max);
    for y in 0..area.height {
        for x in 0..area.width {
            let from = whole.cell((x, y + scroll));
            let to = buffer.cell_mut((area.x + x, area.y + y));
            if let (Some(from), Some(to)) = (from, to) {
                *to = from.clone();
            }
        }
    }
    scroll_max
}

/// Where each panel stands: each below the shortest column.
fn arrange(page: &Page, width: u16) -> Vec<(&Panel, Rect)> {
    let mut places = Vec::new();
    let mut top = 0;
    if let Some(panel) = &page.wide {
        let place = Rect::new(0, 0, width, height_of(panel));
        top = place.bottom() + 1;
        places.push((panel, place));
    }
    let panel_count = u16::try_from(page.panels.len()).unwrap_or(u16::MAX).max(1);
    let count = ((width + GAP) / (PANEL_WIDTH_MIN + GAP)).clamp(1, panel_count);
    let column_width = (width - GAP * (count - 1)) / count;
    let mut bottoms = vec![top; usize::from(count)];
    for panel in &page.panels {
        let mut columns = (0..).zip(&mut bottoms);
        let Some(first) = columns.next() else { break };
        let (index, bottom) = columns.fold(
            first,
            |least, other| {
                if *other.1 < *least.1 { other } else { least }
            },
        );
        let x = index * (column_width + GAP);
        let place = Rect::new(x, *bottom, column_width, height_of(panel));
        *bottom = place.bottom() + 1;
        places.push((panel, place));
    }
    places
}

/// The title, and each row.
fn height_of(panel: &Panel) -> u16 {
    let count = panel.rows.len().min(ROW_COUNT_MAX) + 1;
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Columns of a cell of numbers.
const CELL_WIDTH: u16 = 9;
const _: () = assert!(CELL_WIDTH as usize == WIDTH);

fn draw_panel(buffer: &mut Buffer, panel: &Panel, area: Rect) {
    let has_trail = panel.rows.iter().any(Row::has_trail);
    let cell_count = panel.rows.iter().map(|row| row.cells.len());
    let cell_count = cell_count.chain([panel.columns.len()]).max().unwrap_or(0);
    let cell_count = u16::try_from(cell_count).unwrap_or(u16::MAX);
    let name_width = if has_trail {
        TRAIL_NAME_WIDTH.min(area.width)
    } else {
        area.width
            .saturating_sub(cell_count.saturating_mul(CELL_WIDTH))
    };
    let heads = panel
        .columns
        .iter()
        .map(|head| Drawn::Text((*head).to_owned()));
    let line = Rect { height: 1, ..area };
    let rule = Style::new().add_modifier(Modifier::DIM | Modifier::UNDERLINED);
    buffer.set_style(line, rule);
    draw_line(buffer, (panel.title, bold()), heads, (line, name_width));
    buffer.set_style(line, Style::new().add_modifier(Modifier::UNDERLINED));
    for (row, y) in panel.rows.iter().zip(area.y + 1..area.bottom()) {
        let line = Rect {
            y,
            height: 1,
            ..area
        };
        let name = format!("{:<2}{}", row.tone.mark(), row.name);
        let cells = row.cells.iter().map(Drawn::from);
        draw_line(buffer, (&name, style(row.tone)), cells, (line, name_width));
    }
}

/// What a cell looks like.
enum Drawn<'a> {
    Text(String),
    Trail(&'a Trail),
}

impl<'a> From<&'a Cell> for Drawn<'a> {
    fn from(cell: &'a Cell) -> Self {
        match cell {
            Cell::Number(value, unit) => Self::Text(unit.format(*value)),
            Cell::Bar(share) => Self::Text(bar(*share)),
            Cell::Trail(trail) => Self::Trail(trail),
        }
    }
}

fn draw_line<'a>(
    buffer: &mut Buffer,
    (name, style): (&str, Style),
    cells: impl Iterator<Item = Drawn<'a>>,
    (line, name_width): (Rect, u16),
) {
    buffer.set_stringn(line.x, line.y, name, name_width.into(), style);
    let mut x = line.x + name_width;
    for cell in cells {
        let room = line.right().saturating_sub(x);
        if room == 0 {
            return;
        }
        match cell {
            Drawn::Text(text) => {
                let text = format!("{text:>WIDTH$}");
                buffer.set_stringn(x, line.y, text, room.min(CELL_WIDTH).into(), style);
                x += room.min(CELL_WIDTH);
            }
            Drawn::Trail(trail) => {
                let area = Rect {
                    x: (x + TRAIL_GAP).min(line.right()),
                    width: room.saturating_sub(TRAIL_GAP),
                    ..line
                };
                draw_trail(buffer, trail, area);
                x = line.right();
            }
        }
    }
}

/// The latest at the right; the largest that is seen has the full height.
fn draw_trail(buffer: &mut Buffer, trail: &Trail, area: Rect) {
    let values: Vec<_> = trail.last(area.width.into()).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a thousand"
    )]
    let step = |value: &f64| (value / largest * TRAIL_STEPS).clamp(0.0, TRAIL_STEPS) as u64;
    let steps = values.iter().rev().map(step);
    Sparkline::default()
        .data(steps)
        .max(1000)
        .direction(RenderDirection::RightToLeft)
        .render(area, buffer);
}

/// Eight columns, in eighths.
fn bar(share: Option<f64>) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    const WHOLE: usize = WIDTH - 1;
    let Some(share) = share.filter(|share| share.is_finite()) else {
        return String::new();
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between nought and 64"
    )]
    let eighths = (share.clamp(0.0, 1.0) * 64.0).round() as usize;
    let part = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    let mut text = "█".repeat(eighths / 8) + part;
    let width = text.chars().count();
    text.push_str(&"·".repeat(WHOLE.saturating_sub(width)));
    text
}

#[cfg(test)]
mod tests;
