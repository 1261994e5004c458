//! Packets at relays: what each step says, on a path and back.
#![expect(clippy::unwrap_used, reason = "tests")]

use core::time::Duration;

use cepa_crypto::NodeKeys;
use cepa_crypto::packet::{BuiltPacket, HopKeys, PathHop, ReplyKeys, build, relay_id, reply_block};
use cepa_crypto::x25519::{self, Backend};
use cepa_relay::packet::answers::answer_packets;
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::peeler::{Destination, Peeler, Step};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_relay::packet::terminal::{Delivered, Terminal};
use cepa_wire::Timestamp;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::packet::fragment::{Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::reassembler::{Progress, Reassembler, ReassemblerLimits};
use cepa_wire::packet::request::{AnswerEncoding, PacketAnswer, PacketRequest};
use cepa_wire::packet::{ClientId, Packet, PacketBytes, RelayId, ReplyBlock};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LENGTH: EpochLength = EpochLength::DAY;

/// A relay without links.
struct Relay {
    id: RelayId,
    keys: HopKeys,
    replay: ReplayFilters,
    peeler: Peeler,
    terminal: Terminal,
}

/// Bytes that differ from call to call, the same in each run.
fn random(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56).to_le_bytes()[0];
        }
    }
}

/// In `scalar.rs` these tests run as on a CPU without AVX-512 IFMA.
fn choose_backend() {
    if env!("CARGO_CRATE_NAME") == "scalar" {
        x25519::choose(Backend::Scalar).unwrap();
    }
}

impl Relay {
    fn new(number: u8) -> Self {
        choose_backend();
        let id = relay_id(&NodeKeys::from_seed([number; 32]).ed25519_public());
        let mut secret = number;
        let draw = || {
            secret += 100;
            [secret; 32]
        };
        Self {
            id,
            keys: HopKeys::new(id, LENGTH, Duration::from_mins(10), NOW, draw),
            replay: ReplayFilters::new(1 << 16, LENGTH.epoch_at(NOW), [9; 16]),
            peeler: Peeler::default(),
            terminal: Terminal::new(ReassemblerLimits::TILE),
        }
    }

    fn hop(&self, delay_ms: u32) -> PathHop {
        PathHop {
            relay: self.id,
            key: self.keys.published().current,
            delay_ms,
        }
    }

    fn peel(&mut self, packets: &mut [PacketBytes]) -> Vec<Step> {
        let mut batch: Vec<_> = packets.iter_mut().collect();
        let mut steps = vec![Step::Deliver; batch.len()];
        let (keys, replay) = (&self.keys, &self.replay);
        self.peeler.peel(keys, replay, NOW, &mut batch, &mut steps);
        steps
    }

    fn peel_one(&mut self, packet: &mut PacketBytes) -> Step {
        let steps = self.peel(core::slice::from_mut(packet));
        *steps.first().unwrap()
    }
}

/// Brings a packet along a path; every relay but the last must send it on to the next.
fn travel(relays: &mut [Relay], path: &[usize], sent: &BuiltPacket) -> (PacketBytes, Step) {
    let mut packet = sent.bytes;
    assert!(sent.first == relays[path[0]].id);
    for (at, next) in path.iter().zip(&path[1..]) {
        let next = Destination::Relay(relays[*next].id);
        let step = relays[*at].peel_one(&mut packet);
        let delay = Duration::from_millis(7);
        assert!(step == Step::Send { to: next, delay });
    }
    let step = relays[*path.last().unwrap()].peel_one(&mut packet);
    (packet, step)
}

fn relays() -> Vec<Relay> {
    (1..=3).map(Relay::new).collect()
}

