//! What a world did and what its disk holds, for whoever looks for a fault: with `CEPA_TRACE=1` beside
//! `CEPA_SEED` it goes to standard error.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "for people, when a test failed"
)]

use core::fmt::{Arguments, Write as _};
use std::sync::LazyLock;

use cepa_wire::record::{self, Position, Record, SegmentHeader, SegmentTrailer};

use crate::disk::TestDisk;

static IS_WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("CEPA_TRACE").is_some());

/// Prints a line.
pub(super) fn line(arguments: Arguments<'_>) {
    if *IS_WANTED {
        eprintln!("{arguments}");
    }
}

/// Prints what stands in each segment.
pub(super) fn segments(disk: &TestDisk) {
    if !*IS_WANTED {
        return;
    }
    for (id, bytes) in disk.segments() {
        let (Some(first), Some(last)) = (bytes.first_chunk::<4096>(), bytes.last_chunk::<4096>())
        else {
            eprintln!("  {} is empty", id.0);
            continue;
        };
        let header = SegmentHeader::parse(first, id.0).map(|header| (header.class, header.void));
        let trailer = SegmentTrailer::parse(last, id.0);
        let trailer = trailer.map(|one| (one.data_end, one.index_begin, one.index_end));
        let mut text = format!("  {} {header:?} {trailer:?}:", id.0);
        let mut offset = first.len();
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            let position = Position {
                segment: id.0,
                offset: offset as u64,
            };
            offset += match record::parse(rest, position) {
                Ok((record, size)) => {
                    write!(text, " {offset}:{}", name(record)).unwrap();
                    size.next_multiple_of(8)
                }
                Err(_) => 8,
            };
        }
        eprintln!("{text}");
    }
}

/// A record in a word: its kind, its number, and the first bytes of the hashes it is about.
fn name(record: Record<'_>) -> String {
    match record {
        Record::Store(store) => format!(
            "S{}v{}[{:02x}]e{}",
            store.sequence,
            store.version,
            store.hash.0[0],
            store.expiry.as_millis()
        ),
        Record::Delete(delete) => {
            let targets = delete.targets();
            let targets: Vec<_> = targets
                .map(|one| format!("{:02x}@{}", one.hash.0[0], one.segment))
                .collect();
            format!("D{}{targets:?}", delete.sequence())
        }
        Record::Expire(expire) => {
            let targets = expire.targets();
            let targets: Vec<_> = targets
                .map(|one| {
                    let expiry = one.expiry.as_millis();
                    format!("{:02x}@{}e{expiry}", one.hash.0[0], one.segment)
                })
                .collect();
            format!("E{}{targets:?}", expire.sequence())
        }
        Record::Commit(commit) => format!("C{}", commit.sequence),
        Record::State(state) => format!("T{}", state.sequence),
        Record::Index(_) => "I".to_owned(),
    }
}
