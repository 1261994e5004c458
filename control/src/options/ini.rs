//! The file that the C++ storage server reads its options from (`storage-server.conf`): `key = value`
//! lines, as `boost::program_options` and CLI11 both take them.

/// A `key = value` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Counted from 1.
    pub line: usize,
    /// What stands before `=`.
    pub key: &'a str,
    /// What stands behind it, without its quotes; `true` where there is no `=`.
    pub value: &'a str,
}

/// A line that is none of: empty, a comment, `key`, `key = value`, `[default]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
}

/// Reads the lines. `#` and `;` begin a comment at the beginning of a line, `#` behind white space too,
/// unless it stands in quotes. A list `[a, b]` gives a pair for each of its values. The section
/// `[default]` is the file itself; there is no other.
///
/// At most one pair comes from each byte of the text, so whoever bounds that bounds this.
pub fn parse(text: &str) -> Result<Vec<Pair<'_>>, BadLine> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    for (content, line) in text.lines().zip(1..) {
        let content = without_comment(content).trim();
        if content.is_empty() || content.starts_with(';') || content == "[default]" {
            continue;
        }
        let (key, value) = match content.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => (content, "true"),
        };
        if !is_key(key) {
            return Err(BadLine { line });
        }
        let list = value
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let values = list.unwrap_or(value).split(',');
        match list {
            Some(_) => pairs.extend(values.map(|value| Pair {
                line,
                key,
                value: unquoted(value.trim()),
            })),
            None => pairs.push(Pair {
                line,
                key,
                value: unquoted(value),
            }),
        }
    }
    Ok(pairs)
}

/// Cuts the comment off. An apostrophe or quote opens a text that only its like closes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    // The beginning of a line counts as white space.
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '#' && before.is_whitespace() => {
                return line.get(..at).unwrap_or(line);
            }
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            Some(_) | None => {}
        }
        before = letter;
    }
    line
}

fn is_key(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_and_values() {
        type Expected = (usize, &'static str, &'static str);
        let table: [(&str, &[Expected]); 13] = [
            ("", &[]),
            ("# a comment\n ; another\n\n[default]\n", &[]),
            ("omq-port=22020", &[(1, "omq-port", "22020")]),
            ("\n  omq-port =  22020  \r\n", &[(2, "omq-port", "22020")]),
            ("\u{feff}a=1", &[(1, "a", "1")]),
            ("testnet", &[(1, "testnet", "true")]),
            ("a = 1 # why", &[(1, "a", "1")]),
            ("a = x#y;z", &[(1, "a", "x#y;z")]),
            ("a = \"x # y\" # why", &[(1, "a", "x # y")]),
            ("a = 'it is'\na=b=c", &[(1, "a", "it is"), (2, "a", "b=c")]),
            (
                "a = [\"x\", 'y',z]",
                &[(1, "a", "x"), (1, "a", "y"), (1, "a", "z")],
            ),
            ("a =", &[(1, "a", "")]),
            ("a = \"", &[(1, "a", "\"")]),
        ];
        for (text, expected) in table {
            let pairs = parse(text).unwrap();
            let got: Vec<_> = pairs
                .iter()
                .map(|pair| (pair.line, pair.key, pair.value))
                .collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number() {
        for line in ["= 1", "two words", "[section]", "\"a\" = 1", "\0"] {
            let text = format!("a = 1\n{line}\n");
            assert_eq!(parse(&text), Err(BadLine { line: 2 }), "{line}");
        }
    }
}
