//! Subscriptions to new messages: what clients ask for, and what they are told
//! (`monitor.messages` over OMQ, `monitor` over QUIC; `../shared/protocol/session-node.md`, 5.1).

use std::borrow::Cow;

use crate::bt::{Dict, VALUE_COUNT_MAX, Value, Writer};
use crate::request::Subaccount;
use crate::{
    Ed25519PublicKey, Mailbox, MessageHash, Namespace, Signature, SubaccountToken, Timestamp,
};

/// Whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `P`: the account of an Ed25519 key.
    Account(Ed25519PublicKey),
    /// `p`: a mailbox whose key is an Ed25519 key.
    Mailbox(Mailbox),
}

/// One subscription that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whose messages.
    pub watched: Watched,
    /// `S` and `T`: in whose name.
    pub subaccount: Option<Subaccount>,
    /// `d`: the messages themselves are wanted too.
    pub want_data: bool,
    /// `n`: in which boxes; ascending, at least one.
    pub namespaces: Vec<Namespace>,
    /// `s`.
    pub signature: Signature,
    /// `t`: when it was signed, in seconds since the epoch.
    pub signed_at: i64,
}

/// Why a subscription is refused, as numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Wrong encoding or type, or something is missing.
    Arguments = 1,
    /// No valid key.
    Pubkey = 2,
    /// Not ascending.
    Namespace = 3,
    /// Too old, or in the future.
    Timestamp = 4,
    /// A signature does not verify.
    Signature = 5,
    /// Another swarm keeps the mailbox.
    WrongSwarm = 6,
    /// The node, or the connection, has as many subscriptions as it may. Ours: the reference has no
    /// bound.
    TooMany = 7,
}

/// A refusal: number and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `errcode`
    pub code: ErrorCode,
    /// `error`
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// From a number and words.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    fn arguments(why: &str) -> Self {
        Self::new(ErrorCode::Arguments, format!("Invalid arguments: {why}"))
    }
}

/// A request: one subscription, or a list of them. What is wrong with one is told in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A list, even of one: so the reply is one too.
    pub is_list: bool,
    /// In order.
    pub items: Vec<Result<Subscription, Refusal>>,
}

impl Request {
    /// Reads a request; the error is told for all of it.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let (Some(b'd' | b'l'), Some(b'e')) = (body.first(), body.last()) else {
            return Err(Refusal::arguments(
                "monitor request takes a single bencoded dict or list parameter",
            ));
        };
        let unreadable = || Refusal::arguments("Failed to parse monitor.messages data value");
        match Value::parse_bounded(body, VALUE_COUNT_MAX) {
            Ok(Value::Dict(dict)) => Ok(Self {
                is_list: false,
                items: vec![Subscription::parse(dict)],
            }),
            Ok(Value::List(list)) => {
                let dicts: Option<Vec<Dict<'_>>> =
                    list.iter().map(|value| value.as_dict()).collect();
                let dicts = dicts.ok_or_else(unreadable)?;
                Ok(Self {
                    is_list: true,
                    items: dicts.into_iter().map(Subscription::parse).collect(),
                })
            }
            _ => Err(unreadable()),
        }
    }
}

fn text<'a>(dict: Dict<'a>, name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    match dict.get(name.as_bytes()) {
        None => Ok(None),
        Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
        Some(_) => Err(Refusal::arguments("expected a string")),
    }
}

fn require<'a>(dict: Dict<'a>, name: &str) -> Result<&'a [u8], Refusal> {
    text(dict, name)?
        .ok_or_else(|| Refusal::arguments(&format!("Required key '{name}' is missing")))
}

