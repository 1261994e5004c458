//! What was counted and measured in Prometheus' text format 0.0.4, at `GET /metrics`. The format is the exporter
//! crate's; it sees plain families of numbers that are made when somebody asks, and nothing before.

use core::convert::Infallible;

use cepa_meter::{Declared, Kind, Sample, Value};
use hyper::{Method, StatusCode};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{TEXT_FORMAT, TextEncoder};

use crate::endpoint::{Endpoint, Reply};

/// Answers `GET /metrics` until the future is dropped; `samples` gives all that there is to tell.
pub async fn serve(
    endpoint: Endpoint,
    samples: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
) -> Infallible {
    endpoint
        .serve(move |method, path, _| match (method, path) {
            (&Method::GET, "/metrics") => match to_text(&samples()) {
                Ok(text) => Reply {
                    status: StatusCode::OK,
                    content_type: TEXT_FORMAT,
                    body: text.into(),
                },
                Err(_) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "not encoded\n"),
            },
            (_, "/metrics") => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            _ => Reply::text(StatusCode::NOT_FOUND, "only /metrics\n"),
        })
        .await
}

/// The text of samples. Those of one name stand beside each other.
pub fn to_text(samples: &[Sample]) -> Result<String, prometheus::Error> {
    let families: Vec<_> = samples
        .chunk_by(|one, next| one.name() == next.name())
        .filter_map(to_family)
        .collect();
    TextEncoder::new().encode_to_string(&families)
}

fn to_family(samples: &[Sample]) -> Option<MetricFamily> {
    let declared = samples.first()?.declared;
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_help(one_line(declared.help));
    family.set_field_type(match declared.kind {
        Kind::Count => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples.iter().map(to_metric).collect());
    Some(family)
}

/// A comment's lines as one.
pub(crate) fn one_line(help: &str) -> String {
    help.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn to_metric(sample: &Sample) -> Metric {
    let declared = sample.declared;
    let label = declared.label.zip(sample.label.as_ref());
    let labels = label.map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.clone().into_owned());
        pair
    });
    let mut metric = Metric::from_label(labels.into_iter().collect());
    match (&sample.value, declared.kind) {
        (Value::Number(value), Kind::Gauge) => {
            let mut gauge = Gauge::default();
            gauge.set_value(cepa_meter::scaled(*value, declared.scale));
            metric.set_gauge(gauge);
        }
        (Value::Number(value), _) => {
            let mut counter = Counter::default();
            counter.set_value(cepa_meter::scaled(*value, declared.scale));
            metric.set_counter(counter);
        }
        (Value::Buckets(buckets), _) => {
            metric.set_histogram(to_histogram(declared, buckets));
        }
    }
    metric
}

fn to_histogram(declared: &Declared, buckets: &cepa_meter::Buckets) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.set_sample_count(buckets.count());
    let Some(bounds) = declared.bounds else {
        return histogram;
    };
    histogram.set_sample_sum(buckets.sum(bounds));
    let cumulative = buckets.cumulative(bounds).into_iter();
    let cumulative = cumulative.map(|(limit, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(limit);
        bucket.set_cumulative_count(count);
        bucket
    });
    histogram.set_bucket(cumulative.collect());
    histogram
}

#[cfg(test)]
mod tests {
    use cepa_meter::{Bounds, counters, labels, numbers};

    use super::*;

    static BOUNDS: Bounds = Bounds::new(&[5, 2000], 1000);

    labels! {
        /// For this test.
        enum Via, named "via";
        /// One.
        Https "https",
        /// Other.
        Omq "omq",
    }

    counters! {
        /// For this test.
        struct Counted, named "";
        /// How
        /// often.
        a,
        /// How long.
        b_seconds: histogram_each(Via, BOUNDS),
    }

    numbers! {
        /// For this test.
        struct Plain, named "";
        /// x\y.
        gauge c_ratio / 1000,
    }

    #[test]
    fn the_text_is_that_of_the_format() {
        let counted = Counted::default();
        cepa_meter::count(&counted.a);
        counted.b_seconds.of(Via::Https).record(5);
        counted.b_seconds.of(Via::Https).record(2001);
        let mut samples = counted.snapshot();
        samples.extend(Plain { c_ratio: 250 }.samples());
        let text = to_text(&samples).unwrap();
        let expected = "\
# HELP cepa_a_total How often.
# TYPE cepa_a_total counter
cepa_a_total 1
# HELP cepa_b_seconds How long.
# TYPE cepa_b_seconds histogram
cepa_b_seconds_bucket{via=\"https\",le=\"0.005\"} 1
cepa_b_seconds_bucket{via=\"https\",le=\"2\"} 1
cepa_b_seconds_bucket{via=\"https\",le=\"+Inf\"} 2
cepa_b_seconds_sum{via=\"https\"} 2.006
cepa_b_seconds_count{via=\"https\"} 2
cepa_b_seconds_bucket{via=\"omq\",le=\"0.005\"} 0
cepa_b_seconds_bucket{via=\"omq\",le=\"2\"} 0
cepa_b_seconds_bucket{via=\"omq\",le=\"+Inf\"} 0
cepa_b_seconds_sum{via=\"omq\"} 0
cepa_b_seconds_count{via=\"omq\"} 0
# HELP cepa_c_ratio x\\\\y.
# TYPE cepa_c_ratio gauge
cepa_c_ratio 0.25
";
        assert_eq!(text, expected);
    }
}
