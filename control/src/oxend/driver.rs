//! Keeps one connection to oxend alive: sends what is asked, gives each answer to who asked, and tells
//! what oxend pushes.

use core::time::Duration;

use bytes::Bytes;
use cepa_wire::contact::Contact;
use cepa_wire::omq::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::link::{Link, LinkError};
use super::replies::{Replies, Reply};
use super::{ANSWER_TIMEOUT, AskError, OxendAddress};

/// A silent connection is pinged after this, and dead after twice this: OMQ's heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The first pause before another attempt to connect, and the longest: those of OMQ.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A request for oxend.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) command: String,
    pub(super) params: Option<Bytes>,
    pub(super) reply: Reply,
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
        let fault = match refuse_while(asks, Link::open(address)).await {
            Ok(link) => {
                info!("connected to oxend");
                debug!(%address, "this is where oxend is");
                back_off = BackOff::new();
                last_fault.clear();
                count += 1;
                connected.send_replace(Some(count));
                let fault = Traffic::new(link, news).run(asks).await;
                connected.send_replace(None);
                fault.to_string()
            }
            Err(fault) => fault.to_string(),
        };
        if fault != last_fault {
            warn!(%fault, "no connection to oxend, see oxend_rpc; trying again");
            last_fault = fault;
        }
        refuse_while(asks, sleep(back_off.next())).await;
    }
}

/// Runs a future, and lets nobody wait for its end: who asks is told by the end of its channel that
/// there is no connection.
async fn refuse_while<T>(asks: &mut mpsc::Receiver<Ask>, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return output,
            Some(ask) = asks.recv() => drop(ask),
        }
    }
}

struct Traffic<'a> {
    link: Link,
    news: &'a mpsc::Sender<News>,
    replies: Replies,
}

impl<'a> Traffic<'a> {
    const fn new(link: Link, news: &'a mpsc::Sender<News>) -> Self {
        Self {
            link,
            news,
            replies: Replies::new(),
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
                () = until(self.replies.deadline()) => self.replies.expire(Instant::now()),
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
        let due = Instant::now() + ANSWER_TIMEOUT;
        let Some(tag) = self.replies.expect(&ask.command, ask.reply, due) else {
            return;
        };
        let head = [Bytes::from(ask.command), tag];
        let parts: Vec<Bytes> = head.into_iter().chain(ask.params).collect();
        self.link.send(&parts);
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Reply { tag, parts } => self.replies.handle_reply(&tag, Ok(parts)),
            Message::Refused { tag: Some(tag), .. } => {
                self.replies.handle_reply(&tag, Err(AskError::Refused));
            }
            Message::Refused {
                command: Some(command),
                ..
            } => self.replies.handle_unknown(&command),
            Message::Command { name, parts } => self.handle_command(&name, &parts),
            Message::Hi | Message::Hello | Message::Bye | Message::Refused { .. } => {}
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

/// Waits for a deadline; for ever when there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => core::future::pending().await,
    }
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
