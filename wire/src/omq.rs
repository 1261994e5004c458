//! OMQ messages: what the parts of a ZMTP message between nodes mean
//! (`../shared/protocol/session-node.md`, 5.1).

use bytes::Bytes;

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `HI`: a client greets.
    Hi,
    /// `HELLO`: the answer to `HI`.
    Hello,
    /// `BYE`: the peer closes.
    Bye,
    /// `REPLY tag parts...`
    Reply {
        /// Echo of the request's tag.
        tag: Bytes,
        /// What was answered.
        parts: Vec<Bytes>,
    },
    /// `FORBIDDEN`, `FORBIDDEN_SN`, `NOT_A_SERVICE_NODE`, `UNKNOWNCOMMAND`, `NO_REPLY_TAG`: the peer
    /// refused a command of ours.
    Refused {
        /// Which of the words.
        word: Bytes,
        /// The tag, when the word came with `REPLY tag`.
        tag: Option<Bytes>,
        /// The name of the command, when the word came with that instead.
        command: Option<Bytes>,
    },
    /// A command, a request (its first part is the tag) or one-way, as the command's name decides.
    Command {
        /// Such as `sn.ping`.
        name: String,
        /// The parts after the name.
        parts: Vec<Bytes>,
    },
}

impl Message {
    /// Reads the parts of a ZMTP message; `None` when there is no part, or the first is no word.
    pub fn parse(parts: Vec<Bytes>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let word = parts.next()?;
        match word.as_ref() {
            b"HI" => Some(Self::Hi),
            b"HELLO" => Some(Self::Hello),
            b"BYE" => Some(Self::Bye),
            b"REPLY" => Some(Self::Reply {
                tag: parts.next()?,
                parts: parts.collect(),
            }),
            b"FORBIDDEN"
            | b"FORBIDDEN_SN"
            | b"NOT_A_SERVICE_NODE"
            | b"UNKNOWNCOMMAND"
            | b"NO_REPLY_TAG" => {
                let (command, tag) = match parts.next() {
                    Some(part) if part.as_ref() == b"REPLY" => (None, parts.next()),
                    command => (command, None),
                };
                Some(Self::Refused { word, tag, command })
            }
            name => {
                let is_word = !name.is_empty()
                    && name.len() <= NAME_SIZE_MAX
                    && name.iter().all(u8::is_ascii_graphic);
                let name = core::str::from_utf8(name)
                    .ok()
                    .filter(|_| is_word)?
                    .to_owned();
                Some(Self::Command {
                    name,
                    parts: parts.collect(),
                })
            }
        }
    }
}

/// Longest name of a command: the longest known has 19 characters.
const NAME_SIZE_MAX: usize = 64;

/// `[command][tag][parts...]`
pub fn request(
    command: &'static str,
    tag: Bytes,
    parts: impl IntoIterator<Item = Bytes>,
) -> Vec<Bytes> {
    [Bytes::from_static(command.as_bytes()), tag]
        .into_iter()
        .chain(parts)
        .collect()
}

/// `[REPLY][tag][parts...]`
pub fn reply(tag: Bytes, parts: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    request("REPLY", tag, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parts: &[&'static str]) -> Option<Message> {
        Message::parse(
            parts
                .iter()
                .map(|part| Bytes::from_static(part.as_bytes()))
                .collect(),
        )
    }

    #[test]
    fn words_are_told_apart_from_commands() {
        assert_eq!(parse(&["HI"]), Some(Message::Hi));
        assert_eq!(parse(&["HELLO"]), Some(Message::Hello));
        assert_eq!(parse(&["BYE"]), Some(Message::Bye));
        let refused = parse(&["FORBIDDEN_SN", "REPLY", "t"]);
        let word = Bytes::from_static(b"FORBIDDEN_SN");
        assert_eq!(
            refused,
            Some(Message::Refused {
                word,
                tag: Some(Bytes::from_static(b"t")),
                command: None,
            })
        );
        let unknown = parse(&["UNKNOWNCOMMAND", "foo.bar"]);
        let word = Bytes::from_static(b"UNKNOWNCOMMAND");
        let expected = Message::Refused {
            word,
            tag: None,
            command: Some(Bytes::from_static(b"foo.bar")),
        };
        assert_eq!(unknown, Some(expected));
        let command = Message::Command {
            name: "sn.ping".into(),
            parts: vec![Bytes::from_static(b"t")],
        };
        assert_eq!(parse(&["sn.ping", "t"]), Some(command));
    }

    #[test]
    fn what_is_no_word_is_nothing() {
        for bad in [&[][..], &[""], &["REPLY"], &["with space"], &["caf\u{e9}"]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn replies_are_read_as_they_are_written() {
        let parts = || [Bytes::from_static(b"a"), Bytes::new()];
        let tag = Bytes::from_static(b"\0tag");
        let expected = Message::Reply {
            tag: tag.clone(),
            parts: parts().into(),
        };
        assert_eq!(Message::parse(reply(tag, parts())), Some(expected));
    }
}