#[test]
fn a_request_goes_there_and_its_answer_comes_back() {
    let mut relays = relays();
    let mut random = random(5);
    let client = ClientId([42; 16]);
    let back = [2, 1, 0];
    // The answer's last hop hands it to the client; 7 ms as all.
    let path: Vec<_> = [1, 0].map(|at: usize| relays[at].hop(7)).into();
    let (blocks, keys): (Vec<ReplyBlock>, Vec<ReplyKeys>) = (0..5)
        .map(|_| reply_block(&path, client, &mut random).unwrap())
        .unzip();
    let params = vec![b'x'; 3000];
    let request = PacketRequest::encode(&blocks, "retrieve", &params).unwrap();

    let forward: Vec<_> = [0, 1, 2].map(|at: usize| relays[at].hop(7)).into();
    let id = MessageId([3; 16]);
    let mut whole = None;
    let contents = fragments(id, MessageKind::Request, &request).unwrap();
    assert_eq!(contents.len(), 7);
    for content in contents {
        let sent = build(&forward, &content, &mut random).unwrap();
        let (packet, step) = travel(&mut relays, &[0, 1, 2], &sent);
        assert!(step == Step::Deliver);
        let content = Packet::new(&packet).content();
        let terminal = &mut relays[2].terminal;
        match terminal.handle_content(NOW, content) {
            Delivered::Pending => assert!(whole.is_none()),
            Delivered::Request(message) => whole = Some(message),
            Delivered::Drop(reason) => panic!("{reason:?}"),
        }
        let again = terminal.handle_content(NOW, content);
        assert!(matches!(
            again,
            Delivered::Drop(DropReason::DuplicateFragment)
        ));
    }
    let message = whole.unwrap();
    let request = PacketRequest::parse(&message.bytes).unwrap();
    assert_eq!(
        (request.method(), request.params()),
        ("retrieve", &params[..])
    );

    let body = vec![b'y'; 1500];
    let told = PacketAnswer::Body {
        status: 200,
        encoding: AnswerEncoding::Json,
        body: &body,
    };
    let answers: Vec<_> = answer_packets(message.id, &request, &told).collect();
    // Two fragments through five blocks: each as often as the blocks allow.
    assert_eq!(answers.len(), 5);
    let mut reassembler = Reassembler::new(ReassemblerLimits::TILE);
    let mut answered = None;
    for (sent, keys) in answers.into_iter().zip(keys) {
        let (packet, step) = travel(&mut relays, &back[1..], &sent);
        let delay = Duration::from_millis(7);
        let to = Destination::Client(client);
        assert!(step == Step::Send { to, delay });
        let content = keys.open(&packet).unwrap();
        let fragment = Fragment::parse(&content).unwrap();
        if let Progress::Complete(message) = reassembler.handle_fragment(NOW, &fragment) {
            answered = Some(message.bytes);
        }
    }
    assert_eq!(PacketAnswer::parse(&answered.unwrap()).unwrap(), told);
}

#[test]
fn each_bad_packet_of_a_batch_has_its_own_reason() {
    let mut relays = relays();
    let mut random = random(6);
    let [first, second, ..] = relays.as_mut_slice() else {
        unreachable!()
    };
    let mut one = |path: &[PathHop]| build(path, b"content", &mut random).unwrap().bytes;
    let good = one(&[first.hop(0), second.hop(0)]);
    let last = one(&[first.hop(0)]);
    let mut changed_header = one(&[first.hop(0)]);
    changed_header[100] ^= 1;
    let mut changed_payload = one(&[first.hop(0)]);
    changed_payload[1000] ^= 1;
    let mut weak = good;
    weak[..32].fill(0);
    let other = one(&[second.hop(0)]);
    let mut batch = [
        good,
        good,
        last,
        changed_header,
        changed_payload,
        weak,
        other,
    ];
    let steps = first.peel(&mut batch);
    let sent = Step::Send {
        to: Destination::Relay(second.id),
        delay: Duration::ZERO,
    };
    let expected = [
        sent,
        Step::Drop(DropReason::Replayed),
        Step::Deliver,
        Step::Drop(DropReason::BadTag),
        Step::Drop(DropReason::PayloadTampered),
        Step::Drop(DropReason::WeakKey),
        Step::Drop(DropReason::BadTag),
    ];
    assert!(steps == expected);
    assert_eq!(&Packet::new(&batch[2]).content()[..7], b"content");
    // A packet that was dropped stays as it came.
    assert!(batch[1] == good && batch[3] == changed_header);
}

#[test]
fn packets_of_an_epoch_without_a_filter_are_not_taken() {
    let mut relay = Relay::new(1);
    relay.replay = ReplayFilters::new(1 << 16, LENGTH.epoch_at(NOW).next(), [9; 16]);
    let mut packet = build(&[relay.hop(0)], b"", &mut random(7)).unwrap().bytes;
    assert!(relay.peel_one(&mut packet) == Step::Drop(DropReason::WrongEpoch));
}

#[test]
fn what_is_no_fragment_of_a_request_ends_at_the_terminal() {
    let mut terminal = Terminal::new(ReassemblerLimits::TILE);
    let bad = terminal.handle_content(NOW, &[0xff; 824]);
    assert!(matches!(bad, Delivered::Drop(DropReason::BadFragment)));
    let answer = fragments(MessageId([1; 16]), MessageKind::Answer, b"").unwrap();
    for content in answer {
        let bad = terminal.handle_content(NOW, &content);
        assert!(matches!(bad, Delivered::Drop(DropReason::BadFragment)));
    }
    let request = fragments(MessageId([1; 16]), MessageKind::Request, &[7; 801]).unwrap();
    assert!(matches!(
        terminal.handle_content(NOW, &request.clone().next().unwrap()),
        Delivered::Pending
    ));
    let due = terminal.poll_timeout().unwrap();
    terminal.handle_timeout(due);
    assert_eq!(terminal.poll_timeout(), None);
}
