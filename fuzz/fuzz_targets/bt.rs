//! Arbitrary bytes as bt: what is accepted is written back the same, by reader and writer and by way
//! of an answer, and every accessor works.
#![no_main]

use cepa_wire::answer::Tree;
use cepa_wire::bt::{BtError, VALUE_COUNT_MAX, Value, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(value) = Value::parse(input) else { return };
    let mut writer = Writer::new();
    write(value, &mut writer);
    assert_eq!(writer.finish(), input);
    let bounded = Value::parse_bounded(input, VALUE_COUNT_MAX);
    let (Ok(value), Ok(tree)) = (bounded, Tree::from_bt(input)) else {
        assert_eq!(bounded, Err(BtError::Count));
        assert_eq!(Tree::from_bt(input), Err(BtError::Count));
        return;
    };
    // An answer's keys are text; keys that are not are told no longer.
    if has_text_keys(value) {
        assert_eq!(tree.to_bt(), input);
    } else {
        assert!(Value::parse(&tree.to_bt()).is_ok());
    }
});

fn has_text_keys(value: Value<'_>) -> bool {
    match value {
        Value::Integer(_) | Value::Bytes(_) => true,
        Value::List(list) => list.iter().all(has_text_keys),
        Value::Dict(dict) => dict
            .iter()
            .all(|(key, value)| core::str::from_utf8(key).is_ok() && has_text_keys(value)),
    }
}

fn write(value: Value<'_>, writer: &mut Writer) {
    match value {
        Value::Integer(value) => {
            writer.integer(value);
        }
        Value::Bytes(bytes) => {
            writer.bytes(bytes);
        }
        Value::List(list) => {
            writer.list();
            list.iter().for_each(|value| write(value, writer));
            writer.end();
        }
        Value::Dict(dict) => {
            writer.dict();
            for (key, value) in dict.iter() {
                assert_eq!(dict.get(key), Some(value));
                writer.bytes(key);
                write(value, writer);
            }
            writer.end();
        }
    }
}
