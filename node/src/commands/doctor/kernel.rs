//! The kernel and what it lets this process do.

use core::net::{Ipv4Addr, SocketAddr};

use cepa_control::config::PacketIo;
use cepa_host::EdgeLimits;
use cepa_host::packet_io::{IoChoice, IoKind, PacketIoSettings};
use cepa_host::probe::{self, Limit, RingFacts, RingRefusal};

use super::finding::Finding;
use super::{Context, read_number, read_text};

/// The first with all that the shards ask of `io_uring`.
const KERNEL_MIN: Version = (5, 8);
/// From here on rings are not counted as locked memory.
const KERNEL_UNLOCKED: Version = (5, 12);
/// The first with what the packet lane asks of `io_uring`.
const KERNEL_PACKETS: Version = (6, 1);
/// Bytes of locked memory below which no executor starts.
const LOCKED_MIN: u64 = 512 << 10;
/// Bytes of locked memory that the rings of a shard are counted as, by kernels that count them.
const LOCKED_PER_SHARD: u64 = 8 << 20;
/// Files that are no connection: listeners, rings, eventfds, the log of a shard that is opened.
const OTHER_FILE_COUNT: u64 = 1024;
/// Descriptors that a segment of the message log has at most.
const FILES_PER_SEGMENT: u64 = 3;
/// With fewer no node serves more than its peers.
const FILE_COUNT_MIN: u64 = 4096;

type Version = (u32, u32);

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let release = read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let has_lane = context.config.is_none_or(|config| config.packet.is_on);
    let limits = probe::limits();
    let version = parse_release(&release);
    let mut findings = vec![
        judge_release(&release, has_lane),
        judge_ring(&RingState {
            facts: probe::ring_facts(),
            sysctl: read_number("/proc/sys/kernel/io_uring_disabled"),
            has_seccomp: has_seccomp(&read_text("/proc/self/status").unwrap_or_default()),
        }),
    ];
    findings.extend(check_packets(context));
    findings.push(judge_locked_memory(
        limits.locked_memory,
        version,
        context.shard_count(),
    ));
    findings.push(judge_open_files(
        limits.open_files,
        files_needed(context.shard_count(), context.segment_count()),
    ));
    findings.push(judge_core_dumps(
        limits.core_size,
        &read_text("/proc/sys/kernel/core_pattern").unwrap_or_default(),
    ));
    findings
}

/// Opens the packet lane's ring on a port that nobody has. `AF_XDP` is another group's.
fn check_packets(context: &Context<'_>) -> Option<Finding> {
    let wanted = context
        .config
        .map_or(PacketIo::Auto, |config| config.packet.io);
    if context.config.is_some_and(|config| !config.packet.is_on) {
        return Some(Finding::skip("packet_io", "packet_lane is off"));
    }
    let mut settings = PacketIoSettings::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    settings.choice = match wanted {
        PacketIo::Auto | PacketIo::IoUring => IoChoice::IoUring,
        PacketIo::Mmsg => IoChoice::Mmsg,
        PacketIo::AfXdp => return None,
    };
    let opened = probe::try_packet_io(&settings).map_err(|fault| fault.to_string());
    Some(judge_packets(opened))
}

fn judge_release(release: &str, has_lane: bool) -> Finding {
    const NAME: &str = "kernel";
    let found = format!("Linux {release}");
    match parse_release(release) {
        None => Finding::warn(
            NAME,
            format!("{found}: no version that can be read"),
            "see that it is Linux 5.8 or newer",
        ),
        Some(version) if version < KERNEL_MIN => Finding::fail(
            NAME,
            found,
            "install Linux 5.8 or newer (6.1 for the packet lane): older ones lack operations of io_uring",
        ),
        Some(version) if has_lane && version < KERNEL_PACKETS => Finding::warn(
            NAME,
            found,
            "install Linux 6.1 or newer: before, the packet lane falls back to recvmmsg, which costs more",
        ),
        Some(_) => Finding::pass(NAME, found),
    }
}

