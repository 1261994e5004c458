//! Arbitrary bytes as bt: what is accepted is written back the same, and every accessor works.
#![no_main]

use cepa_wire::answer::Tree;
use cepa_wire::bt::{Value, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(value) = Value::parse(input) else { return };
    let mut writer = Writer::new();
    write(value, &mut writer);
    assert_eq!(writer.finish(), input);
    // Answers of peers take this way. bt tells text from bytes by key only, so one turn settles it.
    if let Ok(tree) = Tree::from_bt(input) {
        let written = tree.to_bt();
        assert_eq!(Tree::from_bt(&written).map(|tree| tree.to_bt()), Ok(written));
    }
});

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
