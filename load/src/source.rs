//! The addresses that connections come from.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

/// Addresses of this machine's loopback network, 127.0.0.0/8: so that one machine is many clients to a node
/// that counts what each asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: Ipv4Addr,
    /// Bits that all addresses have in common: 8 to 32.
    length: u8,
}

impl Sources {
    /// The address of the `number`th connection: one after the other, then again from the first.
    pub fn nth(self, number: usize) -> Ipv4Addr {
        let number = u32::try_from(number).unwrap_or(0);
        let mask = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
        Ipv4Addr::from_bits(self.first.to_bits() | (number & mask))
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl FromStr for Sources {
    type Err = &'static str;

    /// `127.0.1.0/24`, or one address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "it must be an address or a range of 127.0.0.0/8, such as 127.0.1.0/24";
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| EXPECTED)?;
        let length: u8 = length.parse().map_err(|_| EXPECTED)?;
        let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        if !address.is_loopback() || !(8..=32).contains(&length) {
            return Err(EXPECTED);
        }
        if address.to_bits() & mask != 0 {
            return Err("the range must begin with its first address, as in 127.0.1.0/24");
        }
        Ok(Self {
            first: address,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round() {
        let sources: Sources = "127.0.1.0/30".parse().unwrap();
        let last: Vec<u8> = (0..6).map(|n| sources.nth(n).octets()[3]).collect();
        assert_eq!(last, [0, 1, 2, 3, 0, 1]);
        let one: Sources = "127.0.0.9".parse().unwrap();
        assert_eq!(one.nth(7), Ipv4Addr::new(127, 0, 0, 9));
        let all: Sources = "127.0.0.0/8".parse().unwrap();
        assert_eq!(all.nth(257), Ipv4Addr::new(127, 0, 1, 1));
    }

    #[test]
    fn only_loopback_ranges_are_taken() {
        for text in [
            "",
            "10.0.0.0/8",
            "127.0.0.0/7",
            "127.0.0.0/33",
            "127.0.0.1/24",
            "127.0.0.0/",
        ] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