/// `6.18.44-generic` is 6.18.
fn parse_release(release: &str) -> Option<Version> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

struct RingState {
    facts: RingFacts,
    /// `kernel.io_uring_disabled`; kernels before 6.6 have none.
    sysctl: Option<u64>,
    has_seccomp: bool,
}

fn judge_ring(state: &RingState) -> Finding {
    const NAME: &str = "io_uring";
    let RingFacts {
        ring,
        missing,
        executor,
    } = &state.facts;
    match ring {
        Err(RingRefusal::Forbidden | RingRefusal::Unknown) => {
            let (found, advice) = who_forbids(state);
            Finding::fail(NAME, found, advice)
        }
        Err(RingRefusal::NoMemory) => Finding::fail(
            NAME,
            "no ring can be made: too little locked memory",
            "raise the limit: LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`",
        ),
        Err(RingRefusal::Other(fault)) => Finding::fail(
            NAME,
            format!("no ring can be made: {fault}"),
            "see dmesg; update the kernel",
        ),
        Ok(()) if !missing.is_empty() => Finding::fail(
            NAME,
            format!("the kernel does not know {}", missing.join(", ")),
            "install Linux 5.8 or newer",
        ),
        Ok(()) => match executor {
            Some(Ok(())) => Finding::pass(NAME, "a ring was made and an executor ran"),
            Some(Err(fault)) => Finding::fail(
                NAME,
                format!("no executor starts: {fault}"),
                "see locked_memory and open_files; update the kernel",
            ),
            None => Finding::warn(
                NAME,
                "a ring was made; no executor was tried",
                "mend locked_memory first",
            ),
        },
    }
}

/// What forbids `io_uring`, and what to do about it.
fn who_forbids(state: &RingState) -> (&'static str, &'static str) {
    match (state.sysctl, state.has_seccomp) {
        (Some(2), _) => (
            "forbidden to all by the sysctl kernel.io_uring_disabled=2",
            "sysctl -w kernel.io_uring_disabled=0, and the same in /etc/sysctl.d/",
        ),
        (Some(1), _) => (
            "forbidden to this user by the sysctl kernel.io_uring_disabled=1",
            "sysctl -w kernel.io_uring_disabled=0, or put the node's group into kernel.io_uring_group",
        ),
        (_, true) => (
            "forbidden by a seccomp filter, as containers and units have one",
            "allow io_uring_setup, io_uring_enter and io_uring_register: for Docker by a profile \
             (--security-opt seccomp=FILE), for systemd by SystemCallFilter=@system-service @aio",
        ),
        _ if state.facts.ring == Err(RingRefusal::Unknown) => (
            "the kernel was built without it",
            "take a kernel with CONFIG_IO_URING=y, version 5.8 or newer",
        ),
        _ => (
            "forbidden, and neither by the sysctl nor by seccomp",
            "look for denials of a security module (SELinux: class io_uring) in the audit log",
        ),
    }
}

fn has_seccomp(status: &str) -> bool {
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() != "0")
}

fn judge_packets(opened: Result<(IoKind, Vec<String>), String>) -> Finding {
    const NAME: &str = "packet_io";
    match opened {
        Ok((kind, failures)) if failures.is_empty() => Finding::pass(NAME, kind.name()),
        Ok((kind, failures)) => Finding::warn(NAME, kind.name(), failures.join("; ")),
        Err(fault) => Finding::fail(NAME, fault, "see io_uring and open_files"),
    }
}

