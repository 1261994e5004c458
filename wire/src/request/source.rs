//! Parameters in either encoding, read field by field with the reference's words for what is wrong.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::RequestError;
use crate::bt::{self, Dict};
use crate::{Namespace, Timestamp};

/// JSON timestamps below this are seconds by mistake.
const TIMESTAMP_MIN_MILLIS: u64 = 1_000_000_000;

/// Standard base64, padded or not; bits that the last character does not need are ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes base64 as clients write it.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// The parameters of a request.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Json(&'a Map<String, Value>),
    Bt(Dict<'a>),
}

/// One field that is there.
enum Field<'a> {
    Json(&'a Value),
    Bt(bt::Value<'a>),
}

type Optional<T> = Result<Option<T>, RequestError>;

fn invalid<T>(name: &str, expected: &str) -> Result<T, RequestError> {
    Err(RequestError::invalid(format_args!(
        "Invalid value given for '{name}': expected {expected}"
    )))
}

impl<'a> Source<'a> {
    pub(super) const fn is_json(self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// A field; JSON's null counts as absent.
    fn field(self, name: &str) -> Option<Field<'a>> {
        match self {
            Self::Json(object) => object
                .get(name)
                .filter(|value| !value.is_null())
                .map(Field::Json),
            Self::Bt(dict) => dict.get(name.as_bytes()).map(Field::Bt),
        }
    }

    /// A string; bytes in bt.
    pub(super) fn text(self, name: &str) -> Optional<&'a [u8]> {
        match self.field(name) {
            None => Ok(None),
            Some(Field::Json(Value::String(text))) => Ok(Some(text.as_bytes())),
            Some(Field::Bt(bt::Value::Bytes(bytes))) => Ok(Some(bytes)),
            Some(_) => invalid(name, "string"),
        }
    }

    /// Milliseconds since the epoch.
    pub(super) fn timestamp(self, name: &str) -> Optional<Timestamp> {
        const EXPECTED: &str = "integer timestamp (in milliseconds)";
        let millis = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(value)) => value.as_u64(),
            Some(Field::Bt(value)) => value.as_u64(),
        };
        let Some(millis) = millis else {
            return invalid(name, EXPECTED);
        };
        if self.is_json() && millis < TIMESTAMP_MIN_MILLIS {
            return Err(RequestError::invalid(format_args!(
                "Invalid timestamp for '{name}': timestamp must be in milliseconds"
            )));
        }
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// An unsigned integer; in JSON also one in a string, as old clients write `ttl` and `timestamp`.
    pub(super) fn unsigned(self, name: &str) -> Optional<u64> {
        let value = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(Value::String(text))) => {
                let parsed = text.parse().map(Some);
                return parsed.map_err(|_| {
                    let quoted = Value::String(text.clone());
                    RequestError::invalid(format_args!(
                        "Invalid value given for '{name}': {quoted}"
                    ))
                });
            }
            Some(Field::Json(value)) => value.as_u64(),
            Some(Field::Bt(value)) => value.as_u64(),
        };
        value.map_or_else(
            || invalid(name, "positive integer"),
            |value| Ok(Some(value)),
        )
    }

    /// A signed integer.
    pub(super) fn integer(self, name: &str) -> Optional<i64> {
        let value = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(value)) => value.as_i64(),
            Some(Field::Bt(value)) => value.as_i64(),
        };
        value.map_or_else(|| invalid(name, "integer"), |value| Ok(Some(value)))
    }

    /// A namespace.
    pub(super) fn namespace(self) -> Optional<Namespace> {
        const NAME: &str = "namespace";
        let number = match self.field(NAME) {
            None => return Ok(None),
            Some(Field::Json(value)) => value.as_i64(),
            Some(Field::Bt(value)) => value.as_i64(),
        };
        let Some(number) = number else {
            return invalid(NAME, "16-bit integer");
        };
        match i16::try_from(number) {
            Ok(number) => Ok(Some(Namespace(number))),
            Err(_) if self.is_json() => Err(RequestError::invalid(
                "Invalid value given for 'namespace': value out of range",
            )),
            Err(_) => invalid(NAME, "16-bit integer"),
        }
    }

    /// true or false; 1 or 0 in bt.
    pub(super) fn boolean(self, name: &str) -> Optional<bool> {
        let value = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(value)) => value.as_bool(),
            Some(Field::Bt(value)) => value
                .as_i64()
                .filter(|bit| matches!(bit, 0 | 1))
                .map(|bit| bit == 1),
        };
        value.map_or_else(|| invalid(name, "boolean"), |value| Ok(Some(value)))
    }

    /// A list of strings, or one string.
    pub(super) fn texts(self, name: &str) -> Optional<Vec<&'a [u8]>> {
        let texts: Option<Vec<&[u8]>> = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(Value::String(text))) => Some(vec![text.as_bytes()]),
            Some(Field::Json(Value::Array(values))) => values
                .iter()
                .map(|value| value.as_str().map(str::as_bytes))
                .collect(),
            Some(Field::Bt(bt::Value::Bytes(bytes))) => Some(vec![bytes]),
            Some(Field::Bt(bt::Value::List(list))) => {
                list.iter().map(|value| value.as_bytes()).collect()
            }
            Some(_) => None,
        };
        texts.map_or_else(|| invalid(name, "string array"), |texts| Ok(Some(texts)))
    }

    /// Any document: a JSON value, or in bt a string that holds JSON.
    pub(super) fn document(self, name: &str) -> Optional<Cow<'a, Value>> {
        match self.field(name) {
            None => Ok(None),
            Some(Field::Json(value)) => Ok(Some(Cow::Borrowed(value))),
            Some(Field::Bt(bt::Value::Bytes(bytes))) => match serde_json::from_slice(bytes) {
                Ok(value) => Ok(Some(Cow::Owned(value))),
                Err(_) => Err(RequestError::invalid(format_args!(
                    "oxend_request {name} field does not contain valid json"
                ))),
            },
            Some(Field::Bt(_)) => invalid(name, "string"),
        }
    }

    /// The subrequests of a batch: method and parameters of each.
    pub(super) fn subrequests(self) -> Result<Vec<(&'a str, Self)>, RequestError> {
        const NONE: &str = "Invalid batch request: no valid \"requests\" field";
        match self.field("requests") {
            Some(Field::Json(Value::Array(rows))) if !rows.is_empty() => {
                check_count(rows.len())?;
                rows.iter().map(json_subrequest).collect()
            }
            Some(Field::Bt(bt::Value::List(rows))) => {
                check_count(rows.iter().take(super::SUBREQUEST_COUNT_MAX + 1).count())?;
                let rows: Vec<_> = rows.iter().map(bt_subrequest).collect::<Result<_, _>>()?;
                if rows.is_empty() {
                    return Err(RequestError::invalid(
                        "Invalid batch request: empty \"requests\" list",
                    ));
                }
                Ok(rows)
            }
            _ => Err(RequestError::invalid(NONE)),
        }
    }
}

