//! Arbitrary text as metrics: what is taken is read the same when it is written again.
#![no_main]

use cepa_wire::exposition::{LABEL_COUNT_MAX, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(samples) = parse(text) else { return };
    assert!(samples.len() <= text.split('\n').count());
    for sample in &samples {
        assert!(sample.labels.len() <= LABEL_COUNT_MAX);
        let labels = sample.labels.iter().map(|(name, value)| {
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            format!("{name}=\"{value}\",")
        });
        let value = match sample.value {
            value if value.is_nan() => "NaN".to_owned(),
            value if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            value => format!("{value:e}"),
        };
        let line = format!("{}{{{}}} {value}", sample.name, labels.collect::<String>());
        let again = parse(&line).expect("it was taken before");
        let same = |other: f64| other == sample.value || (other.is_nan() && sample.value.is_nan());
        assert!(again.len() == 1 && same(again[0].value));
        assert_eq!((again[0].name, &again[0].labels), (sample.name, &sample.labels));
    }
});
