//! Keeps one connection to oxend alive: sends what is asked, gives each answer to who asked, and tells
//! what oxend pushes.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_wire::contact::Contact;
use cepa_wire::omq::Message;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::link::{Link, LinkError};
use super::{AskError, OxendAddress};

/// A silent connection is pinged after this, and dead after twice this: OMQ's heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The first pause before another attempt to connect, and the longest: those of OMQ.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Requests whose answers are due: twice what may wait to be sent, so that those who gave up are found
/// before anybody is refused.
const WAITING_COUNT_MAX: usize = 512;

/// A request for oxend.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) command: String,
    pub(super) params: Option<Bytes>,
    pub(super) reply: oneshot::Sender<Result<Vec<Bytes>, AskError>>,
}

/// What oxend tells unasked.
#[derive(Debug)]
pub(super) enum News {
    /// There is a new block.
    Block,
    /// A node is reached at another address.
    Contact(Contact),
}

/// The pauses between attempts: each twice the one before.
pub(super) struct BackOff(Duration);

impl BackOff {
    pub(super) const fn new() -> Self {
        Self(PAUSE_MIN)
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Connects and stays connected until the future is dropped. `connected` counts the connections while
/// there is one.
pub(super) async fn drive(
    address: &OxendAddress,
    asks: &mut mpsc::Receiver<Ask>,
    connected: &watch::Sender<Option<u64>>,
    news: &mpsc::Sender<News>,
) -> ! {
    let mut back_off = BackOff::new();
    let mut last_fault = String::new();
    let mut count = 0;
    loop {
        let fault = match Link::open(address).await {
            Ok(link) => {
                info!(%address, "connected to oxend");
                back_off = BackOff::new();
                last_fault.clear();
                count += 1;
                connected.send_replace(Some(count));
                let fault = Traffic::new(link, news).run(asks).await;
                connected.send_replace(None);
                // Who asked is told by the end of its channel.
                while asks.try_recv().is_ok() {}
                fault.to_string()
            }
            Err(fault) => fault.to_string(),
        };
        if fault != last_fault {
            warn!(%address, %fault, "no connection to oxend; trying again");
            last_fault = fault;
        }
        sleep(back_off.next()).await;
    }
}

/// A request whose answer is due.
struct Waiting {
    command: String,
    reply: oneshot::Sender<Result<Vec<Bytes>, AskError>>,
}

struct Traffic<'a> {
    link: Link,
    news: &'a mpsc::Sender<News>,
    waiting: BTreeMap<u64, Waiting>,
    next_tag: u64,
}

impl<'a> Traffic<'a> {
    const fn new(link: Link, news: &'a mpsc::Sender<News>) -> Self {
        Self {
            link,
            news,
            waiting: BTreeMap::new(),
            next_tag: 0,
        }
    }

    /// Runs until the connection ends.
    async fn run(mut self, asks: &mut mpsc::Receiver<Ask>) -> LinkError {
        let mut heard = Instant::now();
        let mut is_pinged = false;
        loop {
            if let Err(fault) = self.link.flush().await {
                return fault;
            }
            let patience = if is_pinged { HEARTBEAT * 2 } else { HEARTBEAT };
            tokio::select! {
                read = self.link.read() => {
                    if let Err(fault) = read {
                        return fault;
                    }
                    heard = Instant::now();
                    is_pinged = false;
                    while let Some(message) = self.link.poll_message() {
                        if message == Message::Bye {
                            return LinkError::Closed;
                        }
                        self.handle_message(message);
                    }
                }
                Some(ask) = asks.recv() => self.handle_ask(ask),
                () = sleep_until(heard + patience) => {
                    if is_pinged {
                        return LinkError::Silent;
                    }
                    is_pinged = true;
                    self.link.send_ping();
                }
            }
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        if self.waiting.len() >= WAITING_COUNT_MAX {
            // Those who gave up.
            self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        }
        if self.waiting.len() >= WAITING_COUNT_MAX {
            answer(ask.reply, Err(AskError::Busy));
            return;
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let head = [
            Bytes::copy_from_slice(ask.command.as_bytes()),
            Bytes::copy_from_slice(&tag.to_be_bytes()),
        ];
        let parts: Vec<Bytes> = head.into_iter().chain(ask.params).collect();
        self.link.send(&parts);
        let waiting = Waiting {
            command: ask.command,
            reply: ask.reply,
        };
        self.waiting.insert(tag, waiting);
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Reply { tag, parts } => self.handle_reply(&tag, Ok(parts)),
            Message::Refused { tag: Some(tag), .. } => {
                self.handle_reply(&tag, Err(AskError::Refused));
            }
            Message::Refused {
                command: Some(command),
                ..
            } => self.handle_unknown(&command),
            Message::Command { name, parts } => self.handle_command(&name, &parts),
            Message::Hi | Message::Hello | Message::Bye | Message::Refused { .. } => {}
        }
    }

    fn handle_reply(&mut self, tag: &[u8], reply: Result<Vec<Bytes>, AskError>) {
        let tag = tag.try_into().map(u64::from_be_bytes);
        if let Some(waiting) = tag.ok().and_then(|tag| self.waiting.remove(&tag)) {
            answer(waiting.reply, reply);
        }
    }

    /// A command that oxend does not know comes back without its tag: the oldest with that name was
    /// meant.
    fn handle_unknown(&mut self, command: &[u8]) {
        let mut waiting = self.waiting.iter();
        let tag = waiting.find(|(_, waiting)| waiting.command.as_bytes() == command);
        let tag = tag.map(|(tag, _)| *tag);
        if let Some(waiting) = tag.and_then(|tag| self.waiting.remove(&tag)) {
            answer(waiting.reply, Err(AskError::Refused));
        }
    }

    fn handle_command(&self, name: &str, parts: &[Bytes]) {
        let news = match (name, parts) {
            ("notify.block", _) => News::Block,
            ("notify.snode_addr", [contact, ..]) => match Contact::parse(contact) {
                Ok(contact) => News::Contact(contact),
                Err(fault) => return warn!(fault, "oxend told an address that is none"),
            },
            _ => return debug!(name, "oxend sent an unknown command"),
        };
        // With so many waiting, the next list brings all that one more would tell.
        if self.news.try_send(news).is_err() {
            debug!("oxend tells more than can be looked at");
        }
    }
}

/// Who asked may have given up.
fn answer(
    reply: oneshot::Sender<Result<Vec<Bytes>, AskError>>,
    answer: Result<Vec<Bytes>, AskError>,
) {
    drop(reply.send(answer));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut back_off = BackOff::new();
        let pauses: Vec<_> = (0..7).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
    }
}
