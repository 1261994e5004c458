//! ZMTP 3.x: greeting, frames, commands (RFC 23/ZMTP, RFC 37/ZMTP; `session-node.md`, 5.1).
//!
//! Views check once and cannot fail afterwards; the [`Decoder`] takes bytes however they are cut and
//! holds no more than what has arrived and its limit allows.

pub mod null;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// Size of a greeting.
pub const GREETING_SIZE: usize = 64;
/// Largest message: all its parts together (the reference's `MAXMSGSIZE`).
pub const MESSAGE_SIZE_MAX: usize = 10 << 20;
/// Most parts of a message: the longest known has 5.
pub const PART_COUNT_MAX: usize = 32;
/// Largest command or frame before a peer's key is proven: INITIATE with its metadata, some 400
/// bytes; what a stranger can make us hold.
pub const HANDSHAKE_SIZE_MAX: usize = 1024;

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ZmtpError {
    /// The greeting is not ZMTP 3.
    #[error("greeting is not ZMTP 3")]
    Greeting,
    /// The greeting names another mechanism than ours.
    #[error("mechanism is not the expected one")]
    Mechanism,
    /// A frame's flags are not of this version.
    #[error("unknown frame flags")]
    Flags,
    /// A frame or message is larger than its limit.
    #[error("frame or message is too large")]
    Size,
    /// A message has too many parts.
    #[error("message has too many parts")]
    PartCount,
    /// A command is malformed.
    #[error("command is malformed")]
    Command,
}

/// What secures a connection (RFC 23, "Security mechanisms").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Nothing: within a machine ([`null`]).
    Null,
    /// CURVE (RFC 26): between machines.
    Curve,
}

