//! What is watched: answers as they come, keys as they are pressed, and what is shown of both. No I/O.

use core::time::Duration;

use tokio::time::Instant;

use super::keys::Action;
use super::model::{PAGE_COUNT, View};
use super::rates::{Interval, Trails};
use super::scrape::{ScrapeFault, Scraped};
use super::screen::Shown;

/// How often a node can be asked, by `+` and `-`.
const PACES: [Duration; 8] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
];

/// One node, and one who watches it.
#[derive(Debug)]
pub(super) struct Watch {
    address: String,
    pace: Duration,
    last: Scraped,
    trails: Trails,
    view: Option<View>,
    /// Why there is no answer now.
    fault: Option<ScrapeFault>,
    is_paused: bool,
    has_help: bool,
    page: usize,
    scroll: u16,
}

impl Watch {
    /// Rates come with the second answer.
    pub(super) fn new(address: String, pace: Duration, first: Scraped) -> Self {
        Self {
            address,
            pace,
            last: first,
            trails: Trails::default(),
            view: None,
            fault: None,
            is_paused: false,
            has_help: false,
            page: 0,
            scroll: 0,
        }
    }

    /// How often the node is to be asked.
    pub(super) const fn pace(&self) -> Duration {
        self.pace
    }

    /// The next answer, or why there is none.
    pub(super) fn handle_answer(&mut self, answer: Result<Scraped, ScrapeFault>) {
        let scraped = match answer {
            Ok(scraped) => scraped,
            Err(fault) => {
                self.fault = Some(fault);
                return;
            }
        };
        self.fault = None;
        let between = scraped.at.saturating_duration_since(self.last.at);
        let interval = Interval::new(&self.last.reading, &scraped.reading, between);
        let view = interval.map(|interval| View::make(&interval, &mut self.trails));
        if !self.is_paused || self.view.is_none() {
            self.view = view.or_else(|| self.view.take());
        }
        self.last = scraped;
    }

    /// Does what a key means; `false` when it means the end.
    pub(super) fn handle_action(&mut self, action: Action) -> bool {
        match action {
            Action::Quit => return false,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Slower => {
                let slower = PACES.iter().find(|pace| **pace > self.pace);
                self.pace = slower.copied().unwrap_or(self.pace);
            }
            Action::Faster => {
                let faster = PACES.iter().rev().find(|pace| **pace < self.pace);
                self.pace = faster.copied().unwrap_or(self.pace);
            }
            Action::Page(page) => self.turn_to(page),
            Action::NextPage => self.turn_to((self.page + 1) % PAGE_COUNT),
            Action::PreviousPage => self.turn_to((self.page + PAGE_COUNT - 1) % PAGE_COUNT),
            Action::Scroll(lines) => self.scroll = self.scroll.saturating_add_signed(lines),
            Action::Help => self.has_help = !self.has_help,
        }
        true
    }

    fn turn_to(&mut self, page: usize) {
        self.page = page;
        self.scroll = 0;
    }

    /// Learns how far the page that was drawn can be scrolled.
    pub(super) fn bound_scroll(&mut self, scroll_max: u16) {
        self.scroll = self.scroll.min(scroll_max);
    }

    /// What is to be drawn.
    pub(super) fn shown(&self, now: Instant) -> Shown<'_> {
        let silence = now.saturating_duration_since(self.last.at);
        Shown {
            address: &self.address,
            pace: self.pace,
            is_paused: self.is_paused,
            silence: self.fault.as_deref().map(|fault| (silence, fault)),
            page: self.page,
            scroll: self.scroll,
            has_help: self.has_help,
            view: self.view.as_ref(),
        }
    }

    /// What was last told, if there were two answers.
    pub(super) const fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Cell;
    use super::super::reading::Reading;
    use super::*;

    fn scraped(text: &str, at: Instant) -> Scraped {
        let reading = Reading::parse(text).unwrap();
        Scraped { reading, at }
    }

    /// Packets a second, as the overview has them.
    fn packet_rate(watch: &Watch) -> Option<f64> {
        let panel = watch.view()?.pages[0].wide.as_ref()?;
        let row = panel.rows.iter().find(|row| row.name == "packets")?;
        match row.cells[0] {
            Cell::Number(value, _) => value,
            _ => None,
        }
    }

    fn watch(start: Instant) -> Watch {
        let first = scraped("cepa_packet_peeled_total 100\n", start);
        Watch::new("127.0.0.1:9100".into(), Duration::from_secs(1), first)
    }

    #[test]
    fn rates_are_of_the_time_between_two_answers() {
        let start = Instant::now();
        let mut watch = watch(start);
        assert!(watch.view().is_none());
        let after = |seconds| start + Duration::from_secs(seconds);
        watch.handle_answer(Ok(scraped("cepa_packet_peeled_total 140\n", after(2))));
        assert_eq!(packet_rate(&watch), Some(20.0));
        // Nothing is known while it is away, and what was last known stays.
        watch.handle_answer(Err("nobody listens there".into()));
        let shown = watch.shown(after(14));
        assert_eq!(
            shown.silence,
            Some((Duration::from_secs(12), "nobody listens there"))
        );
        assert_eq!(packet_rate(&watch), Some(20.0));
        // It is back, with counts that began anew.
        watch.handle_answer(Ok(scraped("cepa_packet_peeled_total 9\n", after(20))));
        assert_eq!(watch.shown(after(20)).silence, None);
        assert_eq!(packet_rate(&watch), Some(0.5));
    }

    #[test]
    fn a_pause_keeps_the_screen_and_counts_on() {
        let start = Instant::now();
        let mut watch = watch(start);
        let tell = |watch: &mut Watch, count: u64, seconds| {
            let text = format!("cepa_packet_peeled_total {count}\n");
            let at = start + Duration::from_secs(seconds);
            watch.handle_answer(Ok(scraped(&text, at)));
        };
        tell(&mut watch, 110, 1);
        assert!(watch.handle_action(Action::Pause));
        tell(&mut watch, 210, 2);
        assert_eq!(packet_rate(&watch), Some(10.0));
        assert!(watch.handle_action(Action::Pause));
        tell(&mut watch, 240, 3);
        assert_eq!(packet_rate(&watch), Some(30.0));
    }

    #[test]
    fn keys_turn_pages_and_change_the_pace() {
        let start = Instant::now();
        let mut watch = watch(start);
        let mut press = |action| watch.handle_action(action);
        assert!(press(Action::PreviousPage) && press(Action::Scroll(3)));
        assert!(press(Action::Slower) && press(Action::Slower));
        assert_eq!(watch.shown(start).page, PAGE_COUNT - 1);
        assert_eq!(watch.shown(start).scroll, 3);
        watch.bound_scroll(2);
        assert_eq!(watch.shown(start).scroll, 2);
        assert_eq!(watch.pace(), Duration::from_secs(5));
        for _ in 0..20 {
            watch.handle_action(Action::Faster);
        }
        assert_eq!(watch.pace(), PACES[0]);
        for _ in 0..20 {
            watch.handle_action(Action::Slower);
        }
        assert_eq!(watch.pace(), Duration::from_mins(1));
        watch.handle_action(Action::NextPage);
        assert_eq!((watch.shown(start).page, watch.shown(start).scroll), (0, 0));
        assert!(!watch.handle_action(Action::Quit));
    }
}
