//! What a relay does with a packet, once its link has authenticated it.

use core::borrow::{Borrow, BorrowMut};

use cepa_wire::X25519PublicKey;
use cepa_wire::packet::epoch::Epoch;
use cepa_wire::packet::geometry::{
    HEADER_SIZE, HEADER_STREAM_SIZE, HOP_HEADER_SIZE, PACKET_SIZE, PAYLOAD_KEY_SIZE, PAYLOAD_SIZE,
    ROUTING_BLOCK_SIZE, SEALED_SIZE, ZERO_PREFIX_SIZE, split, split_mut,
};
use cepa_wire::packet::{Command, Packet, PacketBytes, RoutingBlock};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::keys::{LayerKeys, ReplayTag};
use super::{HopKey, hctr2, header};
use crate::x25519::{BATCH_MAX, SharedSecret, diffie_hellman_many};

/// Why a packet can't be peeled. It is left as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeelError {
    /// Its key is of low order.
    #[error("ephemeral key is of low order")]
    WeakKey,
    /// The tag does not fit: another key than ours, or a changed header.
    #[error("tag does not fit")]
    BadTag,
    /// Its client asks for what we don't know.
    #[error("routing block is malformed")]
    BadRoutingBlock,
    /// It is for us, and its payload was changed on the way.
    #[error("payload was changed")]
    PayloadTampered,
}

/// A payload that does not begin with zeros when the last layer is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("payload was changed")]
pub struct PayloadTampered;

/// A packet whose tag fits: the keys of its layer. It was not changed yet, so that the replay filter
/// can be asked before it costs more. Zeroized when dropped; never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Opened {
    stream: [u8; 32],
    payload: [u8; PAYLOAD_KEY_SIZE],
    #[zeroize(skip)]
    replay: ReplayTag,
    #[zeroize(skip)]
    epoch: Epoch,
}

/// First step, for one packet.
pub fn open(hop: &HopKey, packet: &PacketBytes) -> Result<Opened, PeelError> {
    let ephemeral = Packet::new(packet).ephemeral_key();
    let mut shared = SharedSecret::default();
    diffie_hellman_many(
        &hop.secret,
        core::slice::from_ref(&ephemeral),
        core::slice::from_mut(&mut shared),
    );
    open_with(hop, packet, &shared)
}

/// First step, for as many packets as both slices have: the Diffie-Hellman of up to [`BATCH_MAX`] at once,
/// then keys and tag of each. What stood in `opened` is overwritten.
pub fn open_many<P: Borrow<PacketBytes>>(
    hop: &HopKey,
    packets: &[P],
    opened: &mut [Result<Opened, PeelError>],
) {
    let mut peers = [X25519PublicKey([0; 32]); BATCH_MAX];
    let mut shared: [SharedSecret; BATCH_MAX] = core::array::from_fn(|_| SharedSecret::default());
    for (packets, opened) in packets.chunks(BATCH_MAX).zip(opened.chunks_mut(BATCH_MAX)) {
        let count = packets.len().min(opened.len());
        for (peer, packet) in peers.iter_mut().zip(packets) {
            *peer = Packet::new(packet.borrow()).ephemeral_key();
        }
        let (peers, shared) = (peers.get(..count), shared.get_mut(..count));
        let (Some(peers), Some(shared)) = (peers, shared) else {
            unreachable!("a chunk has at most as many");
        };
        diffie_hellman_many(&hop.secret, peers, shared);
        for ((opened, packet), shared) in opened.iter_mut().zip(packets).zip(shared) {
            *opened = open_with(hop, packet.borrow(), shared);
        }
    }
}

fn open_with(
    hop: &HopKey,
    packet: &PacketBytes,
    shared: &SharedSecret,
) -> Result<Opened, PeelError> {
    let secret = shared.contributory().map_err(|_| PeelError::WeakKey)?;
    open_with_secret(hop, packet, secret)
}

