//! How a service node is reached, as the chain daemon pushes it when a node's proof changed it:
//! `notify.snode_addr` with a bt dict (`../shared/protocol/session-node.md`, "Obligations towards
//! `oxend`").

use core::net::Ipv4Addr;

use crate::bt::{Dict, Value, Writer};
use crate::{Ed25519PublicKey, ServiceNode, X25519PublicKey};

/// Values of a contact: a dict of seven with a list of three, and headroom for keys that a newer daemon
/// adds.
const VALUE_COUNT_MAX: usize = 64;

/// A node's keys, address and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The key that names it on the chain.
    pub pubkey_legacy: [u8; 32],
    /// The key that names it in onions; the legacy key where none is sent.
    pub pubkey_ed25519: Ed25519PublicKey,
    /// The key of onions and CURVE.
    pub pubkey_x25519: X25519PublicKey,
    /// Public address.
    pub ip: Ipv4Addr,
    /// HTTPS port.
    pub port: u16,
    /// OMQ and QUIC port.
    pub omq_port: u16,
    /// The version of its storage server.
    pub storage_server_version: [u16; 3],
}

impl Contact {
    /// Reads a contact; the error names the key that is missing or malformed.
    pub fn parse(input: &[u8]) -> Result<Self, &'static str> {
        let value = Value::parse_bounded(input, VALUE_COUNT_MAX).map_err(|_| "no bt value")?;
        let dict = value.as_dict().ok_or("no bt dict")?;
        let pubkey_legacy = read_key(&dict, b"K").ok_or("K is no key")?;
        let pubkey_ed25519 = match dict.get(b"Ke") {
            Some(_) => read_key(&dict, b"Ke").ok_or("Ke is no key")?,
            None => pubkey_legacy,
        };
        let ip = dict.get(b"ip").and_then(|ip| ip.as_bytes());
        let ip = ip.and_then(|ip| core::str::from_utf8(ip).ok());
        Ok(Self {
            pubkey_legacy,
            pubkey_ed25519: Ed25519PublicKey(pubkey_ed25519),
            pubkey_x25519: X25519PublicKey(read_key(&dict, b"Kx").ok_or("Kx is no key")?),
            ip: ip
                .and_then(|ip| ip.parse().ok())
                .ok_or("ip is no IPv4 address")?,
            port: read_number(dict.get(b"sh")).ok_or("sh is no port")?,
            omq_port: read_number(dict.get(b"sq")).ok_or("sq is no port")?,
            storage_server_version: read_version(&dict).ok_or("vs is no version")?,
        })
    }

    /// Writes what [`Self::parse`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        writer.bytes(b"K").bytes(&self.pubkey_legacy);
        writer.bytes(b"Ke").bytes(&self.pubkey_ed25519.0);
        writer.bytes(b"Kx").bytes(&self.pubkey_x25519.0);
        writer.bytes(b"ip").bytes(self.ip.to_string().as_bytes());
        writer.bytes(b"sh").integer(self.port);
        writer.bytes(b"sq").integer(self.omq_port);
        writer.bytes(b"vs").list();
        for part in self.storage_server_version {
            writer.integer(part);
        }
        writer.end().end();
        writer.finish()
    }

    /// The contact of a node in a list.
    pub const fn of(node: &ServiceNode) -> Self {
        Self {
            pubkey_legacy: node.pubkey_legacy,
            pubkey_ed25519: node.pubkey_ed25519,
            pubkey_x25519: node.pubkey_x25519,
            ip: node.ip,
            port: node.port,
            omq_port: node.omq_port,
            storage_server_version: node.storage_server_version,
        }
    }

    /// Puts it into the node of a list that has the same legacy key; its swarm stays. Tells whether
    /// that changed anything.
    pub fn apply(&self, node: &mut ServiceNode) -> bool {
        if Self::of(node) == *self || node.pubkey_legacy != self.pubkey_legacy {
            return false;
        }
        *node = ServiceNode {
            ip: self.ip,
            port: self.port,
            omq_port: self.omq_port,
            pubkey_ed25519: self.pubkey_ed25519,
            pubkey_x25519: self.pubkey_x25519,
            pubkey_legacy: self.pubkey_legacy,
            swarm_id: node.swarm_id,
            storage_server_version: self.storage_server_version,
        };
        true
    }
}

fn read_key(dict: &Dict<'_>, name: &[u8]) -> Option<[u8; 32]> {
    dict.get(name)?.as_bytes()?.try_into().ok()
}

fn read_number(value: Option<Value<'_>>) -> Option<u16> {
    u16::try_from(value?.as_u64()?).ok()
}

fn read_version(dict: &Dict<'_>) -> Option<[u16; 3]> {
    let mut parts = dict.get(b"vs")?.as_list()?.iter();
    let version = [parts.next(), parts.next(), parts.next()].map(read_number);
    let [major, minor, patch] = version;
    parts.next().is_none().then_some([major?, minor?, patch?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> ServiceNode {
        ServiceNode {
            ip: Ipv4Addr::UNSPECIFIED,
            port: 0,
            omq_port: 0,
            pubkey_ed25519: Ed25519PublicKey([1; 32]),
            pubkey_x25519: X25519PublicKey([2; 32]),
            pubkey_legacy: [3; 32],
            swarm_id: 7,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
        }
    }

    fn contact() -> Contact {
        Contact {
            ip: Ipv4Addr::new(203, 0, 113, 7),
            port: 22_021,
            omq_port: 22_020,
            storage_server_version: [2, 12, 0],
            ..Contact::of(&node())
        }
    }

    #[test]
    fn what_is_written_is_read_and_applied_once() {
        let contact = contact();
        assert_eq!(Contact::parse(&contact.encode()).as_ref(), Ok(&contact));
        let mut applied = node();
        assert!(contact.apply(&mut applied));
        assert_eq!(
            (Contact::of(&applied), applied.swarm_id),
            (contact.clone(), 7)
        );
        assert!(!contact.apply(&mut applied));
        applied.pubkey_legacy = [4; 32];
        assert!(!contact.apply(&mut applied), "another node");
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let written = contact().encode();
        let edit = |from: &str, to: &str| {
            let at = written.windows(from.len());
            let at = at
                .into_iter()
                .position(|part| part == from.as_bytes())
                .unwrap();
            let rest = &written[at + from.len()..];
            Contact::parse(&[&written[..at], to.as_bytes(), rest].concat())
        };
        assert_eq!(edit("11:203.0.113.7", "2:::"), Err("ip is no IPv4 address"));
        assert_eq!(edit("2:shi22021e", ""), Err("sh is no port"));
        assert_eq!(edit("i22020e", "i65536e"), Err("sq is no port"));
        assert_eq!(edit("li2ei12ei0ee", "li2ei12ee"), Err("vs is no version"));
        assert_eq!(
            edit("li2ei12ei0ee", "li2ei12ei0ei0ee"),
            Err("vs is no version")
        );
        assert_eq!(edit("1:K32:", "1:J32:"), Err("K is no key"));
        assert_eq!(Contact::parse(b"le"), Err("no bt dict"));
        let without = edit(&format!("2:Ke32:{}", "\x01".repeat(32)), "").unwrap();
        assert_eq!(
            without.pubkey_ed25519.0, [3; 32],
            "unified keys are sent once"
        );
    }
}
