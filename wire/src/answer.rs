//! What a node answers, once, for both encodings.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Number;

use crate::bt::{BtError, VALUE_COUNT_MAX, Value, Writer};

/// A document that is written as JSON or as bt: the answer to a client or to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// JSON null; left out of a bt dict.
    Null,
    /// JSON true/false; 1/0 in bt.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A number that no i64 holds, such as half of all swarm ids. bt has integers only: a fraction
    /// becomes text there.
    Number(Number),
    /// Text in both.
    Text(Cow<'static, str>),
    /// Bytes: padded base64 in JSON, raw in bt.
    Bytes(Bytes),
    /// A list.
    List(Vec<Self>),
    /// A dict; the keys are sorted in both encodings.
    Dict(BTreeMap<Cow<'static, str>, Self>),
}

impl Tree {
    /// Text.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A dict from pairs.
    pub fn dict<const N: usize>(pairs: [(&'static str, Self); N]) -> Self {
        Self::Dict(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    /// The value under `key`, if this is a dict that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(dict) => dict.get(key),
            _ => None,
        }
    }

    /// From any JSON value.
    pub fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Self::Number(number.clone()), Self::Integer),
            Value::String(text) => Self::text(text.clone()),
            Value::Array(values) => Self::List(values.iter().map(Self::from_json).collect()),
            Value::Object(pairs) => Self::Dict(
                pairs
                    .iter()
                    .map(|(key, value)| (key.clone().into(), Self::from_json(value)))
                    .collect(),
            ),
        }
    }

    /// From a bt value of at most [`VALUE_COUNT_MAX`] values that a peer sent. bt does not tell text
    /// from bytes: what stands under `signature` or `data` is bytes, all else is text when it is
    /// UTF-8, bytes when not.
    pub fn from_bt(bytes: &[u8]) -> Result<Self, BtError> {
        let value = Value::parse_bounded(bytes, VALUE_COUNT_MAX)?;
        Ok(Self::from_bt_value(value, false))
    }

    fn from_bt_value(value: Value<'_>, is_bytes: bool) -> Self {
        match value {
            Value::Integer(value) => i64::try_from(value).map_or_else(
                // What is no i64 is a u64: that is checked where it is read.
                |_| Self::Number(u64::try_from(value).unwrap_or(u64::MAX).into()),
                Self::Integer,
            ),
            Value::Bytes(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) if !is_bytes => Self::text(text.to_owned()),
                _ => Self::Bytes(Bytes::copy_from_slice(bytes)),
            },
            Value::List(list) => Self::List(
                list.iter()
                    .map(|value| Self::from_bt_value(value, false))
                    .collect(),
            ),
            Value::Dict(dict) => {
                let pairs = dict.iter().map(|(key, value)| {
                    let is_bytes = matches!(key, b"signature" | b"data");
                    let key = String::from_utf8_lossy(key).into_owned();
                    (key.into(), Self::from_bt_value(value, is_bytes))
                });
                Self::Dict(pairs.collect())
            }
        }
    }

    /// Compact JSON with sorted keys, as the reference writes it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut output = Vec::new();
        self.write_json(&mut output);
        output
    }

    fn write_json(&self, output: &mut Vec<u8>) {
        match self {
            Self::Null => output.extend_from_slice(b"null"),
            Self::Bool(value) => output.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Integer(value) => output.extend_from_slice(value.to_string().as_bytes()),
            Self::Number(number) => output.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => write_json_text(text, output),
            Self::Bytes(bytes) => {
                // Base64 needs no escapes.
                output.push(b'"');
                output.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                output.push(b'"');
            }
            Self::List(values) => {
                output.push(b'[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        output.push(b',');
                    }
                    value.write_json(output);
                }
                output.push(b']');
            }
            Self::Dict(pairs) => {
                output.push(b'{');
                for (index, (key, value)) in pairs.iter().enumerate() {
                    if index > 0 {
                        output.push(b',');
                    }
                    write_json_text(key, output);
                    output.push(b':');
                    value.write_json(output);
                }
                output.push(b'}');
            }
        }
    }

    /// bt with sorted keys.
    pub fn to_bt(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write_bt(&mut writer);
        writer.finish()
    }

    fn write_bt(&self, writer: &mut Writer) {
        match self {
            // bt has no null: a dict leaves it out, a list holds its place with an empty string.
            Self::Null => {
                writer.bytes(b"");
            }
            Self::Bool(value) => {
                writer.integer(i128::from(*value));
            }
            Self::Integer(value) => {
                writer.integer(*value);
            }
            Self::Number(number) => match number.as_u64() {
                Some(value) => {
                    writer.integer(value);
                }
                None => {
                    writer.bytes(number.to_string().as_bytes());
                }
            },
            Self::Text(text) => {
                writer.bytes(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                writer.bytes(bytes);
            }
            Self::List(values) => {
                writer.list();
                for value in values {
                    value.write_bt(writer);
                }
                writer.end();
            }
            Self::Dict(pairs) => {
                writer.dict();
                for (key, value) in pairs.iter().filter(|(_, value)| **value != Self::Null) {
                    writer.bytes(key.as_bytes());
                    value.write_bt(writer);
                }
                writer.end();
            }
        }
    }
}

