//! Messages in pieces: what the content of a delivered packet holds.
//!
//! ```text
//! message id 16 | index 2 | count 2 | kind 1 | message size 3 | data 800      (little endian)
//! ```
//!
//! Every piece tells the size of the whole message in what the design reserves. So the count and the true
//! length of the last piece follow from it, any piece alone says what the message will cost, and pieces
//! that disagree are found at once. What is behind the end of the message is zero.

use thiserror::Error;

use super::geometry::{
    CONTENT_SIZE, FRAGMENT_DATA_SIZE, FRAGMENT_HEADER_SIZE, MESSAGE_ID_SIZE, MESSAGE_SIZE_MAX,
    split, split_mut,
};

/// The content of a packet.
pub type ContentBytes = [u8; CONTENT_SIZE];

/// The data of a fragment, with what fills it up.
pub type FragmentData = [u8; FRAGMENT_DATA_SIZE];

/// Names a message: random, and the same in every piece and when a piece is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; MESSAGE_ID_SIZE]);

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A request of a client.
    Request = 1,
    /// The answer to it.
    Answer = 2,
}

/// What every piece of a message says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    id: MessageId,
    kind: MessageKind,
    /// At most [`MESSAGE_SIZE_MAX`].
    size: u32,
}

/// One piece, checked: its data has the length that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    message: MessageHeader,
    index: u16,
    data: &'a FragmentData,
}

/// Why a content is no fragment. Whoever built the packet wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// No such kind.
    #[error("unknown kind of message")]
    Kind,
    /// The message is larger than [`MESSAGE_SIZE_MAX`].
    #[error("message is too large")]
    Size,
    /// The count does not fit the size, or the index is not below it.
    #[error("index or count does not fit the size")]
    Count,
    /// Something stands behind the end of the message.
    #[error("padding is not zero")]
    Padding,
}

/// A message that is too large to be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message is larger than {MESSAGE_SIZE_MAX} bytes")]
pub struct MessageTooLarge;

impl MessageHeader {
    /// The header of a message of so many bytes.
    pub fn new(id: MessageId, kind: MessageKind, size: usize) -> Result<Self, MessageTooLarge> {
        let size = u32::try_from(size).map_err(|_| MessageTooLarge)?;
        if size as usize > MESSAGE_SIZE_MAX {
            return Err(MessageTooLarge);
        }
        Ok(Self { id, kind, size })
    }

    /// The message's name.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// What it is.
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Its size in bytes.
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    /// How many pieces it has: an empty message has one.
    pub fn count(&self) -> u16 {
        let count = self.size().div_ceil(FRAGMENT_DATA_SIZE).max(1);
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// The bytes of the message in this piece; 0 for one that it does not have.
    fn data_size(&self, index: u16) -> usize {
        let before = usize::from(index) * FRAGMENT_DATA_SIZE;
        self.size().saturating_sub(before).min(FRAGMENT_DATA_SIZE)
    }
}

impl<'a> Fragment<'a> {
    /// Reads a content.
    pub fn parse(content: &'a ContentBytes) -> Result<Self, FragmentError> {
        let (header, data) = split::<FRAGMENT_HEADER_SIZE, FRAGMENT_DATA_SIZE, _>(content);
        let (id, rest) = split::<MESSAGE_ID_SIZE, 8, FRAGMENT_HEADER_SIZE>(header);
        let [i0, i1, c0, c1, kind, s0, s1, s2] = *rest;
        let kind = match kind {
            1 => MessageKind::Request,
            2 => MessageKind::Answer,
            _ => return Err(FragmentError::Kind),
        };
        let size = u32::from_le_bytes([s0, s1, s2, 0]);
        let message = MessageHeader::new(MessageId(*id), kind, size as usize)
            .map_err(|_| FragmentError::Size)?;
        let index = u16::from_le_bytes([i0, i1]);
        if u16::from_le_bytes([c0, c1]) != message.count() || index >= message.count() {
            return Err(FragmentError::Count);
        }
        let fragment = Self {
            message,
            index,
            data,
        };
        let used = fragment.data().len();
        if data.iter().skip(used).any(|byte| *byte != 0) {
            return Err(FragmentError::Padding);
        }
        Ok(fragment)
    }

