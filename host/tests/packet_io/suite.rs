//! What every back end must do.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::Arc;

use cepa_host::packet_io::{Batch, DATAGRAM_SIZE_MAX, Datagram, PacketIo};

use crate::bed::{Bed, PATIENCE};

/// Who, and what: to be compared without their order.
type Seen = Vec<(SocketAddr, Vec<u8>)>;

/// A datagram that differs from others.
fn pattern(size: usize, number: usize) -> Vec<u8> {
    (0..size)
        .map(|index| u8::try_from((index * 7 + number * 31 + (number >> 3)) % 251).unwrap())
        .collect()
}

/// All sizes, each once, in an order that is not sorted.
fn all_sizes() -> impl Iterator<Item = usize> {
    let count = DATAGRAM_SIZE_MAX + 1;
    (0..count).map(move |number| number * 500 % count)
}

fn seen(batch: &Batch) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
    let of = |datagram: &Datagram| (datagram.peer(), datagram.bytes().to_vec());
    batch.datagrams().iter().map(of)
}

/// Receives until there are as many, or no more come.
fn receive(io: &mut dyn PacketIo, batch: &mut Batch, count: usize) -> Seen {
    let mut all = Seen::new();
    while all.len() < count {
        if io.receive(batch, Some(PATIENCE)).unwrap() == 0 {
            // A wait may end without a datagram once (a dropped one ends it too).
            if io.receive(batch, Some(PATIENCE)).unwrap() == 0 {
                break;
            }
        }
        all.extend(seen(batch));
    }
    all
}

fn assert_same(mut got: Seen, mut expected: Seen) {
    got.sort();
    expected.sort();
    assert_eq!(got.len(), expected.len(), "as many datagrams");
    for (got, expected) in got.iter().zip(&expected) {
        assert!(
            got == expected,
            "{} of {} bytes, not {} of {}",
            got.0,
            got.1.len(),
            expected.0,
            expected.1.len()
        );
    }
}

fn receive_plain(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    (0..count)
        .map(|_| {
            let (size, _) = socket.recv_from(&mut buffer).unwrap();
            buffer[..size].to_vec()
        })
        .collect()
}

pub(crate) fn datagrams_of_all_sizes_come_from_several_peers(mut bed: Bed) {
    let to = bed.io.local_address();
    let peers = [bed.peer(), bed.peer(), bed.peer()];
    let mut batch = Batch::new(64);
    let mut total = (0, 0);
    let sizes: Vec<_> = all_sizes().collect();
    for (round, sizes) in sizes.chunks(100).enumerate() {
        let mut expected = Seen::new();
        for (number, peer) in peers.iter().enumerate() {
            for size in sizes {
                let bytes = pattern(*size, number + round);
                peer.send_to(&bytes, to).unwrap();
                total = (total.0 + 1, total.1 + bytes.len() as u64);
                expected.push((peer.local_addr().unwrap(), bytes));
            }
        }
        let got = receive(&mut *bed.io, &mut batch, expected.len());
        assert_same(got, expected);
    }
    let statistics = bed.io.statistics();
    assert_eq!((statistics.received, statistics.received_bytes), total);
    assert_eq!((statistics.oversized, statistics.malformed), (0, 0));
    assert_eq!(statistics.kernel_dropped.unwrap_or_default(), 0);
}

pub(crate) fn datagrams_of_all_sizes_go_to_several_peers(mut bed: Bed) {
    let from = bed.io.local_address();
    let peers = [bed.peer(), bed.peer(), bed.peer()];
    let mut batch = Batch::new(256);
    let mut total = (0, 0);
    let sizes: Vec<_> = all_sizes().collect();
    for sizes in sizes.chunks(85) {
        batch.clear();
        for (number, size) in sizes.iter().enumerate() {
            // Each peer gets the others' between its own.
            for peer in &peers {
                let bytes = pattern(*size, number);
                total = (total.0 + 1, total.1 + bytes.len() as u64);
                assert!(batch.push(peer.local_addr().unwrap(), &bytes));
            }
        }
        assert_eq!(bed.io.send(batch.datagrams()).unwrap(), batch.len());
        for peer in &peers {
            let expected = sizes.iter().enumerate();
            let expected: Vec<_> = expected
                .map(|(number, size)| pattern(*size, number))
                .collect();
            let got = receive_plain(peer, expected.len());
            assert_same(
                got.into_iter().map(|bytes| (from, bytes)).collect(),
                expected.into_iter().map(|bytes| (from, bytes)).collect(),
            );
        }
    }
    let statistics = bed.io.statistics();
    assert_eq!((statistics.sent, statistics.sent_bytes), total);
    assert_eq!(statistics.failures.total(), 0);
}

