//! The two messages of a handshake.

use blake3::Hasher;
use cepa_wire::packet::ClientId;
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::geometry::{LINK_HEADER_SIZE, split, split_mut};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};
use cepa_wire::{Timestamp, X25519PublicKey};
use snow::HandshakeState;
use zeroize::{Zeroize as _, Zeroizing};

use super::cookie::{Cookie, MAC_SIZE, MacKey};
use super::kem::{KEM_CIPHERTEXT_SIZE, KemKeys, encapsulate};
use super::transport::LinkKeys;
use super::{HandshakeError, INITIATION_SIZE, LinkIdentity, LinkRole, RESPONSE_SIZE, Stamp, noise};

const INDEX_SIZE: usize = 4;
const TAG_SIZE: usize = 16;
const KEY_SIZE: usize = 32;

/// Ciphertext, stamp, role and three zero bytes.
const PAYLOAD_1_SIZE: usize = KEM_CIPHERTEXT_SIZE + TAIL_SIZE;
const TAIL_SIZE: usize = 12;
/// Ephemeral key, sealed static key, sealed payload.
const NOISE_1_SIZE: usize = KEY_SIZE + (KEY_SIZE + TAG_SIZE) + (PAYLOAD_1_SIZE + TAG_SIZE);
/// All of an initiation that its mac covers.
const SIGNED_1_SIZE: usize = LINK_HEADER_SIZE + INDEX_SIZE + NOISE_1_SIZE;

/// Index and client id.
const PAYLOAD_2_SIZE: usize = INDEX_SIZE + 16;
/// Ephemeral key, sealed payload.
const NOISE_2_SIZE: usize = KEY_SIZE + (PAYLOAD_2_SIZE + TAG_SIZE);
const SIGNED_2_SIZE: usize = LINK_HEADER_SIZE + NOISE_2_SIZE;

const _: () = {
    assert!(SIGNED_1_SIZE + MAC_SIZE == INITIATION_SIZE && INITIATION_SIZE <= 1232);
    assert!(SIGNED_2_SIZE + MAC_SIZE == RESPONSE_SIZE);
};

const PROLOGUE_SIZE: usize = 16;

/// What both sides hash before their keys: a name, and the index, which stands in the clear.
fn prologue(sender_index: u32) -> [u8; PROLOGUE_SIZE] {
    let mut bytes = *b"cepa link 1:____";
    *split_mut::<12, INDEX_SIZE, PROLOGUE_SIZE>(&mut bytes).1 = sender_index.to_le_bytes();
    bytes
}

/// An initiation as its parts, of which none is verified.
pub(super) struct InitiationFrame<'a> {
    pub(super) sender_index: u32,
    pub(super) signed: &'a [u8; SIGNED_1_SIZE],
    pub(super) mac: &'a [u8; MAC_SIZE],
    noise: &'a [u8; NOISE_1_SIZE],
}

impl<'a> InitiationFrame<'a> {
    pub(super) fn view(datagram: &'a [u8; INITIATION_SIZE]) -> Self {
        let (signed, mac) = split::<SIGNED_1_SIZE, MAC_SIZE, INITIATION_SIZE>(datagram);
        let (_, rest) =
            split::<LINK_HEADER_SIZE, { INDEX_SIZE + NOISE_1_SIZE }, SIGNED_1_SIZE>(signed);
        let (index, noise) = split::<INDEX_SIZE, NOISE_1_SIZE, { INDEX_SIZE + NOISE_1_SIZE }>(rest);
        Self {
            sender_index: u32::from_le_bytes(*index),
            signed,
            mac,
            noise,
        }
    }

    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, HandshakeError> {
        datagram
            .try_into()
            .map(Self::view)
            .map_err(|_| HandshakeError::Size)
    }
}

/// The responder's keys, as its descriptor has them.
#[derive(Clone, Copy)]
pub struct PeerKeys<'a> {
    /// The link key.
    pub link: &'a X25519PublicKey,
    /// The ML-KEM key.
    pub kem: &'a [u8; KEM_KEY_SIZE],
}

/// What an initiation says.
#[derive(Clone, Copy)]
pub struct Start {
    /// Our number of the link.
    pub index: u32,
    /// Above those of all that we sent with this link key.
    pub stamp: Stamp,
    /// What the responder asked to be shown, not older than [`super::COOKIE_AGE_MAX`].
    pub cookie: Option<Cookie>,
}

/// An initiation that waits for its answer. Zeroized when dropped but for what `snow` leaves, which is of no
/// use alone; never printed.
pub struct Initiation {
    state: Box<HandshakeState>,
    export: Zeroizing<[u8; 32]>,
    peer: MacKey,
    mac: [u8; MAC_SIZE],
}

