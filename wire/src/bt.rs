//! bt-encoding (bencode with signed and unsigned 64-bit integers and sorted dict keys), as oxen-mq
//! speaks it. The reader copies nothing: one pass checks everything, then views cannot fail.

use thiserror::Error;

/// How deep lists and dicts may nest: a request needs 3, a batch 5; the rest is headroom.
pub const DEPTH_MAX: usize = 16;
/// Most values of a document that becomes something larger than its text: a request, a control, the
/// answer of a peer. The longest known are lists of hashes; so many values take some 20 MB at worst.
pub const VALUE_COUNT_MAX: usize = 32_768;

/// Why bytes are not bt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BtError {
    /// The input ends inside a value.
    #[error("input ends inside a value")]
    Truncated,
    /// Something stands after the value.
    #[error("something stands after the value")]
    Trailing,
    /// A byte that begins no value stands where a value must.
    #[error("no value begins here")]
    Unexpected,
    /// An integer is empty, has a leading zero, is `-0`, or does not fit 64 bits.
    #[error("integer is malformed or does not fit 64 bits")]
    Integer,
    /// A string's length is malformed or larger than the input.
    #[error("string length is malformed")]
    Length,
    /// Dict keys are not strictly ascending.
    #[error("dict keys are not sorted or repeat")]
    KeyOrder,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deep")]
    Depth,
    /// More values than the caller allows.
    #[error("too many values")]
    Count,
}

/// A checked value that borrows its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer: anything from `i64::MIN` to `u64::MAX`.
    Integer(i128),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dict.
    Dict(Dict<'a>),
}

/// A checked list; iterate it with [`List::iter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a> {
    body: &'a [u8],
}

/// A checked dict with strictly ascending keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dict<'a> {
    body: &'a [u8],
}

impl<'a> Value<'a> {
    /// Checks the whole input as one value. Of as many values as the input holds: what is made of
    /// them is for the caller to bound.
    pub fn parse(input: &'a [u8]) -> Result<Self, BtError> {
        Self::parse_bounded(input, usize::MAX)
    }

    /// Checks the whole input as one value that holds, itself included, at most `count_max` values.
    pub fn parse_bounded(input: &'a [u8], count_max: usize) -> Result<Self, BtError> {
        match read_value(input, &mut Bounds::new(count_max))? {
            (value, []) => Ok(value),
            _ => Err(BtError::Trailing),
        }
    }

    /// The integer as i64, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The integer as u64, if it is one and fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The bytes, if it is a string.
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub const fn as_list(&self) -> Option<List<'a>> {
        match self {
            Self::List(list) => Some(*list),
            _ => None,
        }
    }

    /// The dict, if it is one.
    pub const fn as_dict(&self) -> Option<Dict<'a>> {
        match self {
            Self::Dict(dict) => Some(*dict),
            _ => None,
        }
    }
}

impl<'a> List<'a> {
    /// Its values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut rest = self.body;
        // The body was checked when the list was parsed: reading ends only where it ends.
        core::iter::from_fn(move || {
            let (value, after) = read_value(rest, &mut Bounds::checked()).ok()?;
            rest = after;
            Some(value)
        })
    }
}

impl<'a> Dict<'a> {
    /// Its pairs, keys ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let mut rest = self.body;
        core::iter::from_fn(move || {
            let (key, after) = read_string(rest).ok()?;
            let (value, after) = read_value(after, &mut Bounds::checked()).ok()?;
            rest = after;
            Some((key, value))
        })
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        self.iter()
            .take_while(|(found, _)| *found <= key)
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }
}

/// What may still come.
struct Bounds {
    /// Levels of nesting.
    depth: usize,
    /// Values.
    count: usize,
}

impl Bounds {
    const fn new(count: usize) -> Self {
        Self {
            depth: DEPTH_MAX,
            count,
        }
    }

    /// Those of what was checked before.
    const fn checked() -> Self {
        Self::new(usize::MAX)
    }
}

/// Reads one value and gives what stands after it.
fn read_value<'a>(input: &'a [u8], bounds: &mut Bounds) -> Result<(Value<'a>, &'a [u8]), BtError> {
    bounds.count = bounds.count.checked_sub(1).ok_or(BtError::Count)?;
    match input.split_first().ok_or(BtError::Truncated)? {
        (b'i', rest) => read_integer(rest),
        (b'l', rest) => {
            let after = skip_items(rest, bounds, false)?;
            Ok((
                Value::List(List {
                    body: body_between(rest, after),
                }),
                after,
            ))
        }
        (b'd', rest) => {
            let after = skip_items(rest, bounds, true)?;
            Ok((
                Value::Dict(Dict {
                    body: body_between(rest, after),
                }),
                after,
            ))
        }
        (b'0'..=b'9', _) => {
            let (bytes, after) = read_string(input)?;
            Ok((Value::Bytes(bytes), after))
        }
        _ => Err(BtError::Unexpected),
    }
}

