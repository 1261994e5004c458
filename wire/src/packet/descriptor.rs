//! What a node of the packet lane says about itself, signed with its Ed25519 key.
//!
//! A bt dict, in which one content has one encoding:
//!
//! | key | value |
//! | --- | --- |
//! | `a` | addresses: a list of 1 to 4 strings of 4 or 16 bytes |
//! | `e` | Ed25519 key, 32 bytes |
//! | `f` | features: an ascending list of up to 16 names |
//! | `h` | hop keys: `e` number of an epoch, `k` list of its key and the next one's, `s` its seconds |
//! | `l` | link key (X25519), 32 bytes |
//! | `m` | ML-KEM-768 encapsulation key of links, 1,184 bytes |
//! | `p` | ports: a list of https, omq, quic, packet; 0 where there is none |
//! | `t` | when it was published, in milliseconds since the Unix epoch |
//! | `v` | version: 1 |
//! | `x` | X25519 key of the request lane, 32 bytes |
//! | `~` | signature over [`Descriptor::signed_text`], 64 bytes |

use core::net::IpAddr;

use thiserror::Error;

use super::epoch::{Epoch, EpochLength};
use crate::bt::{Dict, List, Value, Writer};
use crate::{Ed25519PublicKey, Signature, Timestamp, X25519PublicKey};

/// Largest descriptor: with every bound reached it has some 2,300 bytes.
pub const DESCRIPTOR_SIZE_MAX: usize = 4096;
/// Addresses: a pair for each family, of which one may be new.
pub const ADDRESS_COUNT_MAX: usize = 4;
/// Features.
pub const FEATURE_COUNT_MAX: usize = 16;
/// A feature's name.
pub const FEATURE_SIZE_MAX: usize = 32;
/// An encapsulation key of ML-KEM-768 (FIPS 203, table 3).
pub const KEM_KEY_SIZE: usize = 1184;

const VERSION: u64 = 1;
/// Values of a descriptor with every list full are 43.
const VALUE_COUNT_MAX: usize = 64;
/// A signature over this can't be one over anything else that the key signs.
const SIGNED_PREFIX: &[u8] = b"cepa descriptor 1\0";

/// Where a node listens; 0 where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// HTTPS.
    pub https: u16,
    /// OMQ over TCP.
    pub omq: u16,
    /// QUIC.
    pub quic: u16,
    /// The packet lane.
    pub packet: u16,
}

/// The hop keys of two epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedHopKeys {
    /// The epoch of [`Self::current`].
    pub epoch: Epoch,
    /// How long epochs are.
    pub length: EpochLength,
    /// Its key.
    pub current: X25519PublicKey,
    /// That of the epoch after it.
    pub next: X25519PublicKey,
}

/// A node's keys and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The key that signs it, and that names the node.
    pub ed25519: Ed25519PublicKey,
    /// The key of the request lane.
    pub x25519: X25519PublicKey,
    /// The static key of links.
    pub link: X25519PublicKey,
    /// The encapsulation key of links. Not known to be one.
    pub kem: Box<[u8; KEM_KEY_SIZE]>,
    /// Where it is, the best first.
    pub addresses: Vec<IpAddr>,
    /// Where it listens.
    pub ports: Ports,
    /// What packets are built with.
    pub hop_keys: PublishedHopKeys,
    /// What it does beside what the version says, ascending.
    pub features: Vec<String>,
    /// When it was made.
    pub published: Timestamp,
}

/// A descriptor with its signature, which is verified by `cepa-crypto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDescriptor {
    /// What it says.
    pub descriptor: Descriptor,
    /// Over [`Descriptor::signed_text`]. Not known to be valid.
    pub signature: Signature,
}

/// Why bytes are no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DescriptorError {
    /// Larger than [`DESCRIPTOR_SIZE_MAX`].
    #[error("descriptor is too large")]
    Size,
    /// No bt dict within the bounds.
    #[error("no bt dict")]
    Bt,
    /// Another version.
    #[error("unknown version")]
    Version,
    /// This key is missing or malformed.
    #[error("{0} is missing or malformed")]
    Key(&'static str),
    /// It holds more than its content, or the content in another encoding.
    #[error("not the one encoding of its content")]
    Encoding,
}

impl SignedDescriptor {
    /// Reads a descriptor. The signature is not verified.
    pub fn parse(input: &[u8]) -> Result<Self, DescriptorError> {
        if input.len() > DESCRIPTOR_SIZE_MAX {
            return Err(DescriptorError::Size);
        }
        let value = Value::parse_bounded(input, VALUE_COUNT_MAX);
        let dict = value.ok().and_then(|value| value.as_dict());
        let dict = dict.ok_or(DescriptorError::Bt)?;
        if dict.get(b"v").and_then(|version| version.as_u64()) != Some(VERSION) {
            return Err(DescriptorError::Version);
        }
        let signature = bytes(&dict, b"~").ok_or(DescriptorError::Key("~"))?;
        let signed = Self {
            descriptor: Descriptor::from_dict(&dict).map_err(DescriptorError::Key)?,
            signature: Signature(signature),
        };
        // This refuses keys that we don't know, too.
        if signed.encode() == input {
            Ok(signed)
        } else {
            Err(DescriptorError::Encoding)
        }
    }

