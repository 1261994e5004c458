//! Prometheus' text format 0.0.4, as a reader of `GET /metrics` sees it: a number a line, with a name and
//! labels. Comments (`HELP`, `TYPE`) are skipped: whoever reads knows what the names mean.

use std::borrow::Cow;

use thiserror::Error;

/// Most numbers of one text: a node has some hundred; so many are still read in no time.
pub const SAMPLE_COUNT_MAX: usize = 65_536;
/// Most labels of one number: a node's have two at most.
pub const LABEL_COUNT_MAX: usize = 16;

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Its name: letters, digits, `_` and `:`.
    pub name: &'a str,
    /// Names and values of its labels, as they stand.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// What it is; `NaN` and infinities are numbers too.
    pub value: f64,
}

/// Why a text is not of the format.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ExpositionError {
    /// A line that is neither a comment nor a number.
    #[error("line {line} is no metric")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// More than [`SAMPLE_COUNT_MAX`] numbers.
    #[error("more than {SAMPLE_COUNT_MAX} numbers")]
    Count,
}

/// Reads a whole text. A line that is malformed refuses all of it.
pub fn parse(text: &str) -> Result<Vec<Sample<'_>>, ExpositionError> {
    let mut samples = Vec::new();
    for (line, number) in text.split('\n').zip(1..) {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if samples.len() == SAMPLE_COUNT_MAX {
            return Err(ExpositionError::Count);
        }
        let sample = parse_line(line).ok_or(ExpositionError::Line { line: number })?;
        samples.push(sample);
    }
    Ok(samples)
}

/// `name{label="value",...} number timestamp`, where labels and timestamp may be missing.
fn parse_line(line: &str) -> Option<Sample<'_>> {
    let (name, rest) = take_name(line, true)?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => take_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = parse_value(words.next()?)?;
    if let Some(timestamp) = words.next() {
        timestamp.parse::<i64>().ok()?;
    }
    words.next().is_none().then_some(Sample {
        name,
        labels,
        value,
    })
}

/// A name at the beginning, and what follows it. Names of numbers may have colons.
fn take_name(text: &str, may_have_colon: bool) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (may_have_colon && c == ':');
    let size = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(size)?;
    let begins_well = name.starts_with(|c: char| !c.is_ascii_digit());
    begins_well.then_some((name, rest))
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What stands behind `{`, and what follows `}`. A comma may stand behind the last label.
fn take_labels(mut text: &str) -> Option<(Labels<'_>, &str)> {
    let blank = [' ', '\t'];
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(blank);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        if labels.len() == LABEL_COUNT_MAX {
            return None;
        }
        let (name, rest) = take_name(text, false)?;
        let rest = rest.trim_start_matches(blank).strip_prefix('=')?;
        let rest = rest.trim_start_matches(blank).strip_prefix('"')?;
        let (value, rest) = take_label_value(rest)?;
        labels.push((name, value));
        text = rest.trim_start_matches(blank);
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return None,
        }
    }
}

/// What stands up to the closing quote, and what follows that. `\\`, `\"` and `\n` are the escapes.
fn take_label_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let plain_size = text.find(['"', '\\'])?;
    let (plain, rest) = text.split_at_checked(plain_size)?;
    if let Some(rest) = rest.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), rest));
    }
    let mut value = plain.to_owned();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some((Cow::Owned(value), characters.as_str())),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
}

/// As Go reads a float, in its usual forms.
fn parse_value(word: &str) -> Option<f64> {
    match word {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust knows more words than these: "infinity", for one.
        _ if word.ends_with(|c: char| c.is_ascii_digit() || c == '.') => word.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample<'a>(name: &'a str, labels: &[(&'a str, &'a str)], value: f64) -> Sample<'a> {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).into()));
        Sample {
            name,
            labels: labels.collect(),
            value,
        }
    }

    #[test]
    fn a_text_as_nodes_write_it() {
        let text = "# HELP cepa_a_total How often: \"x\".\n\
                    # TYPE cepa_a_total counter\n\
                    cepa_a_total 7\n\
                    \n\
                    cepa_b_bucket{via=\"https\",le=\"0.005\"} 1\n\
                    cepa_b_bucket{via=\"https\",le=\"+Inf\"} 2\n\
                    cepa_c{x=\"\"} 1.5e3 1700000000000\r\n\
                    \t d:e { a = \"b\" , } -0.25";
        let expected = [
            sample("cepa_a_total", &[], 7.0),
            sample("cepa_b_bucket", &[("via", "https"), ("le", "0.005")], 1.0),
            sample("cepa_b_bucket", &[("via", "https"), ("le", "+Inf")], 2.0),
            sample("cepa_c", &[("x", "")], 1500.0),
            sample("d:e", &[("a", "b")], -0.25),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn label_values_are_unescaped() {
        let text = r#"a{b="c:\\d\n\"e\" é}",f="g"} 1"#;
        let expected = sample("a", &[("b", "c:\\d\n\"e\" é}"), ("f", "g")], 1.0);
        assert_eq!(parse(text).unwrap(), [expected]);
    }

    #[test]
    fn values_are_those_of_the_format() {
        let value = |word: &str| parse(&format!("a {word}")).map(|samples| samples[0].value);
        assert_eq!(value("+Inf"), Ok(f64::INFINITY));
        assert_eq!(value("-Inf"), Ok(f64::NEG_INFINITY));
        assert!(value("NaN").unwrap().is_nan());
        assert_eq!(value("1e-06"), Ok(1e-6));
        assert_eq!(
            value("18446744073709551615"),
            Ok(18_446_744_073_709_551_615.0)
        );
    }

    #[test]
    fn what_is_no_metric_is_refused_by_its_line() {
        let table = [
            "a",
            "a ",
            "1a 1",
            "é 1",
            "a x",
            "a infinity",
            "a 1 x",
            "a 1 2 3",
            "a{b=\"c\" 1",
            "a{b=\"c} 1",
            "a{b=c} 1",
            "a{b} 1",
            "a{b=\"c\"d=\"e\"} 1",
            "a{b=\"\\x\"} 1",
            "a{:=\"c\"} 1",
            "a{,} 1",
            "a{} ",
            "<html>",
        ];
        for line in table {
            let text = format!("# c\n{line}\n");
            assert_eq!(
                parse(&text),
                Err(ExpositionError::Line { line: 2 }),
                "{line}"
            );
        }
    }

    #[test]
    fn numbers_and_labels_are_bounded() {
        let text = "a 1\n".repeat(SAMPLE_COUNT_MAX);
        assert_eq!(parse(&text).unwrap().len(), SAMPLE_COUNT_MAX);
        assert_eq!(parse(&(text + "a 1\n")), Err(ExpositionError::Count));
        let line = |count| format!("a{{{}}} 1", "b=\"c\",".repeat(count));
        assert!(parse(&line(LABEL_COUNT_MAX)).is_ok());
        assert!(parse(&line(LABEL_COUNT_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a-c{}=\",\\\\n0-9.eI+# \t\r\n-]{0,40}") {
            drop(parse(&text));
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}",
            label in "[a-zA-Z_][a-zA-Z0-9_]{0,8}",
            value in any::<String>(),
            number in any::<f64>().prop_filter("finite", |number| number.is_finite()),
        ) {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let line = format!("{name}{{{label}=\"{escaped}\"}} {number:e}");
            let read = parse(&line).unwrap();
            prop_assert_eq!(read, [sample(&name, &[(&label, &value)], number)]);
        }
    }
}
