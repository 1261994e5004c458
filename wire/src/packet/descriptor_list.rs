//! All descriptors that a node knows, for clients: a bt list of descriptors, each as its node signed it.

use super::descriptor::DESCRIPTOR_SIZE_MAX;
use crate::bt::{Value, Writer};

/// Descriptors in a list: twice as many as the network has nodes.
pub const DESCRIPTOR_COUNT_MAX: usize = 4096;
/// A list of so many, of the usual 1,700 bytes each, with room. What is longer is no list of ours.
pub const LIST_SIZE_MAX: usize = 12 << 20;

/// Writes a list of the first [`DESCRIPTOR_COUNT_MAX`] that fit into [`LIST_SIZE_MAX`].
pub fn encode_list<'a>(descriptors: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    // A length of four digits and a colon; the list's own `l` and `e`.
    const OVERHEAD: usize = 5;
    let mut left = LIST_SIZE_MAX - 2;
    let mut writer = Writer::new();
    writer.list();
    for descriptor in descriptors.into_iter().take(DESCRIPTOR_COUNT_MAX) {
        let Some(after) = left.checked_sub(descriptor.len() + OVERHEAD) else {
            break;
        };
        left = after;
        writer.bytes(descriptor);
    }
    writer.end();
    writer.finish()
}

/// Reads a list; `None` when it is none, or over the bounds. The descriptors are not looked at.
pub fn parse_list(list: &[u8]) -> Option<Vec<&[u8]>> {
    if list.len() > LIST_SIZE_MAX {
        return None;
    }
    // The list itself is a value too.
    let list = Value::parse_bounded(list, DESCRIPTOR_COUNT_MAX + 1).ok()?;
    let descriptors = list.as_list()?.iter().map(|value| {
        value
            .as_bytes()
            .filter(|bytes| bytes.len() <= DESCRIPTOR_SIZE_MAX)
    });
    descriptors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back() {
        let many = vec![[7; 1700]; DESCRIPTOR_COUNT_MAX + 1];
        for count in [0, 1, 3, DESCRIPTOR_COUNT_MAX + 1] {
            let slices = many.iter().take(count).map(<[u8; 1700]>::as_slice);
            let list = encode_list(slices.clone());
            let expected: Vec<_> = slices.take(DESCRIPTOR_COUNT_MAX).collect();
            assert_eq!(parse_list(&list), Some(expected));
        }
    }

    #[test]
    fn what_is_too_large_is_neither_written_nor_read() {
        let large = vec![[7; DESCRIPTOR_SIZE_MAX]; DESCRIPTOR_COUNT_MAX];
        let list = encode_list(large.iter().map(<[u8; DESCRIPTOR_SIZE_MAX]>::as_slice));
        assert!(list.len() <= LIST_SIZE_MAX && list.len() > LIST_SIZE_MAX - 5000);
        assert!(parse_list(&list).is_some());
        let table = [
            &b""[..],
            b"de",
            b"li1ee",
            b"l1:a",
            &[b"l4097:".as_slice(), &[0; 4097], b"e"].concat(),
            &[b"l".as_slice(), &b"0:".repeat(4097), b"e"].concat(),
            &vec![b'l'; LIST_SIZE_MAX + 1],
        ];
        for list in table {
            assert_eq!(parse_list(list), None);
        }
    }
}
