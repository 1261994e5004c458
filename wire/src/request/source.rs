//! Parameters in either encoding, read field by field with the reference's words for what is wrong.

use core::str::FromStr;
use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::parse::METHODS;
use super::{Network, RequestError, SUBREQUEST_COUNT_MAX};
use crate::bt::{self, Dict};
use crate::{Namespace, Scope, Timestamp, json};

/// JSON timestamps below this are seconds by mistake.
const TIMESTAMP_MIN_MILLIS: u64 = 1_000_000_000;

/// Standard base64, padded or not; bits that the last character does not need are ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes base64 as clients write it: with all of its padding or none.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let is_half_padded = text.ends_with(b"=") && !text.len().is_multiple_of(4);
    if is_half_padded {
        return None;
    }
    BASE64.decode(text).ok()
}

/// The parameters of a request, and the network that they are read for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    params: Params<'a>,
    network: Network,
}

/// Parameters as they were written.
#[derive(Clone, Copy)]
pub(super) enum Params<'a> {
    Json(&'a Map<String, Value>),
    Bt(Dict<'a>),
}

/// One field that is there.
enum Field<'a> {
    Json(&'a Value),
    Bt(bt::Value<'a>),
}

type Optional<T> = Result<Option<T>, RequestError>;

const SCOPE: &str = "integer or \"all\"";
const TIMESTAMP: &str = "integer timestamp (in milliseconds)";

/// A time before the epoch counts as the epoch: wherever a time is judged, both are too long ago.
fn since_epoch(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0)
}

/// A decimal number in a string. A plus sign is none.
fn quoted_number<T: FromStr>(name: &str, text: &str) -> Result<T, RequestError> {
    let digits = Some(text).filter(|text| !text.starts_with('+'));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let quoted = Value::String(text.to_owned());
        RequestError::invalid(format_args!("Invalid value given for '{name}': {quoted}"))
    })
}

fn invalid<T>(name: &str, expected: &str) -> Result<T, RequestError> {
    Err(RequestError::invalid(format_args!(
        "Invalid value given for '{name}': expected {expected}"
    )))
}

/// What is no object has no parameters.
static NO_PARAMS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

impl<'a> Params<'a> {
    /// JSON parameters; what is no object counts as none.
    pub(super) fn from_json(params: &'a Value) -> Self {
        Self::Json(params.as_object().unwrap_or(&NO_PARAMS))
    }
}

impl<'a> Source<'a> {
    pub(super) const fn new(params: Params<'a>, network: Network) -> Self {
        Self { params, network }
    }

    /// Other parameters of the same request.
    const fn with(self, params: Params<'a>) -> Self {
        Self::new(params, self.network)
    }

    pub(super) const fn network(self) -> Network {
        self.network
    }

    pub(super) const fn is_json(self) -> bool {
        matches!(self.params, Params::Json(_))
    }

