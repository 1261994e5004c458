//! To which card a datagram goes, as the kernel's tables say, remembered for a while.
//!
//! Nothing is learnt from received frames: whoever may send from any address could then turn the answers
//! to others towards itself. The kernel's tables are as good as its own stack.

use core::hash::{BuildHasher as _, Hasher as _};
use core::net::IpAddr;
use core::time::Duration;
use std::hash::RandomState;

use cepa_wire::Timestamp;
use cepa_wire::udp_frame::MacAddress;

use super::netlink::{Interface, Netlink};

/// How many addresses are remembered, each in the one place that it has: peers and clients of a busy
/// node. Whoever shares a place is looked up again, which costs some microseconds.
const PLACE_COUNT: usize = 4096;

/// How long what was found holds. Then the next datagram goes through the kernel, whose stack so keeps
/// its own tables fresh.
const FOUND_FOR: Duration = Duration::from_secs(10);

/// How long it holds that nothing was found: the first datagram, which goes through the kernel, has the
/// neighbour asked for, which answers within that in most networks.
const MISSED_FOR: Duration = Duration::from_millis(10);

/// How many addresses are looked up while one batch is sent. Others go through the kernel.
const LOOKUP_COUNT_MAX: usize = 16;

#[derive(Clone, Copy)]
struct Entry {
    ip: IpAddr,
    mac: Option<MacAddress>,
    until: Timestamp,
}

/// The table.
pub(super) struct Neighbours {
    netlink: Netlink,
    interface: Interface,
    places: Box<[Option<Entry>]>,
    /// Addresses are strangers': they must not know who shares a place.
    hashing: RandomState,
    lookups: usize,
}

impl Neighbours {
    pub(super) fn new(netlink: Netlink, interface: Interface) -> Self {
        Self {
            netlink,
            interface,
            places: vec![None; PLACE_COUNT].into_boxed_slice(),
            hashing: RandomState::new(),
            lookups: 0,
        }
    }

    /// A batch begins.
    pub(super) const fn begin(&mut self) {
        self.lookups = 0;
    }

    /// The card that a datagram to this address goes to; none if it has to go through the kernel.
    pub(super) fn find(&mut self, ip: IpAddr, now: Timestamp) -> Option<MacAddress> {
        let place = self.place(ip);
        let entry = self.places.get(place).copied().flatten();
        if let Some(entry) = entry.filter(|entry| entry.ip == ip && now < entry.until) {
            return entry.mac;
        }
        if self.lookups >= LOOKUP_COUNT_MAX {
            return None;
        }
        self.lookups += 1;
        // Where the kernel does not answer, its stack is as good.
        let (mac, is_sure) = self
            .look_up(ip)
            .map_or((None, false), |found| (Some(found.0), found.1));
        let hold = if mac.is_some() { FOUND_FOR } else { MISSED_FOR };
        if let Some(place) = self.places.get_mut(place) {
            let until = now.saturating_add(hold);
            *place = Some(Entry { ip, mac, until });
        }
        mac.filter(|_| is_sure)
    }

    fn place(&self, ip: IpAddr) -> usize {
        let mut hasher = self.hashing.build_hasher();
        match ip {
            IpAddr::V4(ip) => hasher.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => hasher.write_u128(ip.to_bits()),
        }
        usize::try_from(hasher.finish() % PLACE_COUNT as u64).unwrap_or_default()
    }

    fn look_up(&mut self, ip: IpAddr) -> Option<(MacAddress, bool)> {
        if ip.is_multicast() || ip.is_unspecified() {
            return None;
        }
        let index = self.interface.index;
        let hop = self.netlink.next_hop(ip, index).ok().flatten()?;
        self.netlink.neighbour(hop, index).ok().flatten()
    }
}
