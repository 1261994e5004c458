//! UDP datagrams in Ethernet frames, as a network card brings them: for whoever passes the kernel's stack
//! by. RFC 768 (UDP), 791 (IPv4), 8200 (IPv6), 1071 (checksums).
//!
//! Taken is what nodes send to each other: no VLAN tags, no fragments, no options or extension headers.
//! The rest is left to the kernel.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Bytes of the headers of Ethernet, IPv4 and UDP.
pub const IPV4_HEADERS_SIZE: usize = ETHERNET_SIZE + IPV4_SIZE + UDP_SIZE;

/// Bytes of the headers of Ethernet, IPv6 and UDP.
pub const IPV6_HEADERS_SIZE: usize = ETHERNET_SIZE + IPV6_SIZE + UDP_SIZE;

const ETHERNET_SIZE: usize = 14;
const IPV4_SIZE: usize = 20;
const IPV6_SIZE: usize = 40;
const UDP_SIZE: usize = 8;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Version 4, a header of five words.
const IPV4_PLAIN: u8 = 0x45;
const PROTOCOL_UDP: u8 = 17;
/// How many routers may pass it on: what Linux sends.
const HOP_LIMIT: u8 = 64;

/// The address of a network card.
pub type MacAddress = [u8; 6];

/// Who sends a frame to whom. Both socket addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAddresses {
    /// The card that it comes from.
    pub source_mac: MacAddress,
    /// The card that it is for.
    pub destination_mac: MacAddress,
    /// Who sent the datagram.
    pub source: SocketAddr,
    /// Whom it is for.
    pub destination: SocketAddr,
}

/// A datagram in its frame. Its checksums hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// Who sent it to whom.
    pub addresses: FrameAddresses,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// It ends before its headers or lengths say.
    #[error("the frame is cut off")]
    Truncated,
    /// Not UDP, or with tags, options, extension headers, or a fragment.
    #[error("the frame is no plain UDP")]
    NotPlainUdp,
    /// A length is less than a header.
    #[error("a length in the frame is too small")]
    Length,
    /// The checksum of the IPv4 header is wrong.
    #[error("the IPv4 header's checksum is wrong")]
    HeaderChecksum,
    /// The checksum of the datagram is wrong, or missing where IPv6 demands it.
    #[error("the datagram's checksum is wrong")]
    Checksum,
    /// Nobody sends from there: no address, or one of many.
    #[error("the frame's source address is nobody's")]
    Source,
}

impl<'a> UdpFrame<'a> {
    /// Reads a frame; what lies behind the datagram is padding.
    ///
    /// A checksum that covers only the addresses is taken as well: such frames come from the same
    /// machine, whose kernel leaves the rest to a card that they never reach.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (destination_mac, rest) = take(frame)?;
        let (source_mac, rest) = take(rest)?;
        let (ethertype, rest) = take(rest)?;
        let (source, destination, udp) = match ethertype {
            ETHERTYPE_IPV4 => parse_ipv4(rest)?,
            ETHERTYPE_IPV6 => parse_ipv6(rest)?,
            _ => return Err(FrameError::NotPlainUdp),
        };
        let (ports, payload) = parse_udp(source, destination, udp)?;
        let is_nobody = match source {
            IpAddr::V4(ip) => ip.is_broadcast(),
            IpAddr::V6(_) => false,
        };
        if is_nobody || source.is_multicast() || source.is_unspecified() {
            return Err(FrameError::Source);
        }
        let addresses = FrameAddresses {
            source_mac,
            destination_mac,
            source: SocketAddr::new(source, ports.0),
            destination: SocketAddr::new(destination, ports.1),
        };
        Ok(Self { addresses, payload })
    }
}

impl FrameAddresses {
    /// Bytes of the headers before a payload.
    pub const fn headers_size(&self) -> usize {
        match self.source {
            SocketAddr::V4(_) => IPV4_HEADERS_SIZE,
            SocketAddr::V6(_) => IPV6_HEADERS_SIZE,
        }
    }

