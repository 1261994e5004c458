//! A relay that peels, drops replays, forwards, and answers what is delivered to it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{HopKey, ReplayTag, answer, open, relay_id};
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::epoch::Epoch;
use cepa_wire::packet::fragment::{Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::reassembler::{Message, Progress, Reassembler, ReassemblerLimits};
use cepa_wire::packet::request::{AnswerEncoding, PacketAnswer, PacketRequest, block_uses};
use cepa_wire::packet::{ClientId, Command, Packet, PacketBytes, RelayId, ReplyBlock};
use cepa_wire::{Timestamp, X25519PublicKey};

use super::key_of;

pub(super) enum Step {
    Send(RelayId, Box<PacketBytes>, Duration),
    ToClient(ClientId, Box<PacketBytes>, Duration),
}

pub(super) struct Relay {
    pub(super) id: RelayId,
    pub(super) identity: LinkIdentity,
    kem: KemSecretKey,
    hop: HopKey,
    seen: BTreeSet<ReplayTag>,
    reassembler: Reassembler,
    /// How often each message was run.
    pub(super) runs: BTreeMap<MessageId, u32>,
}

impl Relay {
    pub(super) fn new(number: u8) -> Self {
        let kem = || KemSecretKey::from_seed([number; 64]);
        let id = relay_id(&key_of(number));
        let secret = X25519SecretKey::from_bytes([number; 32]);
        Self {
            id,
            identity: LinkIdentity::relay(X25519SecretKey::from_bytes([number ^ 0x55; 32]), kem()),
            kem: kem(),
            hop: HopKey::new(secret, id, Epoch(10)),
            seen: BTreeSet::new(),
            reassembler: Reassembler::new(ReassemblerLimits::TILE),
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn kem_key(&self) -> &[u8; KEM_KEY_SIZE] {
        self.kem.public_key()
    }

    pub(super) fn hop_key(&self) -> X25519PublicKey {
        self.hop.public_key()
    }

    pub(super) fn handle(&mut self, now: Timestamp, packet: &PacketBytes) -> Vec<Step> {
        let Ok(opened) = open(&self.hop, packet) else {
            return Vec::new();
        };
        if !self.seen.insert(*opened.replay_tag()) {
            return Vec::new();
        }
        let mut packet = Box::new(*packet);
        let Ok(block) = opened.peel(&mut packet) else {
            return Vec::new();
        };
        match block.command {
            Command::Forward(next) => vec![Step::Send(next, packet, block.delay())],
            Command::Reply(client) => vec![Step::ToClient(client, packet, block.delay())],
            Command::Deliver => self.deliver(now, &packet),
        }
    }

    fn deliver(&mut self, now: Timestamp, packet: &PacketBytes) -> Vec<Step> {
        let fragment = Fragment::parse(Packet::new(packet).content()).unwrap();
        assert_eq!(fragment.message().kind(), MessageKind::Request);
        match self.reassembler.handle_fragment(now, &fragment) {
            Progress::Complete(message) => self.run(&message),
            _ => Vec::new(),
        }
    }

    /// `echo` answers its parameters, `size` as many bytes as they say.
    fn run(&mut self, message: &Message) -> Vec<Step> {
        *self.runs.entry(message.id).or_default() += 1;
        let request = PacketRequest::parse(&message.bytes).unwrap();
        let body = match request.method() {
            "echo" => request.params().to_vec(),
            "size" => vec![
                7;
                core::str::from_utf8(request.params())
                    .unwrap()
                    .parse()
                    .unwrap()
            ],
            other => panic!("{other}"),
        };
        let answered = PacketAnswer::Body {
            status: 200,
            encoding: AnswerEncoding::Raw,
            body: &body,
        };
        let blocks: Vec<ReplyBlock> = request.blocks().collect();
        let Some(bytes) = answered.encode_within(blocks.len()) else {
            return Vec::new();
        };
        let contents = fragments(message.id, MessageKind::Answer, &bytes).unwrap();
        let contents: Vec<_> = contents.collect();
        let uses = block_uses(blocks.len(), contents.len());
        blocks
            .iter()
            .zip(uses)
            .map(|(block, fragment)| {
                let built = answer(block, &contents[fragment]).unwrap();
                Step::Send(built.first, Box::new(built.bytes), Duration::ZERO)
            })
            .collect()
    }
}