/// Runs that end short, runs of one, empty ones, the longest.
const RUNS: [(usize, usize, usize); 7] = [
    (1200, 40, 7),
    (1232, 53, 1232),
    (1, 64, 1),
    (600, 1, 0),
    (1232, 120, 1231),
    (0, 3, 0),
    (100, 65, 99),
];

fn runs_to(to: SocketAddr) -> Batch {
    let mut batch = Batch::new(1024);
    for (number, (size, count, last)) in RUNS.into_iter().enumerate() {
        for index in 0..count {
            assert!(batch.push(to, &pattern(size, number + index)));
        }
        assert!(batch.push(to, &pattern(last, number)));
    }
    batch
}

pub(crate) fn what_is_joined_is_cut_again(mut bed: Bed) {
    let mut peer = bed.joining_peer();
    let sent = runs_to(bed.io.local_address());
    assert_eq!(peer.send(sent.datagrams()).unwrap(), sent.len());
    let from = peer.local_address();
    let expected: Seen = seen(&sent).map(|(_, bytes)| (from, bytes)).collect();
    let got = receive(&mut *bed.io, &mut Batch::new(256), expected.len());
    assert_same(got, expected);
}

pub(crate) fn what_goes_together_arrives_one_by_one(mut bed: Bed) {
    let mut peers = [bed.joining_peer(), bed.joining_peer()];
    for peer in &mut peers {
        let sent = runs_to(peer.local_address());
        assert_eq!(bed.io.send(sent.datagrams()).unwrap(), sent.len());
        let from = bed.io.local_address();
        let expected: Seen = seen(&sent).map(|(_, bytes)| (from, bytes)).collect();
        let got = receive(&mut **peer, &mut Batch::new(100), expected.len());
        assert_same(got, expected);
    }
}

pub(crate) fn a_small_batch_loses_nothing(mut bed: Bed) {
    let mut peer = bed.joining_peer();
    let sent = runs_to(bed.io.local_address());
    assert_eq!(peer.send(sent.datagrams()).unwrap(), sent.len());
    let from = peer.local_address();
    let expected: Seen = seen(&sent).map(|(_, bytes)| (from, bytes)).collect();
    let got = receive(&mut *bed.io, &mut Batch::new(1), expected.len());
    assert_same(got, expected);
}

pub(crate) fn large_ones_are_dropped_and_counted(mut bed: Bed) {
    let peer = bed.peer();
    let to = bed.io.local_address();
    let from = peer.local_addr().unwrap();
    let mut expected = Seen::new();
    for size in [1232, 1233, 1300, 1, 1400, 1232, 1452] {
        let bytes = pattern(size, size);
        peer.send_to(&bytes, to).unwrap();
        if size <= DATAGRAM_SIZE_MAX {
            expected.push((from, bytes));
        }
    }
    let got = receive(&mut *bed.io, &mut Batch::new(64), expected.len());
    assert_same(got, expected);
    // The last of them comes after all that is expected.
    let mut batch = Batch::new(64);
    for _ in 0..10 {
        if bed.io.statistics().oversized == 4 {
            break;
        }
        assert_eq!(bed.io.receive(&mut batch, Some(PATIENCE / 10)).unwrap(), 0);
    }
    let statistics = bed.io.statistics();
    assert_eq!((statistics.received, statistics.oversized), (3, 4));
}

pub(crate) fn a_wake_ends_a_wait(mut bed: Bed) {
    let waker = bed.io.waker();
    let mut batch = Batch::new(64);
    // Before the wait.
    waker.wake();
    assert_eq!(bed.io.receive(&mut batch, Some(Duration::MAX)).unwrap(), 0);
    // In it, or before it: again and again, since nobody knows when it begins.
    for _ in 0..20 {
        let is_over = Arc::new(AtomicBool::new(false));
        let (other, waker) = (Arc::clone(&is_over), waker.clone());
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            waker.wake();
            other.store(true, Ordering::SeqCst);
        });
        assert_eq!(bed.io.receive(&mut batch, Some(Duration::MAX)).unwrap(), 0);
        thread.join().unwrap();
        assert!(is_over.load(Ordering::SeqCst));
    }
    // A wake hides no datagram.
    let peer = bed.peer();
    waker.wake();
    peer.send_to(b"here", bed.io.local_address()).unwrap();
    let got = receive(&mut *bed.io, &mut batch, 1);
    assert_same(got, vec![(peer.local_addr().unwrap(), b"here".to_vec())]);
}

pub(crate) fn a_wait_ends_by_itself(mut bed: Bed) {
    let mut batch = Batch::new(64);
    for wait in [None, Some(Duration::ZERO), Some(Duration::from_millis(20))] {
        assert_eq!(bed.io.receive(&mut batch, wait).unwrap(), 0);
    }
    let peer = bed.peer();
    peer.send_to(b"later", bed.io.local_address()).unwrap();
    assert_eq!(receive(&mut *bed.io, &mut batch, 1).len(), 1);
}