impl Mechanism {
    /// Its name with zeros behind it.
    const fn field(self) -> [u8; MECHANISM_SIZE] {
        match self {
            Self::Null => *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Self::Curve => *b"CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    /// A greeting of ours: version 3.1. `as_server` means nothing with NULL, and is false there.
    pub fn greeting(self, as_server: bool) -> [u8; GREETING_SIZE] {
        let head = *b"\xff\0\0\0\0\0\0\0\0\x7f\x03\x01";
        let tail = self.field().into_iter().chain([u8::from(as_server)]);
        let mut greeting = [0; GREETING_SIZE];
        for (to, from) in greeting.iter_mut().zip(head.into_iter().chain(tail)) {
            *to = from;
        }
        greeting
    }

    /// Checks a peer's greeting: signature, version 3 or later, this mechanism. Which side it takes
    /// does not matter: with CURVE the handshake tells, with NULL nothing depends on it.
    pub fn check_greeting(self, greeting: &[u8; GREETING_SIZE]) -> Result<(), ZmtpError> {
        let [0xff, _, _, _, _, _, _, _, _, 0x7f, major, _, rest @ ..] = greeting else {
            return Err(ZmtpError::Greeting);
        };
        if *major < 3 {
            return Err(ZmtpError::Greeting);
        }
        if rest.starts_with(&self.field()) {
            Ok(())
        } else {
            Err(ZmtpError::Mechanism)
        }
    }
}

/// Size of a mechanism's name in a greeting.
const MECHANISM_SIZE: usize = 20;

/// A greeting of ours with CURVE.
pub fn greeting(as_server: bool) -> [u8; GREETING_SIZE] {
    Mechanism::Curve.greeting(as_server)
}

/// Checks a peer's greeting with CURVE.
pub fn check_greeting(greeting: &[u8; GREETING_SIZE]) -> Result<(), ZmtpError> {
    Mechanism::Curve.check_greeting(greeting)
}

/// A frame: a part of a message, or a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Another part follows.
    pub more: bool,
    /// A command.
    pub command: bool,
    /// Its body.
    pub body: Bytes,
}

const FLAG_MORE: u8 = 1;
const FLAG_LONG: u8 = 2;
const FLAG_COMMAND: u8 = 4;
/// Bodies above this need the long form.
const SHORT_SIZE_MAX: usize = 255;
/// The largest frame whose memory is used again for those that follow.
const KEPT_SIZE_MAX: usize = 64 << 10;

impl Frame {
    /// Appends the frame to `output`.
    pub fn encode(&self, output: &mut Vec<u8>) {
        let flags = u8::from(self.more) * FLAG_MORE + u8::from(self.command) * FLAG_COMMAND;
        encode_head(flags, self.body.len(), output);
        output.extend_from_slice(&self.body);
    }
}

/// Appends the head of a frame that is an ordinary, last part of `size` bytes.
pub fn encode_message_head(size: usize, output: &mut Vec<u8>) {
    encode_head(0, size, output);
}

fn encode_head(flags: u8, size: usize, output: &mut Vec<u8>) {
    if let Ok(size) = u8::try_from(size) {
        output.extend_from_slice(&[flags, size]);
    } else {
        output.push(flags | FLAG_LONG);
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        output.extend_from_slice(&size.to_be_bytes());
    }
}

const _: () = assert!(SHORT_SIZE_MAX == u8::MAX as usize);

/// Cuts a stream into greeting and frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that arrived. Poll after each call: what is not polled is held.
    pub fn handle_bytes(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// Bytes that are held.
    pub fn held_size(&self) -> usize {
        self.buffer.len()
    }

    /// The greeting, once it is whole. A first byte that begins none is refused at once.
    pub fn poll_greeting(&mut self) -> Result<Option<[u8; GREETING_SIZE]>, ZmtpError> {
        if self.buffer.first().is_some_and(|byte| *byte != 0xff) {
            return Err(ZmtpError::Greeting);
        }
        let Some(greeting) = self.buffer.first_chunk().copied() else {
            return Ok(None);
        };
        self.buffer.advance(GREETING_SIZE);
        Ok(Some(greeting))
    }

    /// The next frame, once it is whole. A frame whose head announces more than `size_max` bytes is
    /// refused before any of them arrive.
    pub fn poll_frame(&mut self, size_max: usize) -> Result<Option<Frame>, ZmtpError> {
        let Some((flags, head_size, size)) = self.read_head()? else {
            return Ok(None);
        };
        if size > size_max {
            return Err(ZmtpError::Size);
        }
        if self.buffer.len() < head_size + size {
            return Ok(None);
        }
        self.buffer.advance(head_size);
        let body = self.buffer.split_to(size).freeze();
        if size > KEPT_SIZE_MAX {
            // What follows lies in the same memory, and would hold all of it for as long as this stands.
            self.buffer = BytesMut::from(&*self.buffer);
        }
        Ok(Some(Frame {
            more: flags & FLAG_MORE != 0,
            command: flags & FLAG_COMMAND != 0,
            body,
        }))
    }

    /// Flags, size of the head, size of the body.
    fn read_head(&self) -> Result<Option<(u8, usize, usize)>, ZmtpError> {
        let Some((&flags, rest)) = self.buffer.split_first() else {
            return Ok(None);
        };
        let is_command_with_more = flags & FLAG_COMMAND != 0 && flags & FLAG_MORE != 0;
        if flags > FLAG_MORE + FLAG_LONG + FLAG_COMMAND || is_command_with_more {
            return Err(ZmtpError::Flags);
        }
        if flags & FLAG_LONG == 0 {
            return Ok(rest.first().map(|size| (flags, 2, usize::from(*size))));
        }
        let Some(size) = rest.first_chunk() else {
            return Ok(None);
        };
        let size = usize::try_from(u64::from_be_bytes(*size)).map_err(|_| ZmtpError::Size)?;
        Ok(Some((flags, 9, size)))
    }
}

/// A command's name and data: `u8 size ‖ name ‖ data`.
pub fn split_command(body: &[u8]) -> Result<(&[u8], &[u8]), ZmtpError> {
    let (size, rest) = body.split_first().ok_or(ZmtpError::Command)?;
    rest.split_at_checked(usize::from(*size))
        .ok_or(ZmtpError::Command)
}

/// Joins a command from its name, at most 255 bytes, and its data.
pub fn join_command(name: &'static str, data: &[u8]) -> Vec<u8> {
    let size = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[size], name.as_bytes(), data].concat()
}

