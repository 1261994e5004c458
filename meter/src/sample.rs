//! A number as it is read, and what was declared of it.

use std::borrow::Cow;

use crate::{Bounds, Buckets};

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How often something happened, or how much, since the start; never less than before.
    Count,
    /// How much there is now.
    Gauge,
    /// How often something was how large.
    Histogram,
}

/// What stands in the source of a number, or of a family of numbers that differ in one label.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Its full name, with unit and `_total` as Prometheus wants them.
    pub name: &'static str,
    /// What it says: sentences.
    pub help: &'static str,
    /// Whether it may go down.
    pub kind: Kind,
    /// The label that numbers of this name differ in, if there is one.
    pub label: Option<&'static str>,
    /// The values of that label, where they are known beforehand.
    pub label_values: fn() -> Vec<&'static str>,
    /// What is recorded divided by this is in the unit that the name tells.
    pub scale: u64,
    /// The bounds of a histogram.
    pub bounds: Option<&'static Bounds>,
}

/// The value of a label.
pub type LabelValue = Cow<'static, str>;

/// What a number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a count or a gauge; before it is divided by [`Declared::scale`].
    Number(u64),
    /// Of a histogram.
    Buckets(Box<Buckets>),
}

/// A number, for operators.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was declared of it.
    pub declared: &'static Declared,
    /// The value of its label, if it has one.
    pub label: Option<LabelValue>,
    /// What it is.
    pub value: Value,
}

impl Sample {
    /// A number without a label.
    pub const fn number(declared: &'static Declared, value: u64) -> Self {
        Self {
            declared,
            label: None,
            value: Value::Number(value),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.declared.name
    }

    /// The number that was recorded; of a histogram how many.
    pub fn recorded(&self) -> u64 {
        match &self.value {
            Value::Number(value) => *value,
            Value::Buckets(buckets) => buckets.count(),
        }
    }
}
