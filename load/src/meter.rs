//! What processes of this machine use, as `/proc` says.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::{fs, process};

use serde::Serialize;

/// Processes that are looked at: each costs a reading of two files a second.
pub const PROCESS_COUNT_MAX: usize = 256;
/// The unit of CPU times in `/proc`: 10 ms on every Linux that Rust knows.
const TICK: Duration = Duration::from_millis(10);
/// A listening socket, in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A process that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What it is called here: the port that it listens on, or its name.
    pub name: String,
}

/// What a process has used since it began, and what it has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in its own code.
    pub user: Duration,
    /// CPU time in the kernel for it.
    pub system: Duration,
    /// Memory that it has, in KiB.
    pub rss_kib: u64,
    /// Its threads.
    pub threads: u64,
}

impl Usage {
    /// All CPU time.
    pub fn cpu(self) -> Duration {
        self.user + self.system
    }
}

/// All processes at a time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Since the end of the warm-up.
    pub at: Duration,
    /// Each of the meter's processes; `None` of one that is gone.
    pub usages: Vec<Option<Usage>>,
    /// The generator itself.
    pub own: Option<Usage>,
}

/// Reads some processes.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    processes: Vec<Process>,
    /// When each began: another that has its id since is not it.
    begun: Vec<Option<u64>>,
}

impl Meter {
    /// Of these, at most [`PROCESS_COUNT_MAX`].
    pub fn new(mut processes: Vec<Process>) -> Self {
        processes.truncate(PROCESS_COUNT_MAX);
        let begun = processes.iter().map(|it| Some(usage(it.pid)?.1));
        let begun = begun.collect();
        Self { processes, begun }
    }

    /// Whom it reads.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Reads all of them now.
    pub fn read(&mut self, at: Duration) -> Reading {
        Reading {
            at,
            usages: self
                .processes
                .iter()
                .zip(&self.begun)
                .map(|(it, begun)| usage_since(it.pid, *begun))
                .collect(),
            own: usage(process::id()).map(|(usage, _)| usage),
        }
    }
}

/// The process with an id, if there is one.
pub fn find(pid: u32) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = format!("{} {pid}", name.trim_end());
    Some(Process { pid, name })
}

/// The processes of this machine that listen on TCP ports of loopback addresses, as far as we may see them.
/// A process with several of them is named by the first.
pub fn find_listeners(ports: &[(Ipv4Addr, u16)]) -> Vec<Process> {
    let wanted: BTreeSet<(Ipv4Addr, u16)> = ports
        .iter()
        .filter(|(ip, _)| ip.is_loopback())
        .copied()
        .collect();
    // The same port of another address may be somebody else's.
    let is_wanted = |address: IpAddr, port: u16| {
        wanted.iter().any(|(ip, wanted)| {
            *wanted == port && (address.is_unspecified() || address.to_canonical() == *ip)
        })
    };
    let mut sockets = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        let found = listening(&table);
        sockets.extend(
            found
                .filter(|(_, address, port)| is_wanted(*address, *port))
                .map(|(inode, _, port)| (format!("socket:[{inode}]"), port)),
        );
    }
    let mut found: Vec<(u16, u32)> = Vec::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        let port = links
            .filter_map(|link| sockets.get(link.to_str()?).copied())
            .min();
        found.extend(port.map(|port| (port, pid)));
    }
    found.sort_unstable();
    let name = |port| format!("port {port}");
    found
        .into_iter()
        .map(|(port, pid)| Process {
            pid,
            name: name(port),
        })
        .collect()
}

/// Inode, address and port of each listening socket of a table.
fn listening(table: &str) -> impl Iterator<Item = (u64, IpAddr, u16)> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let inode = fields.get(9)?.parse().ok()?;
        (*fields.get(3)? == LISTEN).then_some((inode, parse_address(address)?, port))
    })
}

/// An address as the kernel prints it: its words of 32 bits as this machine has them in memory.
#[expect(
    clippy::host_endian_bytes,
    reason = "the kernel prints them as they are"
)]
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(word(0)?.into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Some(bytes.into())
        }
        _ => None,
    }
}