/// Metadata: `u8 size ‖ name ‖ u32 size ‖ value`, again and again.
pub fn join_metadata<'a>(
    properties: impl IntoIterator<Item = (&'static str, &'a [u8])>,
) -> Vec<u8> {
    let mut output = Vec::new();
    for (name, value) in properties {
        output.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        output.extend_from_slice(name.as_bytes());
        output.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        output.extend_from_slice(value);
    }
    output
}

/// Looks a property up; names do not mind case. Checks all of the metadata on the way.
pub fn find_property<'a>(metadata: &'a [u8], wanted: &str) -> Result<Option<&'a [u8]>, ZmtpError> {
    let mut rest = metadata;
    let mut found = None;
    while !rest.is_empty() {
        let (name, after) = split_command(rest)?;
        let (size, after) = after.split_first_chunk().ok_or(ZmtpError::Command)?;
        let size = usize::try_from(u32::from_be_bytes(*size)).map_err(|_| ZmtpError::Command)?;
        let (value, after) = after.split_at_checked(size).ok_or(ZmtpError::Command)?;
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            found = Some(value);
        }
        rest = after;
    }
    Ok(found)
}

/// Gathers the parts of a message within the limits.
#[derive(Debug, Default)]
pub struct Assembler {
    parts: Vec<Bytes>,
    size: usize,
}

impl Assembler {
    /// Bytes that are held.
    pub const fn held_size(&self) -> usize {
        self.size
    }