    /// Writes what [`Self::parse`] reads.
    pub fn encode(&self) -> Vec<u8> {
        self.descriptor.write(Some(&self.signature))
    }
}

impl Descriptor {
    /// What is signed: `cepa descriptor 1`, a zero byte, and the dict without its signature.
    pub fn signed_text(&self) -> Vec<u8> {
        [SIGNED_PREFIX, &self.write(None)].concat()
    }

    fn from_dict(dict: &Dict<'_>) -> Result<Self, &'static str> {
        Ok(Self {
            addresses: read_addresses(dict).ok_or("a")?,
            ed25519: Ed25519PublicKey(bytes(dict, b"e").ok_or("e")?),
            features: read_features(dict).ok_or("f")?,
            hop_keys: read_hop_keys(dict).ok_or("h")?,
            link: X25519PublicKey(bytes(dict, b"l").ok_or("l")?),
            kem: bytes(dict, b"m").map(Box::new).ok_or("m")?,
            ports: read_ports(dict).ok_or("p")?,
            published: read_published(dict).ok_or("t")?,
            x25519: X25519PublicKey(bytes(dict, b"x").ok_or("x")?),
        })
    }

    fn write(&self, signature: Option<&Signature>) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        writer.bytes(b"a").list();
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => writer.bytes(&address.octets()),
                IpAddr::V6(address) => writer.bytes(&address.octets()),
            };
        }
        writer.end();
        writer.bytes(b"e").bytes(&self.ed25519.0);
        writer.bytes(b"f").list();
        for feature in &self.features {
            writer.bytes(feature.as_bytes());
        }
        writer.end();
        let PublishedHopKeys {
            epoch,
            length,
            current,
            next,
        } = &self.hop_keys;
        writer.bytes(b"h").dict();
        writer.bytes(b"e").integer(epoch.0);
        writer.bytes(b"k").list();
        writer.bytes(&current.0).bytes(&next.0).end();
        writer.bytes(b"s").integer(length.as_secs()).end();
        writer.bytes(b"l").bytes(&self.link.0);
        writer.bytes(b"m").bytes(self.kem.as_slice());
        let Ports {
            https,
            omq,
            quic,
            packet,
        } = self.ports;
        writer.bytes(b"p").list();
        for port in [https, omq, quic, packet] {
            writer.integer(port);
        }
        writer.end();
        writer.bytes(b"t").integer(self.published.as_millis());
        writer.bytes(b"v").integer(VERSION);
        writer.bytes(b"x").bytes(&self.x25519.0);
        if let Some(signature) = signature {
            writer.bytes(b"~").bytes(&signature.0);
        }
        writer.end();
        writer.finish()
    }
}

fn bytes<const SIZE: usize>(dict: &Dict<'_>, key: &[u8]) -> Option<[u8; SIZE]> {
    dict.get(key)?.as_bytes()?.try_into().ok()
}

fn list<'a>(dict: &Dict<'a>, key: &[u8]) -> Option<List<'a>> {
    dict.get(key)?.as_list()
}

fn read_addresses(dict: &Dict<'_>) -> Option<Vec<IpAddr>> {
    let addresses = list(dict, b"a")?.iter().map(|value| {
        let bytes = value.as_bytes()?;
        let of_4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let of_16 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
        of_4.or_else(|_| of_16()).ok()
    });
    let addresses: Vec<_> = addresses.collect::<Option<_>>()?;
    (1..=ADDRESS_COUNT_MAX)
        .contains(&addresses.len())
        .then_some(addresses)
}

fn read_features(dict: &Dict<'_>) -> Option<Vec<String>> {
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let features = list(dict, b"f")?.iter().map(|value| {
        let name = value.as_bytes()?;
        let good = !name.is_empty() && name.len() <= FEATURE_SIZE_MAX && name.iter().all(is_name);
        good.then(|| String::from_utf8(name.to_vec()).ok())
            .flatten()
    });
    let features: Vec<_> = features.collect::<Option<_>>()?;
    let good = features.len() <= FEATURE_COUNT_MAX && features.is_sorted_by(|one, two| one < two);
    good.then_some(features)
}

fn read_hop_keys(dict: &Dict<'_>) -> Option<PublishedHopKeys> {
    let dict = dict.get(b"h")?.as_dict()?;
    let mut keys = list(&dict, b"k")?.iter();
    let mut key = || {
        let bytes = keys.next()?.as_bytes()?;
        X25519PublicKey::from_slice(bytes)
    };
    let seconds = u32::try_from(dict.get(b"s")?.as_u64()?).ok()?;
    Some(PublishedHopKeys {
        epoch: Epoch(dict.get(b"e")?.as_u64()?),
        length: EpochLength::from_secs(seconds)?,
        current: key()?,
        next: key()?,
    })
}