/// Checks items up to the closing `e` and gives what stands after it.
fn skip_items<'a>(
    mut rest: &'a [u8],
    bounds: &mut Bounds,
    keyed: bool,
) -> Result<&'a [u8], BtError> {
    bounds.depth = bounds.depth.checked_sub(1).ok_or(BtError::Depth)?;
    let mut last_key: Option<&[u8]> = None;
    loop {
        if let Some((b'e', after)) = rest.split_first() {
            bounds.depth += 1;
            return Ok(after);
        }
        if keyed {
            let (key, after) = read_string(rest)?;
            if last_key.is_some_and(|last| last >= key) {
                return Err(BtError::KeyOrder);
            }
            last_key = Some(key);
            rest = after;
        }
        (_, rest) = read_value(rest, bounds)?;
    }
}

/// What stands in `begin` before the `e` that `after` follows.
fn body_between<'a>(begin: &'a [u8], after: &[u8]) -> &'a [u8] {
    let size = begin.len().saturating_sub(after.len() + 1);
    begin.get(..size).unwrap_or_default()
}

fn read_integer(input: &[u8]) -> Result<(Value<'_>, &[u8]), BtError> {
    let end = input
        .iter()
        .take(MAX_DIGITS + 2)
        .position(|byte| *byte == b'e');
    let end = end.ok_or(if input.len() < MAX_DIGITS + 2 {
        BtError::Truncated
    } else {
        BtError::Integer
    })?;
    let (text, rest) = input.split_at_checked(end).ok_or(BtError::Truncated)?;
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let magnitude = read_digits(digits).ok_or(BtError::Integer)?;
    let value = if negative {
        -i128::from(magnitude)
    } else {
        i128::from(magnitude)
    };
    if negative && (magnitude == 0 || value < i128::from(i64::MIN)) {
        return Err(BtError::Integer);
    }
    Ok((Value::Integer(value), rest.get(1..).unwrap_or_default()))
}

/// Digits of the largest u64.
const MAX_DIGITS: usize = 20;

