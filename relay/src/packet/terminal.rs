//! The last hop: contents become requests. [`super::answers`] has the way back.

use cepa_wire::Timestamp;
use cepa_wire::packet::ContentBytes;
use cepa_wire::packet::fragment::{Fragment, MessageKind};
use cepa_wire::packet::reassembler::{Message, Progress, Reassembler, ReassemblerLimits};

use super::drop_reason::DropReason;

/// Puts requests together. Each tile has one: all fragments of a message that come in at one tile's port
/// come to it.
pub struct Terminal {
    reassembler: Reassembler,
}

/// What a content led to.
pub enum Delivered {
    /// The rest of its message is awaited.
    Pending,
    /// The message is whole: [`cepa_wire::packet::request::PacketRequest::parse`] reads it.
    Request(Message),
    /// It ends here.
    Drop(DropReason),
}

impl Terminal {
    /// Within these bounds.
    pub fn new(limits: ReassemblerLimits) -> Self {
        Self {
            reassembler: Reassembler::new(limits),
        }
    }

    /// Takes what was in a packet for us.
    pub fn handle_content(&mut self, now: Timestamp, content: &ContentBytes) -> Delivered {
        let fragment = Fragment::parse(content).ok();
        // What a node is sent is a request: answers go to clients.
        let fragment = fragment.filter(|it| it.message().kind() == MessageKind::Request);
        let Some(fragment) = fragment else {
            return Delivered::Drop(DropReason::BadFragment);
        };
        match self.reassembler.handle_fragment(now, &fragment) {
            Progress::Pending => Delivered::Pending,
            Progress::Complete(message) => Delivered::Request(message),
            Progress::Duplicate => Delivered::Drop(DropReason::DuplicateFragment),
            Progress::Conflict => Delivered::Drop(DropReason::BadFragment),
        }
    }

    /// Pieces that wait for the rest of their request.
    pub const fn fragment_count(&self) -> usize {
        self.reassembler.fragment_count()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.reassembler.poll_timeout()
    }

    /// Forgets what waited for too long.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.reassembler.handle_timeout(now);
    }
}