fn judge_locked_memory(limit: Limit, kernel: Option<Version>, shard_count: usize) -> Finding {
    const NAME: &str = "locked_memory";
    const ADVICE: &str = "raise it: LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`";
    let shards = u64::try_from(shard_count).unwrap_or(u64::MAX);
    let needed = LOCKED_PER_SHARD.saturating_mul(shards.saturating_add(1));
    let found = show_limit(limit, |bytes| format!("{} KiB", bytes >> 10));
    match limit.soft {
        Some(bytes) if bytes < LOCKED_MIN => Finding::fail(NAME, found, ADVICE),
        Some(bytes) if kernel.is_some_and(|kernel| kernel < KERNEL_UNLOCKED) && bytes < needed => {
            let found = format!(
                "{found}, where this kernel counts some {} MiB",
                needed >> 20
            );
            Finding::warn(NAME, found, ADVICE)
        }
        _ => Finding::pass(NAME, found),
    }
}

/// Descriptors that a node needs when it has all the connections that it takes.
fn files_needed(shard_count: usize, segment_count: u64) -> u64 {
    let limits = EdgeLimits::default();
    let connections = limits.https_connection_count_max + limits.omq_connection_count_max;
    let of_shards = u64::try_from(connections.saturating_mul(shard_count)).unwrap_or(u64::MAX);
    of_shards
        .saturating_add(segment_count.saturating_mul(FILES_PER_SEGMENT))
        .saturating_add(OTHER_FILE_COUNT)
}

fn judge_open_files(limit: Limit, needed: u64) -> Finding {
    const NAME: &str = "open_files";
    let found = show_limit(limit, |count| count.to_string());
    let advice = format!(
        "raise it to {needed}, for all connections and segments: LimitNOFILE={needed} in the unit, or \
         `ulimit -n {needed}`"
    );
    match limit.soft {
        Some(count) if count < FILE_COUNT_MIN => Finding::fail(NAME, found, advice),
        Some(count) if count < needed => Finding::warn(NAME, found, advice),
        _ => Finding::pass(NAME, format!("{found}, needed: {needed}")),
    }
}

/// A core file holds the node's keys.
fn judge_core_dumps(limit: Limit, pattern: &str) -> Finding {
    const NAME: &str = "core_dumps";
    if limit.soft == Some(0) {
        return Finding::pass(NAME, "none are written");
    }
    let to = if pattern.starts_with('|') {
        "given to a program"
    } else {
        "written to a file"
    };
    Finding::warn(
        NAME,
        format!("{to} ({pattern}): one of the node would hold its keys"),
        "LimitCORE=0 in the unit, or `ulimit -c 0`",
    )
}

