//! Onion requests, version 2: framing and the control document of each layer
//! (`../shared/protocol/session-client.md`, section 4.1; `session-node.md`, 5.2 and 5.3).

use serde_json::{Map, Value};
use thiserror::Error;

use crate::bt::{self, Writer};
use crate::{Ed25519PublicKey, X25519PublicKey, json};

/// A relay refuses an onion whose `hop_no` is above this.
pub const HOP_COUNT_MAX: u32 = 15;

/// Which cipher a layer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncType {
    /// XChaCha20-Poly1305; on the wire `xchacha20` or `xchacha20-poly1305`.
    XChaCha20,
    /// AES-256-GCM; `aes-gcm` or `gcm`; also when nothing is said.
    AesGcm,
    /// AES-256-CBC; `aes-cbc` or `cbc`. Unauthenticated: refused unless a setting allows it.
    AesCbc,
}

impl EncType {
    /// Reads a name.
    pub const fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"xchacha20" | b"xchacha20-poly1305" => Some(Self::XChaCha20),
            b"aes-gcm" | b"gcm" => Some(Self::AesGcm),
            b"aes-cbc" | b"cbc" => Some(Self::AesCbc),
            _ => None,
        }
    }

    /// The name that we write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XChaCha20 => "xchacha20",
            Self::AesGcm => "aes-gcm",
            Self::AesCbc => "aes-cbc",
        }
    }
}

/// Why an onion is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OnionError {
    /// The length prefix does not fit the buffer.
    #[error("onion request is too short")]
    Framing,
    /// The control part is no JSON object.
    #[error("control is not a JSON object")]
    Json,
    /// A key is absent or of the wrong type or value.
    #[error("invalid or missing key: {0}")]
    Key(&'static str),
}

/// `u32 little-endian N ‖ N bytes ‖ JSON`: the shape of a request body and of every peeled layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The ciphertext for the next hop, or the client request, or what goes to a server.
    pub blob: &'a [u8],
    /// The control document (JSON text).
    pub control: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits a buffer.
    pub fn parse(input: &'a [u8]) -> Result<Self, OnionError> {
        let (size, rest) = input.split_first_chunk().ok_or(OnionError::Framing)?;
        let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| OnionError::Framing)?;
        let (blob, control) = rest.split_at_checked(size).ok_or(OnionError::Framing)?;
        Ok(Self { blob, control })
    }

    /// Joins the two parts.
    ///
    /// # Panics
    /// When the blob is larger than a u32 can say: our own fault.
    #[expect(
        clippy::expect_used,
        reason = "blobs are bounded by the 10 MiB of a request body"
    )]
    pub fn encode(&self) -> Vec<u8> {
        let size = u32::try_from(self.blob.len()).expect("a blob is smaller than 4 GiB");
        [&size.to_le_bytes(), self.blob, self.control].concat()
    }
}

/// Who may open a blob, and how: the control of a request body, and part of a relay layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerAddress {
    /// The client's fresh key for this layer.
    pub ephemeral_key: X25519PublicKey,
    /// The cipher.
    pub enc_type: EncType,
    /// Where the count of hops begins (`hop_no`, negative taken as 0); only at the entry.
    pub hop_no: u32,
}

impl LayerAddress {
    /// Reads the control of a request body.
    pub fn parse(control: &[u8]) -> Result<Self, OnionError> {
        Self::read(&read_object(control)?)
    }

    fn read(object: &Map<String, Value>) -> Result<Self, OnionError> {
        let ephemeral_key = object
            .get("ephemeral_key")
            .and_then(Value::as_str)
            .and_then(|key| X25519PublicKey::from_hex(key.as_bytes()))
            .ok_or(OnionError::Key("ephemeral_key"))?;
        let enc_type = match object.get("enc_type") {
            None => EncType::AesGcm,
            Some(name) => name
                .as_str()
                .and_then(|name| EncType::from_name(name.as_bytes()))
                .ok_or(OnionError::Key("enc_type"))?,
        };
        let hop_no = match object.get("hop_no") {
            None => 0,
            Some(count) => clamp_hop_no(count.as_i64().ok_or(OnionError::Key("hop_no"))?),
        };
        Ok(Self {
            ephemeral_key,
            enc_type,
            hop_no,
        })
    }