    /// A field; JSON's null counts as absent.
    fn field(self, name: &str) -> Option<Field<'a>> {
        match self.params {
            Params::Json(object) => object
                .get(name)
                .filter(|value| !value.is_null())
                .map(Field::Json),
            Params::Bt(dict) => dict.get(name.as_bytes()).map(Field::Bt),
        }
    }

    /// A field, be it JSON's null.
    fn any_field(self, name: &str) -> Option<Field<'a>> {
        match self.params {
            Params::Json(object) => object.get(name).map(Field::Json),
            Params::Bt(_) => self.field(name),
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
        let millis = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(value)) => value.as_u64(),
            Some(Field::Bt(value)) => value.as_i64().map(since_epoch),
        };
        let Some(millis) = millis else {
            return invalid(name, TIMESTAMP);
        };
        if self.is_json() && millis < TIMESTAMP_MIN_MILLIS {
            return Err(RequestError::invalid(format_args!(
                "Invalid timestamp for '{name}': timestamp must be in milliseconds"
            )));
        }
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// When a stored message was sent: in JSON also in a string, and then as small as may be.
    pub(super) fn sent_at(self, name: &str) -> Optional<Timestamp> {
        let millis = match self.field(name) {
            None => return Ok(None),
            Some(Field::Bt(_)) => return self.timestamp(name),
            Some(Field::Json(Value::String(text))) => since_epoch(quoted_number(name, text)?),
            Some(Field::Json(value)) => match (value.as_u64(), value.as_i64()) {
                (Some(millis), _) => millis,
                (None, Some(millis)) => since_epoch(millis),
                (None, None) => return invalid(name, "integer"),
            },
        };
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// An unsigned integer; in JSON also one in a string, as old clients write `ttl`.
    pub(super) fn unsigned(self, name: &str) -> Optional<u64> {
        let value = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(Value::String(text))) => return quoted_number(name, text).map(Some),
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

    /// A namespace, or all of them.
    pub(super) fn scope(self) -> Optional<Scope> {
        const NAME: &str = "namespace";
        match self.field(NAME) {
            None => Ok(None),
            Some(Field::Json(Value::String(text))) if text == "all" => Ok(Some(Scope::All)),
            Some(Field::Bt(bt::Value::Bytes(b"all"))) => Ok(Some(Scope::All)),
            Some(Field::Json(value)) if value.as_i64().is_some() || value.as_u64().is_some() => {
                self.namespace().map(|namespace| namespace.map(Scope::One))
            }
            Some(Field::Bt(value)) => {
                let number = value.as_i64().and_then(|number| i16::try_from(number).ok());
                number.map_or_else(
                    || invalid(NAME, SCOPE),
                    |number| Ok(Some(Scope::One(Namespace(number)))),
                )
            }
            Some(Field::Json(_)) => invalid(NAME, SCOPE),
        }
    }

    /// A list of times, or one. In whatever unit: the reference does not look here.
    pub(super) fn timestamps(self, name: &str) -> Optional<Vec<Timestamp>> {
        let one = |millis: u64| vec![Timestamp::from_millis(millis)];
        let times: Option<Vec<Timestamp>> = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(Value::Array(values))) => values
                .iter()
                .map(|value| value.as_u64().map(Timestamp::from_millis))
                .collect(),
            Some(Field::Json(value)) => value.as_u64().map(one),
            Some(Field::Bt(bt::Value::List(list))) => list
                .iter()
                .map(|value| value.as_i64().map(since_epoch).map(Timestamp::from_millis))
                .collect(),
            Some(Field::Bt(value)) => value.as_i64().map(since_epoch).map(one),
        };
        times.map_or_else(|| invalid(name, "timestamp array"), |times| Ok(Some(times)))
    }

    /// A list of integers, or one. An empty list counts as absent.
    pub(super) fn integers<const N: usize>(self, name: &str) -> Optional<[i64; N]> {
        let given: Option<Vec<i64>> = match self.field(name) {
            None => return Ok(None),
            Some(Field::Json(Value::Array(values))) => values.iter().map(Value::as_i64).collect(),
            Some(Field::Json(value)) => value.as_i64().map(|value| vec![value]),
            Some(Field::Bt(bt::Value::List(list))) => {
                list.iter().map(|value| value.as_i64()).collect()
            }
            Some(Field::Bt(value)) => value.as_i64().map(|value| vec![value]),
        };
        let Some(given) = given else {
            return invalid(name, "integer array");
        };
        if given.is_empty() {
            return Ok(None);
        }
        let mut integers = [0; N];
        for (to, from) in integers.iter_mut().zip(given) {
            *to = from;
        }
        Ok(Some(integers))
    }

    /// A dict of parameters: the `if` of `ifelse`.
    pub(super) fn object(self, name: &str) -> Option<Self> {
        let params = match self.field(name)? {
            Field::Json(value) => Params::Json(value.as_object()?),
            Field::Bt(value) => Params::Bt(value.as_dict()?),
        };
        Some(self.with(params))
    }

    /// A request with its method: a branch of `ifelse`. `read` gets method and parameters.
    pub(super) fn branch<T>(
        self,
        name: &str,
        read: impl FnOnce(&'a str, Self) -> Result<T, RequestError>,
    ) -> Optional<T> {
        let (method, params) = match self.any_field(name) {
            None => return Ok(None),
            Some(Field::Json(value)) => json_branch(name, value)?,
            Some(Field::Bt(value)) => bt_branch(name, value)?,
        };
        if !METHODS.contains(&method) {
            return Err(RequestError::invalid(format_args!(
                "Invalid ifelse request method \"{name}\""
            )));
        }
        read(method, self.with(params)).map(Some)
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
            Some(Field::Bt(bt::Value::Bytes(bytes))) => match json::parse(bytes) {
                Some(value) => Ok(Some(Cow::Owned(value))),
                None => Err(RequestError::invalid(format_args!(
                    "oxend_request {name} field does not contain valid json"
                ))),
            },
            Some(Field::Bt(_)) => invalid(name, "string"),
        }
    }

    /// Reads the subrequests of a batch, each by its method and parameters, in order: what is wrong
    /// with the first of them is told before what is wrong with the second.
    pub(super) fn subrequests<T>(
        self,
        mut read: impl FnMut(&'a str, Self) -> Result<T, RequestError>,
    ) -> Result<Vec<T>, RequestError> {
        match self.field("requests") {
            Some(Field::Json(Value::Array(rows))) if !rows.is_empty() => {
                if rows.len() > SUBREQUEST_COUNT_MAX {
                    return Err(too_many_subrequests());
                }
                rows.iter()
                    .map(|row| {
                        let (method, params) = json_subrequest(row)?;
                        read(method, self.with(params))
                    })
                    .collect()
            }
            Some(Field::Bt(bt::Value::List(rows))) => {
                let mut requests = Vec::new();
                for row in rows.iter() {
                    let row = bt_row(row)?;
                    if requests.len() >= SUBREQUEST_COUNT_MAX {
                        return Err(too_many_subrequests());
                    }
                    let (method, params) = bt_subrequest(row)?;
                    requests.push(read(method, self.with(params))?);
                }
                if requests.is_empty() {
                    return Err(batch_error("empty \"requests\" list"));
                }
                Ok(requests)
            }
            _ => Err(batch_error("no valid \"requests\" field")),
        }
    }
}