    /// Writes a frame; gives its size. None if it does not fit, if a length does not fit its field, or
    /// if the addresses are of two families.
    pub fn write(&self, payload: &[u8], frame: &mut [u8]) -> Option<usize> {
        let size = self.headers_size().checked_add(payload.len())?;
        let frame = frame.get_mut(..size)?;
        let udp_size = u16::try_from(UDP_SIZE + payload.len()).ok()?;
        let (ethernet, rest) = frame.split_first_chunk_mut::<ETHERNET_SIZE>()?;
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let (ethertype, udp) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (ip, udp) = rest.split_first_chunk_mut()?;
                *ip = write_ipv4(source, destination, udp_size)?;
                (ETHERTYPE_IPV4, udp)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (ip, udp) = rest.split_first_chunk_mut()?;
                *ip = write_ipv6(source, destination, udp_size);
                (ETHERTYPE_IPV6, udp)
            }
            _ => return None,
        };
        concat_into(
            ethernet,
            &[&self.destination_mac, &self.source_mac, &ethertype],
        );
        let (header, body) = udp.split_first_chunk_mut::<UDP_SIZE>()?;
        body.copy_from_slice(payload);
        let ports = [self.source.port(), self.destination.port()].map(u16::to_be_bytes);
        let [source_port, destination_port] = &ports;
        concat_into(
            header,
            &[
                source_port,
                destination_port,
                &udp_size.to_be_bytes(),
                &[0; 2],
            ],
        );
        let pseudo = pseudo_sum(source, destination, udp_size);
        let checksum = match !fold(pseudo.wrapping_add(sum(udp))) {
            // Zero means that there is none; it has two forms.
            0 => 0xffff,
            checksum => checksum,
        };
        udp.get_mut(6..8)?.copy_from_slice(&checksum.to_be_bytes());
        Some(size)
    }
}

/// Writes parts one after the other; they fill it.
fn concat_into(to: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in to.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

fn write_ipv4(source: Ipv4Addr, destination: Ipv4Addr, udp_size: u16) -> Option<[u8; IPV4_SIZE]> {
    /// Identification 0 (it is never a fragment), and "do not fragment".
    const UNFRAGMENTED: [u8; 4] = [0, 0, 0x40, 0];
    let size = udp_size.checked_add(20)?;
    let mut header = [0; IPV4_SIZE];
    let parts: [&[u8]; 6] = [
        &[IPV4_PLAIN, 0],
        &size.to_be_bytes(),
        &UNFRAGMENTED,
        &[HOP_LIMIT, PROTOCOL_UDP, 0, 0],
        &source.octets(),
        &destination.octets(),
    ];
    concat_into(&mut header, &parts);
    let [high, low] = (!fold(sum(&header))).to_be_bytes();
    header[10] = high;
    header[11] = low;
    Some(header)
}

fn write_ipv6(source: Ipv6Addr, destination: Ipv6Addr, udp_size: u16) -> [u8; IPV6_SIZE] {
    let mut header = [0; IPV6_SIZE];
    let parts: [&[u8]; 5] = [
        &[0x60, 0, 0, 0],
        &udp_size.to_be_bytes(),
        &[PROTOCOL_UDP, HOP_LIMIT],
        &source.octets(),
        &destination.octets(),
    ];
    concat_into(&mut header, &parts);
    header
}

/// The first bytes, and what follows.
fn take<const SIZE: usize>(bytes: &[u8]) -> Result<([u8; SIZE], &[u8]), FrameError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(FrameError::Truncated)?;
    Ok((*first, rest))
}