impl Subscription {
    /// In the order of the keys, as the reference reads: it decides which of two mistakes is told.
    fn parse(dict: Dict<'_>) -> Result<Self, Refusal> {
        let ed25519 = match text(dict, "P")? {
            None => None,
            Some(key) => Some(Ed25519PublicKey::from_slice(key).ok_or_else(|| {
                let text = "Provided P= Session Ed25519 pubkey must be 32 bytes";
                Refusal::new(ErrorCode::Pubkey, text)
            })?),
        };
        let subaccount = read_subaccount(dict)?;
        let want_data = match dict.get(b"d") {
            None => false,
            Some(value) => match value.as_i64() {
                Some(bit @ (0 | 1)) => bit == 1,
                _ => return Err(Refusal::arguments("d must be 0 or 1")),
            },
        };
        let namespaces = read_namespaces(dict)?;
        let watched = match (ed25519, text(dict, "p")?) {
            (Some(_), Some(_)) => {
                return Err(Refusal::arguments(
                    "Cannot provide both p= and P= pubkey values",
                ));
            }
            (Some(key), None) => Watched::Account(key),
            (None, Some(key)) => Watched::Mailbox(Mailbox::from_slice(key).ok_or_else(|| {
                let text = "Provided p= pubkey must be 33 bytes";
                Refusal::new(ErrorCode::Pubkey, text)
            })?),
            (None, None) => return Err(Refusal::arguments("Either p= or P= must be given")),
        };
        let signature = Signature::from_slice(require(dict, "s")?).ok_or_else(|| {
            let text = "Provided s= signature must be 64 bytes";
            Refusal::new(ErrorCode::Signature, text)
        })?;
        let signed_at = match dict.get(b"t") {
            None => Err(Refusal::arguments(
                "required signature timestamp is missing",
            )),
            Some(value) => value
                .as_i64()
                .ok_or_else(|| Refusal::arguments("t must be an integer")),
        }?;
        Ok(Self {
            watched,
            subaccount,
            want_data,
            namespaces,
            signature,
            signed_at,
        })
    }

    /// Writes what [`Request::parse`] reads: for clients.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        if let Watched::Account(key) = &self.watched {
            writer.bytes(b"P").bytes(key.as_bytes());
        }
        if let Some(subaccount) = &self.subaccount {
            writer.bytes(b"S").bytes(subaccount.signature.as_bytes());
            writer.bytes(b"T").bytes(&subaccount.token.0);
        }
        if self.want_data {
            writer.bytes(b"d").integer(1);
        }
        writer.bytes(b"n").list();
        for namespace in &self.namespaces {
            writer.integer(namespace.0);
        }
        writer.end();
        if let Watched::Mailbox(mailbox) = &self.watched {
            writer.bytes(b"p").bytes(&mailbox.to_bytes());
        }
        writer.bytes(b"s").bytes(self.signature.as_bytes());
        writer.bytes(b"t").integer(self.signed_at);
        writer.end();
        writer.finish()
    }
}

fn read_subaccount(dict: Dict<'_>) -> Result<Option<Subaccount>, Refusal> {
    let Some(signature) = text(dict, "S")? else {
        return Ok(None);
    };
    let signature = Signature::from_slice(signature).ok_or_else(|| {
        let text = "Provided S subaccount signature must be 64 bytes";
        Refusal::new(ErrorCode::Pubkey, text)
    })?;
    let token = SubaccountToken::from_slice(require(dict, "T")?).ok_or_else(|| {
        let text = "Provided T subaccount token must be 36 bytes";
        Refusal::new(ErrorCode::Pubkey, text)
    })?;
    Ok(Some(Subaccount { token, signature }))
}

fn read_namespaces(dict: Dict<'_>) -> Result<Vec<Namespace>, Refusal> {
    let list = dict.get(b"n").and_then(|value| value.as_list());
    let list = list.ok_or_else(|| Refusal::arguments("Required key 'n' is missing"))?;
    let mut namespaces: Vec<Namespace> = Vec::new();
    for value in list.iter() {
        let number = value.as_i64().and_then(|number| i16::try_from(number).ok());
        let number = number.ok_or_else(|| Refusal::arguments("n must hold namespaces"))?;
        if namespaces.last().is_some_and(|last| number <= last.0) {
            let text = "Invalid n= namespace list: namespaces must be ascending";
            return Err(Refusal::new(ErrorCode::Namespace, text));
        }
        namespaces.push(Namespace(number));
    }
    if namespaces.is_empty() {
        return Err(Refusal::arguments("n must hold a namespace"));
    }
    Ok(namespaces)
}

/// A new message, as subscribers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// `@`: whose.
    pub mailbox: Mailbox,
    /// `h`: which.
    pub hash: MessageHash,
    /// `n`: in which box.
    pub namespace: Namespace,
    /// `t`: when it was sent.
    pub timestamp: Timestamp,
    /// `z`: when it expires.
    pub expiry: Timestamp,
    /// `~`: the message, for those who want it.
    pub data: Option<&'a [u8]>,
}

impl Notification<'_> {
    /// The bt dict.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict();
        writer.bytes(b"@").bytes(&self.mailbox.to_bytes());
        writer.bytes(b"h").bytes(self.hash.to_text().as_bytes());
        writer.bytes(b"n").integer(self.namespace.0);
        writer.bytes(b"t").integer(self.timestamp.as_millis());
        writer.bytes(b"z").integer(self.expiry.as_millis());
        if let Some(data) = self.data {
            writer.bytes(b"~").bytes(data);
        }
        writer.end();
        writer.finish()
    }
}

