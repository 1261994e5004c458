//! The format, pinned.

use super::*;

const AT: Position = Position {
    segment: 7,
    offset: 8192,
};

fn mailbox() -> Mailbox {
    Mailbox {
        prefix: Mailbox::ACCOUNT,
        key: [0xA1; 32],
    }
}

fn store(data: &[u8]) -> Store<'_> {
    Store {
        mailbox: mailbox(),
        namespace: Namespace(-21),
        hash: MessageHash([0xB2; 32]),
        sequence: 0x0102_0304_0506_0708,
        version: 0x1112_1314_1516_1718,
        timestamp: Timestamp::from_millis(1_700_000_000_000),
        expiry: Timestamp::from_millis(1_700_000_086_400),
        data,
    }
}

fn delete_targets() -> [DeleteTarget; 2] {
    [3, 9].map(|byte| DeleteTarget {
        hash: MessageHash([byte; 32]),
        segment: u32::from(byte) << 20,
    })
}

fn expire_targets() -> [ExpireTarget; 2] {
    [4, 8].map(|byte| ExpireTarget {
        hash: MessageHash([byte; 32]),
        segment: u32::from(byte) << 20,
        expiry: Timestamp::from_millis(u64::from(byte) << 40),
    })
}

/// Computed with another program (Python's struct and zlib).
const PINNED: [(&str, &str); 8] = [
    (
        "commit",
        concat!(
            "ce70610249f3c5ab2a5ed03218000000050000000a00000000000000070000000000000000100000",
            "0000000000000000",
        ),
    ),
    (
        "store",
        concat!(
            "ce70610268e4327125f92b23680000000100000005a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a1ebffb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "b2b2b2b2b2b2b2080706050403020118171615141312110068e5cf8b01000080b9e6cf8b0100006f",
            "6e696f6e00000000",
        ),
    ),
    (
        "expire",
        concat!(
            "ce70610257fd441693322b78810000000200000005a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a14d0000000000000004040404040404040404040404040404040404",
            "04040404040404040404040404000040000000000000040000080808080808080808080808080808",
            "0808080808080808080808080808080808000080000000000000080000000000",
        ),
    ),
    (
        "delete",
        concat!(
            "ce706102aa781cda9e9cc484710000000300000005a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a14e0000000000000003030303030303030303030303030303030303",
            "03030303030303030303030303000030000909090909090909090909090909090909090909090909",
            "09090909090909090900009000000000",
        ),
    ),
    (
        "state",
        concat!(
            "ce7061022a5b66489aa23f37370000000400000005a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a1014f000000000000000068e5cf8b01000076616c75650000000000",
        ),
    ),
    (
        "index",
        concat!(
            "ce7061029c22ba6cc5d76f5aec00000006000000000400007c0000000100000005a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1ebffb2b2b2b2b2b2b2b2b2b2b2b2b2",
            "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2080706050403020118171615141312110068e5cf8b",
            "01000080b9e6cf8b01000000040000850000000300000005a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a14e0000000000000003030303030303030303030303030303",
            "03030303030303030303030303030303000030000909090909090909090909090909090909090909",
            "09090909090909090909090900009000",
        ),
    ),
    (
        "header",
        "ce70617365670d0a0200010009000000050000000000000008000000000000001ec71ea7",
    ),
    (
        "trailer",
        "ce7061656e640d0a020002000900000000200000000000000030000000100000d10b16a0",
    ),
];

fn pinned(name: &str) -> String {
    let (_, hex) = PINNED.iter().find(|(other, _)| *other == name).unwrap();
    (*hex).to_owned()
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

const COMMIT: Commit = Commit {
    sequence: 10,
    settled: 7,
    size: 4096,
};

fn state(value: &[u8]) -> State<'_> {
    State {
        mailbox: mailbox(),
        subject: 1,
        sequence: 79,
        timestamp: Timestamp::from_millis(1_700_000_000_000),
        value,
    }
}

fn expire_bytes() -> Vec<u8> {
    encoded(|out| {
        Expire::encode(mailbox(), 77, &expire_targets(), AT, out);
    })
}