fn read_digits(digits: &[u8]) -> Option<u64> {
    let leading_zero = digits.len() > 1 && digits.first() == Some(&b'0');
    if digits.is_empty() || leading_zero {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn read_string(input: &[u8]) -> Result<(&[u8], &[u8]), BtError> {
    let colon = input
        .iter()
        .take(MAX_DIGITS + 1)
        .position(|byte| *byte == b':');
    let Some(colon) = colon else {
        let digits_only = input.iter().all(u8::is_ascii_digit) && input.len() <= MAX_DIGITS;
        return Err(if digits_only {
            BtError::Truncated
        } else {
            BtError::Length
        });
    };
    let (digits, rest) = input.split_at_checked(colon).ok_or(BtError::Truncated)?;
    let size = read_digits(digits).ok_or(BtError::Length)?;
    let size = usize::try_from(size).map_err(|_| BtError::Length)?;
    rest.get(1..)
        .and_then(|rest| rest.split_at_checked(size))
        .ok_or(BtError::Truncated)
}

/// Writes bt. Dict keys must come in ascending order; that is our own duty and asserted.
#[derive(Debug, Default)]
pub struct Writer {
    output: Vec<u8>,
    open: Vec<Open>,
}

#[derive(Debug)]
enum Open {
    List,
    /// The last key, if there was one; `true` while its value is due.
    Dict(Option<Vec<u8>>, bool),
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes an integer.
    pub fn integer(&mut self, value: impl Into<i128>) -> &mut Self {
        self.value_begins();
        self.output
            .extend_from_slice(format!("i{}e", value.into()).as_bytes());
        self
    }

    /// Writes a byte string; in a dict, keys and values alternate.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        match self.open.last_mut() {
            Some(Open::Dict(last, due)) if !*due => {
                assert!(
                    last.as_deref().is_none_or(|last| last < value),
                    "dict keys must ascend"
                );
                *last = Some(value.to_vec());
                *due = true;
            }
            _ => self.value_begins(),
        }
        self.output
            .extend_from_slice(format!("{}:", value.len()).as_bytes());
        self.output.extend_from_slice(value);
        self
    }

    /// Opens a list; close it with [`Self::end`].
    pub fn list(&mut self) -> &mut Self {
        self.value_begins();
        self.output.push(b'l');
        self.open.push(Open::List);
        self
    }

    /// Opens a dict; close it with [`Self::end`].
    pub fn dict(&mut self) -> &mut Self {
        self.value_begins();
        self.output.push(b'd');
        self.open.push(Open::Dict(None, false));
        self
    }

    /// Closes the innermost list or dict.
    pub fn end(&mut self) -> &mut Self {
        let closed = self.open.pop();
        assert!(
            matches!(closed, Some(Open::List | Open::Dict(_, false))),
            "something is open, and no key is without its value"
        );
        self.output.push(b'e');
        self
    }

    /// The bytes written.
    pub fn finish(&mut self) -> Vec<u8> {
        assert!(self.open.is_empty(), "every list and dict is closed");
        core::mem::take(&mut self.output)
    }

    fn value_begins(&mut self) {
        if let Some(Open::Dict(_, due)) = self.open.last_mut() {
            assert!(*due, "a dict's value follows its key");
            *due = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_place() {
        assert_eq!(
            Value::parse(b"d1:ae"),
            Err(BtError::Unexpected),
            "a key without its value"
        );
        let input = b"d1:ai-5e1:bl3:xyz0:deee";
        let dict = Value::parse(input).unwrap().as_dict().unwrap();
        assert_eq!(dict.get(b"a").unwrap().as_i64(), Some(-5));
        let list: Vec<_> = dict.get(b"b").unwrap().as_list().unwrap().iter().collect();
        assert_eq!(list[0].as_bytes(), Some(&b"xyz"[..]));
        assert_eq!(list[1].as_bytes(), Some(&b""[..]));
        assert!(list[2].as_dict().is_some());
        assert_eq!(dict.get(b"c"), None);
    }

    #[test]
    fn integers_are_strict_and_never_wrap() {
        let good = [
            ("i0e", 0),
            ("i-1e", -1),
            ("i18446744073709551615e", i128::from(u64::MAX)),
            ("i-9223372036854775808e", i128::from(i64::MIN)),
        ];
        for (text, value) in good {
            assert_eq!(
                Value::parse(text.as_bytes()),
                Ok(Value::Integer(value)),
                "{text}"
            );
        }
        let bad = [
            "ie",
            "i-e",
            "i-0e",
            "i00e",
            "i01e",
            "i+1e",
            "i 1e",
            "i1.0e",
            "i0x1e",
            "i18446744073709551616e",
            "i-9223372036854775809e",
            "i30000000000000000000e",
            "i99999999999999999999999999999999999999999999999e",
        ];
        for text in bad {
            assert_eq!(
                Value::parse(text.as_bytes()),
                Err(BtError::Integer),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_input_is_refused_with_its_reason() {
        let cases: [(&[u8], BtError); 14] = [
            (b"", BtError::Truncated),
            (b"x", BtError::Unexpected),
            (b"i1", BtError::Truncated),
            (b"5:abc", BtError::Truncated),
            (b"5", BtError::Truncated),
            (b"05:abcde", BtError::Length),
            (b"99999999999999999999:", BtError::Length),
            (b"18446744073709551615:", BtError::Truncated),
            (b"l", BtError::Truncated),
            (b"d", BtError::Truncated),
            (b"d1:b0:1:a0:e", BtError::KeyOrder),
            (b"d1:a0:1:a0:e", BtError::KeyOrder),
            (b"i1ei2e", BtError::Trailing),
            (b"di1e0:e", BtError::Length),
        ];
        for (input, error) in cases {
            let text = String::from_utf8_lossy(input);
            assert_eq!(Value::parse(input), Err(error), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
        assert!(Value::parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(Value::parse(&nested(DEPTH_MAX + 1)), Err(BtError::Depth));
        assert_eq!(Value::parse(&b"l".repeat(1 << 20)), Err(BtError::Depth));
    }

    #[test]
    fn nesting_is_counted_in_depth_and_not_in_number() {
        let wide = [&b"l"[..], &b"le".repeat(DEPTH_MAX * 4), b"e"].concat();
        assert!(Value::parse(&wide).is_ok());
    }

    #[test]
    fn values_are_counted_at_every_depth() {
        let input = b"d1:ali1e0:e1:b0:e";
        assert!(Value::parse_bounded(input, 5).is_ok());
        assert_eq!(Value::parse_bounded(input, 4), Err(BtError::Count));
        let hostile = [&b"l"[..], &b"de".repeat(1 << 20), b"e"].concat();
        let refused = Value::parse_bounded(&hostile, VALUE_COUNT_MAX);
        assert_eq!(refused, Err(BtError::Count));
    }

    #[test]
    fn the_writer_writes_what_the_reader_reads() {
        let mut writer = Writer::new();
        writer
            .dict()
            .bytes(b"a")
            .list()
            .integer(-1)
            .bytes(b"x")
            .end()
            .bytes(b"b")
            .integer(7)
            .end();
        assert_eq!(writer.finish(), b"d1:ali-1e1:xe1:bi7ee");
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn the_writer_refuses_unsorted_keys() {
        Writer::new().dict().bytes(b"b").integer(1).bytes(b"a");
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn the_writer_refuses_an_empty_key_twice() {
        Writer::new().dict().bytes(b"").integer(1).bytes(b"");
    }

    #[test]
    #[should_panic(expected = "no key is without its value")]
    fn the_writer_refuses_a_key_without_its_value() {
        Writer::new().dict().bytes(b"a").end();
    }

    #[test]
    #[should_panic(expected = "is closed")]
    fn the_writer_refuses_what_is_left_open() {
        Writer::new().dict().finish();
    }
}
