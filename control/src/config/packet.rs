//! The keys of the packet lane.

use core::num::NonZeroU16;

use cepa_wire::packet::epoch::EpochLength;
use serde::Deserialize;

use super::keys::{
    AF_XDP_INTERFACE, AF_XDP_QUEUE, Key, PACKET_CPU, PACKET_EPOCH_SECONDS, PACKET_IO, PACKET_LANE,
    PACKET_PORT, REPLAY_FILTER_MIB, X25519,
};
use super::table::Table;
use super::to_integer;

/// A replay filter for 67 million packets: 775 a second for a day.
const REPLAY_FILTER_MIB_DEFAULT: u64 = 256;
/// More memory than that is a slip of the pen.
const REPLAY_FILTER_MIB_MAX: u64 = 65_536;
/// Shorter epochs leave no time to tell the others.
const EPOCH_SECONDS_MIN: u32 = 20;
/// The kernel's bound of an interface's name (`IFNAMSIZ`), without the zero behind it.
const INTERFACE_SIZE_MAX: usize = 15;
/// No network card has more queues.
const QUEUE_MAX: u32 = 4095;

/// How datagrams are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketIo {
    /// The best that the machine has.
    #[default]
    Auto,
    /// `io_uring`, multishot.
    IoUring,
    /// `AF_XDP`, past the network stack; needs rights and `af_xdp_interface`.
    AfXdp,
    /// `recvmmsg` and `sendmmsg`, everywhere.
    Mmsg,
}

/// What computes batches of X25519.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum X25519Choice {
    /// The fastest that the processor can run.
    #[default]
    Auto,
    /// One after the other, as every processor can.
    Scalar,
}

/// What `cepa.toml` says of the packet lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketConfig {
    /// Whether there is one.
    pub is_on: bool,
    /// Its UDP port; never that of QUIC.
    pub port: u16,
    /// How datagrams are read and written.
    pub io: PacketIo,
    /// The core that the packet tile is pinned to.
    pub cpu: usize,
    /// How long a hop key is used: the same for all nodes of a network.
    pub epoch: EpochLength,
    /// Memory of the replay filters of all tiles and epochs together, in MiB.
    pub replay_filter_mib: u64,
    /// What computes batches of X25519, onions' too.
    pub x25519: X25519Choice,
    /// The interface of `AF_XDP`.
    pub af_xdp_interface: Option<String>,
    /// The queue of that interface that the tile reads.
    pub af_xdp_queue: u32,
}

impl PacketConfig {
    /// The defaults beside these ports and shards.
    pub(super) fn new([https_port, omq_port]: [NonZeroU16; 2], shard_cpus: &[usize]) -> Self {
        Self {
            is_on: true,
            port: default_port(https_port.get(), omq_port.get()),
            io: PacketIo::Auto,
            cpu: default_cpu(shard_cpus),
            epoch: EpochLength::DAY,
            replay_filter_mib: REPLAY_FILTER_MIB_DEFAULT,
            x25519: X25519Choice::Auto,
            af_xdp_interface: None,
            af_xdp_queue: 0,
        }
    }

    pub(super) fn take(&mut self, table: &mut Table<'_>, omq_port: u16, shard_cpus: &[usize]) {
        table.put(&PACKET_LANE, &mut self.is_on, |_| true);
        // QUIC has the UDP port of OMQ.
        let port = table.take(&PACKET_PORT, |port: &NonZeroU16| port.get() != omq_port);
        self.port = port.map_or(self.port, NonZeroU16::get);
        table.put(&PACKET_IO, &mut self.io, |_| true);
        self.cpu = default_cpu(shard_cpus);
        table.put(&PACKET_CPU, &mut self.cpu, |_| true);
        let seconds = EPOCH_SECONDS_MIN..=EpochLength::SECONDS_MAX;
        let epoch = table.take(&PACKET_EPOCH_SECONDS, |epoch| seconds.contains(epoch));
        self.epoch = epoch.and_then(EpochLength::from_secs).unwrap_or(self.epoch);
        table.put(&REPLAY_FILTER_MIB, &mut self.replay_filter_mib, |mib| {
            (1..=REPLAY_FILTER_MIB_MAX).contains(mib)
        });
        table.put(&X25519, &mut self.x25519, |_| true);
        self.af_xdp_interface = table.take(&AF_XDP_INTERFACE, |name: &String| {
            !name.is_empty() && name.len() <= INTERFACE_SIZE_MAX && !name.contains('/')
        });
        table.put(&AF_XDP_QUEUE, &mut self.af_xdp_queue, |queue| {
            *queue <= QUEUE_MAX
        });
    }

    pub(super) fn put(&self, mut put: impl FnMut(&Key, toml::Value)) {
        put(&PACKET_LANE, self.is_on.into());
        put(&PACKET_PORT, i64::from(self.port).into());
        let io = match self.io {
            PacketIo::Auto => "auto",
            PacketIo::IoUring => "io_uring",
            PacketIo::AfXdp => "af_xdp",
            PacketIo::Mmsg => "mmsg",
        };
        put(&PACKET_IO, io.into());
        put(&PACKET_CPU, to_integer(self.cpu as u64));
        put(
            &PACKET_EPOCH_SECONDS,
            i64::from(self.epoch.as_secs()).into(),
        );
        put(&REPLAY_FILTER_MIB, to_integer(self.replay_filter_mib));
        let x25519 = match self.x25519 {
            X25519Choice::Auto => "auto",
            X25519Choice::Scalar => "scalar",
        };
        put(&X25519, x25519.into());
        if let Some(name) = &self.af_xdp_interface {
            put(&AF_XDP_INTERFACE, name.as_str().into());
        }
        put(&AF_XDP_QUEUE, i64::from(self.af_xdp_queue).into());
    }
}

/// The first port behind that of HTTPS that OMQ does not have.
fn default_port(https_port: u16, omq_port: u16) -> u16 {
    let mut behind = (https_port..u16::MAX).map(|port| port + 1);
    let free = behind.find(|port| *port != omq_port);
    // HTTPS has the last port, or the two have the last two.
    free.unwrap_or_else(|| https_port.min(omq_port).saturating_sub(1))
}

/// The last of the shards' cores: packets then hold up one shard at most.
fn default_cpu(shard_cpus: &[usize]) -> usize {
    shard_cpus.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_port_is_nobody_elses() {
        let table = [
            ([22021, 22020], 22022),
            ([1, 2], 3),
            ([u16::MAX, 7], 6),
            ([u16::MAX - 1, u16::MAX], u16::MAX - 2),
            ([u16::MAX, u16::MAX - 1], u16::MAX - 2),
        ];
        for ([https, omq], expected) in table {
            assert_eq!(default_port(https, omq), expected, "{https} {omq}");
        }
    }
}
