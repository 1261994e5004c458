//! All numbers of one scrape, by name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cepa_wire::exposition::{self, ExpositionError};

/// What names of ours begin with.
const PREFIX: &str = "cepa_";

/// Most characters of the value of a label that are kept: what is longer is no word for a screen.
const LABEL_VALUE_LENGTH_MAX: usize = 64;

/// Most numbers of one name: each is looked for among those of the scrape before, one after the other. A node's
/// largest histogram has some hundred.
const SERIES_COUNT_MAX: usize = 4096;

/// A value as it can be shown: a control character could do anything to a terminal.
fn clean(value: &str) -> String {
    let shown = value.chars().take(LABEL_VALUE_LENGTH_MAX);
    shown
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// One number of a name, with its labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Series {
    /// The value of a label; empty if there is none, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or("", |(_, value)| value)
    }

    /// Whether it has these labels and no others.
    fn has_same_labels(&self, other: &Self) -> bool {
        self.labels == other.labels
    }
}

/// All numbers of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    families: BTreeMap<String, Vec<Series>>,
}

impl Reading {
    /// Reads what a node answered.
    pub(super) fn parse(text: &str) -> Result<Self, ExpositionError> {
        let mut families = BTreeMap::<String, Vec<Series>>::new();
        for sample in exposition::parse(text)? {
            let own = |(name, value): (&str, Cow<'_, str>)| (name.to_owned(), clean(&value));
            let mut labels: Vec<_> = sample.labels.into_iter().map(own).collect();
            labels.sort_unstable();
            let series = Series {
                labels,
                value: sample.value,
            };
            // Names are few; each is copied once.
            match families.get_mut(sample.name) {
                Some(family) if family.len() == SERIES_COUNT_MAX => {
                    return Err(ExpositionError::Count);
                }
                Some(family) => family.push(series),
                None => drop(families.insert(sample.name.to_owned(), vec![series])),
            }
        }
        Ok(Self { families })
    }

    /// Whether a node of ours told this.
    pub(super) fn is_of_cepa(&self) -> bool {
        self.families.keys().any(|name| name.starts_with(PREFIX))
    }

    /// All numbers of a name.
    pub(super) fn family(&self, name: &str) -> &[Series] {
        self.families.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of all numbers of a name, if there is any.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        let family = self.family(name);
        let numbers = family.iter().map(|series| series.value);
        (!family.is_empty()).then(|| numbers.sum())
    }

    /// The largest of a name, if there is any.
    pub(super) fn largest(&self, name: &str) -> Option<f64> {
        let numbers = self.family(name).iter().map(|series| series.value);
        numbers.reduce(f64::max)
    }

    /// The value of a label of the first number of a name that has it: for names whose labels are what
    /// they tell.
    pub(super) fn text(&self, name: &str, label: &str) -> Option<String> {
        let values = self.family(name).iter().map(|series| series.label(label));
        let mut values = values.filter(|value| !value.is_empty());
        values.next().map(ToOwned::to_owned)
    }

    /// What a number of the same name and labels was here.
    pub(super) fn same(&self, name: &str, of: &Series) -> Option<f64> {
        let family = self.family(name).iter();
        let mut same = family.filter(|series| series.has_same_labels(of));
        same.next().map(|series| series.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name_and_label() {
        let text = "# TYPE cepa_a gauge\ncepa_a{x=\"1\",y=\"p\"} 2\ncepa_a{y=\"q\"} 3\ncepa_b 4\n";
        let reading = Reading::parse(text).unwrap();
        assert!(reading.is_of_cepa());
        assert_eq!(reading.sum("cepa_a"), Some(5.0));
        assert_eq!(reading.largest("cepa_a"), Some(3.0));
        assert_eq!(reading.sum("cepa_c"), None);
        assert_eq!(reading.largest("cepa_c"), None);
        assert_eq!(reading.text("cepa_a", "x").as_deref(), Some("1"));
        assert_eq!(reading.text("cepa_b", "x"), None);
        let [first, second] = reading.family("cepa_a") else {
            panic!("there are two")
        };
        assert_eq!((first.label("y"), second.label("x")), ("p", ""));
        // The order of labels does not matter.
        let other = Reading::parse("cepa_a{y=\"p\",x=\"1\"} 9").unwrap();
        assert_eq!(other.same("cepa_a", first), Some(9.0));
        assert_eq!(other.same("cepa_a", second), None);
    }

    #[test]
    fn what_a_label_says_can_be_shown() {
        let text = format!("a{{b=\"x\x1b[2J{}\"}} 1", "y".repeat(100));
        let shown = Reading::parse(&text).unwrap().text("a", "b").unwrap();
        assert!(shown.starts_with("x?[2Jyy"), "{shown}");
        assert_eq!(shown.chars().count(), LABEL_VALUE_LENGTH_MAX);
    }

    #[test]
    fn numbers_of_a_name_are_bounded() {
        let text = |count: usize| "cepa_a 1\n".repeat(count);
        assert!(Reading::parse(&text(SERIES_COUNT_MAX)).is_ok());
        assert!(Reading::parse(&text(SERIES_COUNT_MAX + 1)).is_err());
    }

    #[test]
    fn others_are_told_from_ours() {
        let other = Reading::parse("go_goroutines 7\nprocess_open_fds 3\n").unwrap();
        assert!(!other.is_of_cepa());
        assert!(Reading::parse("<html>").is_err());
    }
}