/// What a subscriber is told when this node keeps a mailbox no more: `{"@": mailbox}`.
pub fn encode_ended(mailbox: &Mailbox) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict();
    writer.bytes(b"@").bytes(&mailbox.to_bytes());
    writer.end();
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            watched: Watched::Account(Ed25519PublicKey([1; 32])),
            subaccount: Some(Subaccount {
                token: SubaccountToken([2; 36]),
                signature: Signature([3; 64]),
            }),
            want_data: true,
            namespaces: vec![Namespace(-10), Namespace(0), Namespace(5)],
            signature: Signature([4; 64]),
            signed_at: 1_800_000_000,
        }
    }

    #[test]
    fn subscriptions_are_read_as_they_are_written() {
        let one = subscription();
        let two = Subscription {
            watched: Watched::Mailbox(Mailbox {
                prefix: 3,
                key: [9; 32],
            }),
            subaccount: None,
            want_data: false,
            ..subscription()
        };
        for subscription in [&one, &two] {
            let read = Request::parse(&subscription.encode());
            let items = vec![Ok(subscription.clone())];
            let is_list = false;
            assert_eq!(read, Ok(Request { is_list, items }));
        }
        let list = [b"l".to_vec(), one.encode(), two.encode(), b"e".to_vec()].concat();
        let read = Request::parse(&list).unwrap();
        assert_eq!((read.is_list, read.items), (true, vec![Ok(one), Ok(two)]));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of mistakes")]
    fn mistakes_are_told_in_the_reference_words() {
        let body = |text: &str| {
            let body = text
                .replace("P32", "1:P32:01234567890123456789012345678901")
                .replace("S64", &format!("1:S64:{}", "s".repeat(64)))
                .replace("s64", &format!("1:s64:{}", "s".repeat(64)));
            format!("d{body}e")
        };
        let cases = [
            (
                "1:P1:x",
                2,
                "Provided P= Session Ed25519 pubkey must be 32 bytes",
            ),
            (
                "1:S1:x",
                2,
                "Provided S subaccount signature must be 64 bytes",
            ),
            (
                "S641:T1:x",
                2,
                "Provided T subaccount token must be 36 bytes",
            ),
            ("P32", 1, "Invalid arguments: Required key 'n' is missing"),
            ("P321:nle", 1, "Invalid arguments: n must hold a namespace"),
            (
                "P321:nli1ei1ee",
                3,
                "Invalid n= namespace list: namespaces must be ascending",
            ),
            (
                "P321:nli40000ee",
                1,
                "Invalid arguments: n must hold namespaces",
            ),
            (
                "1:nli1ee",
                1,
                "Invalid arguments: Either p= or P= must be given",
            ),
            (
                "P321:nli1ee1:p1:x",
                1,
                "Invalid arguments: Cannot provide both p= and P= pubkey values",
            ),
            ("1:nli1ee1:p1:x", 2, "Provided p= pubkey must be 33 bytes"),
            (
                "P321:nli1ee1:s1:x",
                5,
                "Provided s= signature must be 64 bytes",
            ),
            (
                "P321:nli1ees64",
                1,
                "Invalid arguments: required signature timestamp is missing",
            ),
        ];
        for (text, code, expected) in cases {
            let read = Request::parse(body(text).as_bytes()).unwrap();
            let refusal = read.items[0].clone().unwrap_err();
            assert_eq!(
                (refusal.code as i32, refusal.text.as_ref()),
                (code, expected)
            );
        }
        for (body, expected) in [
            (
                "xx",
                "monitor request takes a single bencoded dict or list parameter",
            ),
            ("dxe", "Failed to parse monitor.messages data value"),
            ("li1ee", "Failed to parse monitor.messages data value"),
        ] {
            let refusal = Request::parse(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.text, format!("Invalid arguments: {expected}"));
        }
    }

    #[test]
    fn notifications_are_sorted_bt() {
        let notification = Notification {
            mailbox: Mailbox {
                prefix: 5,
                key: [b'k'; 32],
            },
            hash: MessageHash([0; 32]),
            namespace: Namespace(-10),
            timestamp: Timestamp::from_millis(7),
            expiry: Timestamp::from_millis(8),
            data: Some(b"data"),
        };
        let expected = format!(
            "d1:@33:\u{5}{}1:h43:{}1:ni-10e1:ti7e1:zi8e1:~4:datae",
            "k".repeat(32),
            "A".repeat(43)
        );
        assert_eq!(notification.encode(), expected.as_bytes());
        assert!(Value::parse(&encode_ended(&notification.mailbox)).is_ok());
    }
}