fn batch_error(why: &str) -> RequestError {
    RequestError::invalid(format_args!("Invalid batch request: {why}"))
}

fn too_many_subrequests() -> RequestError {
    batch_error("subrequest limit exceeded")
}

fn check_method(method: &str) -> Result<(), RequestError> {
    if METHODS.contains(&method) {
        return Ok(());
    }
    Err(RequestError::invalid(format_args!(
        "Invalid batch subrequest: invalid method \"{method}\""
    )))
}

fn json_subrequest(row: &Value) -> Result<(&str, Params<'_>), RequestError> {
    let object = row
        .as_object()
        .ok_or_else(|| batch_error("requests must be objects"))?;
    let method = object.get("method").and_then(Value::as_str);
    let params = object.get("params").and_then(Value::as_object);
    let (Some(method), Some(params)) = (method, params) else {
        return Err(batch_error("subrequests must have method/params keys"));
    };
    check_method(method)?;
    Ok((method, Params::Json(params)))
}

fn bt_row(row: bt::Value<'_>) -> Result<Dict<'_>, RequestError> {
    row.as_dict()
        .ok_or_else(|| batch_error("requests must be dicts"))
}

fn bt_subrequest(row: Dict<'_>) -> Result<(&str, Params<'_>), RequestError> {
    let method = row.get(b"method").and_then(|method| method.as_bytes());
    let method = method
        .and_then(|method| core::str::from_utf8(method).ok())
        .ok_or_else(|| batch_error("subrequests must have a method"))?;
    check_method(method)?;
    let params = row.get(b"params").and_then(|params| params.as_dict());
    let params = params.ok_or_else(|| batch_error("subrequests must have a params dict"))?;
    Ok((method, Params::Bt(params)))
}

fn branch_error(name: &str, why: &str) -> RequestError {
    RequestError::invalid(format_args!("Invalid ifelse request: {name} {why}"))
}

fn json_branch<'a>(name: &str, branch: &'a Value) -> Result<(&'a str, Params<'a>), RequestError> {
    let object = branch
        .as_object()
        .ok_or_else(|| branch_error(name, "must be an object"))?;
    let method = object.get("method").and_then(Value::as_str);
    let (Some(method), Some(params)) = (method, object.get("params")) else {
        return Err(branch_error(name, "must have method/params keys"));
    };
    Ok((method, Params::from_json(params)))
}

fn bt_branch<'a>(name: &str, branch: bt::Value<'a>) -> Result<(&'a str, Params<'a>), RequestError> {
    let dict = branch
        .as_dict()
        .ok_or_else(|| branch_error(name, "must be a dict"))?;
    let method = dict.get(b"method").and_then(|method| method.as_bytes());
    let method = method
        .and_then(|method| core::str::from_utf8(method).ok())
        .ok_or_else(|| branch_error(name, "missing method"))?;
    let params = dict.get(b"params").and_then(|params| params.as_dict());
    let params = params.ok_or_else(|| branch_error(name, "missing params"))?;
    Ok((method, Params::Bt(params)))
}