/// What the initiator has agreed on.
pub struct Established {
    /// The keys.
    pub keys: LinkKeys,
    /// Our id at this guard; zeros when we are a relay.
    pub client_id: ClientId,
}

impl Initiation {
    /// Writes an initiation. `random` are an ephemeral key and a message of ML-KEM. Three
    /// multiplications, two Diffie-Hellmans and an encapsulation.
    pub fn start(
        identity: &LinkIdentity,
        peer: PeerKeys<'_>,
        given: &Start,
        mut random: [u8; 64],
        datagram: &mut [u8; INITIATION_SIZE],
    ) -> Result<Self, HandshakeError> {
        let (ephemeral, message) = split::<32, 32, 64>(&random);
        let (ciphertext, kem) = encapsulate(peer.kem, *message)?;
        let ends = (&identity.secret, peer.link);
        let state = noise::initiator(ends, &kem.psk, &prologue(given.index), *ephemeral);
        let mut state = state.map_err(|_| HandshakeError::BadTag)?;
        random.zeroize();

        let mut payload = [0; PAYLOAD_1_SIZE];
        let (room, tail) =
            split_mut::<KEM_CIPHERTEXT_SIZE, TAIL_SIZE, PAYLOAD_1_SIZE>(&mut payload);
        *room = ciphertext;
        let (stamp, role) = split_mut::<8, 4, TAIL_SIZE>(tail);
        *stamp = given.stamp.0.to_le_bytes();
        *role = [identity.role() as u8, 0, 0, 0];

        let (signed, mac_room) = split_mut::<SIGNED_1_SIZE, MAC_SIZE, INITIATION_SIZE>(datagram);
        let (head, rest) =
            split_mut::<LINK_HEADER_SIZE, { INDEX_SIZE + NOISE_1_SIZE }, SIGNED_1_SIZE>(signed);
        let (index, noise) =
            split_mut::<INDEX_SIZE, NOISE_1_SIZE, { INDEX_SIZE + NOISE_1_SIZE }>(rest);
        *head = header(FrameType::HandshakeInit, 0);
        *index = given.index.to_le_bytes();
        // Nothing but a weak key of the peer fails here.
        state
            .write_message(&payload, noise)
            .map_err(|_| HandshakeError::BadTag)?;
        let peer = MacKey::new(peer.link);
        let mac = peer.mac(signed, given.cookie.as_ref());
        *mac_room = mac;
        Ok(Self {
            state: Box::new(state),
            export: kem.export,
            peer,
            mac,
        })
    }

    /// Reads the answer. After an error it still waits: anybody may send something else. After a success
    /// it is done, and is to be dropped. Two Diffie-Hellmans, once the mac has verified.
    pub fn read_response(
        &mut self,
        identity: &LinkIdentity,
        now: Timestamp,
        datagram: &[u8],
    ) -> Result<Established, HandshakeError> {
        let datagram: &[u8; RESPONSE_SIZE] =
            datagram.try_into().map_err(|_| HandshakeError::Size)?;
        let (signed, mac) = split::<SIGNED_2_SIZE, MAC_SIZE, RESPONSE_SIZE>(datagram);
        identity.mac_key.verify(signed, mac)?;
        let (_, noise) = split::<LINK_HEADER_SIZE, NOISE_2_SIZE, SIGNED_2_SIZE>(signed);
        let mut payload = [0; PAYLOAD_2_SIZE];
        self.state
            .read_message(noise, &mut payload)
            .map_err(|_| HandshakeError::BadTag)?;
        let (index, id) = split::<INDEX_SIZE, 16, PAYLOAD_2_SIZE>(&payload);
        let [sealing, opening] = split_keys(&mut self.state, &self.export);
        let index = u32::from_le_bytes(*index);
        Ok(Established {
            keys: LinkKeys::new([&sealing, &opening], index, now, true),
            client_id: ClientId(*id),
        })
    }

    /// Reads the cookie that a responder under load answered.
    pub fn read_cookie(&self, datagram: &[u8]) -> Result<Cookie, HandshakeError> {
        self.peer.read_cookie(datagram, &self.mac)
    }
}

/// An initiation whose sender has proven its key. Zeroized when dropped but for what `snow` leaves, which is
/// of no use alone; never printed.
pub struct ReceivedInitiation {
    state: Box<HandshakeState>,
    ciphertext: Box<[u8; KEM_CIPHERTEXT_SIZE]>,
    sender_index: u32,
    peer: X25519PublicKey,
    role: LinkRole,
    stamp: Stamp,
}

