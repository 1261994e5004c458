//! Whether the packet lane could pass the kernel's network stack by (`AF_XDP`), and whether it can where
//! the config asks for it.

use core::net::{Ipv4Addr, SocketAddr};

use cepa_control::config::PacketIo;
use cepa_host::packet_io::{IoChoice, IoKind, PacketIoSettings, XdpMode, XdpSettings};
use cepa_host::probe;

use super::finding::Finding;
use super::interface::{Interface, interface_of};
use super::{Context, read_number, read_text};

/// What a process needs for it: the names and numbers of `capability.h`.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39)];

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let wanted = context.config.and_then(|config| {
        let packet = &config.packet;
        let is_wanted = packet.is_on && packet.io == PacketIo::AfXdp;
        Some((packet.af_xdp_interface.as_deref()?, packet.af_xdp_queue)).filter(|_| is_wanted)
    });
    let address = context
        .config
        .map_or(Ipv4Addr::UNSPECIFIED, |config| config.bind_ip);
    let name = wanted.map(|(name, _)| name.to_owned());
    let name = name.or_else(|| interface_of(address));
    let facts = Facts {
        interface: name.as_deref().and_then(Interface::find),
        name: name.unwrap_or_default(),
        queue: wanted.map(|(_, queue)| queue),
        missing: missing_capabilities(&read_text("/proc/self/status").unwrap_or_default()),
        has_jit: read_number("/proc/sys/net/core/bpf_jit_enable") != Some(0),
    };
    let mut findings = vec![judge_ready(&facts)];
    if let (Some((name, queue)), Some(_)) = (wanted, &facts.interface) {
        findings.push(if context.is_running {
            Finding::skip("af_xdp_open", "the node that runs has the queue")
        } else {
            let mut settings = PacketIoSettings::new(SocketAddr::from((address, 0)));
            settings.choice = IoChoice::AfXdp(XdpSettings {
                interface: name.to_owned(),
                queue,
                mode: XdpMode::Native,
            });
            judge_opened(probe::try_packet_io(&settings).map_err(|fault| fault.to_string()))
        });
    }
    findings
}

struct Facts {
    name: String,
    interface: Option<Interface>,
    /// The queue that the config asks for; none: it does not ask for `AF_XDP`.
    queue: Option<u32>,
    /// Capabilities that we do not have.
    missing: Vec<&'static str>,
    has_jit: bool,
}

fn judge_ready(facts: &Facts) -> Finding {
    const NAME: &str = "af_xdp";
    let is_wanted = facts.queue.is_some();
    let Some(interface) = &facts.interface else {
        return if is_wanted {
            Finding::fail(
                NAME,
                format!("there is no interface {}", facts.name),
                "give one of `ip link` as af_xdp_interface",
            )
        } else {
            Finding::skip(NAME, "no interface leads to the network")
        };
    };
    let shown = interface.show();
    if let Some(queue) = facts.queue
        && interface.queue_count > 0
        && usize::try_from(queue).is_ok_and(|queue| queue >= interface.queue_count)
    {
        return Finding::fail(
            NAME,
            format!("{shown} has no queue {queue}"),
            "give a lower af_xdp_queue, or more queues: `ethtool -L INTERFACE combined N`",
        );
    }
    if !is_wanted {
        let missing = if facts.missing.is_empty() {
            "we have the rights for it".to_owned()
        } else {
            format!("it would need {}", facts.missing.join(", "))
        };
        return Finding::pass(NAME, format!("not asked for; {shown}, {missing}"));
    }
    if !facts.missing.is_empty() {
        return Finding::warn(
            NAME,
            format!("{shown}; we lack {}", facts.missing.join(", ")),
            "give the unit AmbientCapabilities= and CapabilityBoundingSet= with them, or ask as root; \
             without, the lane falls back to io_uring",
        );
    }
    if !facts.has_jit {
        return Finding::warn(
            NAME,
            format!("{shown}; its program would be interpreted"),
            "sysctl -w net.core.bpf_jit_enable=1",
        );
    }
    Finding::pass(NAME, shown)
}

fn judge_opened(opened: Result<(IoKind, Vec<String>), String>) -> Finding {
    const NAME: &str = "af_xdp_open";
    match opened {
        Ok((IoKind::AfXdp, _)) => Finding::pass(NAME, "opened, and closed again"),
        Ok((kind, failures)) => Finding::warn(
            NAME,
            format!("packets would go by {} instead", kind.name()),
            failures.join("; "),
        ),
        Err(fault) => Finding::fail(NAME, fault, "see bind_ip and packet_port"),
    }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let missing = CAPABILITIES
        .iter()
        .filter(|(_, number)| mask & (1 << number) == 0);
    missing.map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Pass, Skip, Warn};
    use super::*;

    #[test]
    fn capabilities_are_read() {
        let all = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"];
        assert_eq!(missing_capabilities("CapEff:\t0000000000000000\n"), all);
        assert_eq!(missing_capabilities(""), all);
        assert_eq!(
            missing_capabilities("CapEff:\t0000000000003000\n"),
            ["CAP_BPF"]
        );
        assert!(missing_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
    }

    #[test]
    fn it_is_judged_where_it_is_asked_for() {
        let there = Some(Interface {
            name: "eth0".into(),
            driver: Some("ice".into()),
            queue_count: 2,
            ..Interface::default()
        });
        let table = [
            (there.clone(), None, vec!["CAP_BPF"], true, Pass),
            (there.clone(), Some(1), vec![], true, Pass),
            (there.clone(), Some(2), vec![], true, Fail),
            (there.clone(), Some(0), vec!["CAP_BPF"], true, Warn),
            (there, Some(0), vec![], false, Warn),
            (None, Some(0), vec![], true, Fail),
            (None, None, vec![], true, Skip),
        ];
        for (interface, queue, missing, has_jit, expected) in table {
            let finding = judge_ready(&Facts {
                name: "eth0".into(),
                interface,
                queue,
                missing,
                has_jit,
            });
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn another_way_is_a_warning() {
        let opened = |kind| judge_opened(Ok((kind, vec!["denied".into()]))).verdict;
        assert_eq!(opened(IoKind::AfXdp), Pass);
        assert_eq!(opened(IoKind::IoUring), Warn);
        assert_eq!(judge_opened(Err("no".into())).verdict, Fail);
    }
}