    /// Writes what [`Self::parse`] reads.
    pub fn encode(&self) -> ContentBytes {
        let mut content = [0; CONTENT_SIZE];
        let (header, data) = split_mut::<FRAGMENT_HEADER_SIZE, FRAGMENT_DATA_SIZE, _>(&mut content);
        let (id, rest) = split_mut::<MESSAGE_ID_SIZE, 8, FRAGMENT_HEADER_SIZE>(header);
        let [i0, i1] = self.index.to_le_bytes();
        let [c0, c1] = self.message.count().to_le_bytes();
        let [s0, s1, s2, _] = self.message.size.to_le_bytes();
        *id = self.message.id.0;
        *rest = [i0, i1, c0, c1, self.message.kind as u8, s0, s1, s2];
        *data = *self.data;
        content
    }

    /// What it says about the message.
    pub const fn message(&self) -> MessageHeader {
        self.message
    }

    /// Which piece it is, from 0.
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The bytes of the message in it.
    pub fn data(&self) -> &'a [u8] {
        self.data
            .get(..self.message.data_size(self.index))
            .unwrap_or_default()
    }
}

/// The contents that carry a message, in order. Any of them may be made again and sent again.
pub fn fragments(
    id: MessageId,
    kind: MessageKind,
    message: &[u8],
) -> Result<impl ExactSizeIterator<Item = ContentBytes> + Clone, MessageTooLarge> {
    let header = MessageHeader::new(id, kind, message.len())?;
    Ok((0..header.count()).map(move |index| {
        let mut pieces = message.chunks(FRAGMENT_DATA_SIZE);
        let piece = pieces.nth(index.into()).unwrap_or_default();
        let mut data = [0; FRAGMENT_DATA_SIZE];
        data.iter_mut()
            .zip(piece)
            .for_each(|(to, from)| *to = *from);
        Fragment {
            message: header,
            index,
            data: &data,
        }
        .encode()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId([5; 16]);

    #[test]
    fn messages_are_cut_where_they_should_be() {
        for size in [0, 1, 799, 800, 801, 1600, 5000, MESSAGE_SIZE_MAX] {
            let message: Vec<u8> = (0..size)
                .map(|index| (index % 251).to_le_bytes()[0])
                .collect();
            let contents = fragments(ID, MessageKind::Answer, &message).unwrap();
            let count = contents.len();
            assert_eq!(count, size.div_ceil(800).max(1));
            let mut whole = Vec::new();
            for (index, content) in contents.enumerate() {
                let fragment = Fragment::parse(&content).unwrap();
                assert_eq!(fragment.encode(), content);
                assert_eq!(usize::from(fragment.index()), index);
                assert_eq!(fragment.message().size(), size);
                assert_eq!(usize::from(fragment.message().count()), count);
                whole.extend_from_slice(fragment.data());
            }
            assert_eq!(whole, message);
        }
        let large = vec![0; MESSAGE_SIZE_MAX + 1];
        assert!(fragments(ID, MessageKind::Request, &large).is_err());
    }

    #[test]
    fn the_header_is_where_it_should_be() {
        let content = fragments(ID, MessageKind::Request, &[7; 801]).unwrap();
        let last = content.last().unwrap();
        assert_eq!(last[..16], [5; 16]);
        assert_eq!(last[16..24], [1, 0, 2, 0, 1, 0x21, 3, 0]);
        assert_eq!(last[24..26], [7, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let contents = fragments(ID, MessageKind::Request, &[7; 801]).unwrap();
        let good = contents.last().unwrap();
        let cases = [
            (16, 2, FragmentError::Count),
            (17, 1, FragmentError::Count),
            (18, 1, FragmentError::Count),
            (18, 3, FragmentError::Count),
            (20, 0, FragmentError::Kind),
            (20, 3, FragmentError::Kind),
            (21, 0x20, FragmentError::Count),
            (23, 4, FragmentError::Size),
            (25, 1, FragmentError::Padding),
            (823, 1, FragmentError::Padding),
        ];
        for (at, byte, error) in cases {
            let mut content = good;
            content[at] = byte;
            assert_eq!(Fragment::parse(&content), Err(error), "{at}");
        }
    }
}