impl LinkIdentity {
    /// Reads an initiation whose mac was looked at with [`Self::check_mac`]. `random` is an ephemeral
    /// key. A multiplication and two Diffie-Hellmans.
    pub fn read_initiation(
        &self,
        datagram: &[u8; INITIATION_SIZE],
        random: [u8; 32],
    ) -> Result<ReceivedInitiation, HandshakeError> {
        if self.kem.is_none() {
            return Err(HandshakeError::NotResponder);
        }
        let frame = InitiationFrame::view(datagram);
        let state = noise::responder(&self.secret, &prologue(frame.sender_index), random);
        let mut state = state.map_err(|_| HandshakeError::BadTag)?;
        let mut payload = [0; PAYLOAD_1_SIZE];
        state
            .read_message(frame.noise, &mut payload)
            .map_err(|_| HandshakeError::BadTag)?;
        let (ciphertext, tail) = split::<KEM_CIPHERTEXT_SIZE, TAIL_SIZE, PAYLOAD_1_SIZE>(&payload);
        let (stamp, role) = split::<8, 4, TAIL_SIZE>(tail);
        let role = match role {
            [1, 0, 0, 0] => LinkRole::Relay,
            [2, 0, 0, 0] => LinkRole::Client,
            _ => return Err(HandshakeError::BadPayload),
        };
        let peer = state
            .get_remote_static()
            .and_then(X25519PublicKey::from_slice);
        Ok(ReceivedInitiation {
            ciphertext: Box::new(*ciphertext),
            sender_index: frame.sender_index,
            peer: peer.ok_or(HandshakeError::BadTag)?,
            role,
            stamp: Stamp(u64::from_le_bytes(*stamp)),
            state: Box::new(state),
        })
    }
}

impl ReceivedInitiation {
    /// The key that its sender has proven.
    pub const fn peer(&self) -> &X25519PublicKey {
        &self.peer
    }

    /// What its sender says that it is.
    pub const fn role(&self) -> LinkRole {
        self.role
    }

    /// When it was made. One that is not above the last of the same key is a replay.
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Answers: decapsulates and writes the response, with our number of the link and the client's id (zeros
    /// for a relay). The keys may be sent with only when a frame has come under them. A decapsulation, a
    /// multiplication and two Diffie-Hellmans.
    pub fn respond(
        mut self,
        identity: &LinkIdentity,
        (index, client_id): (u32, ClientId),
        now: Timestamp,
        datagram: &mut [u8; RESPONSE_SIZE],
    ) -> Result<LinkKeys, HandshakeError> {
        let kem = identity.kem.as_ref().ok_or(HandshakeError::NotResponder)?;
        let KemKeys { psk, export } = kem.decapsulate(&self.ciphertext);
        self.state
            .set_psk(2, psk.as_slice())
            .map_err(|_| HandshakeError::BadTag)?;
        let mut payload = [0; PAYLOAD_2_SIZE];
        let (index_room, id) = split_mut::<INDEX_SIZE, 16, PAYLOAD_2_SIZE>(&mut payload);
        (*index_room, *id) = (index.to_le_bytes(), client_id.0);

        let (signed, mac) = split_mut::<SIGNED_2_SIZE, MAC_SIZE, RESPONSE_SIZE>(datagram);
        let (head, noise) = split_mut::<LINK_HEADER_SIZE, NOISE_2_SIZE, SIGNED_2_SIZE>(signed);
        *head = header(FrameType::HandshakeResponse, self.sender_index);
        // Nothing but a weak ephemeral key of the peer fails here.
        self.state
            .write_message(&payload, noise)
            .map_err(|_| HandshakeError::BadTag)?;
        *mac = MacKey::new(&self.peer).mac(signed, None);
        let [opening, sealing] = split_keys(&mut self.state, &export);
        let keys = [&*sealing, &*opening];
        Ok(LinkKeys::new(keys, self.sender_index, now, false))
    }
}

fn header(frame_type: FrameType, receiver_index: u32) -> [u8; LINK_HEADER_SIZE] {
    LinkHeader {
        frame_type,
        receiver_index,
        counter: 0,
    }
    .encode()
}

/// The keys of the initiator's frames and of the responder's.
fn split_keys(state: &mut HandshakeState, export: &[u8; 32]) -> [Zeroizing<[u8; 32]>; 2] {
    let (mut first, mut second) = state.dangerously_get_raw_split();
    let keys = [&first, &second].map(|key| {
        let mut hasher = Hasher::new_keyed(export);
        hasher.update(key);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        hasher.zeroize();
        key
    });
    first.zeroize();
    second.zeroize();
    keys
}