/// A JSON string with the escapes that JSON requires and no others, as the reference writes it.
fn write_json_text(text: &str, output: &mut Vec<u8>) {
    output.push(b'"');
    for c in text.chars() {
        match c {
            '"' => output.extend_from_slice(b"\\\""),
            '\\' => output.extend_from_slice(b"\\\\"),
            '\n' => output.extend_from_slice(b"\\n"),
            '\r' => output.extend_from_slice(b"\\r"),
            '\t' => output.extend_from_slice(b"\\t"),
            '\u{8}' => output.extend_from_slice(b"\\b"),
            '\u{c}' => output.extend_from_slice(b"\\f"),
            c if u32::from(c) < 0x20 => {
                output.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => output.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    output.push(b'"');
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `text/plain`.
    Text(Cow<'static, str>),
    /// `application/json`, or bt for a bt request.
    Tree(Tree),
    /// Bytes: their padded base64 as `text/plain`, raw for a bt request.
    Bytes(Bytes),
}

/// A status and a body. The status is an HTTP code on every transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The body.
    pub body: Body,
}

impl Answer {
    /// 200 with a document.
    pub const fn ok(tree: Tree) -> Self {
        Self {
            status: 200,
            body: Body::Tree(tree),
        }
    }

    /// A status with plain text.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            body: Body::Text(text.into()),
        }
    }

    /// The body as clients read it over HTTPS, and its content type.
    pub fn into_http_body(self) -> (&'static str, Bytes) {
        match self.body {
            Body::Text(text) => ("text/plain", text.into_owned().into()),
            Body::Tree(tree) => ("application/json", tree.to_json().into()),
            Body::Bytes(bytes) => ("text/plain", STANDARD.encode(bytes).into()),
        }
    }

    /// The row of a batch: `{"code": status, "body": object or string}`.
    pub fn into_batch_row(self) -> Tree {
        let body = match self.body {
            Body::Tree(tree) => tree,
            Body::Text(text) => Tree::Text(text),
            Body::Bytes(bytes) => Tree::Bytes(bytes),
        };
        Tree::dict([
            ("body", body),
            ("code", Tree::Integer(i64::from(self.status))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_two_encodings() {
        let tree = Tree::dict([
            ("z", Tree::Bool(true)),
            ("data", Tree::Bytes(Bytes::from_static(b"\x00\xff"))),
            (
                "list",
                Tree::List(vec![Tree::Integer(-1), Tree::text("x\"\n\u{1}é")]),
            ),
            ("none", Tree::Null),
        ]);
        let json = r#"{"data":"AP8=","list":[-1,"x\"\n\u0001é"],"none":null,"z":true}"#;
        assert_eq!(String::from_utf8(tree.to_json()).unwrap(), json);
        assert_eq!(
            tree.to_bt(),
            b"d4:data2:\x00\xff4:listli-1e6:x\"\n\x01\xc3\xa9e1:zi1ee"
        );
    }

    #[test]
    fn numbers_stay_numbers() {
        let json =
            r#"{"decommissioned":18446744073709551615,"low":-9223372036854775808,"ratio":0.5}"#;
        let tree = Tree::from_json(&serde_json::from_str(json).unwrap());
        assert_eq!(String::from_utf8(tree.to_json()).unwrap(), json);
        let bt =
            b"d14:decommissionedi18446744073709551615e3:lowi-9223372036854775808e5:ratio3:0.5e";
        assert_eq!(tree.to_bt(), bt);
        assert_eq!(Tree::from_bt(bt).unwrap().to_bt(), bt);
    }

    #[test]
    fn a_peer_does_not_make_us_hold_more_than_it_sent_by_far() {
        let hostile = [&b"l"[..], &b"d0:0:e".repeat(1 << 20), b"e"].concat();
        assert_eq!(Tree::from_bt(&hostile), Err(BtError::Count));
    }

    #[test]
    fn json_is_what_serde_reads() {
        let text: String = (0..0x300).filter_map(char::from_u32).collect();
        let written = Tree::text(text.clone()).to_json();
        assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
    }

    #[test]
    fn signatures_stay_bytes_even_when_they_look_like_text() {
        let tree = Tree::from_bt(b"d4:hash1:x9:signature2:abe").unwrap();
        assert_eq!(tree.to_json(), br#"{"hash":"x","signature":"YWI="}"#);
    }
}