fn delete_bytes() -> Vec<u8> {
    encoded(|out| {
        Delete::encode(mailbox(), 78, &delete_targets(), AT, out);
    })
}

#[test]
fn layout_is_fixed() {
    let mut index = IndexEncoder::default();
    let store_bytes = encoded(|out| {
        let size = store(b"onion").encode(AT, out);
        assert_eq!((size, out.len()), (STORE_OVERHEAD + 5, 128));
    });
    index.push(&store_bytes[..STORE_OVERHEAD + 5], AT.offset);
    index.push(&delete_bytes()[..Delete::size(2)], AT.offset);
    let header = SegmentHeader {
        segment: 9,
        class: 1,
        void: (5, 8),
    };
    let trailer = SegmentTrailer {
        segment: 9,
        class: 2,
        data_end: 4096,
        index_begin: 8192,
        index_end: 12288,
    };
    let found = [
        ("commit", encoded(|out| COMMIT.encode(AT, out))),
        ("store", store_bytes),
        ("expire", expire_bytes()),
        ("delete", delete_bytes()),
        (
            "state",
            encoded(|out| assert_eq!(state(b"value").encode(AT, out), state(b"value").size())),
        ),
        ("index", encoded(|out| assert!(index.encode(0, AT, out)))),
        ("header", encoded(|out| header.encode(out))),
        ("trailer", encoded(|out| trailer.encode(out))),
    ];
    for (name, bytes) in found {
        let expected = pinned(name);
        // Headers and trailers are followed by zeros up to the block's end.
        let (bytes, rest) = bytes.split_at(expected.len() / 2);
        assert_eq!(hex::encode(bytes), expected, "{name}");
        assert!(rest.iter().all(|byte| *byte == 0), "{name}");
    }
}

#[test]
fn every_kind_comes_back() {
    let largest = vec![0x5A; MESSAGE_SIZE_MAX];
    for data in [&b""[..], b"x", &largest] {
        let mut out = vec![0xFF; 16];
        let size = store(data).encode(AT, &mut out);
        assert_eq!(out.len(), 16 + footprint(size));
        assert_eq!(
            parse(&out[16..], AT),
            Ok((Record::Store(store(data)), size))
        );
    }

    let bytes = expire_bytes();
    let Ok((Record::Expire(expire), size)) = parse(&bytes, AT) else {
        panic!("not an Expire");
    };
    assert_eq!(
        (expire.mailbox(), expire.sequence(), size),
        (mailbox(), 77, Expire::size(2))
    );
    assert!(expire.targets().eq(expire_targets()));

    let bytes = delete_bytes();
    let Ok((Record::Delete(delete), size)) = parse(&bytes, AT) else {
        panic!("not a Delete");
    };
    assert_eq!(
        (delete.mailbox(), delete.sequence(), size),
        (mailbox(), 78, Delete::size(2))
    );
    assert!(delete.targets().eq(delete_targets()));

    for value in [&b""[..], b"value", &[7; STATE_VALUE_SIZE_MAX]] {
        let bytes = encoded(|out| assert_eq!(state(value).encode(AT, out), state(value).size()));
        assert_eq!(
            parse(&bytes, AT),
            Ok((Record::State(state(value)), state(value).size()))
        );
    }
    let bytes = encoded(|out| COMMIT.encode(AT, out));
    assert_eq!(
        parse(&bytes, AT),
        Ok((Record::Commit(COMMIT), Commit::SIZE))
    );
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut out = Vec::new();
    let size = store(b"a payload").encode(AT, &mut out);
    for index in 0..size * 8 {
        let mut bytes = out.clone();
        bytes[index / 8] ^= 1 << (index % 8);
        let error = parse(&bytes, AT).unwrap_err();
        if index < HEADER_SIZE * 8 {
            assert_eq!(error, RecordError::Absent, "bit {index}");
        } else {
            assert_eq!(error, RecordError::Damaged { size }, "bit {index}");
        }
    }
}

