//! Every size of the packet lane, and how they hang together.
//!
//! A change here is a new version of the format.

use core::time::Duration;

/// Datagram of a data frame: the least MTU of IPv6 without the headers of IPv6 and UDP, so that no router
/// on the way must cut it.
pub const DATAGRAM_SIZE: usize = 1232;
/// The least MTU of IPv6 (RFC 8200, section 5).
const IPV6_MTU_MIN: usize = 1280;
const IPV6_HEADER_SIZE: usize = 40;
const UDP_HEADER_SIZE: usize = 8;

/// Clear header of every link frame.
pub const LINK_HEADER_SIZE: usize = 16;
/// Tag of a sealed link frame.
pub const LINK_TAG_SIZE: usize = 16;

/// A packet.
pub const PACKET_SIZE: usize = 1200;

/// As many relays as a path may have.
pub const HOP_COUNT_MAX: usize = 5;
/// What a hop takes in the header.
pub const HOP_HEADER_SIZE: usize = 72;
/// The client's X25519 key for one hop.
pub const EPHEMERAL_KEY_SIZE: usize = 32;
/// The tag of one hop.
pub const HOP_TAG_SIZE: usize = 16;
/// What a hop is told to do.
pub const ROUTING_BLOCK_SIZE: usize = 24;
/// The header: as long at every hop.
pub const HEADER_SIZE: usize = HOP_COUNT_MAX * HOP_HEADER_SIZE;
/// The part of the header that the tag covers and the stream encrypts.
pub const SEALED_SIZE: usize = HEADER_SIZE - EPHEMERAL_KEY_SIZE - HOP_TAG_SIZE;
/// The sealed part behind the routing block: what the next hops' header begins with.
pub const SEALED_REST_SIZE: usize = SEALED_SIZE - ROUTING_BLOCK_SIZE;
/// Key stream of a hop: over the sealed part, and over what is appended behind it.
pub const HEADER_STREAM_SIZE: usize = SEALED_SIZE + HOP_HEADER_SIZE;

/// The payload.
pub const PAYLOAD_SIZE: usize = PACKET_SIZE - HEADER_SIZE;
/// Zero bytes before the content, which only an unchanged payload has.
pub const ZERO_PREFIX_SIZE: usize = 16;
/// What the last hop is given.
pub const CONTENT_SIZE: usize = PAYLOAD_SIZE - ZERO_PREFIX_SIZE;

/// Header of a fragment in the content.
pub const FRAGMENT_HEADER_SIZE: usize = 24;
/// Data of a fragment.
pub const FRAGMENT_DATA_SIZE: usize = CONTENT_SIZE - FRAGMENT_HEADER_SIZE;
/// Fragments of a message. A request to store the largest message (76,800 bytes, in base64 some 105 KB)
/// with 100 reply blocks (40,800 bytes) takes 183.
pub const FRAGMENT_COUNT_MAX: usize = 256;
/// The largest message of fragments.
pub const MESSAGE_SIZE_MAX: usize = FRAGMENT_COUNT_MAX * FRAGMENT_DATA_SIZE;

/// The id of a relay, of a client at its guard, and of a message.
pub const RELAY_ID_SIZE: usize = 16;
/// The id of a message of fragments.
pub const MESSAGE_ID_SIZE: usize = 16;
/// What marks a packet as seen.
pub const REPLAY_TAG_SIZE: usize = 16;
/// The key of one payload permutation.
pub const PAYLOAD_KEY_SIZE: usize = 32;
/// A reply block: the first relay, a header, and the key of the replier's permutation. Two stand in
/// one content.
pub const REPLY_BLOCK_SIZE: usize = RELAY_ID_SIZE + HEADER_SIZE + PAYLOAD_KEY_SIZE;

/// The longest delay that a routing block may ask for. A delayed packet holds a frame at the relay, and
/// answers are waited for some seconds only.
pub const DELAY_MAX: Duration = Duration::from_mins(1);

const _: () = {
    assert!(DATAGRAM_SIZE == IPV6_MTU_MIN - IPV6_HEADER_SIZE - UDP_HEADER_SIZE);
    assert!(DATAGRAM_SIZE == LINK_HEADER_SIZE + PACKET_SIZE + LINK_TAG_SIZE);
    assert!(HOP_HEADER_SIZE == EPHEMERAL_KEY_SIZE + HOP_TAG_SIZE + ROUTING_BLOCK_SIZE);
    assert!(HEADER_SIZE == 360 && SEALED_SIZE == 312 && SEALED_REST_SIZE == 288);
    // What a hop cuts off is what it appended: the header keeps its size.
    assert!(HEADER_STREAM_SIZE - ROUTING_BLOCK_SIZE == HEADER_SIZE);
    // Whole blocks of AES.
    assert!(HEADER_STREAM_SIZE.is_multiple_of(16));
    assert!(PAYLOAD_SIZE == 840 && CONTENT_SIZE == 824 && FRAGMENT_DATA_SIZE == 800);
    assert!(REPLY_BLOCK_SIZE == 408 && CONTENT_SIZE / REPLY_BLOCK_SIZE == 2);
    // Indices are of two bytes, a message's size of three.
    assert!(FRAGMENT_COUNT_MAX <= u16::MAX as usize && MESSAGE_SIZE_MAX < 1 << 24);
};

/// Splits an array in two. That the sizes add up is checked by the compiler.
pub fn split<const A: usize, const B: usize, const ALL: usize>(
    bytes: &[u8; ALL],
) -> (&[u8; A], &[u8; B]) {
    const { assert!(A + B == ALL, "the parts are the whole") };
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (first, last),
        _ => unreachable!("both parts are shorter than the whole"),
    }
}

/// Splits an array in two, to be written.
pub fn split_mut<const A: usize, const B: usize, const ALL: usize>(
    bytes: &mut [u8; ALL],
) -> (&mut [u8; A], &mut [u8; B]) {
    const { assert!(A + B == ALL, "the parts are the whole") };
    let (first, rest) = bytes.split_at_mut(A);
    match (first.first_chunk_mut(), rest.first_chunk_mut()) {
        (Some(first), Some(last)) => (first, last),
        _ => unreachable!("both parts are as long as asked for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_should_be() {
        let mut bytes = [1_u8, 2, 3, 4, 5];
        assert_eq!(split::<2, 3, 5>(&bytes), (&[1, 2], &[3, 4, 5]));
        let (first, last) = split_mut::<2, 3, 5>(&mut bytes);
        (first[1], last[0]) = (7, 8);
        assert_eq!(bytes, [1, 7, 8, 4, 5]);
        assert_eq!(split::<0, 5, 5>(&bytes), (&[], &bytes));
    }
}