fn read_ports(dict: &Dict<'_>) -> Option<Ports> {
    let mut ports = list(dict, b"p")?.iter();
    let mut port = || u16::try_from(ports.next()?.as_u64()?).ok();
    Some(Ports {
        https: port()?,
        omq: port()?,
        quic: port()?,
        packet: port()?,
    })
}

fn read_published(dict: &Dict<'_>) -> Option<Timestamp> {
    let millis = dict.get(b"t")?.as_u64()?;
    (millis <= Timestamp::MAX.as_millis()).then(|| Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> SignedDescriptor {
        SignedDescriptor {
            descriptor: Descriptor {
                ed25519: Ed25519PublicKey([1; 32]),
                x25519: X25519PublicKey([2; 32]),
                link: X25519PublicKey([3; 32]),
                kem: Box::new([4; KEM_KEY_SIZE]),
                addresses: vec![[127, 0, 0, 1].into(), [5; 16].into()],
                ports: Ports {
                    https: 1,
                    omq: 2,
                    quic: 0,
                    packet: u16::MAX,
                },
                hop_keys: PublishedHopKeys {
                    epoch: Epoch(20_000),
                    length: EpochLength::DAY,
                    current: X25519PublicKey([6; 32]),
                    next: X25519PublicKey([7; 32]),
                },
                features: vec!["delay".into(), "reply-2".into()],
                published: Timestamp::from_millis(1_800_000_000_000),
            },
            signature: Signature([9; 64]),
        }
    }

    /// With one thing changed.
    fn parse_with(change: impl FnOnce(&mut Descriptor)) -> Result<(), DescriptorError> {
        let mut changed = signed();
        change(&mut changed.descriptor);
        SignedDescriptor::parse(&changed.encode()).map(|parsed| assert_eq!(parsed, changed))
    }

    #[test]
    fn descriptors_come_back() {
        assert_eq!(parse_with(|_| ()), Ok(()));
        assert_eq!(parse_with(|it| it.features.clear()), Ok(()));
        let full = |it: &mut Descriptor| {
            it.addresses = vec![[255; 16].into(); ADDRESS_COUNT_MAX];
            it.features = (0..16).map(|at| format!("{:a>31}{at:x}", "")).collect();
            it.published = Timestamp::MAX;
            it.hop_keys.epoch = Epoch(u64::MAX);
        };
        assert_eq!(parse_with(full), Ok(()));
        let text = signed().descriptor.signed_text();
        assert!(text.starts_with(b"cepa descriptor 1\0d1:al4:"));
        assert!(text.ends_with(&[&b"1:x32:"[..], &[2; 32], b"e"].concat()));
    }

    #[test]
    fn every_bound_holds() {
        use DescriptorError::Key;
        assert_eq!(parse_with(|it| it.addresses.clear()), Err(Key("a")));
        let many = |it: &mut Descriptor| it.addresses = vec![[1; 4].into(); 5];
        assert_eq!(parse_with(many), Err(Key("a")));
        let features = |names: &[&str]| {
            parse_with(|it| it.features = names.iter().map(|name| (*name).into()).collect())
        };
        for bad in [&[""][..], &["b", "a"], &["a", "a"], &["A"], &["a b"]] {
            assert_eq!(features(bad), Err(Key("f")));
        }
        assert_eq!(features(&[&"a".repeat(33)]), Err(Key("f")));
        let many = |it: &mut Descriptor| it.features = (10..27).map(|at| at.to_string()).collect();
        assert_eq!(parse_with(many), Err(Key("f")));
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = signed().encode();
        for size in 0..good.len() {
            assert!(SignedDescriptor::parse(&good[..size]).is_err());
        }
        let large = SignedDescriptor::parse(&vec![b'd'; DESCRIPTOR_SIZE_MAX + 1]);
        assert_eq!(large, Err(DescriptorError::Size));
        let replace = |from: &[u8], to: &[u8]| {
            let at = good.windows(from.len()).position(|it| it == from).unwrap();
            let bytes = [&good[..at], to, &good[at + from.len()..]].concat();
            SignedDescriptor::parse(&bytes).unwrap_err()
        };
        assert_eq!(replace(b"1:vi1e", b"1:vi2e"), DescriptorError::Version);
        assert_eq!(
            replace(b"1:vi1e", b"1:vi1e1:w0:"),
            DescriptorError::Encoding
        );
        assert_eq!(replace(b"i65535ee", b"i65536ee"), DescriptorError::Key("p"));
        assert_eq!(
            replace(b"i65535ee", b"i65535ei1ee"),
            DescriptorError::Encoding
        );
        assert_eq!(replace(b"1:si86400e", b"1:si0e"), DescriptorError::Key("h"));
        assert_eq!(
            replace(b"1:ti1800000000000e", b""),
            DescriptorError::Key("t")
        );
        assert_eq!(replace(b"1:e32:", b"1:e31:"), DescriptorError::Bt);
    }
}
