//! The counters in Prometheus' text format 0.0.4, at `GET /metrics`. No labels: there is nothing in
//! a counter that could name a client, an account or a message.

use core::convert::Infallible;
use core::fmt::Write as _;
use std::sync::Arc;

use cepa_relay::Counters;
use hyper::{Method, StatusCode};

use crate::endpoint::{Endpoint, Reply};

/// Answers `GET /metrics` until the future is dropped.
pub async fn serve(endpoint: Endpoint, counters: Arc<Counters>) -> Infallible {
    endpoint
        .serve(move |method, path, _| match (method, path) {
            (&Method::GET, "/metrics") => Reply {
                status: StatusCode::OK,
                content_type: "text/plain; version=0.0.4",
                body: to_prometheus(&counters.snapshot()).into(),
            },
            (_, "/metrics") => Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
            _ => Reply::text(StatusCode::NOT_FOUND, "only /metrics\n"),
        })
        .await
}

/// Three lines a counter: `(name, help, value)`.
fn to_prometheus(counters: &[(&str, &str, u64)]) -> String {
    let mut text = String::new();
    for (name, help, value) in counters {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        #[expect(clippy::expect_used, reason = "a String takes what is written to it")]
        write!(
            text,
            "# HELP cepa_{name}_total {help}\n\
             # TYPE cepa_{name}_total counter\n\
             cepa_{name}_total {value}\n"
        )
        .expect("a String does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_a_counter() {
        assert_eq!(
            to_prometheus(&[("a", "How often.", 7), ("b", "x\\y\nz", u64::MAX)]),
            "# HELP cepa_a_total How often.\n\
             # TYPE cepa_a_total counter\n\
             cepa_a_total 7\n\
             # HELP cepa_b_total x\\\\y\\nz\n\
             # TYPE cepa_b_total counter\n\
             cepa_b_total 18446744073709551615\n"
        );
    }
}
