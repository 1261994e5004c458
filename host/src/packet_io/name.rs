//! Addresses and control messages as the kernel lays them out, read and written byte by byte.
#![expect(
    clippy::host_endian_bytes,
    reason = "the kernel speaks to this process in the machine's own order"
)]

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a `sockaddr_in6`, the larger of the two.
pub(super) const NAME_SIZE: usize = size_of::<libc::sockaddr_in6>();

/// Bytes of one control message with one integer: header, value, and what it is rounded up to.
pub(super) const CONTROL_SIZE: usize = HEADER_SIZE + size_of::<usize>();

/// A `cmsghdr`: its size as a word, level, kind.
const HEADER_SIZE: usize = size_of::<libc::cmsghdr>();

/// An address as the kernel has it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name(pub(super) [u8; NAME_SIZE]);

/// Room for a control message.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_SIZE]);

/// Writes an address for a socket of IPv4 or IPv6; to the latter, an IPv4 peer is a mapped address. Gives
/// its size.
pub(super) fn write_name(name: &mut Name, peer: SocketAddr, is_ipv6: bool) -> usize {
    let [family, port, flow, address, scope] = name_parts(&mut name.0);
    let write = |to: &mut [u8], from: &[u8]| {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    };
    write(port, &peer.port().to_be_bytes());
    let peer = match peer {
        SocketAddr::V4(peer) if !is_ipv6 => {
            write(family, &family_of(libc::AF_INET));
            // An IPv4 address stands where IPv6 has its flow label.
            write(flow, &peer.ip().octets());
            address.fill(0);
            return size_of::<libc::sockaddr_in>();
        }
        SocketAddr::V4(peer) => SocketAddrV6::new(peer.ip().to_ipv6_mapped(), 0, 0, 0),
        SocketAddr::V6(peer) => peer,
    };
    write(family, &family_of(libc::AF_INET6));
    write(flow, &[0; 4]);
    write(address, &peer.ip().octets());
    write(scope, &peer.scope_id().to_ne_bytes());
    NAME_SIZE
}

fn family_of(family: libc::c_int) -> [u8; 2] {
    u16::try_from(family).unwrap_or_default().to_ne_bytes()
}

/// Family, port, flow label, address, scope.
fn name_parts(name: &mut [u8; NAME_SIZE]) -> [&mut [u8]; 5] {
    let (family, rest) = name.split_at_mut(2);
    let (port, rest) = rest.split_at_mut(2);
    let (flow, rest) = rest.split_at_mut(4);
    let (address, scope) = rest.split_at_mut(16);
    [family, port, flow, address, scope]
}

/// Reads an address; a mapped one is an IPv4 address.
pub(super) fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    if *family == family_of(libc::AF_INET) {
        return Some(SocketAddrV4::new(Ipv4Addr::from(*flow), port).into());
    }
    if *family != family_of(libc::AF_INET6) {
        return None;
    }
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let address = Ipv6Addr::from(*address);
    if let Some(address) = address.to_ipv4_mapped() {
        return Some(SocketAddrV4::new(address, port).into());
    }
    let scope = u32::from_ne_bytes(*rest.first_chunk()?);
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

/// Writes `UDP_SEGMENT`: where the kernel cuts. Gives its size.
pub(super) fn write_segment_size(control: &mut Control, segment_size: u16) -> usize {
    let size = (HEADER_SIZE + size_of::<u16>()).to_ne_bytes();
    let bytes = size
        .into_iter()
        .chain(libc::SOL_UDP.to_ne_bytes())
        .chain(libc::UDP_SEGMENT.to_ne_bytes())
        .chain(segment_size.to_ne_bytes());
    control.0.fill(0);
    for (to, from) in control.0.iter_mut().zip(bytes) {
        *to = from;
    }
    CONTROL_SIZE
}

/// Reads `UDP_GRO`, if that is the first control message: of what size the joined datagrams were. We ask
/// for no other.
pub(super) fn read_segment_size(control: &[u8]) -> Option<usize> {
    let (size, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let is_it = i32::from_ne_bytes(*level) == libc::SOL_UDP
        && i32::from_ne_bytes(*kind) == libc::UDP_GRO
        && usize::from_ne_bytes(*size) >= HEADER_SIZE + size_of::<i32>();
    let value = i32::from_ne_bytes(*rest.first_chunk()?);
    usize::try_from(value)
        .ok()
        .filter(|size| is_it && *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        let peers = [
            "192.0.2.7:65535",
            "[2001:db8::1]:1",
            "[fe80::1%7]:53",
            "0.0.0.0:0",
        ];
        for peer in peers {
            let peer: SocketAddr = peer.parse().unwrap();
            for is_ipv6 in [false, true] {
                let mut name = Name([0xff; NAME_SIZE]);
                let size = write_name(&mut name, peer, is_ipv6);
                assert_eq!(size, if is_ipv6 || peer.is_ipv6() { 28 } else { 16 });
                assert_eq!(read_name(&name.0[..size]), Some(peer));
                assert_eq!(read_name(&name.0[..7]), None);
            }
        }
        assert_eq!(read_name(&[0; NAME_SIZE]), None);
    }

    #[test]
    fn a_segment_size_is_read_from_its_message_only() {
        let mut control = Control([0xff; CONTROL_SIZE]);
        assert_eq!(write_segment_size(&mut control, 1200), CONTROL_SIZE);
        assert_eq!(read_segment_size(&control.0), None, "that is UDP_SEGMENT");
        control.0[12..16].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        assert_eq!(
            read_segment_size(&control.0),
            None,
            "too short for an integer"
        );
        control.0[..8].copy_from_slice(&20_usize.to_ne_bytes());
        assert_eq!(read_segment_size(&control.0), Some(1200));
        assert_eq!(read_segment_size(&control.0[..19]), None);
        assert_eq!(read_segment_size(&[]), None);
    }
}