    fn write(&self, object: &mut Map<String, Value>) {
        object.insert("ephemeral_key".into(), self.ephemeral_key.to_hex().into());
        object.insert("enc_type".into(), self.enc_type.name().into());
        if self.hop_no > 0 {
            object.insert("hop_no".into(), self.hop_no.into());
        }
    }

    /// Writes the control of a request body (`hop_no` only when not 0).
    pub fn encode(&self) -> Vec<u8> {
        let mut object = Map::new();
        self.write(&mut object);
        Value::Object(object).to_string().into_bytes()
    }
}

/// The control of a peeled layer: what this hop is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// `headers` is present: the blob is a client request for this node.
    Final {
        /// Embed a JSON body as JSON instead of as a string that holds JSON.
        json: bool,
        /// Encode the encrypted answer as base64 (the default).
        base64: bool,
    },
    /// `host` is present: POST the whole plaintext to a server.
    Proxy(Proxy),
    /// Pass the blob to another node.
    Relay {
        /// The next hop.
        destination: Ed25519PublicKey,
        /// How the next hop opens the blob (`hop_no` is not used).
        address: LayerAddress,
    },
}

/// A server that an onion is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address.
    pub host: String,
    /// Path, such as `/oxen/v4/lsrpc`.
    pub target: String,
    /// `https` (default) or `http`.
    pub protocol: String,
    /// Port (default 443).
    pub port: u16,
}

impl Proxy {
    fn read(object: &Map<String, Value>) -> Result<Self, OnionError> {
        let text = |name| {
            object
                .get(name)
                .and_then(Value::as_str)
                .ok_or(OnionError::Key(name))
        };
        let port = match object.get("port") {
            None => 443,
            Some(port) => port
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .ok_or(OnionError::Key("port"))?,
        };
        let protocol = if object.contains_key("protocol") {
            text("protocol")?
        } else {
            "https"
        };
        Ok(Self {
            host: text("host")?.to_owned(),
            target: text("target")?.to_owned(),
            protocol: protocol.to_owned(),
            port,
        })
    }
}

fn read_object(control: &[u8]) -> Result<Map<String, Value>, OnionError> {
    match json::parse(control) {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(OnionError::Json),
    }
}

/// A count of hops that is negative counts as none; one that is too large stays too large.
fn clamp_hop_no(count: i64) -> u32 {
    u32::try_from(count.clamp(0, i64::from(HOP_COUNT_MAX) + 1)).unwrap_or(HOP_COUNT_MAX + 1)
}

impl Control {
    /// Reads the control of a peeled layer; `headers` is looked for first, then `host`.
    pub fn parse(control: &[u8]) -> Result<Self, OnionError> {
        let object = read_object(control)?;
        if object.contains_key("headers") {
            let flag = |name, default| match object.get(name) {
                None => Ok(default),
                Some(value) => value.as_bool().ok_or(OnionError::Key(name)),
            };
            return Ok(Self::Final {
                json: flag("json", false)?,
                base64: flag("base64", true)?,
            });
        }
        if object.contains_key("host") {
            return Proxy::read(&object).map(Self::Proxy);
        }
        let destination = object
            .get("destination")
            .and_then(Value::as_str)
            .and_then(|key| Ed25519PublicKey::from_hex(key.as_bytes()))
            .ok_or(OnionError::Key("destination"))?;
        // Only the entry's count of hops is the client's to set.
        let address = LayerAddress {
            hop_no: 0,
            ..LayerAddress::read(&object)?
        };
        Ok(Self::Relay {
            destination,
            address,
        })
    }

    /// Writes it, as a client does.
    pub fn encode(&self) -> Vec<u8> {
        let mut object = Map::new();
        match self {
            Self::Final { json, base64 } => {
                object.insert("headers".into(), Value::Object(Map::new()));
                if *json {
                    object.insert("json".into(), true.into());
                }
                if !*base64 {
                    object.insert("base64".into(), false.into());
                }
            }
            Self::Proxy(proxy) => {
                object.insert("host".into(), proxy.host.as_str().into());
                object.insert("target".into(), proxy.target.as_str().into());
                object.insert("protocol".into(), proxy.protocol.as_str().into());
                object.insert("port".into(), proxy.port.into());
            }
            Self::Relay {
                destination,
                address,
            } => {
                object.insert("destination".into(), destination.to_hex().into());
                address.write(&mut object);
            }
        }
        Value::Object(object).to_string().into_bytes()
    }
}

