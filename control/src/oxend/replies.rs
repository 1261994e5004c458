//! Who waits for which answer, sans-IO.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::AskError;

/// Requests whose answers are due: twice what may wait to be sent, so that those who gave up are found
/// before anybody is refused.
pub(super) const WAITING_COUNT_MAX: usize = 512;

/// Where an answer goes; who asked may have given up.
pub(super) type Reply = oneshot::Sender<Result<Vec<Bytes>, AskError>>;

/// The requests of one connection whose answers are due, by their tags. Tags ascend with time, and so
/// do deadlines.
pub(super) struct Replies {
    waiting: BTreeMap<u64, Waiting>,
    next_tag: u64,
}

struct Waiting {
    command: String,
    reply: Reply,
    due: Instant,
}

impl Replies {
    pub(super) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next_tag: 0,
        }
    }

    /// Takes a request that is about to be sent, and gives its tag. When too many wait already, it is
    /// answered with that, and not to be sent.
    pub(super) fn expect(&mut self, command: &str, reply: Reply, due: Instant) -> Option<Bytes> {
        if self.waiting.len() >= WAITING_COUNT_MAX {
            self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        }
        if self.waiting.len() >= WAITING_COUNT_MAX {
            answer(reply, Err(AskError::Busy));
            return None;
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let waiting = Waiting {
            command: command.to_owned(),
            reply,
            due,
        };
        self.waiting.insert(tag, waiting);
        Some(Bytes::copy_from_slice(&tag.to_be_bytes()))
    }

    /// Passes an answer to who waits for it; one that nobody waits for is dropped.
    pub(super) fn handle_reply(&mut self, tag: &[u8], reply: Result<Vec<Bytes>, AskError>) {
        let tag = tag.try_into().map(u64::from_be_bytes);
        if let Some(waiting) = tag.ok().and_then(|tag| self.waiting.remove(&tag)) {
            answer(waiting.reply, reply);
        }
    }

    /// A command that oxend does not know comes back without its tag: the oldest with that name was
    /// meant.
    pub(super) fn handle_unknown(&mut self, command: &[u8]) {
        let mut waiting = self.waiting.iter();
        let tag = waiting.find(|(_, waiting)| waiting.command.as_bytes() == command);
        let tag = tag.map(|(tag, _)| *tag);
        if let Some(waiting) = tag.and_then(|tag| self.waiting.remove(&tag)) {
            answer(waiting.reply, Err(AskError::Refused));
        }
    }

    /// When the oldest request has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().next().map(|waiting| waiting.due)
    }

    /// Tells those who have waited long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.waiting.first_entry() {
            if oldest.get().due > now {
                return;
            }
            answer(oldest.remove().reply, Err(AskError::Timeout));
        }
    }
}

fn answer(reply: Reply, answer: Result<Vec<Bytes>, AskError>) {
    drop(reply.send(answer));
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    type Answer = oneshot::Receiver<Result<Vec<Bytes>, AskError>>;

    fn ask(replies: &mut Replies, command: &str, due: Instant) -> (Option<Bytes>, Answer) {
        let (reply, answer) = oneshot::channel();
        (replies.expect(command, reply, due), answer)
    }

    #[test]
    fn answers_find_who_asked() {
        let mut replies = Replies::new();
        let now = Instant::now();
        let second = now + Duration::from_secs(1);
        let (first_tag, mut first) = ask(&mut replies, "rpc.a", now);
        let (_, mut late) = ask(&mut replies, "rpc.b", now);
        let (_, mut unknown) = ask(&mut replies, "rpc.c", second);
        let (last_tag, mut last) = ask(&mut replies, "rpc.c", second);
        let parts = vec![Bytes::from_static(b"200")];
        replies.handle_reply(b"no tag", Ok(parts.clone()));
        replies.handle_reply(&77_u64.to_be_bytes(), Ok(parts.clone()));
        replies.handle_unknown(b"rpc.d");
        assert!(first.try_recv().is_err());
        replies.handle_reply(&first_tag.unwrap(), Ok(parts.clone()));
        assert_eq!(first.try_recv(), Ok(Ok(parts.clone())));
        replies.handle_unknown(b"rpc.c");
        assert_eq!(unknown.try_recv(), Ok(Err(AskError::Refused)));
        assert_eq!(replies.deadline(), Some(now));
        replies.expire(now);
        assert_eq!(late.try_recv(), Ok(Err(AskError::Timeout)));
        assert_eq!(replies.deadline(), Some(second));
        replies.handle_reply(&last_tag.unwrap(), Ok(parts.clone()));
        assert_eq!(last.try_recv(), Ok(Ok(parts)));
        assert_eq!(replies.deadline(), None);
    }

    #[test]
    fn who_gave_up_makes_room() {
        let mut replies = Replies::new();
        let due = Instant::now();
        let mut waiting: Vec<_> = (0..WAITING_COUNT_MAX)
            .map(|_| ask(&mut replies, "rpc.a", due))
            .collect();
        let (tag, mut refused) = ask(&mut replies, "rpc.a", due);
        assert_eq!((tag, refused.try_recv()), (None, Ok(Err(AskError::Busy))));
        waiting.pop();
        let (tag, _answer) = ask(&mut replies, "rpc.a", due);
        assert!(tag.is_some());
    }
}