pub(crate) fn a_dead_port_spoils_nothing(mut bed: Bed) {
    let (dead, peer) = (bed.dead(), bed.peer());
    let live = peer.local_addr().unwrap();
    let mut batch = Batch::new(64);
    for number in 0..20 {
        batch.clear();
        for _ in 0..3 {
            assert!(batch.push(dead, b"nobody"));
        }
        assert!(batch.push(live, &pattern(50, number)));
        let sent = bed.io.send(batch.datagrams()).unwrap();
        assert!(sent >= 1, "the live one goes");
        assert_eq!(receive_plain(&peer, 1), [pattern(50, number)]);
        peer.send_to(b"back", bed.io.local_address()).unwrap();
        assert_eq!(receive(&mut *bed.io, &mut batch, 1).len(), 1);
    }
    let statistics = bed.io.statistics();
    assert_eq!(statistics.sent + statistics.failures.total(), 80);
}

pub(crate) fn exhausted_buffers_recover(mut bed: Bed) {
    const ROUND: u64 = 100;
    let mut peer = bed.joining_peer();
    let mut batch = Batch::new(256);
    for _ in 0..3 {
        let mut sent = 0;
        let mut flood = Batch::new(256);
        for number in 0..256 {
            assert!(flood.push(bed.io.local_address(), &pattern(1232 - number % 2, number)));
        }
        for _ in 0..ROUND {
            sent += peer.send(flood.datagrams()).unwrap();
        }
        assert!(sent > 0);
        while bed
            .io
            .receive(&mut batch, Some(Duration::from_millis(200)))
            .unwrap()
            > 0
        {}
    }
    let statistics = bed.io.statistics();
    assert!(statistics.received > 0);
    assert!(statistics.received <= 3 * ROUND * 256);
    // It works as before.
    for number in 0..1000 {
        let mut one = Batch::new(1);
        assert!(one.push(bed.io.local_address(), &pattern(700, number)));
        assert_eq!(peer.send(one.datagrams()).unwrap(), 1);
        let got = receive(&mut *bed.io, &mut batch, 1);
        assert_same(got, vec![(peer.local_address(), pattern(700, number))]);
    }
}

pub(crate) fn a_bounded_flood_is_sent_without_waiting(mut bed: Bed) {
    let peer = bed.peer();
    let mut batch = Batch::new(256);
    let mut attempted = 0;
    let mut sent = 0;
    for number in 0..256 {
        // No two of one size side by side: no runs.
        assert!(batch.push(peer.local_addr().unwrap(), &pattern(number * 4 + 1, number)));
    }
    for _ in 0..200 {
        attempted += batch.len();
        sent += bed.io.send(batch.datagrams()).unwrap();
    }
    let statistics = bed.io.statistics();
    assert_eq!(statistics.sent, u64::try_from(sent).unwrap());
    let total = statistics.sent + statistics.failures.total();
    assert_eq!(total, u64::try_from(attempted).unwrap());
}

/// `AF_XDP` alone: what can goes past the kernel's stack, over a gateway too, and nothing stays behind.
pub(crate) fn frames_pass_the_stack_by(mut bed: Bed) {
    let mut batch = Batch::new(64);
    let far = [bed.peer(), bed.peer_behind_gateway()];
    let mut sent = 0;
    for round in 0..50 {
        for peer in &far {
            batch.clear();
            for number in 0..20 {
                assert!(batch.push(peer.local_addr().unwrap(), &pattern(900, number)));
            }
            assert_eq!(bed.io.send(batch.datagrams()).unwrap(), 20);
            sent += 20;
            assert_eq!(receive_plain(peer, 20).len(), 20);
            peer.send_to(&pattern(900, round), bed.io.local_address())
                .unwrap();
            assert_eq!(receive(&mut *bed.io, &mut batch, 1).len(), 1);
        }
    }
    let statistics = bed.io.statistics();
    assert_eq!((statistics.sent, statistics.received), (sent, 100));
    assert_eq!(
        (statistics.received_otherwise, statistics.malformed),
        (0, 0)
    );
    // The first to each may go by the stack, until it is sure of the neighbour.
    assert!(statistics.sent_otherwise < sent / 2, "{statistics:?}");
    // A second on the same queue has no room; when the first is gone it has.
    bed.reopen();
    let peer = &far[0];
    peer.send_to(b"again", bed.io.local_address()).unwrap();
    assert_eq!(receive(&mut *bed.io, &mut batch, 1).len(), 1);
    assert_eq!(bed.io.statistics().received_otherwise, 0);
}
