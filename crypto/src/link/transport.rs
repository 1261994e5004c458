//! The keys of a link's frames, and how long they are used.

use cepa_wire::Timestamp;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE, LINK_TAG_SIZE, split_mut};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader, SEALED_PACKET_SIZE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

use super::window::{CounterWindow, WORD_COUNT};
use super::{
    KEEP_ALIVE_SIZE, REJECT_AFTER, REJECT_AFTER_COUNT, REKEY_AFTER, REKEY_AFTER_AS_RESPONDER,
    REKEY_AFTER_COUNT,
};
use crate::primitive::OpenError;

/// The keys are too old, or have sealed too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("keys of the link are spent")]
pub struct KeysSpent;

/// Why a frame of a link was not taken. Nothing has changed but its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameRefused {
    /// The keys are too old.
    #[error("keys of the link are spent")]
    Spent,
    /// Its counter was seen, or is too far behind.
    #[error("frame was seen before")]
    Replayed,
    /// It does not open: forged, changed, or of other keys.
    #[error("frame does not open")]
    BadTag,
}

/// What an opened frame says beside its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its counter is above all before: whoever sent it is where it came from.
    pub is_newest: bool,
}

/// AES-256-GCM with the nonce of Noise: four zero bytes and the counter, big endian. Overwritten when
/// dropped; never printed.
pub(super) struct AeadKey(LessSafeKey);

impl AeadKey {
    #[expect(
        clippy::expect_used,
        reason = "the key has the size that the cipher asks for"
    )]
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are a key"),
        ))
    }

    /// Seals in place and gives the tag.
    pub(super) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; LINK_TAG_SIZE] {
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), text);
        let tag = sealed.ok().and_then(|tag| tag.as_ref().try_into().ok());
        // ring refuses only what is larger than 64 GiB.
        tag.unwrap_or_else(|| unreachable!("a text below the limit is sealed"))
    }

    /// Opens a text that its tag follows.
    pub(super) fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        self.0
            .open_in_place(nonce(counter), Aad::from(aad), sealed)
            .map_err(|_| OpenError)
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // ring erases nothing, but its keys have no memory elsewhere: another key takes the place.
        if let Ok(zero) = UnboundKey::new(&AES_256_GCM, &[0; 32]) {
            self.0 = LessSafeKey::new(zero);
            core::hint::black_box(&self.0);
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    *split_mut::<4, 8, 12>(&mut bytes).1 = counter.to_be_bytes();
    Nonce::assume_unique_for_key(bytes)
}

/// The keys of both directions. Zeroized when dropped; never printed.
pub struct LinkKeys {
    sealing: AeadKey,
    opening: AeadKey,
    /// The peer's number of the link.
    peer_index: u32,
    counter: u64,
    window: CounterWindow<WORD_COUNT>,
    born: Timestamp,
    is_initiator: bool,
}

impl LinkKeys {
    pub(super) fn new(
        [sealing, opening]: [&[u8; 32]; 2],
        peer_index: u32,
        born: Timestamp,
        is_initiator: bool,
    ) -> Self {
        Self {
            sealing: AeadKey::new(sealing),
            opening: AeadKey::new(opening),
            peer_index,
            counter: 0,
            window: CounterWindow::new(),
            born,
            is_initiator,
        }
    }

    /// Seals the packet that stands at [`LINK_HEADER_SIZE`] in the datagram, in place: writes the header
    /// before it and the tag behind it.
    pub fn seal(
        &mut self,
        now: Timestamp,
        datagram: &mut [u8; DATAGRAM_SIZE],
    ) -> Result<(), KeysSpent> {
        let header = self.next_header(now, FrameType::Data)?;
        let (head, sealed) =
            split_mut::<LINK_HEADER_SIZE, SEALED_PACKET_SIZE, DATAGRAM_SIZE>(datagram);
        *head = header.encode();
        let (packet, tag) =
            split_mut::<{ SEALED_PACKET_SIZE - LINK_TAG_SIZE }, LINK_TAG_SIZE, SEALED_PACKET_SIZE>(
                sealed,
            );
        *tag = self.sealing.seal(header.counter, head, packet);
        Ok(())
    }

    /// Seals a frame without a packet: the first of an initiator that has nothing else to send, from which
    /// the responder learns that both have the keys.
    pub fn keep_alive(&mut self, now: Timestamp) -> Result<[u8; KEEP_ALIVE_SIZE], KeysSpent> {
        let header = self.next_header(now, FrameType::KeepAlive)?;
        let mut frame = [0; KEEP_ALIVE_SIZE];
        let (head, tag) = split_mut::<LINK_HEADER_SIZE, LINK_TAG_SIZE, KEEP_ALIVE_SIZE>(&mut frame);
        *head = header.encode();
        *tag = self.sealing.seal(header.counter, head, &mut []);
        Ok(frame)
    }

    /// Opens a data frame or a keep-alive in place, whose header was parsed: the packet stands behind the
    /// header, or nothing does.
    pub fn open(
        &mut self,
        now: Timestamp,
        header: &LinkHeader,
        datagram: &mut [u8],
    ) -> Result<Opened, FrameRefused> {
        if self.is_dead(now) || header.counter >= REJECT_AFTER_COUNT {
            return Err(FrameRefused::Spent);
        }
        if !self.window.is_fresh(header.counter) {
            return Err(FrameRefused::Replayed);
        }
        let (head, sealed) = datagram
            .split_at_mut_checked(LINK_HEADER_SIZE)
            .ok_or(FrameRefused::BadTag)?;
        self.opening
            .open(header.counter, head, sealed)
            .map_err(|_| FrameRefused::BadTag)?;
        let is_newest = self.window.is_newest(header.counter);
        self.window.insert(header.counter);
        Ok(Opened { is_newest })
    }

    /// Whether we should begin a handshake for new keys: when they are used, and these are old or have
    /// sealed much.
    pub fn should_rekey(&self, now: Timestamp) -> bool {
        let age_max = if self.is_initiator {
            REKEY_AFTER
        } else {
            REKEY_AFTER_AS_RESPONDER
        };
        self.counter >= REKEY_AFTER_COUNT || self.age_reaches(now, age_max)
    }

    /// Whether they are too old for anything.
    pub fn is_dead(&self, now: Timestamp) -> bool {
        self.age_reaches(now, REJECT_AFTER)
    }

    /// Whether we began the handshake.
    pub const fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    /// When they were agreed on.
    pub const fn born(&self) -> Timestamp {
        self.born
    }

    fn age_reaches(&self, now: Timestamp, age: core::time::Duration) -> bool {
        now.saturating_since(self.born) >= age
    }

    fn next_header(
        &mut self,
        now: Timestamp,
        frame_type: FrameType,
    ) -> Result<LinkHeader, KeysSpent> {
        if self.is_dead(now) || self.counter >= REJECT_AFTER_COUNT {
            return Err(KeysSpent);
        }
        let header = LinkHeader {
            frame_type,
            receiver_index: self.peer_index,
            counter: self.counter,
        };
        self.counter += 1;
        Ok(header)
    }

    /// For tests: as if so many frames were sealed.
    #[doc(hidden)]
    pub const fn set_counter(&mut self, counter: u64) {
        self.counter = counter;
    }
}
