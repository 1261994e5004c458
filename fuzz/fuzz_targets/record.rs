//! Arbitrary bytes as a record and as a segment's header and trailer: what is accepted is written
//! back the same.
//!
//! Built with `cfg(fuzzing)` the checksums are not compared, so that what is behind them is met too.
#![no_main]

use cepa_wire::Timestamp;
use cepa_wire::record::{
    Commit, Delete, Expire, HEADER_SIZE, Index, IndexEncoder, Position, RECORD_ALIGN, RECORD_SIZE_MAX,
    Record, RecordError, STORE_OVERHEAD, SegmentHeader, SegmentTrailer, Store, footprint, parse,
};
use libfuzzer_sys::fuzz_target;

const AT: Position = Position {
    segment: 0,
    offset: 4096,
};

/// The records of an Index are made again when they have no more bytes together: an entry says how
/// large its record is without having its payload.
const REMADE_SIZE_MAX: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    check_ends(input);
    match parse(input, AT) {
        Ok((record, size)) => {
            assert!(size <= input.len() && size <= RECORD_SIZE_MAX);
            let body = &input[HEADER_SIZE..size];
            if let Record::Index(index) = record {
                check_index(index, body);
                return;
            }
            let mut out = Vec::new();
            assert_eq!(encode(record, &mut out), size);
            assert_eq!(out.len(), footprint(size));
            // Times above the largest are taken down to it; everything else is the same bytes.
            if !has_largest_time(record) {
                assert_eq!(parse(&out, AT), Ok((record, size)));
                assert_eq!(&out[HEADER_SIZE..size], body);
            }
        }
        Err(RecordError::Short { needed }) => {
            assert!(needed > input.len() && needed <= RECORD_SIZE_MAX);
        }
        Err(RecordError::Damaged { size }) => assert!(size <= input.len()),
        Err(RecordError::Absent) => {}
    }
});

fn check_ends(input: &[u8]) {
    if let Ok(header) = SegmentHeader::parse(input, AT.segment) {
        let mut block = Vec::new();
        header.encode(&mut block);
        assert_eq!(SegmentHeader::parse(&block, AT.segment), Ok(header));
    }
    if let Ok(trailer) = SegmentTrailer::parse(input, AT.segment) {
        assert!(trailer.index_begin <= trailer.index_end);
        let mut block = Vec::new();
        trailer.encode(&mut block);
        assert_eq!(SegmentTrailer::parse(&block, AT.segment), Ok(trailer));
    }
}

/// Appends a record that is no Index; gives its size.
fn encode(record: Record<'_>, out: &mut Vec<u8>) -> usize {
    match record {
        Record::Commit(commit) => {
            commit.encode(AT, out);
            Commit::SIZE
        }
        Record::Store(store) => store.encode(AT, out),
        Record::Expire(expire) => {
            let targets: Vec<_> = expire.targets().collect();
            Expire::encode(expire.mailbox(), expire.sequence(), &targets, AT, out)
        }
        Record::Delete(delete) => {
            let targets: Vec<_> = delete.targets().collect();
            Delete::encode(delete.mailbox(), delete.sequence(), &targets, AT, out)
        }
        Record::State(state) => state.encode(AT, out),
        Record::Index(_) => panic!("checked by itself"),
    }
}

/// Makes the records again that an Index tells of, and an Index of them: it is the same.
fn check_index(index: Index<'_>, body: &[u8]) {
    let mut remade = IndexEncoder::default();
    let mut remade_size = 0;
    let mut is_cut = false;
    let mut entries_size = 0;
    for (record, offset, size) in index.records() {
        assert!(size <= RECORD_SIZE_MAX);
        assert_eq!(offset % RECORD_ALIGN as u64, 0);
        let is_store = matches!(record, Record::Store(_));
        entries_size += IndexEncoder::entry_size(size, is_store);
        remade_size += size;
        is_cut |= remade_size > REMADE_SIZE_MAX || has_largest_time(record);
        if is_cut {
            continue;
        }
        let mut out = Vec::new();
        let data;
        let record = if let Record::Store(store) = record {
            assert!(store.data.is_empty(), "an Index has no payloads");
            data = vec![0; size - STORE_OVERHEAD];
            Record::Store(Store {
                data: &data,
                ..store
            })
        } else {
            record
        };
        assert_eq!(encode(record, &mut out), size);
        remade.push(&out[..size], offset);
    }
    assert_eq!(entries_size, body.len(), "every byte is an entry's");
    if is_cut {
        return;
    }
    let mut bodies = Vec::new();
    let mut total = 0;
    for number in 0..remade.record_count() {
        let mut out = Vec::new();
        assert!(remade.encode(number, AT, &mut out));
        let Ok((Record::Index(_), size)) = parse(&out, AT) else {
            panic!("an Index is read as one");
        };
        bodies.extend_from_slice(&out[HEADER_SIZE..size]);
        total += out.len();
    }
    assert_eq!(bodies, body);
    assert!(total <= IndexEncoder::encoded_size_max(entries_size));
}

fn has_largest_time(record: Record<'_>) -> bool {
    match record {
        Record::Store(store) => [store.timestamp, store.expiry].contains(&Timestamp::MAX),
        Record::Expire(expire) => expire
            .targets()
            .any(|target| target.expiry == Timestamp::MAX),
        Record::State(state) => state.timestamp == Timestamp::MAX,
        Record::Index(index) => index
            .records()
            .any(|(record, _, _)| has_largest_time(record)),
        Record::Commit(_) | Record::Delete(_) => false,
    }
}
