//! Arbitrary bytes as a record and as a segment's header: what is accepted is written back the same.
//!
//! Built with `cfg(fuzzing)` the checksums are not compared, so that what is behind them is met too.
#![no_main]

use cepa_wire::Timestamp;
use cepa_wire::record::{
    Delete, HEADER_SIZE, Position, RECORD_SIZE_MAX, Record, RecordError, SegmentHeader, parse,
};
use libfuzzer_sys::fuzz_target;

const AT: Position = Position {
    segment: 0,
    offset: 4096,
};

fuzz_target!(|input: &[u8]| {
    if let Ok(header) = SegmentHeader::parse(input, AT.segment) {
        let mut block = Vec::new();
        header.encode(&mut block);
        assert_eq!(SegmentHeader::parse(&block, AT.segment), Ok(header));
    }
    match parse(input, AT) {
        Ok((record, size)) => {
            assert!(size <= input.len() && size <= RECORD_SIZE_MAX);
            let mut out = Vec::new();
            let written = match record {
                Record::Store(store) => store.encode(AT, &mut out),
                Record::Expire(expire) => expire.encode(AT, &mut out),
                Record::Delete(delete) => {
                    let targets: Vec<_> = delete.targets().collect();
                    Delete::encode(delete.mailbox(), &targets, AT, &mut out)
                }
            };
            assert_eq!(written, size);
            assert_eq!(parse(&out, AT), Ok((record, size)));
            // Times above the largest are taken down to it; everything else is the same bytes.
            if !has_largest_time(record) {
                assert_eq!(out.get(HEADER_SIZE..size), input.get(HEADER_SIZE..size));
            }
        }
        Err(RecordError::Short { needed }) => {
            assert!(needed > input.len() && needed <= RECORD_SIZE_MAX);
        }
        Err(RecordError::Damaged { size }) => assert!(size <= input.len()),
        Err(RecordError::Absent) => {}
    }
});

fn has_largest_time(record: Record<'_>) -> bool {
    match record {
        Record::Store(store) => [store.timestamp, store.expiry].contains(&Timestamp::MAX),
        Record::Expire(expire) => expire.expiry == Timestamp::MAX,
        Record::Delete(_) => false,
    }
}
