//! Where oxend listens.

use core::fmt;
use core::net::Ipv6Addr;
use core::num::NonZeroU16;
use core::str::FromStr;
use std::path::PathBuf;

use thiserror::Error;

/// An address of oxend, in OMQ's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OxendAddress {
    /// `ipc:///path/oxend.sock`: a socket of this machine, by its absolute path.
    Ipc(PathBuf),
    /// `tcp://host:port`, unencrypted: of this machine, or of one behind the same door.
    Tcp {
        /// A name or an address; an IPv6 address without its brackets.
        host: String,
        /// Its port.
        port: NonZeroU16,
    },
}

/// A text that is no [`OxendAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no address of oxend: it must be ipc:// with the absolute path of a socket, such as \
     ipc:///var/lib/oxen/oxend.sock, or tcp:// with host and port, such as tcp://127.0.0.1:22029"
)]
pub struct OxendAddressError {
    text: String,
}

impl FromStr for OxendAddress {
    type Err = OxendAddressError;

    fn from_str(text: &str) -> Result<Self, OxendAddressError> {
        let parsed = match text.split_once("://") {
            Some(("ipc", path)) if path.starts_with('/') && !path.ends_with('/') => {
                Some(Self::Ipc(path.into()))
            }
            Some(("tcp", address)) => parse_tcp(address),
            _ => None,
        };
        parsed.ok_or_else(|| OxendAddressError { text: text.into() })
    }
}

fn parse_tcp(address: &str) -> Option<OxendAddress> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_valid = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let port = port.parse().ok().filter(|_| is_valid)?;
    let host = bracketed.unwrap_or(host).to_owned();
    Some(OxendAddress::Tcp { host, port })
}

impl fmt::Display for OxendAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipc(path) => write!(formatter, "ipc://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(formatter, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [
            "ipc:///var/lib/oxen/oxend.sock",
            "tcp://127.0.0.1:22029",
            "tcp://localhost:1",
            "tcp://[::1]:22029",
        ] {
            let address: OxendAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_is_expected() {
        for text in [
            "",
            "/var/lib/oxen/oxend.sock",
            "ipc://oxend.sock",
            "ipc:///",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:65536",
            "tcp://:22029",
            "tcp://::1:22029",
            "tcp://[host]:22029",
            "tcp://host/:22029",
            "curve://127.0.0.1:22029/ab",
            "http://127.0.0.1:22023",
        ] {
            let fault = text.parse::<OxendAddress>().unwrap_err().to_string();
            assert!(fault.contains(&format!("`{text}`")), "{fault}");
            assert!(
                fault.contains("ipc://") && fault.contains("tcp://"),
                "{fault}"
            );
        }
    }
}
