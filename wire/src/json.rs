//! JSON that a stranger wrote, read within bounds.
//!
//! A parsed value is far larger than its text: `{"":0},` are seven bytes, and some 660 in memory. So
//! what may cost memory is the count of values, and it is bounded before the first one is made; the
//! depth is bounded by `serde_json` (128).

use serde_json::Value;

use crate::bt::VALUE_COUNT_MAX;

/// Reads a document of at most [`VALUE_COUNT_MAX`] values; `None` when it has more or is not JSON.
pub(crate) fn parse(text: &[u8]) -> Option<Value> {
    // A value is the whole, or begins behind one of these. Those that stand in strings count too:
    // no request has nearly so many, and the count needs no parser.
    let begin_count = text
        .iter()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{'))
        .count();
    if begin_count >= VALUE_COUNT_MAX {
        return None;
    }
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_are_refused_and_long_strings_are_not() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(parse(list(VALUE_COUNT_MAX).as_bytes()).is_some());
        assert_eq!(parse(list(VALUE_COUNT_MAX + 1).as_bytes()), None);
        let maps = format!("[{}0]", r#"{"":0},"#.repeat(VALUE_COUNT_MAX / 2));
        assert_eq!(parse(maps.as_bytes()), None);
        let text = format!("\"{}\"", "a".repeat(1 << 20));
        assert!(parse(text.as_bytes()).is_some());
        for bad in ["", "{", "{}x", "[1,]", "\"\u{1}\"", "nul"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"\"\xff\""), None, "text is UTF-8");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(parse(nested(100).as_bytes()).is_some());
        assert_eq!(parse(nested(200).as_bytes()), None);
    }
}