/// Source, destination, and what the packet carries.
fn parse_ipv4(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), FrameError> {
    let (header, _) = take::<IPV4_SIZE>(packet)?;
    let [
        version,
        _,
        size @ .., // up to the addresses
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = header;
    let [size_high, size_low, _, _, flags, offset, _, protocol, _, _] = size;
    // "More fragments", or an offset: a part of a datagram.
    let is_fragment = flags & 0x3f != 0 || offset != 0;
    if version != IPV4_PLAIN || is_fragment || protocol != PROTOCOL_UDP {
        return Err(FrameError::NotPlainUdp);
    }
    if fold(sum(&header)) != 0xffff {
        return Err(FrameError::HeaderChecksum);
    }
    let size = usize::from(u16::from_be_bytes([size_high, size_low]));
    if size < IPV4_SIZE {
        return Err(FrameError::Length);
    }
    let udp = packet.get(IPV4_SIZE..size).ok_or(FrameError::Truncated)?;
    let source = Ipv4Addr::new(s0, s1, s2, s3);
    let destination = Ipv4Addr::new(d0, d1, d2, d3);
    Ok((source.into(), destination.into(), udp))
}

/// Source, destination, and what the packet carries.
fn parse_ipv6(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), FrameError> {
    let (begin, rest) = take::<8>(packet)?;
    let (source, rest) = take::<16>(rest)?;
    let (destination, rest) = take::<16>(rest)?;
    let [version, _, _, _, size_high, size_low, next_header, _] = begin;
    if version >> 4 != 6 || next_header != PROTOCOL_UDP {
        return Err(FrameError::NotPlainUdp);
    }
    let size = usize::from(u16::from_be_bytes([size_high, size_low]));
    let udp = rest.get(..size).ok_or(FrameError::Truncated)?;
    let [source, destination] = [source, destination].map(Ipv6Addr::from);
    Ok((source.into(), destination.into(), udp))
}

/// The ports and the payload.
fn parse_udp(
    source: IpAddr,
    destination: IpAddr,
    packet: &[u8],
) -> Result<((u16, u16), &[u8]), FrameError> {
    let (header, _) = take::<UDP_SIZE>(packet)?;
    let [s0, s1, d0, d1, size_high, size_low, c0, c1] = header;
    let udp_size = u16::from_be_bytes([size_high, size_low]);
    let size = usize::from(udp_size);
    if size < UDP_SIZE {
        return Err(FrameError::Length);
    }
    let packet = packet.get(..size).ok_or(FrameError::Truncated)?;
    let checksum = u16::from_be_bytes([c0, c1]);
    let pseudo = pseudo_sum(source, destination, udp_size);
    let is_whole = match checksum {
        // None was computed, which IPv4 allows.
        0 => source.is_ipv4(),
        checksum => checksum == fold(pseudo) || fold(pseudo.wrapping_add(sum(packet))) == 0xffff,
    };
    if !is_whole {
        return Err(FrameError::Checksum);
    }
    let payload = packet.get(UDP_SIZE..).unwrap_or_default();
    let [source, destination] = [[s0, s1], [d0, d1]].map(u16::from_be_bytes);
    Ok(((source, destination), payload))
}

/// What a datagram's checksum covers beside it: the addresses, its size and protocol.
fn pseudo_sum(source: IpAddr, destination: IpAddr, udp_size: u16) -> u64 {
    let addresses = [source, destination].map(|ip| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    });
    addresses.into_iter().sum::<u64>() + u64::from(udp_size) + u64::from(PROTOCOL_UDP)
}

/// Adds up words of 32 bits, which folds to the same as words of 16; a short end is padded with zeros.
/// 64 KiB of them do not overflow.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    concat_into(&mut last, &[rest]);
    let words = words.iter().chain([&last]);
    words.fold(0, |sum: u64, word| {
        sum.wrapping_add(u64::from(u32::from_be_bytes(*word)))
    })
}

