//! What a client does: packets for a path, layer by layer from the last hop to the first.
//!
//! Randomness comes from the caller: a function that fills a slice with bytes nobody can guess.

use cepa_wire::X25519PublicKey;
use cepa_wire::packet::geometry::{
    CONTENT_SIZE, DELAY_MAX, HEADER_SIZE, HEADER_STREAM_SIZE, HOP_COUNT_MAX, HOP_HEADER_SIZE,
    PAYLOAD_KEY_SIZE, PAYLOAD_SIZE, ROUTING_BLOCK_SIZE, SEALED_REST_SIZE, SEALED_SIZE,
    ZERO_PREFIX_SIZE, split, split_mut,
};
use cepa_wire::packet::{Command, HeaderBytes, PacketBytes, RelayId, RoutingBlock};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::keys::LayerKeys;
use super::{hctr2, header};
use crate::X25519SecretKey;

/// A relay on a path, with its key of the epoch that the packet shall arrive in.
#[derive(Clone, Copy)]
pub struct PathHop {
    /// Its id.
    pub relay: RelayId,
    /// Its hop key.
    pub key: X25519PublicKey,
    /// How long it shall hold the packet before it does what it is told.
    pub delay_ms: u32,
}

/// A packet and where it goes first.
pub struct BuiltPacket {
    /// The relay that it is sent to.
    pub first: RelayId,
    /// The packet.
    pub bytes: PacketBytes,
}

/// Why a packet can't be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A path has 1 to [`HOP_COUNT_MAX`] relays.
    #[error("path is empty or too long")]
    PathLength,
    /// A delay is above [`DELAY_MAX`].
    #[error("delay is too long")]
    Delay,
    /// A hop key is of low order.
    #[error("hop key is of low order")]
    WeakKey,
    /// The content has more than [`CONTENT_SIZE`] bytes.
    #[error("content is too large")]
    ContentSize,
}

/// Keys of the payload, the first hop's first; zeros behind the path's end.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct PayloadKeys {
    keys: [[u8; PAYLOAD_KEY_SIZE]; HOP_COUNT_MAX],
    count: usize,
}

impl PayloadKeys {
    /// Applies the permutation of each hop, the last hop's first. Then every hop takes its own off; and
    /// what all hops took off without that they were there, this puts back.
    pub(super) fn apply(&self, payload: &mut [u8; PAYLOAD_SIZE]) {
        for key in self.keys.iter().take(self.count).rev() {
            hctr2::encrypt(key, payload);
        }
    }
}

/// A header for a path, and what its maker knows of it.
pub(super) struct BuiltHeader {
    pub(super) first: RelayId,
    pub(super) bytes: HeaderBytes,
    /// What is left of the header when the last hop took its layer off.
    pub(super) left: HeaderBytes,
    pub(super) keys: PayloadKeys,
}

/// Builds a packet whose last hop delivers `content`, filled up with zeros.
///
/// The same relay may stand on a path more than once; whether that is wise is for the caller to say.
pub fn build(
    path: &[PathHop],
    content: &[u8],
    random: &mut impl FnMut(&mut [u8]),
) -> Result<BuiltPacket, BuildError> {
    let mut payload = payload_of(content)?;
    let header = build_header(path, Command::Deliver, random)?;
    header.keys.apply(&mut payload);
    Ok(join(header.first, &header.bytes, &payload))
}

/// Zero prefix, content, zeros.
pub(super) fn payload_of(content: &[u8]) -> Result<[u8; PAYLOAD_SIZE], BuildError> {
    let mut payload = [0; PAYLOAD_SIZE];
    let (_, place) = split_mut::<ZERO_PREFIX_SIZE, CONTENT_SIZE, PAYLOAD_SIZE>(&mut payload);
    let place = place.get_mut(..content.len());
    place
        .ok_or(BuildError::ContentSize)?
        .copy_from_slice(content);
    Ok(payload)
}

pub(super) fn join(
    first: RelayId,
    header: &HeaderBytes,
    payload: &[u8; PAYLOAD_SIZE],
) -> BuiltPacket {
    let mut bytes = [0; HEADER_SIZE + PAYLOAD_SIZE];
    let (begin, end) = split_mut::<HEADER_SIZE, PAYLOAD_SIZE, _>(&mut bytes);
    (*begin, *end) = (*header, *payload);
    BuiltPacket { first, bytes }
}

/// One hop's layer before it is encrypted.
struct Layer {
    ephemeral: X25519PublicKey,
    keys: LayerKeys,
    /// Key stream of its whole header text.
    stream: Zeroizing<[u8; HEADER_STREAM_SIZE]>,
    block: [u8; ROUTING_BLOCK_SIZE],
}

