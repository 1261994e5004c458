//! The interface that the node's traffic comes by: which it is, and what the system tells of it.

use core::net::Ipv4Addr;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::read_text;

/// Queues and interrupts of one interface that are looked at: no card has more.
const COUNT_MAX: usize = 4096;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// What drives it; none: no hardware.
    pub(super) driver: Option<String>,
    /// Queues that it receives by; 0 where the system does not tell.
    pub(super) queue_count: usize,
    /// Its NUMA node, where there are several.
    pub(super) numa_node: Option<usize>,
    /// The cores that its interrupts run on.
    pub(super) irq_cpus: BTreeSet<usize>,
    /// Whether the kernel spreads its packets over cores by itself (RPS).
    pub(super) has_rps: bool,
}

impl Interface {
    /// Looks at one; none if there is no such interface.
    pub(super) fn find(name: &str) -> Option<Self> {
        // What sysfs shows may be of another network namespace, as in some containers.
        if !has_interface(&read_text("/proc/net/dev")?, name) {
            return None;
        }
        let root = Path::new("/sys/class/net").join(name);
        let driver = fs::read_link(root.join("device/driver")).ok();
        let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let queues = receive_queues(&root);
        let is_set = |mask: &str| mask.chars().any(|c| c != '0' && c != ',');
        let masks = queues
            .iter()
            .filter_map(|queue| read_text(root.join("queues").join(queue).join("rps_cpus")));
        Some(Self {
            name: name.to_owned(),
            driver,
            queue_count: queues.len(),
            numa_node: read_text(root.join("device/numa_node")).and_then(|text| text.parse().ok()),
            irq_cpus: irq_cpus(&root),
            has_rps: masks.into_iter().any(|mask| is_set(&mask)),
        })
    }

    /// As a person reads it.
    pub(super) fn show(&self) -> String {
        let driver = self.driver.as_deref().unwrap_or("no driver of its own");
        let queues = match self.queue_count {
            0 => "queues unknown".to_owned(),
            1 => "1 queue".to_owned(),
            count => format!("{count} queues"),
        };
        format!("{} ({driver}, {queues})", self.name)
    }
}

/// Whether an interface is in the table of `/proc/net/dev`.
fn has_interface(table: &str, name: &str) -> bool {
    let mut names = table.lines().filter_map(|line| line.split_once(':'));
    names.any(|(one, _)| one.trim() == name)
}

/// The interface that has an address, or that leads to everybody if the address is any.
pub(super) fn interface_of(address: Ipv4Addr) -> Option<String> {
    if address.is_loopback() {
        return Some("lo".to_owned());
    }
    route_of(&read_text("/proc/net/route")?, address)
}

/// The interface of the narrowest route to an address, in the words of `/proc/net/route`.
fn route_of(table: &str, address: Ipv4Addr) -> Option<String> {
    let mut best: Option<(u32, &str)> = None;
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, destination, _, _, _, _, _, mask, ..] = fields.as_slice() else {
            continue;
        };
        let (Some(destination), Some(mask)) = (read_hex(destination), read_hex(mask)) else {
            continue;
        };
        let is_narrower = best.is_none_or(|(narrowest, _)| mask > narrowest);
        if address.to_bits() & mask == destination && is_narrower {
            best = Some((mask, name));
        }
    }
    best.map(|(_, name)| name.to_owned())
}

/// An address as the kernel prints it: the bytes of the network, read as a number of this machine.
fn read_hex(text: &str) -> Option<u32> {
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(u32::from_be(number))
}

fn receive_queues(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("queues")) else {
        return Vec::new();
    };
    let names = entries.flatten().take(COUNT_MAX);
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("rx-"))
        .collect()
}

/// The cores that the interrupts of a device run on. Those of a virtual one are its parent's.
fn irq_cpus(root: &Path) -> BTreeSet<usize> {
    let mut cpus = BTreeSet::new();
    let Ok(device) = fs::canonicalize(root.join("device")) else {
        return cpus;
    };
    let found = device
        .ancestors()
        .take(2)
        .find_map(|device| fs::read_dir(device.join("msi_irqs")).ok());
    for entry in found.into_iter().flatten().flatten().take(COUNT_MAX) {
        let name = entry.file_name();
        let directory = Path::new("/proc/irq").join(&name);
        let list = read_text(directory.join("effective_affinity_list"));
        let list = list.or_else(|| read_text(directory.join("smp_affinity_list")));
        cpus.extend(list.map(|list| parse_cpus(&list)).unwrap_or_default());
    }
    cpus
}

/// A list such as `0-3,8`, as the kernel writes it.
pub(super) fn parse_cpus(list: &str) -> BTreeSet<usize> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',').take(COUNT_MAX) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            continue;
        };
        cpus.extend((first..=last).take(COUNT_MAX));
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
        eth2\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nodd\n";

    #[test]
    fn the_narrowest_route_leads() {
        let table = [
            ("0.0.0.0", "eth0"),
            ("192.168.2.9", "eth1"),
            ("192.168.1.9", "eth2"),
            ("8.8.8.8", "eth0"),
        ];
        for (address, expected) in table {
            let found = route_of(ROUTES, address.parse().unwrap());
            assert_eq!(found.as_deref(), Some(expected), "{address}");
        }
        assert_eq!(route_of("Iface\n", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn lists_of_cores_are_read() {
        let read = |list| parse_cpus(list).into_iter().collect::<Vec<_>>();
        assert_eq!(read("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(read("5"), [5]);
        assert_eq!(read(""), [0_usize; 0]);
        assert_eq!(read("3-x,2"), [2]);
    }

    #[test]
    fn loopback_is_an_interface_and_nowhere_is_none() {
        assert!(Interface::find("lo").is_some_and(|lo| lo.driver.is_none()));
        assert_eq!(Interface::find("nowhere"), None);
        assert_eq!(Interface::find("../net/lo"), None);
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\n";
        assert!(has_interface(table, "eth0") && !has_interface(table, "eth"));
    }
}
