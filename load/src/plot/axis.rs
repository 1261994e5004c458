//! Axes with ticks at round numbers.

use core::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How an axis shows its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Places are logarithms.
    Logarithmic,
    /// Places are nines of a share.
    Nines,
    /// Seconds.
    Time,
}

/// From where to where, and what is written where.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    scale: Scale,
}

/// Ticks that fit beside each other.
const TICK_COUNT: f64 = 6.0;
/// Steps of seconds that people count in.
const TIME_STEPS: [f64; 13] = [
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0,
];
/// Decades with ticks at 1, 2 and 5; of more, at 1 only.
const FINE_DECADES_MAX: f64 = 3.0;

impl Axis {
    /// From 0 to a round number that is at least `max`.
    pub(super) fn linear(max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_step(max / TICK_COUNT);
        let to = (max * 1.05 / step).ceil() * step;
        Self {
            from: 0.0,
            to,
            ticks: ticks(step, to),
            scale: Scale::Linear,
        }
    }

    /// Around all values: from 0, unless they are so close together that they would lie on each other.
    pub(super) fn around(values: &[f64]) -> Self {
        let max = values.iter().copied().fold(0.0, f64::max);
        let min = values.iter().copied().fold(max, f64::min);
        if min * 2.0 < max || max <= 0.0 {
            return Self::linear(max);
        }
        let span = (max - min).max(max * 0.02);
        let step = round_step(span * 1.5 / TICK_COUNT);
        let from = ((min - span * 0.25) / step).floor() * step;
        let to = ((max + span * 0.25) / step).ceil() * step;
        let mut ticks = ticks(step, to);
        ticks.retain(|tick| *tick >= from);
        Self {
            from,
            to,
            ticks,
            scale: Scale::Linear,
        }
    }

    /// Around all values above 0, in logarithms.
    pub(super) fn logarithmic(values: &[f64]) -> Self {
        let above = values.iter().copied().filter(|value| *value > 0.0);
        let (min, max) = above.fold((f64::INFINITY, 0.0), |(min, max), value| {
            (value.min(min), value.max(max))
        });
        let (min, max) = if max > 0.0 { (min, max) } else { (1.0, 10.0) };
        let (from, to) = ((min * 0.8).log10(), (max * 1.25).log10());
        let steps: &[f64] = if to - from > FINE_DECADES_MAX {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let mut decade = from.floor();
        let mut ticks = Vec::new();
        while decade <= to {
            ticks.extend(steps.iter().map(|step| decade + step.log10()));
            decade += 1.0;
        }
        ticks.retain(|tick| (from..=to).contains(tick));
        Self {
            from,
            to,
            ticks,
            scale: Scale::Logarithmic,
        }
    }

    /// Shares of requests, by how many nines they have.
    pub(super) fn nines(max: f64) -> Self {
        let to = max.max(1.0);
        let mut all = vec![0.0, -(0.5_f64.log10()), -(0.25_f64.log10())];
        all.extend(ticks(1.0, to.floor()).into_iter().skip(1));
        all.retain(|tick| *tick <= to);
        Self {
            from: 0.0,
            to,
            ticks: all,
            scale: Scale::Nines,
        }
    }

    /// Seconds from 0.
    pub(super) fn time(end: f64) -> Self {
        let to = end.max(1.0);
        let is_wide = |step: &&f64| to / **step <= TICK_COUNT * 2.0;
        let step = TIME_STEPS.iter().find(is_wide);
        Self {
            from: 0.0,
            to,
            ticks: ticks(step.copied().unwrap_or(86_400.0), to),
            scale: Scale::Time,
        }
    }

    /// Where a value stands.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10().max(self.from),
            _ => value,
        }
    }

    /// What is written at a place.
    fn label(&self, at: f64) -> String {
        match self.scale {
            Scale::Linear => short(at),
            Scale::Logarithmic => short(10_f64.powf(at)),
            Scale::Nines => share(at),
            Scale::Time if self.to <= 120.0 => format!("{at:.0} s"),
            Scale::Time if self.to <= 7200.0 => format!("{} min", short(at / 60.0)),
            Scale::Time => format!("{} h", short(at / 3600.0)),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, at: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (at - self.from) / (self.to - self.from);
        let pixel = f64::from(first) + part * f64::from(last - first);
        #[expect(clippy::cast_possible_truncation, reason = "pixels are few")]
        let pixel = pixel.round() as i32;
        pixel
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(at: &f64) -> String {
        at.to_string()
    }

    fn format_ext(&self, at: &f64) -> String {
        self.label(*at)
    }
}

/// A share of requests in percent, with as many digits as it needs.
fn share(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    let digits = (0..8).find(|digits: &usize| {
        let text = format!("{percent:.digits$}");
        text.parse()
            .is_ok_and(|read: f64| (read - percent).abs() < 1e-9)
    });
    format!("{percent:.*}%", digits.unwrap_or(8))
}

/// At most three digits that matter.
fn short(value: f64) -> String {
    let digits: usize = match value {
        _ if value == 0.0 || value >= 99.5 => 0,
        _ if value >= 9.95 => 1,
        _ if value >= 0.995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// 1, 2 or 5 of some power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power * 10.0)
}

fn ticks(step: f64, to: f64) -> Vec<f64> {
    let all = core::iter::successors(Some(0.0_f64), |number| Some(number + 1.0));
    all.map(|number| number * step)
        .take_while(|tick| *tick <= to * 1.000_001)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers() {
        assert_eq!(
            labels(&Axis::linear(1000.0)),
            ["0", "200", "400", "600", "800", "1000", "1200"]
        );
        assert_eq!(labels(&Axis::linear(0.0)).first().unwrap(), "0");
        assert_eq!(
            labels(&Axis::around(&[120.0, 134.0])),
            ["115", "120", "125", "130", "135", "140"]
        );
        assert_eq!(labels(&Axis::around(&[10.0, 134.0])).first().unwrap(), "0");
        assert_eq!(
            labels(&Axis::logarithmic(&[0.3, 40.0])),
            ["0.5", "1", "2", "5", "10", "20", "50"]
        );
        assert_eq!(
            labels(&Axis::logarithmic(&[0.05, 4000.0])),
            ["0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(
            labels(&Axis::nines(4.2)),
            ["0%", "50%", "75%", "90%", "99%", "99.9%", "99.99%"]
        );
        assert_eq!(labels(&Axis::time(60.0)).last().unwrap(), "60 s");
        assert_eq!(labels(&Axis::time(1200.0)).last().unwrap(), "20 min");
        assert!(Axis::time(1e6).ticks.len() < 20);
    }

    #[test]
    fn nothing_measured_is_an_axis_too() {
        for axis in [
            Axis::logarithmic(&[]),
            Axis::nines(0.0),
            Axis::time(0.0),
            Axis::linear(0.0),
            Axis::around(&[]),
            Axis::around(&[7.0, 7.0]),
        ] {
            assert!(axis.from < axis.to, "{axis:?}");
            assert!(!axis.ticks.is_empty(), "{axis:?}");
        }
    }
}
