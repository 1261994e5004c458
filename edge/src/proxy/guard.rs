//! Which hosts an onion may name. A relay asks servers on behalf of strangers: without this, anyone
//! would reach what only the relay reaches (its loopback, its network, its cloud's metadata).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeSet;

use cepa_wire::host::Host;

/// Whether an address is one that any host of the internet reaches: the IANA special-purpose
/// registries without what they list, and for IPv6 only what is given out
/// (`2000::/3`). An address that carries an IPv4 one is what it carries; tunnels of old (6to4, Teredo)
/// are refused whole.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

const fn is_global_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // This network, private, loopback; multicast, reserved, broadcast.
        [0 | 10 | 127 | 224..=255, ..]
            // Carrier-grade NAT; link-local, with the metadata of clouds; private.
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // Protocol assignments, documentation, 6to4 relays.
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            // Benchmarking; documentation.
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

const fn is_global_v6(address: Ipv6Addr) -> bool {
    let octets = address.octets();
    let carried = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    match address.segments() {
        // IPv4-mapped, and NAT64 with its well-known prefix.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_global_v4(carried),
        // Protocol assignments (Teredo and benchmarking are of them), documentation, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// What may be asked although it is not global: the servers of a lab.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions {
    names: BTreeSet<Host>,
    addresses: BTreeSet<SocketAddr>,
}

impl Exceptions {
    /// Reads each as `ip:port` or as a host's name; the first that is neither is given back.
    pub(super) fn read(texts: &[String]) -> Result<Self, &str> {
        let mut exceptions = Self::default();
        for text in texts {
            if let Ok(address) = text.parse::<SocketAddr>() {
                exceptions.addresses.insert(canonical(address));
            } else if let Some(host @ Host::Name(_)) = Host::parse(text) {
                exceptions.names.insert(host);
            } else {
                return Err(text);
            }
        }
        Ok(exceptions)
    }

    /// Whether `address`, which `host` leads to, may be connected to.
    pub(super) fn allow(&self, host: &Host, address: SocketAddr) -> bool {
        is_global(address.ip())
            || self.names.contains(host)
            || self.addresses.contains(&canonical(address))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_global() {
        let global = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.1.1.1 \
             128.0.0.1 169.253.1.1 172.15.0.1 172.32.0.1 191.255.0.1 192.0.1.1 192.167.1.1 \
             198.17.0.1 198.20.0.1 203.0.114.1 223.255.255.255 2606:4700::1111 2a00:1450::1 \
             2001:200::1 2001:4860:4860::8888 3ffe::1 3fff:1000::1 ::ffff:1.1.1.1 64:ff9b::1.1.1.1";
        for text in global.split_whitespace() {
            assert!(is_global(text.parse().unwrap()), "{text}");
        }
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 \
             127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 \
             192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 \
             239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 \
             ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::ffff:0:0 64:ff9b::10.0.0.1 \
             64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 100::1 2001::1 2001:0:4136:e378::1 \
             2001:2::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3fff::1 5f00::1 \
             fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1";
        for text in refused.split_whitespace() {
            assert!(!is_global(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn exceptions_are_names_and_addresses_with_ports() {
        let texts = ["lab.example", "127.0.0.1:80", "[::1]:80"].map(String::from);
        let exceptions = Exceptions::read(&texts).unwrap();
        let (lab, other) = (
            Host::Name("lab.example".into()),
            Host::Name("x.example".into()),
        );
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(exceptions.allow(&lab, address("10.0.0.1:1")));
        assert!(!exceptions.allow(&other, address("10.0.0.1:1")));
        assert!(exceptions.allow(&other, address("127.0.0.1:80")));
        assert!(exceptions.allow(&other, address("[::ffff:127.0.0.1]:80")));
        assert!(exceptions.allow(&other, address("[::1]:80")));
        assert!(!exceptions.allow(&other, address("127.0.0.1:81")));
        assert!(exceptions.allow(&other, address("8.8.8.8:81")));
        assert_eq!(
            Exceptions::read(&["127.0.0.1".into()]).unwrap_err(),
            "127.0.0.1"
        );
    }
}