/// First step, given the secret.
pub(super) fn open_with_secret(
    hop: &HopKey,
    packet: &PacketBytes,
    secret: &[u8; 32],
) -> Result<Opened, PeelError> {
    let packet = Packet::new(packet);
    let keys = LayerKeys::derive(secret, &packet.ephemeral_key(), hop.relay);
    let tag = header::tag(&keys.tag, packet.sealed());
    if !bool::from(tag.as_slice().ct_eq(packet.tag())) {
        return Err(PeelError::BadTag);
    }
    Ok(Opened {
        stream: keys.stream,
        payload: keys.payload,
        replay: ReplayTag(keys.replay),
        epoch: hop.epoch,
    })
}

impl Opened {
    /// What the replay filter of the epoch is asked for.
    pub const fn replay_tag(&self) -> &ReplayTag {
        &self.replay
    }

    /// The epoch of the key that fitted, and of its replay filter.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Second step: takes the layer off the packet that was opened, and no other: of another, nothing
    /// sensible comes. To forward it, or to reply, it is ready as it stands; of one to deliver,
    /// [`Packet::content`] is what came. What is refused is left as it came.
    pub fn peel(self, packet: &mut PacketBytes) -> Result<RoutingBlock, PeelError> {
        let (header, payload) = split_mut::<HEADER_SIZE, PAYLOAD_SIZE, PACKET_SIZE>(packet);
        // Seventy-two zeros behind what is sealed.
        let mut text = [0; HEADER_STREAM_SIZE];
        let (sealed, _) = split_mut::<SEALED_SIZE, HOP_HEADER_SIZE, HEADER_STREAM_SIZE>(&mut text);
        let (_, from) = split::<{ HEADER_SIZE - SEALED_SIZE }, SEALED_SIZE, HEADER_SIZE>(header);
        *sealed = *from;
        header::apply_stream(&self.stream, &mut text);
        let (block, rest) = split::<ROUTING_BLOCK_SIZE, HEADER_SIZE, HEADER_STREAM_SIZE>(&text);
        let block = RoutingBlock::parse(block).map_err(|_| PeelError::BadRoutingBlock)?;
        if block.command == Command::Deliver {
            let mut opened = *payload;
            hctr2::decrypt(&self.payload, &mut opened);
            has_zero_prefix(&opened).map_err(|PayloadTampered| PeelError::PayloadTampered)?;
            *payload = opened;
        } else {
            hctr2::decrypt(&self.payload, payload);
        }
        *header = *rest;
        Ok(block)
    }
}

/// Both steps, without a replay filter: for a relay that has asked it elsewhere, and for tests.
pub fn peel(hop: &HopKey, packet: &mut PacketBytes) -> Result<RoutingBlock, PeelError> {
    open(hop, packet)?.peel(packet)
}

/// [`peel`] of as many packets as both slices have. What stood in `peeled` is overwritten.
pub fn peel_many<P: BorrowMut<PacketBytes>>(
    hop: &HopKey,
    packets: &mut [P],
    peeled: &mut [Result<RoutingBlock, PeelError>],
) {
    let mut opened = [const { Err(PeelError::BadTag) }; BATCH_MAX];
    for (packets, peeled) in packets
        .chunks_mut(BATCH_MAX)
        .zip(peeled.chunks_mut(BATCH_MAX))
    {
        let count = packets.len().min(peeled.len());
        let batch = packets.get(..count).unwrap_or_default();
        open_many(hop, batch, &mut opened);
        for ((opened, packet), peeled) in opened.iter_mut().zip(packets).zip(peeled) {
            let opened = core::mem::replace(opened, Err(PeelError::BadTag));
            *peeled = opened.and_then(|opened| opened.peel(packet.borrow_mut()));
        }
    }
}

/// Whether an opened payload is what its sender wrote. Constant time.
pub(super) fn has_zero_prefix(payload: &[u8; PAYLOAD_SIZE]) -> Result<(), PayloadTampered> {
    let (prefix, _) =
        split::<ZERO_PREFIX_SIZE, { PAYLOAD_SIZE - ZERO_PREFIX_SIZE }, PAYLOAD_SIZE>(payload);
    let zero = bool::from(prefix.as_slice().ct_eq(&[0; ZERO_PREFIX_SIZE]));
    zero.then_some(()).ok_or(PayloadTampered)
}
