//! The macros that declare numbers.

/// Declares a struct of numbers that several threads write, each with its help text, and what reads them.
///
/// A name alone is a count; `name: gauge` a gauge; `name: histogram(BOUNDS)` a histogram with the bounds of a
/// static; `name: each(Label)`, `name: gauge_each(Label)` and `name: histogram_each(Label, BOUNDS)` one for each
/// value of a label. Counts and gauges are `AtomicU64`; `/ 1000` behind one tells that it is in thousandths of the
/// unit that its name tells. In the text all begin with `cepa_` and the prefix, and
/// counts end in `_total`.
#[macro_export]
macro_rules! counters {
    (
        $(#[$about:meta])*
        $vis:vis struct $counters:ident, named $prefix:literal;
        $($(#[doc = $doc:literal])+
            $name:ident $(: $kind:ident $(($($part:ident),+))? $(/ $scale:literal)?)?,)+
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        $vis struct $counters {
            $($(#[doc = $doc])+ pub $name: $crate::counters!(@type $($kind $(($($part),+))?)?),)+
        }

        impl Default for $counters {
            fn default() -> Self {
                Self {
                    $($name: $crate::counters!(@make $($kind $(($($part),+))?)?),)+
                }
            }
        }

        impl $counters {
            /// What was declared, in that order.
            $vis const DECLARED: &'static [$crate::Declared] = &[
                $($crate::declared!(
                    $prefix, ($name), concat!($($doc),+), (1 $($(* $scale)?)?),
                    $($kind $(($($part),+))?)?
                ),)+
            ];

            /// All of them, in the order of declaration.
            $vis fn snapshot(&self) -> Vec<$crate::Sample> {
                let mut samples = Vec::new();
                let mut declared = Self::DECLARED.iter();
                $(if let Some(declared) = declared.next() {
                    $crate::counters!(
                        @read samples, declared, (&self.$name), $($kind $(($($part),+))?)?
                    );
                })+
                samples
            }
        }
    };
    (@type $(gauge)?) => { ::core::sync::atomic::AtomicU64 };
    (@type histogram($bounds:ident)) => { $crate::Histogram };
    (@type each($label:ident)) => {
        $crate::Family<$label, ::core::sync::atomic::AtomicU64>
    };
    (@type gauge_each($label:ident)) => { $crate::counters!(@type each($label)) };
    (@type histogram_each($label:ident, $bounds:ident)) => {
        $crate::Family<$label, $crate::Histogram>
    };
    (@make $(gauge)?) => { ::core::sync::atomic::AtomicU64::new(0) };
    (@make histogram($bounds:ident)) => { $crate::Histogram::new(&$bounds) };
    (@make each($label:ident)) => {
        $crate::Family::new(|| ::core::sync::atomic::AtomicU64::new(0))
    };
    (@make gauge_each($label:ident)) => { $crate::counters!(@make each($label)) };
    (@make histogram_each($label:ident, $bounds:ident)) => {
        $crate::Family::new(|| $crate::Histogram::new(&$bounds))
    };
    (@read $samples:ident, $declared:ident, ($number:expr), $(gauge)?) => {
        let value = $number.load(::core::sync::atomic::Ordering::Relaxed);
        $samples.push($crate::Sample::number($declared, value));
    };
    (@read $samples:ident, $declared:ident, ($number:expr), histogram($bounds:ident)) => {
        $samples.push($crate::Sample {
            declared: $declared,
            label: None,
            value: $crate::Value::Buckets(Box::new($number.read())),
        });
    };
    (@read $samples:ident, $declared:ident, ($number:expr), each($label:ident)) => {
        for (label, number) in $number.iter() {
            let value = number.load(::core::sync::atomic::Ordering::Relaxed);
            $samples.push($crate::Sample {
                declared: $declared,
                label: Some($crate::Label::name(label).into()),
                value: $crate::Value::Number(value),
            });
        }
    };
    (@read $samples:ident, $declared:ident, ($number:expr), gauge_each($label:ident)) => {
        $crate::counters!(@read $samples, $declared, ($number), each($label));
    };
    (
        @read $samples:ident, $declared:ident, ($number:expr),
        histogram_each($label:ident, $bounds:ident)
    ) => {
        for (label, histogram) in $number.iter() {
            $samples.push($crate::Sample {
                declared: $declared,
                label: Some($crate::Label::name(label).into()),
                value: $crate::Value::Buckets(Box::new(histogram.read())),
            });
        }
    };
}

/// Declares a struct of plain numbers, each with its help text, and what reads and adds them.
///
/// `count` and `gauge` are an `u64`, and `/ 1000` behind the name tells that they are in thousandths of the unit;
/// `as` gives a field another name in the text; `maybe` is a gauge that is not always known; `histogram(BOUNDS)` are [`Buckets`](crate::Buckets);
/// `gauges(label)` and `counts(label)` lists of numbers by the value of a label. A sum has what is known of
/// either.
#[macro_export]
macro_rules! numbers {
    (
        $(#[$about:meta])*
        $vis:vis struct $numbers:ident, named $prefix:literal;
        $($(#[doc = $doc:literal])+
            $kind:ident $(($part:ident))? $name:ident $(as $told:ident)? $(/ $scale:literal)?,)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        $vis struct $numbers {
            $($(#[doc = $doc])+ pub $name: $crate::numbers!(@type $kind),)+
        }

        impl $numbers {
            /// What was declared, in that order.
            $vis const DECLARED: &'static [$crate::Declared] = &[
                $($crate::declared!(
                    $prefix, ($($told)? $name), concat!($($doc),+), (1 $(* $scale)?),
                    $kind $(($part))?
                ),)+
            ];

            /// All of them, in the order of declaration.
            $vis fn samples(&self) -> Vec<$crate::Sample> {
                let mut samples = Vec::new();
                let mut declared = Self::DECLARED.iter();
                $(if let Some(declared) = declared.next() {
                    $crate::numbers!(@read samples, declared, (&self.$name), $kind);
                })+
                samples
            }
        }

        impl ::core::ops::AddAssign for $numbers {
            fn add_assign(&mut self, other: Self) {
                $($crate::numbers!(@add (self.$name), (other.$name), $kind);)+
            }
        }
    };
    (@type count) => { u64 };
    (@type gauge) => { u64 };
    (@type maybe) => { Option<u64> };
    (@type histogram) => { $crate::Buckets };
    (@type gauges) => { Vec<($crate::LabelValue, u64)> };
    (@type counts) => { Vec<($crate::LabelValue, u64)> };
    (@read $samples:ident, $declared:ident, ($number:expr), count) => {
        $samples.push($crate::Sample::number($declared, *$number));
    };
    (@read $samples:ident, $declared:ident, ($number:expr), gauge) => {
        $samples.push($crate::Sample::number($declared, *$number));
    };
    (@read $samples:ident, $declared:ident, ($number:expr), maybe) => {
        $samples.extend($number.map(|number| $crate::Sample::number($declared, number)));
    };
    (@read $samples:ident, $declared:ident, ($number:expr), histogram) => {
        $samples.push($crate::Sample {
            declared: $declared,
            label: None,
            value: $crate::Value::Buckets(Box::new(*$number)),
        });
    };
    (@read $samples:ident, $declared:ident, ($number:expr), gauges) => {
        $samples.extend($number.iter().map(|(label, value)| $crate::Sample {
            declared: $declared,
            label: Some(label.clone()),
            value: $crate::Value::Number(*value),
        }));
    };
    (@read $samples:ident, $declared:ident, ($number:expr), counts) => {
        $crate::numbers!(@read $samples, $declared, ($number), gauges);
    };
    (@add ($sum:expr), ($more:expr), maybe) => {
        if let Some(more) = $more {
            $sum = Some($sum.unwrap_or_default() + more);
        }
    };
    (@add ($sum:expr), ($more:expr), gauges) => { $sum.extend($more) };
    (@add ($sum:expr), ($more:expr), counts) => { $sum.extend($more) };
    (@add ($sum:expr), ($more:expr), $kind:ident) => { $sum += $more };
}

/// One declaration, for the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! declared {
    (
        $prefix:literal, $name:tt, $help:expr, $scale:expr, $($kind:ident $(($($part:ident),+))?)?
    ) => {
        $crate::Declared {
            name: $crate::declared!(@name $prefix, $name, $($kind)?),
            help: $help.trim_ascii(),
            kind: $crate::declared!(@kind $($kind)?),
            label: $crate::declared!(@label $($kind $(($($part),+))?)?),
            label_values: $crate::declared!(@values $($kind $(($($part),+))?)?),
            scale: $scale,
            bounds: $crate::declared!(@bounds $($kind $(($($part),+))?)?),
        }
    };
    (@name $prefix:literal, ($name:ident $($field:ident)?),) => {
        concat!("cepa_", $prefix, stringify!($name), "_total")
    };
    (@name $prefix:literal, ($name:ident $($field:ident)?), each) => { $crate::declared!(@name $prefix, ($name),) };
    (@name $prefix:literal, ($name:ident $($field:ident)?), count) => { $crate::declared!(@name $prefix, ($name),) };
    (@name $prefix:literal, ($name:ident $($field:ident)?), counts) => { $crate::declared!(@name $prefix, ($name),) };
    (@name $prefix:literal, ($name:ident $($field:ident)?), $other:ident) => {
        concat!("cepa_", $prefix, stringify!($name))
    };
    (@kind) => { $crate::Kind::Count };
    (@kind each) => { $crate::Kind::Count };
    (@kind count) => { $crate::Kind::Count };
    (@kind counts) => { $crate::Kind::Count };
    (@kind histogram) => { $crate::Kind::Histogram };
    (@kind histogram_each) => { $crate::Kind::Histogram };
    (@kind $gauge:ident) => { $crate::Kind::Gauge };
    (@label gauges($label:ident)) => { Some(stringify!($label)) };
    (@label counts($label:ident)) => { Some(stringify!($label)) };
    (@label each($label:ident)) => { Some(<$label as $crate::Label>::NAME) };
    (@label gauge_each($label:ident)) => { Some(<$label as $crate::Label>::NAME) };
    (@label histogram_each($label:ident, $bounds:ident)) => {
        Some(<$label as $crate::Label>::NAME)
    };
    (@label $($other:tt)*) => { None };
    (@values each($label:ident)) => {
        || <$label as $crate::Label>::ALL.iter().map(|one| $crate::Label::name(*one)).collect()
    };
    (@values gauge_each($label:ident)) => { $crate::declared!(@values each($label)) };
    (@values histogram_each($label:ident, $bounds:ident)) => {
        $crate::declared!(@values each($label))
    };
    (@values $($other:tt)*) => { Vec::new };
    (@bounds histogram($bounds:ident)) => { Some(&$bounds) };
    (@bounds histogram_each($label:ident, $bounds:ident)) => { Some(&$bounds) };
    (@bounds $($other:tt)*) => { None };
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use crate::{Bounds, Declared, Kind, LabelValue, Present, Sample, Share, count};

    static BOUNDS: Bounds = Bounds::new(&[1, 2], 1);

    crate::labels! {
        /// For this test.
        enum Colour, named "colour";
        /// As snow.
        White "white",
        /// As a rose.
        Red "red",
    }

    counters! {
        /// For this test.
        struct Both, named "test_";
        /// How often.
        often,
        /// How much.
        much: gauge,
        /// How often of each.
        by_colour: each(Colour),
        /// How large.
        size_bytes: histogram(BOUNDS),
        /// How large of each.
        colour_bytes: histogram_each(Colour, BOUNDS),
    }

    numbers! {
        /// For this test.
        struct Plain, named "plain_";
        /// How often.
        count often,
        /// How long.
        gauge age as age_seconds / 1000,
        /// How far.
        maybe distance,
        /// How large.
        histogram(BOUNDS) size,
        /// By a label.
        gauges(tile) busy,
    }

    fn told(samples: &[Sample]) -> Vec<(&'static str, Option<&str>, u64)> {
        let one = |sample: &Sample| (sample.name(), sample.recorded());
        let label = samples.iter().map(|sample| sample.label.as_deref());
        let both = samples.iter().map(one).zip(label);
        both.map(|((name, value), label)| (name, label, value))
            .collect()
    }

    #[test]
    fn counters_have_a_name_a_help_and_a_kind() {
        let both = Both::default();
        count(&both.often);
        let [one, other] = [Share::default(), Share::default()];
        one.set(&both.much, 5);
        other.set(&both.much, 7);
        one.set(&both.much, 2);
        let present = Present::new(&both.much);
        assert_eq!(both.much.load(Ordering::Relaxed), 10);
        drop(present);
        count(both.by_colour.of(Colour::Red));
        both.size_bytes.record(2);
        both.colour_bytes.of(Colour::White).record(3);
        let expected = [
            ("cepa_test_often_total", None, 1),
            ("cepa_test_much", None, 9),
            ("cepa_test_by_colour_total", Some("white"), 0),
            ("cepa_test_by_colour_total", Some("red"), 1),
            ("cepa_test_size_bytes", None, 1),
            ("cepa_test_colour_bytes", Some("white"), 1),
            ("cepa_test_colour_bytes", Some("red"), 0),
        ];
        assert_eq!(told(&both.snapshot()), expected);
        let kinds = Both::DECLARED.iter().map(|one| (one.kind, one.label));
        let expected = [
            (Kind::Count, None),
            (Kind::Gauge, None),
            (Kind::Count, Some("colour")),
            (Kind::Histogram, None),
            (Kind::Histogram, Some("colour")),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
        let Declared {
            help, label_values, ..
        } = Both::DECLARED[2];
        assert_eq!(
            (help, label_values()),
            ("How often of each.", vec!["white", "red"])
        );
    }

    #[test]
    fn plain_numbers_add_up() {
        let mut one = Plain {
            often: 1,
            age: 2500,
            busy: vec![(LabelValue::Borrowed("a"), 1)],
            ..Plain::default()
        };
        let mut other = Plain {
            often: 2,
            distance: Some(4),
            busy: vec![(LabelValue::Borrowed("b"), 3)],
            ..Plain::default()
        };
        other.size.record(&BOUNDS, 1);
        assert!(
            one.samples()
                .iter()
                .all(|sample| !sample.name().ends_with("distance"))
        );
        one += other;
        let samples = one.samples();
        let expected = [
            ("cepa_plain_often_total", None, 3),
            ("cepa_plain_age_seconds", None, 2500),
            ("cepa_plain_distance", None, 4),
            ("cepa_plain_size", None, 1),
            ("cepa_plain_busy", Some("a"), 1),
            ("cepa_plain_busy", Some("b"), 3),
        ];
        assert_eq!(told(&samples), expected);
        assert_eq!(Plain::DECLARED[1].scale, 1000);
        assert_eq!(Plain::DECLARED[0].scale, 1);
    }
}
