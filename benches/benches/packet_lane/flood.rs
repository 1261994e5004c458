//! Datagrams of strangers.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::UdpSocket;

use cepa_benches::packet_lane::random;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};

/// Different datagrams of a flood.
const COUNT: usize = 1024;
/// Most that are sent before something else is done.
const BURST: usize = 16;

/// What strangers send.
#[derive(Clone, Copy)]
pub(crate) enum Garbage {
    Random,
    WrongSizes,
    UnknownLinks,
    BadMacs,
    /// Of the sender's link, which a stranger on the way may know.
    Forged(LinkHeader),
}

impl Garbage {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Random => "random bytes",
            Self::WrongSizes => "wrong sizes",
            Self::UnknownLinks => "frames of unknown links",
            Self::BadMacs => "initiations with a bad mac",
            Self::Forged(_) => "forged frames of a link",
        }
    }

    fn datagram(self, random: &mut impl FnMut(&mut [u8])) -> Vec<u8> {
        let (mut bytes, mut choice) = (vec![0; DATAGRAM_SIZE], [0; 4]);
        random(&mut bytes);
        random(&mut choice);
        let choice = u32::from_be_bytes(choice);
        let header = |frame_type, receiver_index| LinkHeader {
            frame_type,
            receiver_index,
            counter: 0,
        };
        let header = match self {
            Self::Random => return bytes,
            Self::WrongSizes => {
                bytes.truncate(choice as usize % DATAGRAM_SIZE);
                header(FrameType::Data, 0)
            }
            // Numbers of links begin at 0 and have twelve bits that count.
            Self::UnknownLinks => header(FrameType::Data, choice | 1 << 31),
            Self::BadMacs => header(FrameType::HandshakeInit, 0),
            Self::Forged(real) => LinkHeader {
                counter: real.counter + (1 << 24) + u64::from(choice),
                ..real
            },
        };
        if let Some(room) = bytes.first_chunk_mut::<LINK_HEADER_SIZE>() {
            *room = header.encode();
        }
        bytes
    }
}

/// Sends garbage at a rate, each datagram by itself: nothing is joined.
pub(crate) struct Flood {
    socket: UdpSocket,
    to: SocketAddr,
    datagrams: Vec<Vec<u8>>,
    rate: u32,
    sent: usize,
}

impl Flood {
    pub(crate) fn new(
        garbage: Garbage,
        from: SocketAddr,
        to: SocketAddr,
        rate: u32,
    ) -> io::Result<Self> {
        let mut random = random(5);
        Ok(Self {
            socket: UdpSocket::bind((from.ip(), 0))?,
            to,
            datagrams: (0..COUNT).map(|_| garbage.datagram(&mut random)).collect(),
            rate,
            sent: 0,
        })
    }

    /// Begins anew, to another address.
    pub(crate) const fn restart(&mut self, to: SocketAddr) {
        self.to = to;
        self.sent = 0;
    }

    /// Sends what is due so long after the beginning, or some of it.
    pub(crate) fn send(&mut self, at: Duration) -> io::Result<()> {
        let due = at.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        let count = due.saturating_sub(self.sent).min(BURST);
        for index in self.sent..self.sent + count {
            if let Some(datagram) = self.datagrams.get(index % COUNT) {
                self.socket.send_to(datagram, self.to)?;
            }
        }
        self.sent += count;
        Ok(())
    }

    /// Datagrams that were sent.
    pub(crate) const fn sent(&self) -> usize {
        self.sent
    }
}