/// The bt dict of `sn.onion_request`: one onion from relay to relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedOnion<'a> {
    /// Ciphertext for the receiving relay.
    pub data: &'a [u8],
    /// How it opens it; `hop_no` counts this hop.
    pub address: LayerAddress,
}

impl<'a> RelayedOnion<'a> {
    /// Reads the dict. The error is the text of the reference's 400 answer, such as
    /// `Invalid internal onion request: required data payload not found`.
    pub fn parse(input: &'a [u8]) -> Result<Self, String> {
        Self::read(input).map_err(|why| format!("Invalid internal onion request: {why}"))
    }

    fn read(input: &'a [u8]) -> Result<Self, &'static str> {
        let dict = bt::Value::parse(input)
            .ok()
            .and_then(|value| value.as_dict());
        let dict = dict.ok_or("expected a bt dict")?;
        let data = dict.get(b"data").and_then(|data| data.as_bytes());
        let data = data.ok_or("required data payload not found")?;
        let enc_type = match dict.get(b"enc_type") {
            None => EncType::AesGcm,
            Some(name) => name
                .as_bytes()
                .and_then(EncType::from_name)
                .ok_or("invalid encryption type")?,
        };
        let key = dict
            .get(b"ephemeral_key")
            .ok_or("ephemeral key not found")?;
        let ephemeral_key = key.as_bytes().and_then(X25519PublicKey::from_slice);
        let ephemeral_key = ephemeral_key.ok_or("invalid ephemeral key")?;
        let hop_no = match dict.get(b"hop_no") {
            None => 1,
            Some(count) => clamp_hop_no(count.as_i64().ok_or("invalid hop_no")?).max(1),
        };
        Ok(Self {
            data,
            address: LayerAddress {
                ephemeral_key,
                enc_type,
                hop_no,
            },
        })
    }

    /// Writes the dict.
    pub fn encode(&self) -> Vec<u8> {
        let LayerAddress {
            ephemeral_key,
            enc_type,
            hop_no,
        } = self.address;
        let mut writer = Writer::new();
        writer.dict();
        writer.bytes(b"data").bytes(self.data);
        writer.bytes(b"enc_type").bytes(enc_type.name().as_bytes());
        writer
            .bytes(b"ephemeral_key")
            .bytes(ephemeral_key.as_bytes());
        writer.bytes(b"hop_no").integer(hop_no);
        writer.end();
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn frames_split_and_join() {
        let frame = Frame {
            blob: b"abc",
            control: b"{}",
        };
        assert_eq!(frame.encode(), b"\x03\0\0\0abc{}");
        assert_eq!(Frame::parse(&frame.encode()), Ok(frame));
        for bad in [&b""[..], b"\x01\0\0", b"\x01\0\0\0", b"\xff\xff\xff\xffabc"] {
            assert_eq!(Frame::parse(bad), Err(OnionError::Framing));
        }
    }

    #[test]
    fn headers_of_any_kind_mean_final_and_come_before_host() {
        let finals = [
            r#"{"headers":{}}"#,
            r#"{"headers":"","host":"x"}"#,
            r#"{"headers":[]}"#,
        ];
        for text in finals {
            let control = Control::parse(text.as_bytes());
            assert_eq!(
                control,
                Ok(Control::Final {
                    json: false,
                    base64: true
                }),
                "{text}"
            );
        }
        let flags = br#"{"headers":null,"json":true,"base64":false}"#;
        assert_eq!(
            Control::parse(flags),
            Ok(Control::Final {
                json: true,
                base64: false
            })
        );
    }

    #[test]
    fn controls_are_written_as_they_are_read() {
        let address = LayerAddress {
            ephemeral_key: X25519PublicKey([1; 32]),
            enc_type: EncType::XChaCha20,
            hop_no: 0,
        };
        let controls = [
            Control::Final {
                json: false,
                base64: false,
            },
            Control::Relay {
                destination: Ed25519PublicKey([2; 32]),
                address,
            },
            Control::Proxy(Proxy {
                host: "h".into(),
                target: "/oxen/v4/lsrpc".into(),
                protocol: "http".into(),
                port: 80,
            }),
        ];
        for control in controls {
            assert_eq!(Control::parse(&control.encode()), Ok(control));
        }
    }

    #[test]
    fn a_proxy_control_has_the_defaults_of_https() {
        let control = Control::parse(br#"{"host":"h","target":"/loki/v3/lsrpc"}"#);
        let Ok(Control::Proxy(proxy)) = control else {
            panic!("{control:?}")
        };
        assert_eq!((proxy.protocol.as_str(), proxy.port), ("https", 443));
        assert_eq!(
            Control::parse(br#"{"host":"h"}"#),
            Err(OnionError::Key("target"))
        );
        let port = br#"{"host":"h","target":"t","port":65536}"#;
        assert_eq!(Control::parse(port), Err(OnionError::Key("port")));
    }

    #[test]
    fn layer_addresses_default_to_gcm_and_clamp_the_count_of_hops() {
        let parse = |text: String| LayerAddress::parse(text.as_bytes());
        let plain = parse(format!(r#"{{"ephemeral_key":"{KEY}"}}"#)).unwrap();
        assert_eq!((plain.enc_type, plain.hop_no), (EncType::AesGcm, 0));
        for (count, read) in [(-5, 0), (3, 3), (15, 15), (16, 16), (i64::MAX, 16)] {
            let text = format!(r#"{{"ephemeral_key":"{KEY}","hop_no":{count}}}"#);
            assert_eq!(parse(text).unwrap().hop_no, read);
        }
        let bad = format!(r#"{{"ephemeral_key":"{KEY}","enc_type":"rot13"}}"#);
        assert_eq!(parse(bad), Err(OnionError::Key("enc_type")));
        assert_eq!(parse("{}".into()), Err(OnionError::Key("ephemeral_key")));
        assert_eq!(parse("[]".into()), Err(OnionError::Json));
    }

    #[test]
    fn a_control_does_not_make_us_hold_more_than_was_sent_by_far() {
        let useless = r#"{"":0},"#.repeat(bt::VALUE_COUNT_MAX);
        let hostile = format!(r#"{{"ephemeral_key":"{KEY}","headers":[{useless}0]}}"#);
        assert_eq!(
            LayerAddress::parse(hostile.as_bytes()),
            Err(OnionError::Json)
        );
        assert_eq!(Control::parse(hostile.as_bytes()), Err(OnionError::Json));
    }

    #[test]
    fn a_relayed_onion_has_come_one_hop_at_least() {
        let key = "k".repeat(32);
        for (field, read) in [
            ("", 1),
            ("6:hop_noi-3e", 1),
            ("6:hop_noi0e", 1),
            ("6:hop_noi7e", 7),
            ("6:hop_noi18446744073709551615e", 0),
        ] {
            let text = format!("d4:data1:x13:ephemeral_key32:{key}{field}e");
            let hop_no = RelayedOnion::parse(text.as_bytes()).map(|onion| onion.address.hop_no);
            let refused = "Invalid internal onion request: invalid hop_no".to_owned();
            let expected = if read == 0 { Err(refused) } else { Ok(read) };
            assert_eq!(hop_no, expected, "{field}");
        }
    }

    #[test]
    fn relayed_onions_are_refused_in_the_words_of_the_reference() {
        let text = |input: &[u8]| RelayedOnion::parse(input).unwrap_err();
        let prefix = "Invalid internal onion request: ";
        assert_eq!(
            text(b"de"),
            format!("{prefix}required data payload not found")
        );
        assert_eq!(
            text(b"d4:data1:xe"),
            format!("{prefix}ephemeral key not found")
        );
        assert_eq!(text(b"nonsense"), format!("{prefix}expected a bt dict"));
        let key = "13:ephemeral_key2:xxe";
        let bad = [
            (
                format!("d4:datai1e{key}"),
                "required data payload not found",
            ),
            (format!("d4:data0:{key}"), "invalid ephemeral key"),
            (
                format!("d4:data0:8:enc_type3:rot{key}"),
                "invalid encryption type",
            ),
        ];
        for (input, why) in bad {
            assert_eq!(text(input.as_bytes()), format!("{prefix}{why}"));
        }
    }
}