    /// Takes a part; gives the message when it was the last.
    pub fn handle_part(
        &mut self,
        part: Bytes,
        more: bool,
    ) -> Result<Option<Vec<Bytes>>, ZmtpError> {
        self.size = self.size.saturating_add(part.len());
        if self.size > MESSAGE_SIZE_MAX {
            return Err(ZmtpError::Size);
        }
        if self.parts.len() >= PART_COUNT_MAX {
            return Err(ZmtpError::PartCount);
        }
        self.parts.push(part);
        if more {
            return Ok(None);
        }
        self.size = 0;
        Ok(Some(core::mem::take(&mut self.parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let mut input = Vec::new();
        let (large, small) = (Bytes::from(vec![7; 4 << 20]), Bytes::from_static(b"small"));
        for body in [&large, &small] {
            let body = body.clone();
            Frame {
                more: false,
                command: false,
                body,
            }
            .encode(&mut input);
        }
        let mut decoder = Decoder::new();
        // Its last byte is still to come.
        let (early, late) = input.split_at(input.len() - 1);
        decoder.handle_bytes(early);
        assert_eq!(
            decoder.poll_frame(MESSAGE_SIZE_MAX).unwrap().unwrap().body,
            large
        );
        assert_eq!(decoder.poll_frame(MESSAGE_SIZE_MAX), Ok(None));
        assert_eq!(decoder.held_size(), 2 + small.len() - 1);
        assert!(decoder.buffer.try_reclaim(0) && decoder.buffer.capacity() < 1 << 10);
        decoder.handle_bytes(late);
        assert_eq!(
            decoder.poll_frame(MESSAGE_SIZE_MAX).unwrap().unwrap().body,
            small
        );
        assert_eq!(decoder.held_size(), 0);
    }

    #[test]
    fn greetings_are_64_bytes_and_checked() {
        let greeting = greeting(true);
        assert_eq!(&greeting[10..12], &[3, 1]);
        assert_eq!((&greeting[12..18], greeting[32]), (&b"CURVE\0"[..], 1));
        assert_eq!(check_greeting(&greeting), Ok(()));
        let change = |index: usize, byte| {
            let mut changed = greeting;
            changed[index] = byte;
            check_greeting(&changed)
        };
        assert_eq!(change(0, 0), Err(ZmtpError::Greeting));
        assert_eq!(change(9, 0), Err(ZmtpError::Greeting));
        assert_eq!(change(10, 2), Err(ZmtpError::Greeting));
        assert_eq!(change(11, 0), Ok(()), "minor versions are compatible");
        assert_eq!(change(12, b'N'), Err(ZmtpError::Mechanism));
    }

    #[test]
    fn frames_of_all_sizes_survive_any_cut() {
        let sizes = [0, 1, 255, 256, 70_000];
        let frames: Vec<Frame> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| Frame {
                more: index % 2 == 0,
                command: false,
                body: vec![7; *size].into(),
            })
            .chain([Frame {
                more: false,
                command: true,
                body: Bytes::from_static(b"\x04PING"),
            }])
            .collect();
        let mut stream = Vec::new();
        for frame in &frames {
            frame.encode(&mut stream);
        }
        for cut in [1, 3, 254, 4096, stream.len()] {
            let mut decoder = Decoder::new();
            let mut decoded = Vec::new();
            for chunk in stream.chunks(cut) {
                decoder.handle_bytes(chunk);
                while let Some(frame) = decoder.poll_frame(100_000).unwrap() {
                    decoded.push(frame);
                }
            }
            assert_eq!(decoded, frames, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_announced_too_large_is_refused_before_it_arrives() {
        let mut decoder = Decoder::new();
        decoder.handle_bytes(&[FLAG_LONG, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(decoder.poll_frame(255), Err(ZmtpError::Size));
        let mut decoder = Decoder::new();
        decoder.handle_bytes(&[FLAG_LONG, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(decoder.poll_frame(usize::MAX - 9), Err(ZmtpError::Size));
        for flags in [8, 5, 7, 255] {
            let mut decoder = Decoder::new();
            decoder.handle_bytes(&[flags, 0]);
            assert_eq!(decoder.poll_frame(255), Err(ZmtpError::Flags), "{flags}");
        }
    }

    #[test]
    fn commands_and_metadata_are_read_as_they_are_written() {
        let metadata = join_metadata([("Socket-Type", &b"DEALER"[..]), ("Identity", b"")]);
        let command = join_command("READY", &metadata);
        let (name, data) = split_command(&command).unwrap();
        assert_eq!(name, b"READY");
        assert_eq!(find_property(data, "socket-type"), Ok(Some(&b"DEALER"[..])));
        assert_eq!(find_property(data, "Identity"), Ok(Some(&b""[..])));
        assert_eq!(find_property(data, "Resource"), Ok(None));
        for cut in 1..data.len() {
            // Between two properties the metadata is whole.
            let result = find_property(&data[..cut], "Identity");
            assert!(result.is_err() || result == Ok(None), "{cut}");
        }
        assert_eq!(split_command(b""), Err(ZmtpError::Command));
        assert_eq!(split_command(b"\x05READ"), Err(ZmtpError::Command));
    }

    #[test]
    fn messages_are_bounded_in_parts_and_bytes() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.handle_part(Bytes::new(), true), Ok(None));
        let message = assembler.handle_part(Bytes::new(), false).unwrap().unwrap();
        assert_eq!(message.len(), 2);
        for _ in 0..PART_COUNT_MAX {
            assert_eq!(assembler.handle_part(Bytes::new(), true), Ok(None));
        }
        assert_eq!(
            assembler.handle_part(Bytes::new(), true),
            Err(ZmtpError::PartCount)
        );
        let large = Bytes::from(vec![0; MESSAGE_SIZE_MAX]);
        let mut assembler = Assembler::default();
        assert_eq!(assembler.handle_part(large, true), Ok(None));
        assert_eq!(
            assembler.handle_part(Bytes::from_static(b"x"), true),
            Err(ZmtpError::Size)
        );
    }
}
