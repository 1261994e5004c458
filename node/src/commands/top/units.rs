//! Numbers as a person reads them: three digits that count, a unit, never wider than a column.

/// What is not known.
pub(super) const UNKNOWN: &str = "-";
/// The width of a column of numbers; a blank at least parts it from the next.
pub(super) const WIDTH: usize = 9;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things that are there.
    Count,
    /// A number that is a name: every digit counts.
    Whole,
    /// How often a second. The column says so.
    PerSecond,
    /// A mean of things that are counted.
    Mean,
    /// How long something takes, in seconds.
    Latency,
    /// How long something has been, in seconds.
    Age,
    Bytes,
    /// A ratio, told in hundredths.
    Percent,
}

impl Unit {
    /// A number as text; `-` for what is not known.
    pub(super) fn format(self, value: Option<f64>) -> String {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return UNKNOWN.to_owned();
        };
        match self {
            Self::Whole => format!("{value:.0}"),
            Self::Count => scaled(value, 0),
            Self::PerSecond | Self::Mean => scaled(value, 1),
            Self::Latency => latency(value),
            Self::Age => age(value),
            Self::Bytes => bytes(value),
            Self::Percent => format!("{:.1} %", value * 100.0),
        }
    }
}

/// What large numbers are told in.
const LARGE: [(f64, &str); 4] = [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")];

/// A number below ten thousand as it is, with so many decimals while it is below a hundred; others with
/// three digits and a letter.
fn scaled(value: f64, decimals: usize) -> String {
    let size = value.abs();
    if size < 9999.5 {
        let decimals = if size < 99.95 { decimals } else { 0 };
        return format!("{value:.decimals$}");
    }
    let fits = LARGE.iter().find(|(factor, _)| size < factor * 999.5);
    let largest = || LARGE.last();
    let (factor, letter) = fits.or_else(largest).copied().unwrap_or((1.0, ""));
    format!("{}{letter}", three_digits(value / factor))
}

/// `1.23`, `12.3`, `123`.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn latency(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.000_999_5 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 0.999_5 => format!("{} ms", three_digits(seconds * 1e3)),
        seconds if seconds < 9999.5 => format!("{} s", three_digits(seconds)),
        _ => age(seconds),
    }
}

fn age(seconds: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // More days than that are told as so many.
    const MAX: f64 = 999_999.0 * 86_400.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between nought and some billions"
    )]
    let whole = seconds.clamp(0.0, MAX) as u64;
    match whole {
        0..MINUTE => format!("{whole} s"),
        MINUTE..HOUR => format!("{}m {:02}s", whole / MINUTE, whole % MINUTE),
        HOUR..DAY => format!("{}h {:02}m", whole / HOUR, whole % HOUR / MINUTE),
        _ if whole < 1000 * DAY => format!("{}d {:02}h", whole / DAY, whole % DAY / HOUR),
        _ => format!("{} d", whole / DAY),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value.abs() < 1023.5 {
        return format!("{value:.0} B");
    }
    let mut scaled = value;
    let mut unit = "";
    for next in UNITS {
        scaled /= 1024.0;
        unit = next;
        if scaled.abs() < 1023.5 {
            break;
        }
    }
    format!("{} {unit}", three_digits(scaled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_unit_and_three_digits() {
        let table = [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 9999.0, "9999"),
            (Unit::Count, 12_345.0, "12.3k"),
            (Unit::Count, 999_600.0, "1.00M"),
            (Unit::Count, 1.5e9, "1.50G"),
            (Unit::Whole, 1_234_567.0, "1234567"),
            (Unit::PerSecond, 0.04, "0.0"),
            (Unit::PerSecond, 7.0, "7.0"),
            (Unit::PerSecond, 99.94, "99.9"),
            (Unit::PerSecond, 99.96, "100"),
            (Unit::PerSecond, 54_321.0, "54.3k"),
            (Unit::Latency, 0.000_25, "250 us"),
            (Unit::Latency, 0.001, "1.00 ms"),
            (Unit::Latency, 0.0123, "12.3 ms"),
            (Unit::Latency, 0.999_6, "1.00 s"),
            (Unit::Latency, 60.0, "60.0 s"),
            (Unit::Age, 59.9, "59 s"),
            (Unit::Age, 61.0, "1m 01s"),
            (Unit::Age, 7_500.0, "2h 05m"),
            (Unit::Age, 273_600.0, "3d 04h"),
            (Unit::Age, -5.0, "0 s"),
            (Unit::Age, 1e300, "999999 d"),
            (Unit::Bytes, 1023.0, "1023 B"),
            (Unit::Bytes, 1024.0, "1.00 KiB"),
            (Unit::Bytes, 1_073_741_824.0, "1.00 GiB"),
            (Unit::Bytes, 1_073_000_000.0, "1023 MiB"),
            (Unit::Percent, 0.123_4, "12.3 %"),
            (Unit::Percent, 1.0, "100.0 %"),
        ];
        for (unit, value, expected) in table {
            assert_eq!(unit.format(Some(value)), expected);
        }
        for unknown in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(Unit::Count.format(unknown), UNKNOWN);
        }
    }

    #[test]
    fn no_number_is_wider_than_its_column() {
        let units = [
            Unit::Count,
            Unit::PerSecond,
            Unit::Mean,
            Unit::Latency,
            Unit::Age,
            Unit::Bytes,
            Unit::Percent,
        ];
        for unit in units {
            // A hundred cores have 10,000 percent.
            let ceiling = if unit == Unit::Percent { 1e2 } else { 1e14 };
            let mut value = 1e-9;
            while value < ceiling {
                let text = unit.format(Some(value));
                assert!(text.chars().count() < WIDTH, "{text}");
                value *= 1.07;
            }
        }
    }
}