/// The sum in 16 bits, with carries added at the lower end.
fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// "hi" from 192.0.2.1 port 4660 to 192.0.2.2 port 22136, its checksums computed by hand.
    const FRAME: [u8; 44] = [
        0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xcb, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
        0x12, 0x34, 0x56, 0x78, 0, 10, 0x00, 0x00, b'h', b'i', // UDP
    ];

    fn addresses(source: &str, destination: &str) -> FrameAddresses {
        FrameAddresses {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn written(addresses: FrameAddresses, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 70_000];
        let size = addresses.write(payload, &mut frame).unwrap();
        frame.truncate(size);
        frame
    }

    #[test]
    fn a_frame_is_read_and_written() {
        let expected = addresses("192.0.2.1:4660", "192.0.2.2:22136");
        let frame = UdpFrame::parse(&FRAME).unwrap();
        assert_eq!(
            (frame.addresses, frame.payload),
            (expected, b"hi".as_slice())
        );
        let mut written = written(expected, b"hi");
        // 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 10 + 0x1234 + 0x5678 + 10 + 0x6869, folded, inverted
        assert_eq!(written[40..42], [0xaa, 0xc0]);
        written[40..42].fill(0);
        assert_eq!(written, FRAME);
    }

    #[test]
    fn what_is_not_plain_udp_is_refused() {
        let cases: [(usize, u8, FrameError); 9] = [
            (12, 0x81, FrameError::NotPlainUdp),
            (13, 0x06, FrameError::NotPlainUdp),
            (14, 0x46, FrameError::NotPlainUdp),
            (20, 0x20, FrameError::NotPlainUdp),
            (21, 1, FrameError::NotPlainUdp),
            (23, 6, FrameError::NotPlainUdp),
            (24, 0, FrameError::HeaderChecksum),
            (39, 7, FrameError::Length),
            (39, 11, FrameError::Truncated),
        ];
        for (place, value, error) in cases {
            let mut frame = FRAME;
            frame[place] = value;
            assert_eq!(UdpFrame::parse(&frame), Err(error), "{place}");
        }
        for source in ["224.0.0.1:1", "0.0.0.0:1", "255.255.255.255:1"] {
            let frame = written(addresses(source, "192.0.2.2:1"), b"");
            assert_eq!(UdpFrame::parse(&frame), Err(FrameError::Source));
        }
        let mut frame = written(addresses("[2001:db8::1]:1", "[2001:db8::2]:2"), b"hi");
        frame[60..62].fill(0);
        assert_eq!(UdpFrame::parse(&frame), Err(FrameError::Checksum));
    }

    #[test]
    fn a_checksum_of_the_addresses_alone_is_taken() {
        let both = addresses("192.0.2.1:1", "192.0.2.2:2");
        let mut frame = written(both, b"hello");
        let pseudo = fold(pseudo_sum(both.source.ip(), both.destination.ip(), 13));
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(UdpFrame::parse(&frame).unwrap().payload, b"hello");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
            ports in any::<(u16, u16)>(),
            is_ipv6 in any::<bool>(),
            padding in 0_usize..50,
        ) {
            let mut both = if is_ipv6 {
                addresses("[2001:db8::1]:1", "[fe80::2]:2")
            } else {
                addresses("192.0.2.1:1", "198.51.100.200:2")
            };
            both.source.set_port(ports.0);
            both.destination.set_port(ports.1);
            let mut frame = written(both, &payload);
            let size = frame.len();
            frame.resize(size + padding, 0xaa);
            let expected = UdpFrame { addresses: both, payload: &payload };
            prop_assert_eq!(UdpFrame::parse(&frame), Ok(expected));
            for cut in [0, 13, 33, 41, size - 1] {
                prop_assert!(UdpFrame::parse(&frame[..cut]).is_err());
            }
        }

        #[test]
        fn a_changed_bit_is_seen(bit in 0_usize..(64 * 8)) {
            let both = addresses("192.0.2.1:1000", "192.0.2.2:2000");
            let mut frame = written(both, b"0123456789abcdefghijkl");
            let before = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let is_of_ethernet = bit / 8 < 12;
            // "Do not fragment" is in the checksum too.
            prop_assert_eq!(UdpFrame::parse(&frame).is_ok(), is_of_ethernet);
            prop_assert!(UdpFrame::parse(&before).is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = UdpFrame::parse(&bytes) {
                prop_assert!(frame.payload.len() < bytes.len());
            }
        }
    }
}