impl Layer {
    fn new(
        hop: &PathHop,
        command: Command,
        random: &mut impl FnMut(&mut [u8]),
    ) -> Result<Self, BuildError> {
        let block = RoutingBlock::new(command, hop.delay_ms);
        if block.delay() > DELAY_MAX {
            return Err(BuildError::Delay);
        }
        let mut secret = Zeroizing::new([0; 32]);
        random(secret.as_mut_slice());
        let secret = X25519SecretKey::from_bytes(*secret);
        let ephemeral = secret.public_key();
        let shared = secret.diffie_hellman(&hop.key);
        let shared = shared.map_err(|_| BuildError::WeakKey)?;
        let keys = LayerKeys::derive(&shared, &ephemeral, hop.relay);
        let mut stream = Zeroizing::new([0; HEADER_STREAM_SIZE]);
        header::apply_stream(&keys.stream, &mut stream);
        Ok(Self {
            ephemeral,
            keys,
            stream,
            block: block.encode(),
        })
    }

    /// The header text with this hop's stream over it.
    fn encrypt(&self, rest: &HeaderBytes) -> [u8; HEADER_STREAM_SIZE] {
        let mut text = *self.stream;
        let (block, after) =
            split_mut::<ROUTING_BLOCK_SIZE, HEADER_SIZE, HEADER_STREAM_SIZE>(&mut text);
        xor(block, &self.block);
        xor(after, rest);
        text
    }

    /// The header of this hop whose sealed part is given.
    fn header(&self, sealed: &[u8; SEALED_SIZE]) -> HeaderBytes {
        let mut bytes = [0; HEADER_SIZE];
        let (begin, place) = split_mut::<48, SEALED_SIZE, HEADER_SIZE>(&mut bytes);
        let (ephemeral, tag) = split_mut::<32, 16, 48>(begin);
        *ephemeral = self.ephemeral.0;
        *tag = header::tag(&self.keys.tag, sealed);
        *place = *sealed;
        bytes
    }
}

/// Builds the header of a path whose last hop is told `last`.
pub(super) fn build_header(
    path: &[PathHop],
    last: Command,
    random: &mut impl FnMut(&mut [u8]),
) -> Result<BuiltHeader, BuildError> {
    let first = path.first().ok_or(BuildError::PathLength)?.relay;
    if path.len() > HOP_COUNT_MAX {
        return Err(BuildError::PathLength);
    }
    let next = path.iter().skip(1).map(|hop| Command::Forward(hop.relay));
    let commands = next.chain([last]);
    let layers = path
        .iter()
        .zip(commands)
        .map(|(hop, command)| Layer::new(hop, command, random))
        .collect::<Result<Vec<_>, _>>()?;
    let mut keys = PayloadKeys {
        keys: [[0; PAYLOAD_KEY_SIZE]; HOP_COUNT_MAX],
        count: path.len(),
    };
    for (key, layer) in keys.keys.iter_mut().zip(&layers) {
        *key = layer.keys.payload;
    }
    let (bytes, left) = encrypt_layers(&layers, random);
    Ok(BuiltHeader {
        first,
        bytes,
        left,
        keys,
    })
}

/// The whole header, and what is left of it behind the last hop.
fn encrypt_layers(
    layers: &[Layer],
    random: &mut impl FnMut(&mut [u8]),
) -> (HeaderBytes, HeaderBytes) {
    let filler = filler(layers);
    let mut layers = layers.iter().rev();
    let Some(last) = layers.next() else {
        unreachable!("a path has a hop");
    };
    // What the last hop finds behind its block: random bytes, and at the end what the hops before it
    // append, under its own stream. Nothing of it tells it how many there were.
    let mut rest = [0; HEADER_SIZE];
    random(&mut rest);
    let mut text = last.encrypt(&rest);
    let (sealed, appended) = split_mut::<SEALED_SIZE, HOP_HEADER_SIZE, _>(&mut text);
    sealed
        .iter_mut()
        .rev()
        .zip(filler.iter().rev())
        .for_each(|(byte, filler)| *byte = *filler);
    appended.fill(0);
    let sealed = *sealed;
    xor(&mut text, &*last.stream);
    let (_, left) = split::<ROUTING_BLOCK_SIZE, HEADER_SIZE, _>(&text);
    let mut header = last.header(&sealed);
    for layer in layers {
        // Of the next header this hop is sent all but the last 72 bytes: these it appends.
        let text = layer.encrypt(&header);
        let (sealed, _) = split::<SEALED_SIZE, HOP_HEADER_SIZE, _>(&text);
        header = layer.header(sealed);
    }
    (header, *left)
}

/// The end of the last hop's sealed part: 72 bytes of each hop before it, under the streams of all that
/// they pass. At most the part behind the routing block.
fn filler(layers: &[Layer]) -> Vec<u8> {
    let mut filler = Vec::with_capacity(SEALED_REST_SIZE);
    for layer in layers.iter().rev().skip(1).rev() {
        filler.resize(filler.len() + HOP_HEADER_SIZE, 0);
        let stream = layer.stream.iter().rev();
        let bytes = filler.iter_mut().rev().zip(stream);
        bytes.for_each(|(byte, stream)| *byte ^= stream);
    }
    filler
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    bytes
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}