#[test]
fn every_cut_asks_for_the_rest() {
    let mut out = Vec::new();
    let size = store(b"a payload").encode(AT, &mut out);
    for end in 0..size {
        let needed = if end < HEADER_SIZE { HEADER_SIZE } else { size };
        assert_eq!(parse(&out[..end], AT), Err(RecordError::Short { needed }));
    }
}

#[test]
fn a_record_elsewhere_is_no_record() {
    let mut out = Vec::new();
    store(b"moved").encode(AT, &mut out);
    for elsewhere in [
        Position { segment: 8, ..AT },
        Position { offset: 4096, ..AT },
    ] {
        assert_eq!(parse(&out, elsewhere), Err(RecordError::Absent));
    }
}

#[test]
fn sizes_and_shapes_are_not_trusted() {
    // The header's checksum is right, what it says is not.
    let forged = |kind: u32, body: &[u8]| {
        let mut out = Vec::new();
        encode(&mut out, AT, kind, |out| out.extend_from_slice(body));
        out
    };
    for (kind, body_size) in [
        (0, 0),
        (7, 99),
        (KIND_STORE, 98),
        (KIND_COMMIT, 23),
        (KIND_COMMIT, 25),
        (KIND_STATE, 49),
        (KIND_STATE, 50 + STATE_VALUE_SIZE_MAX + 1),
        (KIND_DELETE, 41),
        (KIND_DELETE, 41 + 35),
        (KIND_EXPIRE, 41),
        (KIND_EXPIRE, 41 + 43),
        (KIND_INDEX, 0),
        (KIND_INDEX, 11),
    ] {
        let size = HEADER_SIZE + body_size;
        let bytes = forged(kind, &vec![0; body_size]);
        assert_eq!(
            parse(&bytes, AT),
            Err(RecordError::Damaged { size }),
            "{kind}"
        );
    }
    // Entries of an Index that are cut, hold an Index, or a Store without its fields.
    let entry = |kind: u32, size: u32, body: &[u8]| {
        let fields = [0_u32, size, kind].map(u32::to_le_bytes);
        [fields.as_flattened(), body].concat()
    };
    for body in [
        entry(KIND_INDEX, 20 + 12, &[0; 12]),
        entry(KIND_STORE, 20 + 98, &[0; 98]),
        entry(KIND_STORE, 20 + 200, &[0; 98]),
        entry(KIND_COMMIT, 20 + 24, &[0; 23]),
        entry(KIND_DELETE, 19, &[]),
        entry(KIND_STATE, u32::MAX, &[0; 60]),
    ] {
        let size = HEADER_SIZE + body.len();
        let bytes = forged(KIND_INDEX, &body);
        assert_eq!(parse(&bytes, AT), Err(RecordError::Damaged { size }));
    }

    let mut covered = [0; 12];
    covered[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = Header::crc(&covered, AT).to_le_bytes();
    let bytes = [&RECORD_MAGIC[..], &crc, &covered, &[0; 64]].concat();
    assert_eq!(parse(&bytes, AT), Err(RecordError::Absent));
}

#[test]
fn ends_of_a_segment_come_back_or_not_at_all() {
    let header = SegmentHeader {
        segment: 9,
        class: 1,
        void: (5, 8),
    };
    let trailer = SegmentTrailer {
        segment: 9,
        class: 2,
        data_end: 4096,
        index_begin: 4096,
        index_end: 8192,
    };
    let (first, last) = (
        encoded(|out| header.encode(out)),
        encoded(|out| trailer.encode(out)),
    );
    assert_eq!(
        (first.len(), last.len()),
        (SEGMENT_HEADER_SIZE, SEGMENT_HEADER_SIZE)
    );
    assert_eq!(SegmentHeader::parse(&first, 9), Ok(header));
    assert_eq!(SegmentTrailer::parse(&last, 9), Ok(trailer));
    let absent = SegmentError::Absent;
    for block in [&first[..35], &[0; 4096][..], &last] {
        assert_eq!(SegmentHeader::parse(block, 9), Err(absent));
    }
    assert_eq!(SegmentHeader::parse(&first, 10), Err(absent));
    assert_eq!(SegmentTrailer::parse(&first, 9), Err(absent));
    assert_eq!(SegmentTrailer::parse(&last, 10), Err(absent));
    for index in 0..36 * 8 {
        let (mut first, mut last) = (first.clone(), last.clone());
        first[index / 8] ^= 1 << (index % 8);
        last[index / 8] ^= 1 << (index % 8);
        assert_eq!(SegmentHeader::parse(&first, 9), Err(absent), "bit {index}");
        assert_eq!(SegmentTrailer::parse(&last, 9), Err(absent), "bit {index}");
    }
}

#[test]
fn another_version_is_told_from_damage() {
    let mut block = encoded(|out| {
        let header = SegmentHeader {
            segment: 9,
            class: 0,
            void: (0, 0),
        };
        header.encode(out);
    });
    for version in [1_u16, 3] {
        block[8..10].copy_from_slice(&version.to_le_bytes());
        let crc = crc32fast::hash(&block[..32]).to_le_bytes();
        block[32..36].copy_from_slice(&crc);
        assert_eq!(
            SegmentHeader::parse(&block, 9),
            Err(SegmentError::Version(version))
        );
    }
}

/// Encodes every record of an index, and gives the entries that come back and the bytes.
fn index_back(index: &IndexEncoder) -> (Vec<(u64, usize, MessageHash)>, usize) {
    let mut found = Vec::new();
    let mut total = 0;
    for number in 0..index.record_count() {
        let bytes = encoded(|out| assert!(index.encode(number, AT, out)));
        assert!(bytes.len() <= footprint(RECORD_SIZE_MAX));
        total += bytes.len();
        let Ok((Record::Index(record), _)) = parse(&bytes, AT) else {
            panic!("not an Index");
        };
        for (record, offset, size) in record.records() {
            let hash = match record {
                Record::Store(store) => {
                    assert!(store.data.is_empty());
                    store.hash
                }
                Record::Delete(delete) => delete.targets().next().unwrap().hash,
                other => panic!("{other:?}"),
            };
            found.push((offset, size, hash));
        }
    }
    assert!(!index.encode(index.record_count(), AT, &mut Vec::new()));
    (found, total)
}

/// Stores of many sizes and Deletes of up to the largest.
fn index_record(number: u32) -> (Vec<u8>, MessageHash) {
    let mut hash = MessageHash([0; 32]);
    hash.0[..4].copy_from_slice(&number.to_be_bytes());
    let mut bytes = Vec::new();
    let size = if number % 97 == 5 {
        let count = [1, 30, DELETE_TARGET_COUNT_MAX][number as usize / 97 % 3];
        let target = DeleteTarget { hash, segment: 1 };
        Delete::encode(mailbox(), 1, &vec![target; count], AT, &mut bytes)
    } else {
        let data = vec![1; number as usize * 7919 % 3000];
        let record = Store {
            hash,
            ..store(&data)
        };
        record.encode(AT, &mut bytes)
    };
    bytes.truncate(size);
    (bytes, hash)
}

#[test]
fn an_index_comes_back_whole_and_within_its_bound() {
    for count in [0, 1, 2, 300, 3000] {
        let mut whole = IndexEncoder::default();
        let mut joined = IndexEncoder::default();
        let mut part = IndexEncoder::default();
        let mut expected = Vec::new();
        let mut entries_size = 0;
        for number in 0..count {
            let (bytes, hash) = index_record(number);
            let offset = u64::from(number) * 4096;
            whole.push(&bytes, offset);
            part.push(&bytes, offset);
            if number % 13 == 0 {
                joined.append(core::mem::take(&mut part));
            }
            let is_store = number % 97 != 5;
            entries_size += IndexEncoder::entry_size(bytes.len(), is_store);
            expected.push((offset, bytes.len(), hash));
        }
        joined.append(part);
        for index in [whole, joined] {
            assert_eq!(index.size(), entries_size);
            let (found, size) = index_back(&index);
            assert!(found == expected, "{count}");
            assert!(
                size <= IndexEncoder::encoded_size_max(entries_size),
                "{count}"
            );
        }
    }
}