fn check_count(count: usize) -> Result<(), RequestError> {
    if count > super::SUBREQUEST_COUNT_MAX {
        return Err(RequestError::invalid(
            "Invalid batch request: subrequest limit exceeded",
        ));
    }
    Ok(())
}

fn json_subrequest(row: &Value) -> Result<(&str, Source<'_>), RequestError> {
    let object = row
        .as_object()
        .ok_or_else(|| RequestError::invalid("Invalid batch request: requests must be objects"))?;
    let method = object.get("method").and_then(Value::as_str);
    let params = object.get("params").and_then(Value::as_object);
    match (method, params) {
        (Some(method), Some(params)) => Ok((method, Source::Json(params))),
        _ => Err(RequestError::invalid(
            "Invalid batch request: subrequests must have method/params keys",
        )),
    }
}

fn bt_subrequest(row: bt::Value<'_>) -> Result<(&str, Source<'_>), RequestError> {
    let dict = row
        .as_dict()
        .ok_or_else(|| RequestError::invalid("Invalid batch request: requests must be dicts"))?;
    let method = dict.get(b"method").and_then(|method| method.as_bytes());
    let method = method
        .and_then(|method| core::str::from_utf8(method).ok())
        .ok_or_else(|| {
            RequestError::invalid("Invalid batch request: subrequests must have a method")
        })?;
    let params = dict
        .get(b"params")
        .and_then(|params| params.as_dict())
        .ok_or_else(|| {
            RequestError::invalid("Invalid batch request: subrequests must have a params dict")
        })?;
    Ok((method, Source::Bt(params)))
}
