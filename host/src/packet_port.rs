//! The port of a packet tile: open, or closed since it failed. What it counted before stays counted.

use std::io;

use core::sync::atomic::Ordering::Relaxed;

use cepa_meter::count;
use cepa_relay::packet::io_counters::IoCounters;

use crate::packet_io::{IoStatistics, PacketIo};

pub(crate) struct Port {
    io: Option<Box<dyn PacketIo>>,
    /// What of the open one is counted.
    counted: IoStatistics,
}

impl Port {
    pub(crate) fn new(io: Box<dyn PacketIo>) -> Self {
        Self {
            io: Some(io),
            counted: IoStatistics::default(),
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.io.is_some()
    }

    /// The open port.
    pub(crate) fn io(&mut self) -> io::Result<&mut dyn PacketIo> {
        match &mut self.io {
            Some(io) => Ok(io.as_mut()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes it, so that its port and its queue are free.
    pub(crate) fn close(&mut self, counters: &IoCounters) {
        self.count(counters);
        self.io = None;
        self.counted = IoStatistics::default();
        count(&counters.reopened);
    }

    /// Opens another.
    pub(crate) fn open(&mut self, io: Box<dyn PacketIo>) {
        self.io = Some(io);
    }

    /// Adds what happened since this was called last.
    pub(crate) fn count(&mut self, counters: &IoCounters) {
        let Some(io) = &self.io else { return };
        let now = io.statistics();
        let before = core::mem::replace(&mut self.counted, now);
        let dropped = |statistics: IoStatistics| statistics.kernel_dropped.unwrap_or_default();
        let (failed, failed_before) = (now.failures, before.failures);
        let all = [
            (&counters.received, now.received, before.received),
            (
                &counters.received_bytes,
                now.received_bytes,
                before.received_bytes,
            ),
            (&counters.sent, now.sent, before.sent),
            (&counters.sent_bytes, now.sent_bytes, before.sent_bytes),
            (&counters.oversized, now.oversized, before.oversized),
            (&counters.malformed, now.malformed, before.malformed),
            (&counters.exhausted, now.exhausted, before.exhausted),
            (&counters.kernel_dropped, dropped(now), dropped(before)),
            (
                &counters.received_otherwise,
                now.received_otherwise,
                before.received_otherwise,
            ),
            (
                &counters.sent_otherwise,
                now.sent_otherwise,
                before.sent_otherwise,
            ),
            (&counters.send_full, failed.full, failed_before.full),
            (
                &counters.send_unreachable,
                failed.unreachable,
                failed_before.unreachable,
            ),
            (
                &counters.send_refused,
                failed.refused,
                failed_before.refused,
            ),
            (
                &counters.send_too_large,
                failed.too_large,
                failed_before.too_large,
            ),
            (
                &counters.send_forbidden,
                failed.forbidden,
                failed_before.forbidden,
            ),
            (&counters.send_failed, failed.other, failed_before.other),
        ];
        for (counter, now, before) in all {
            counter.fetch_add(now.saturating_sub(before), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};
    use core::time::Duration;
    use std::net::UdpSocket;

    use super::*;
    use crate::packet_io::{Batch, IoChoice, PacketIoSettings, open};

    #[test]
    fn what_it_counted_stays_when_it_is_opened_anew() {
        let settings = PacketIoSettings {
            choice: IoChoice::Mmsg,
            ..PacketIoSettings::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let counters = IoCounters::default();
        let mut port = Port::new(open(&settings).unwrap());
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..2 {
            let io = port.io().unwrap();
            peer.send_to(&[1; 100], io.local_address()).unwrap();
            let mut batch = Batch::new(4);
            let wait = Some(Duration::from_secs(10));
            assert_eq!(io.receive(&mut batch, wait).unwrap(), 1);
            port.count(&counters);
            port.count(&counters);
            port.close(&counters);
            assert!(port.io().is_err() && !port.is_open());
            port.count(&counters);
            port.open(open(&settings).unwrap());
        }
        assert_eq!(counters.received.load(Relaxed), 2);
        assert_eq!(counters.received_bytes.load(Relaxed), 200);
        assert_eq!(counters.reopened.load(Relaxed), 2);
    }
}
