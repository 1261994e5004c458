//! The terminal while it is watched: it is taken, drawn on, and given back however this ends.

use core::time::Duration;
use std::io;
use std::thread;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, try_init, try_restore};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::super::run::Signals;
use super::keys::action;
use super::scrape::{ScrapeFault, Scraped, scrape};
use super::screen::draw;
use super::watch::Watch;
use crate::failure::Failure;

/// How often the screen is drawn at least: it tells for how long there was no answer.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);
/// Events that wait to be taken: nobody types faster than they are.
const EVENT_COUNT_MAX: usize = 16;

/// The screen that is ours, until this is dropped. A panic gives it back too: `try_init` sees to that.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn take() -> Result<Self, Failure> {
        match try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(fault) => {
                // It may have been taken halfway.
                drop(try_restore());
                Err(broken(fault))
            }
        }
    }

    fn draw(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        let now = Instant::now();
        let mut scroll_max = 0;
        let drawn = self
            .terminal
            .draw(|frame| scroll_max = draw(frame, &watch.shown(now)));
        drawn.map_err(broken)?;
        watch.bound_scroll(scroll_max);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell if it fails.
        drop(try_restore());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that it fits map_err")]
fn broken(fault: io::Error) -> Failure {
    Failure::new(format!(
        "the terminal does not work: {fault}; --once needs none"
    ))
}

/// Watches until a key or a signal ends it.
pub(super) async fn run(address: &str, mut watch: Watch) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let (pace, paces) = watch::channel(watch.pace());
    let (told, mut answers) = mpsc::channel(1);
    let asking = tokio::spawn(ask(address.to_owned(), paces, told));
    let mut screen = Screen::take()?;
    let mut events = events();
    let mut redraw = interval(REDRAW_INTERVAL);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        if let Err(failure) = screen.draw(&mut watch) {
            break Err(failure);
        }
        tokio::select! {
            () = signals.wait() => break Ok(()),
            _ = redraw.tick() => {}
            Some(answer) = answers.recv() => watch.handle_answer(answer),
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) => {
                    if !action(&key).is_none_or(|action| watch.handle_action(action)) {
                        break Ok(());
                    }
                    pace.send_replace(watch.pace());
                }
                // A new size, most likely: it is drawn anew.
                Some(Ok(_)) => {}
                Some(Err(fault)) => break Err(broken(fault)),
                None => break Ok(()),
            }
        }
    };
    asking.abort();
    outcome
}

/// Keys and sizes. They are read on a thread of their own, which ends with the process: reading blocks.
fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, events) = mpsc::channel(EVENT_COUNT_MAX);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    events
}

/// Asks at a pace that may change, until nobody listens any more.
async fn ask(
    address: String,
    mut paces: watch::Receiver<Duration>,
    told: mpsc::Sender<Result<Scraped, ScrapeFault>>,
) {
    let mut asked = Instant::now();
    loop {
        let pace = *paces.borrow_and_update();
        tokio::select! {
            () = sleep_until(asked + pace) => {}
            changed = paces.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        asked = Instant::now();
        let answer = scrape(&address).await;
        if told.send(answer).await.is_err() {
            return;
        }
    }
}
