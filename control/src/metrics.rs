//! Counters and the message store in Prometheus' text format 0.0.4, at `GET /metrics`. The only label
//! is a namespace: nothing here could name a client, an account or a message.

use core::convert::Infallible;

use cepa_relay::counters::{self, Sample};
use cepa_storage::Report;
use cepa_storage::statistics::Kind;
use hyper::{Method, StatusCode};

use crate::endpoint::{Endpoint, Reply};

/// Answers `GET /metrics` until the future is dropped; `counters` gives those of whoever has some, and
/// `stores` tells of the message store.
pub async fn serve(
    endpoint: Endpoint,
    counters: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    stores: impl Fn() -> Report + Send + Sync + 'static,
) -> Infallible {
    endpoint
        .serve(move |method, path, _| match (method, path) {
            (&Method::GET, "/metrics") => Reply {
                status: StatusCode::OK,
                content_type: "text/plain; version=0.0.4",
                body: (to_prometheus(&counters()) + &of_stores(&stores())).into(),
            },
            (_, "/metrics") => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            _ => Reply::text(StatusCode::NOT_FOUND, "only /metrics\n"),
        })
        .await
}

/// Three lines a number.
fn to_prometheus(samples: &[Sample]) -> String {
    let mut text = String::new();
    for sample in samples {
        let (name, kind) = match sample.kind {
            counters::Kind::Count => (format!("{}_total", sample.name), Kind::Count),
            counters::Kind::Gauge => (sample.name.to_owned(), Kind::Gauge),
        };
        push_head(&mut text, &name, sample.help, kind);
        push_line(&mut text, &name, sample.value);
    }
    text
}

/// Three lines a number of the message store, and those that are told by namespace.
fn of_stores(report: &Report) -> String {
    let mut text = String::new();
    let Report {
        statistics,
        namespaces,
        foreign_message_count,
    } = report;
    for sample in statistics.samples() {
        let name = match sample.kind {
            Kind::Gauge => format!("store_{}", sample.name),
            Kind::Count => format!("store_{}_total", sample.name),
        };
        push_head(&mut text, &name, sample.help, sample.kind);
        push_line(&mut text, &name, sample.value);
    }
    let (name, help) = (
        "store_foreign_message_count",
        "Messages of mailboxes of other swarms, counted once a minute.",
    );
    push_head(&mut text, name, help, Kind::Gauge);
    push_line(&mut text, name, *foreign_message_count);
    let (name, help) = ("store_namespace_message_count", "Messages by namespace.");
    push_head(&mut text, name, help, Kind::Gauge);
    for (namespace, tally) in namespaces {
        let name = format!("{name}{{namespace=\"{}\"}}", namespace.0);
        push_line(&mut text, &name, tally.count);
    }
    text
}

fn push_head(text: &mut String, name: &str, help: &str, kind: Kind) {
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Count => "counter",
    };
    let help = help.replace('\\', r"\\").replace('\n', r"\n");
    text.extend(["# HELP cepa_", name, " ", &help, "\n"]);
    text.extend(["# TYPE cepa_", name, " ", kind, "\n"]);
}

fn push_line(text: &mut String, name: &str, value: u64) {
    text.extend(["cepa_", name, " ", &value.to_string(), "\n"]);
}

#[cfg(test)]
mod tests {
    use cepa_storage::Tally;
    use cepa_wire::Namespace;

    use super::*;

    #[test]
    fn three_lines_a_number() {
        let sample = |name, help, kind, value| Sample {
            name,
            help,
            kind,
            value,
        };
        assert_eq!(
            to_prometheus(&[
                sample("a", "How often.", counters::Kind::Count, 7),
                sample("b", "x\\y\nz", counters::Kind::Gauge, u64::MAX),
            ]),
            "# HELP cepa_a_total How often.\n\
             # TYPE cepa_a_total counter\n\
             cepa_a_total 7\n\
             # HELP cepa_b x\\\\y\\nz\n\
             # TYPE cepa_b gauge\n\
             cepa_b 18446744073709551615\n"
        );
    }

    #[test]
    fn the_store_is_told_by_namespace_and_as_a_whole() {
        let mut report = Report::default();
        report.statistics.message_count = 5;
        report.statistics.commit_count = 7;
        report.foreign_message_count = 3;
        let tally = Tally { count: 5, size: 9 };
        report.namespaces.insert(Namespace(-10), tally);
        let text = of_stores(&report);
        for line in [
            "# TYPE cepa_store_message_count gauge",
            "cepa_store_message_count 5",
            "# TYPE cepa_store_commit_count_total counter",
            "cepa_store_commit_count_total 7",
            "cepa_store_foreign_message_count 3",
            "cepa_store_namespace_message_count{namespace=\"-10\"} 5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
    }
}
