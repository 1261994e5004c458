//! Arbitrary bytes as a content, and as a sequence of pieces and pauses for a reassembler: the bounds hold
//! after each, and what is whole is what was cut.
#![no_main]

use core::time::Duration;

use cepa_wire::Timestamp;
use cepa_wire::packet::fragment::{Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::geometry::{FRAGMENT_COUNT_MAX, MESSAGE_SIZE_MAX};
use cepa_wire::packet::reassembler::{Progress, Reassembler, ReassemblerLimits};
use libfuzzer_sys::fuzz_target;

const LIMITS: ReassemblerLimits = ReassemblerLimits {
    message_count_max: 4,
    fragment_count_max: FRAGMENT_COUNT_MAX,
    finished_count_max: 3,
    timeout: Duration::from_secs(60),
};

/// An input is taken for so many operations at most.
const OPERATION_COUNT_MAX: usize = 512;

/// By the number of the message's kind of size.
const SIZES: [usize; 8] = [0, 1, 800, 801, 1600, 2399, 10_000, MESSAGE_SIZE_MAX];

fuzz_target!(|input: &[u8]| {
    if let Some(content) = input.first_chunk() {
        if let Ok(fragment) = Fragment::parse(content) {
            assert_eq!(fragment.encode(), *content);
        }
    }
    let mut reassembler = Reassembler::new(LIMITS);
    let mut now = Timestamp::ZERO;
    for [message, index, pause] in input.as_chunks().0.iter().take(OPERATION_COUNT_MAX) {
        now = now.saturating_add(Duration::from_secs(u64::from(pause / 16)));
        let (number, size) = (message % 8, SIZES[usize::from(message / 8 % 8)]);
        // The same id with another size or text contradicts.
        let text = vec![number ^ message / 64; size];
        let id = MessageId([number; 16]);
        let contents = fragments(id, MessageKind::Request, &text).expect("no size is too large");
        let index = usize::from(*index) % contents.len();
        let content = contents.clone().nth(index).expect("there is this piece");
        let fragment = Fragment::parse(&content).expect("it is a piece");
        let before = reassembler.fragment_count();
        match reassembler.handle_fragment(now, &fragment) {
            Progress::Complete(whole) => {
                assert!(whole.id == id && whole.bytes.len() == size);
                assert!(size == 0 || whole.bytes[index * 800] == text[0]);
                assert_eq!(reassembler.missing(id).count(), 0);
            }
            Progress::Pending => assert!(reassembler.missing(id).all(|it| usize::from(it) != index)),
            Progress::Duplicate | Progress::Conflict => {
                assert!(reassembler.fragment_count() <= before);
            }
        }
        assert!(reassembler.message_count() <= LIMITS.message_count_max);
        assert!(reassembler.fragment_count() <= LIMITS.fragment_count_max);
        assert!(reassembler.finished_count() <= LIMITS.finished_count_max);
        assert!(reassembler.poll_timeout().is_none_or(|at| at > now));
    }
    reassembler.handle_timeout(now.saturating_add(LIMITS.timeout));
    assert_eq!((reassembler.message_count(), reassembler.finished_count()), (0, 0));
    assert_eq!(reassembler.fragment_count(), 0);
});
