//! What the kernel knows of interfaces, routes and neighbours: rtnetlink(7), asked and read byte by byte.
#![expect(
    clippy::host_endian_bytes,
    reason = "the kernel speaks to this process in the machine's own order"
)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::io::{self, Read as _};

use cepa_wire::udp_frame::MacAddress;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of the header of a message: size, kind, flags, number, sender.
const HEADER_SIZE: usize = 16;

/// The kernel answers at once; this is for when it does not.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What may come as one answer, at most.
const ANSWER_SIZE: usize = 32 << 10;

/// An interface.
#[derive(Clone, Copy)]
pub(super) struct Interface {
    /// By which number the kernel knows it.
    pub(super) index: u32,
    /// Its hardware address.
    pub(super) mac: MacAddress,
    /// Bytes of the largest IP packet that it takes.
    pub(super) mtu: u32,
}

/// A connection to the kernel.
pub(super) struct Netlink {
    socket: Socket,
    answer: Box<[u8]>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            socket,
            answer: vec![0; ANSWER_SIZE].into_boxed_slice(),
        })
    }

    /// The interface with this number.
    pub(super) fn interface(&mut self, index: u32) -> io::Result<Interface> {
        let mut fixed = [0; 16];
        put(&mut fixed, 4, &index.to_ne_bytes());
        let answer = self.ask(libc::RTM_GETLINK, libc::NLM_F_REQUEST, &fixed, None)?;
        let found = messages(answer).find_map(|(kind, body)| {
            let attributes = body
                .get(fixed.len()..)
                .filter(|_| kind == libc::RTM_NEWLINK)?;
            Some(Interface {
                index,
                mac: *attribute(attributes, libc::IFLA_ADDRESS)?.first_chunk()?,
                mtu: u32::from_ne_bytes(*attribute(attributes, libc::IFLA_MTU)?.first_chunk()?),
            })
        });
        // Some, as tunnels, have no hardware address.
        found.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// An address of an interface, of the family that is asked for; none if it has none.
    pub(super) fn address(&mut self, interface: u32, is_ipv6: bool) -> io::Result<Option<IpAddr>> {
        const DONE: u16 = 3;
        let fixed = [family(is_ipv6), 0, 0, 0, 0, 0, 0, 0];
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let mut found = None;
        let mut answer = self.ask(libc::RTM_GETADDR, flags, &fixed, None)?;
        loop {
            for (kind, body) in messages(answer) {
                if kind == DONE {
                    return Ok(found);
                }
                let Some((fixed, attributes)) = body.split_first_chunk::<8>() else {
                    continue;
                };
                let [_, _, _, scope, index @ ..] = *fixed;
                let is_global = scope == libc::RT_SCOPE_UNIVERSE;
                if is_global && u32::from_ne_bytes(index) == interface && found.is_none() {
                    found = attribute(attributes, libc::IFA_ADDRESS).and_then(read_ip);
                }
            }
            answer = self.read()?;
        }
    }

    /// Where packets to an address go next, if that is over this interface: the address itself, or a
    /// gateway.
    pub(super) fn next_hop(&mut self, to: IpAddr, interface: u32) -> io::Result<Option<IpAddr>> {
        let mut fixed = [0; 12];
        fixed[0] = family(to.is_ipv6());
        fixed[1] = if to.is_ipv6() { 128 } else { 32 };
        let destination = Some((libc::RTA_DST, to));
        let answer = self.ask(libc::RTM_GETROUTE, libc::NLM_F_REQUEST, &fixed, destination)?;
        Ok(messages(answer).find_map(|(kind, body)| {
            let (fixed, attributes) = body.split_first_chunk::<12>()?;
            let [_, _, _, _, _, _, _, route_kind, ..] = *fixed;
            let out = attribute(attributes, libc::RTA_OIF)?.first_chunk()?;
            let is_ours = kind == libc::RTM_NEWROUTE
                && route_kind == libc::RTN_UNICAST
                && u32::from_ne_bytes(*out) == interface
                && attribute(attributes, libc::RTA_VIA).is_none();
            let hop = match attribute(attributes, libc::RTA_GATEWAY) {
                Some(gateway) => read_ip(gateway),
                None => Some(to),
            };
            hop.filter(|_| is_ours)
        }))
    }

    /// The hardware address of a neighbour, and whether the kernel is sure of it now.
    pub(super) fn neighbour(
        &mut self,
        ip: IpAddr,
        interface: u32,
    ) -> io::Result<Option<(MacAddress, bool)>> {
        const SURE: u16 = libc::NUD_REACHABLE | libc::NUD_PERMANENT | libc::NUD_NOARP;
        const KNOWN: u16 = SURE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE;
        let mut fixed = [0; 12];
        fixed[0] = family(ip.is_ipv6());
        put(&mut fixed, 4, &interface.to_ne_bytes());
        let destination = Some((libc::NDA_DST, ip));
        let answer = self.ask(libc::RTM_GETNEIGH, libc::NLM_F_REQUEST, &fixed, destination)?;
        Ok(messages(answer).find_map(|(kind, body)| {
            let (fixed, attributes) = body.split_first_chunk::<12>()?;
            let [_, _, _, _, _, _, _, _, state0, state1, ..] = *fixed;
            let state = u16::from_ne_bytes([state0, state1]);
            let mac = *attribute(attributes, libc::NDA_LLADDR)?.first_chunk()?;
            let is_known = kind == libc::RTM_NEWNEIGH && state & KNOWN != 0;
            is_known.then_some((mac, state & SURE != 0))
        }))
    }

    /// Asks; gives the first messages of the answer.
    fn ask(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        fixed: &[u8],
        address: Option<(u16, IpAddr)>,
    ) -> io::Result<&[u8]> {
        let mut message = Vec::with_capacity(64);
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&u16::try_from(flags).unwrap_or_default().to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(fixed);
        if let Some((kind, ip)) = address {
            let (v4, v6);
            let bytes: &[u8] = match ip {
                IpAddr::V4(ip) => {
                    v4 = ip.octets();
                    &v4
                }
                IpAddr::V6(ip) => {
                    v6 = ip.octets();
                    &v6
                }
            };
            let size = u16::try_from(4 + bytes.len()).unwrap_or_default();
            message.extend_from_slice(&size.to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(bytes);
        }
        let size = u32::try_from(message.len()).unwrap_or_default();
        put(&mut message, 0, &size.to_ne_bytes());
        self.socket.send(&message)?;
        self.read()
    }

    fn read(&mut self) -> io::Result<&[u8]> {
        let size = (&self.socket).read(&mut self.answer)?;
        Ok(self.answer.get(..size).unwrap_or_default())
    }
}

fn family(is_ipv6: bool) -> u8 {
    let family = if is_ipv6 {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    u8::try_from(family).unwrap_or_default()
}

fn put(to: &mut [u8], offset: usize, bytes: &[u8]) {
    for (to, from) in to.iter_mut().skip(offset).zip(bytes) {
        *to = *from;
    }
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Kind and body of each message. A refusal is a message of another kind than what is looked for.
fn messages(answer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = answer;
    core::iter::from_fn(move || {
        let size = u32::from_ne_bytes(*rest.first_chunk()?);
        let size = usize::try_from(size).ok()?;
        let message = rest.get(..size)?;
        let (header, body) = message.split_first_chunk::<HEADER_SIZE>()?;
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        let [_, _, _, _, kind0, kind1, ..] = *header;
        Some((u16::from_ne_bytes([kind0, kind1]), body))
    })
}

/// The attribute of a kind.
fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let [size0, size1, kind0, kind1] = *rest.first_chunk()?;
        let size = usize::from(u16::from_ne_bytes([size0, size1]));
        let value = rest.get(4..size)?;
        if u16::from_ne_bytes([kind0, kind1]) == wanted {
            return Some(value);
        }
        rest = rest.get(size.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_with_its_address() {
        let mut netlink = Netlink::open().unwrap();
        let interface = netlink.interface(1).unwrap();
        assert_eq!(interface.mac, [0; 6]);
        assert!(interface.mtu >= 1280);
        // Its address is of the host's scope only; a route to it is a local one, which we do not take.
        assert_eq!(netlink.address(1, false).unwrap(), None);
        let here = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(netlink.next_hop(here, 1).unwrap(), None);
        assert_eq!(netlink.neighbour(here, 1).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        assert_eq!(messages(&[]).count(), 0);
        assert_eq!(messages(&[255; 15]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[4, 0, 1, 0], 1), Some([].as_slice()));
        assert_eq!(attribute(&[0; 64], 1), None);
    }
}
