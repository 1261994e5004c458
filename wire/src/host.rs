//! Hosts that an onion names, in the one form that has one reading.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const NAME_SIZE_MAX: usize = 253;
/// Longest part between its dots.
const LABEL_SIZE_MAX: usize = 63;

/// A name or an address, and nothing that one library reads so and another otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name in lower case, without a dot at its end.
    Name(String),
    /// An address, written as such.
    Address(IpAddr),
}

impl Host {
    /// Reads `name`, `1.2.3.4` or `[2001:...]`. Whatever libraries read differently is refused: an
    /// address as one number, octal, hex or short, user names, zones, escapes, non-ASCII.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = name.len() <= NAME_SIZE_MAX && name.split('.').all(is_label);
        // What ends in a number is an IPv4 address to URL parsers, however it is written.
        let last = name.rsplit('.').next()?;
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.starts_with("0x")
            || last.starts_with("0X");
        (is_name && !is_number).then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Reads a host and the port beside it. Some clients write the port into the host too; it counts
    /// then, if the other says the same or is only a default.
    pub fn parse_with_port(text: &str, port: u16) -> Option<(Self, u16)> {
        let inner_port = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let found = plain.then(|| digits.parse().ok())??;
            (found == port || matches!(port, 80 | 443)).then_some(found)
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, inner_port(digits)?),
            _ => (text, port),
        };
        (port != 0).then_some((Self::parse(host)?, port))
    }

    /// As it stands in a URL and in a `Host` header.
    pub fn to_text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Address(IpAddr::V4(address)) => address.to_string(),
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_SIZE_MAX).contains(&label.len()) && label.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_reading_or_none() {
        let name = |text: &str| Some(Host::Name(text.into()));
        let address = |text: &str| Some(Host::Address(text.parse().unwrap()));
        let cases = [
            ("filev2.getsession.org", name("filev2.getsession.org")),
            ("Open.Example.ORG.", name("open.example.org")),
            ("xn--bcher-kva.example", name("xn--bcher-kva.example")),
            ("_a-b.c1", name("_a-b.c1")),
            ("8.8.8.8", address("8.8.8.8")),
            ("[2606:4700::1111]", address("2606:4700::1111")),
            ("[::ffff:7f00:1]", address("::ffff:127.0.0.1")),
        ];
        for (text, host) in cases {
            assert_eq!(Host::parse(text), host, "{text}");
        }
        let refused = [
            "",
            ".",
            "a..b",
            ".a",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "a.0x10",
            "example.0",
            "user@127.0.0.1",
            "a@b.example",
            "a.example/x",
            "a.example?x",
            "a.example#x",
            "a.example\\x",
            "127.0.0.1%00.a.example",
            "%6c%6f%63alhost",
            "a.example\r\nHost: b",
            "a.example\0",
            " a.example",
            "a example",
            "b\u{fc}cher.example",
            "127\u{3002}0\u{3002}0\u{3002}1",
            "\u{2460}27.0.0.1",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[a.example]",
        ];
        for text in refused {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), None);
        assert_eq!(Host::parse(&"abc.".repeat(64)), None);
    }

    #[test]
    fn a_port_in_the_host_counts_when_nothing_says_otherwise() {
        let read = |text, port| Host::parse_with_port(text, port).map(|(_, port)| port);
        assert_eq!(read("a.example", 8080), Some(8080));
        assert_eq!(read("a.example:8080", 8080), Some(8080));
        assert_eq!(read("1.2.3.4:8080", 80), Some(8080));
        assert_eq!(read("[2606::1]:8080", 443), Some(8080));
        assert_eq!(read("[2606::1]", 443), Some(443));
        for (text, port) in [
            ("a.example", 0),
            ("a.example:0", 80),
            ("a.example:", 80),
            ("a.example:+80", 80),
            ("a.example:8080", 8081),
            ("a.example:65536", 80),
            ("a.example:80:80", 80),
            ("a:b@c.example", 80),
        ] {
            assert_eq!(read(text, port), None, "{text}");
        }
    }
}