/// What the process of an id uses, if it is still the one that began then.
fn usage_since(pid: u32, begun: Option<u64>) -> Option<Usage> {
    let (usage, since) = usage(pid)?;
    (Some(since) == begun).then_some(usage)
}

/// What a process uses, and when it began, in ticks since the machine did.
fn usage(pid: u32) -> Option<(Usage, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_usage(&stat, &status)
}

fn parse_usage(stat: &str, status: &str) -> Option<(Usage, u64)> {
    // The name stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks()?, ticks()?);
    let begun = fields.nth(6)?.parse().ok()?;
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let usage = Usage {
        user: TICK * user,
        system: TICK * system,
        // One that has ended but is not waited for has no memory.
        rss_kib: line("VmRSS:").unwrap_or(0),
        threads: line("Threads:").unwrap_or(0),
    };
    Some((usage, begun))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b) 1 2) S 1 7 7 0 -1 4194304 1 0 0 0 123 45 0 0 20 0 9 0 77 1 1";
        let status = "Name:\tx\nVmRSS:\t   2048 kB\nThreads:\t9\n";
        let (usage, begun) = parse_usage(stat, status).unwrap();
        assert_eq!(begun, 77);
        assert_eq!(usage.user, Duration::from_millis(1230));
        assert_eq!(usage.cpu(), Duration::from_millis(1680));
        assert_eq!((usage.rss_kib, usage.threads), (2048, 9));
        assert_eq!(parse_usage("7 (a", status), None);
        assert_eq!(parse_usage("7 (a) S 1", status), None);
    }

    #[test]
    #[expect(
        clippy::host_endian_bytes,
        reason = "the kernel prints them as they are"
    )]
    fn addresses_are_those_of_the_kernel() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let home = word([127, 0, 0, 1]);
        let mapped = [[0; 4], [0; 4], [0, 0, 0xff, 0xff], [127, 0, 0, 1]]
            .map(word)
            .concat();
        assert_eq!(parse_address(&home), Some(Ipv4Addr::LOCALHOST.into()));
        let told = parse_address(&mapped).unwrap();
        assert_eq!(told.to_canonical(), Ipv4Addr::LOCALHOST);
        assert!(parse_address(&"0".repeat(32)).unwrap().is_unspecified());
        for text in ["", "7F", "é000000", "0000000g"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
        let line = format!("  0: {home}:1F90 00000000:0000 0A 0:0 00:0 00000000 0 0 42 1");
        let found: Vec<_> = listening(&format!("head\n{line}\n")).collect();
        assert_eq!(found, [(42, Ipv4Addr::LOCALHOST.into(), 8080)]);
    }

    #[test]
    fn the_same_port_of_another_address_is_somebody_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(find_listeners(&[(Ipv4Addr::new(127, 0, 0, 9), port)]).is_empty());
    }

    #[test]
    fn a_process_that_has_the_id_of_another_is_not_it() {
        let this = process::id();
        let (_, begun) = usage(this).unwrap();
        assert!(usage_since(this, Some(begun)).is_some());
        assert!(usage_since(this, Some(begun + 1)).is_none());
        assert!(usage_since(this, None).is_none());
    }

    #[test]
    fn this_process_is_found_by_its_port_and_has_memory() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = find_listeners(&[(Ipv4Addr::LOCALHOST, port)]);
        let expected = Process {
            pid: process::id(),
            name: format!("port {port}"),
        };
        assert!(found.contains(&expected), "{found:?}");
        assert!(find_listeners(&[(Ipv4Addr::new(192, 0, 2, 1), port)]).is_empty());
        let reading = Meter::new(found).read(Duration::ZERO);
        assert!(reading.own.unwrap().rss_kib > 0);
        assert!(reading.usages[0].unwrap().threads > 0);
        assert!(find(process::id()).is_some() && find(u32::MAX).is_none());
    }
}