fn show_limit(limit: Limit, show: impl Fn(u64) -> String) -> String {
    match (limit.soft, limit.hard) {
        (None, _) => "unlimited".to_owned(),
        (Some(soft), Some(hard)) if soft < hard => {
            format!("{} of at most {}", show(soft), show(hard))
        }
        (Some(soft), None) => format!("{}, may be raised", show(soft)),
        (Some(soft), Some(_)) => show(soft),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Pass, Warn};
    use super::*;

    #[test]
    fn kernels_are_judged_by_what_they_have() {
        let table = [
            ("6.18.44-fc-v657", true, Pass),
            ("6.1.0-18-amd64", true, Pass),
            ("5.15.0", true, Warn),
            ("5.15.0", false, Pass),
            ("5.8.0", false, Pass),
            ("5.4.0-generic", false, Fail),
            ("4.19.0", true, Fail),
            ("?", true, Warn),
            ("", true, Warn),
        ];
        for (release, has_lane, expected) in table {
            assert_eq!(
                judge_release(release, has_lane).verdict,
                expected,
                "{release}"
            );
        }
    }

    fn ring(
        ring: Result<(), RingRefusal>,
        executor: Option<Result<(), String>>,
        sysctl: Option<u64>,
        has_seccomp: bool,
    ) -> Finding {
        judge_ring(&RingState {
            facts: RingFacts {
                ring,
                missing: Vec::new(),
                executor,
            },
            sysctl,
            has_seccomp,
        })
    }

    #[test]
    fn who_forbids_rings_is_named() {
        let (forbidden, unknown) = (RingRefusal::Forbidden, RingRefusal::Unknown);
        let table = [
            (forbidden.clone(), Some(2), true, "io_uring_disabled=2"),
            (forbidden.clone(), Some(1), false, "io_uring_disabled=1"),
            (forbidden.clone(), Some(0), true, "seccomp"),
            (unknown.clone(), None, true, "seccomp"),
            (unknown, None, false, "built without"),
            (forbidden, None, false, "neither"),
            (RingRefusal::NoMemory, None, false, "locked memory"),
            (RingRefusal::Other("odd".into()), None, false, "odd"),
        ];
        for (refusal, sysctl, has_seccomp, expected) in table {
            let finding = ring(Err(refusal), None, sysctl, has_seccomp);
            assert_eq!(finding.verdict, Fail);
            assert!(finding.found.contains(expected), "{finding:?}");
            assert!(finding.advice.is_some());
        }
    }

    #[test]
    fn a_ring_that_is_made_is_not_yet_an_executor() {
        assert_eq!(ring(Ok(()), Some(Ok(())), Some(0), true).verdict, Pass);
        assert_eq!(ring(Ok(()), None, None, false).verdict, Warn);
        let fails = ring(Ok(()), Some(Err("no".into())), None, false);
        assert_eq!(fails.verdict, Fail);
        let lacking = judge_ring(&RingState {
            facts: RingFacts {
                ring: Ok(()),
                missing: vec!["STATX", "SEND"],
                executor: None,
            },
            sysctl: None,
            has_seccomp: false,
        });
        assert_eq!(lacking.verdict, Fail);
        assert!(lacking.found.contains("STATX, SEND"));
    }

    #[test]
    fn seccomp_is_read() {
        assert!(has_seccomp("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_seccomp("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!has_seccomp(""));
    }

    #[test]
    fn packets_fall_back_with_a_warning() {
        let opened = |failures: &[&str]| {
            let failures = failures.iter().map(ToString::to_string).collect();
            judge_packets(Ok((IoKind::Mmsg, failures))).verdict
        };
        assert_eq!(opened(&[]), Pass);
        assert_eq!(opened(&["io_uring does not work"]), Warn);
        assert_eq!(judge_packets(Err("no socket".into())).verdict, Fail);
    }

    fn limit(soft: impl Into<Option<u64>>) -> Limit {
        Limit {
            soft: soft.into(),
            hard: None,
        }
    }

    #[test]
    fn locked_memory_counts_where_kernels_count_it() {
        let table: [(Option<u64>, Option<Version>, Verdict); 7] = [
            (None, Some((5, 8)), Pass),
            (Some(64 << 10), Some((6, 1)), Fail),
            (Some(512 << 10), Some((6, 1)), Pass),
            (Some(8 << 20), Some((5, 10)), Warn),
            (Some(64 << 20), Some((5, 10)), Pass),
            (Some(8 << 20), Some((5, 12)), Pass),
            (Some(8 << 20), None, Pass),
        ];
        for (soft, kernel, expected) in table {
            let finding = judge_locked_memory(limit(soft), kernel, 4);
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn files_are_those_of_all_connections() {
        let needed = files_needed(2, 160);
        assert_eq!(needed, 2 * (4096 + 8192) + 3 * 160 + 1024);
        let table = [
            (Some(1024), Fail),
            (Some(4096), Warn),
            (Some(needed - 1), Warn),
            (Some(needed), Pass),
            (None, Pass),
        ];
        for (soft, expected) in table {
            let finding = judge_open_files(limit(soft), needed);
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn core_files_are_warned_of() {
        assert_eq!(judge_core_dumps(limit(0), "|/x %p").verdict, Pass);
        assert_eq!(judge_core_dumps(limit(None), "core").verdict, Warn);
        let piped = judge_core_dumps(limit(1 << 30), "|/usr/bin/keep %p");
        assert!(piped.found.contains("given to a program"), "{piped:?}");
    }
}
