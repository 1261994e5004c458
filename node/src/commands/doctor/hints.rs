//! What makes a node that works slower than it could be: hints, never failures.

use std::collections::BTreeSet;
use std::fs;

use cepa_control::Config;
use cepa_host::probe;

use super::finding::Finding;
use super::interface::{Interface, interface_of, parse_cpus};
use super::{Context, read_text, show_cpus};

/// Processes that are looked at for irqbalance.
const PROCESS_COUNT_MAX: usize = 100_000;
/// NUMA nodes that are looked at.
const NODE_COUNT_MAX: usize = 1024;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let interface = context.config.and_then(|config| {
        let named = config.packet.af_xdp_interface.clone();
        Interface::find(&named.or_else(|| interface_of(config.bind_ip))?)
    });
    let nodes = numa_nodes();
    let mut findings = vec![judge_numa(&nodes, interface.as_ref(), context.config)];
    if let (Some(interface), Some(config)) = (&interface, context.config) {
        let interrupts = Interrupts {
            interface,
            is_balanced: has_process("irqbalance"),
            allowed: probe::allowed_cpus().into_iter().collect(),
        };
        findings.push(judge_interrupts(&interrupts, config));
    }
    let of_cpu = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    findings.push(judge_governor(read_text(of_cpu).as_deref()));
    let pages = read_text("/sys/kernel/mm/transparent_hugepage/enabled");
    findings.push(judge_huge_pages(pages.as_deref()));
    findings
}

/// The cores of each NUMA node, in order.
fn numa_nodes() -> Vec<BTreeSet<usize>> {
    let path = |node| format!("/sys/devices/system/node/node{node}/cpulist");
    let lists = (0..NODE_COUNT_MAX).map_while(|node| read_text(path(node)));
    lists.map(|list| parse_cpus(&list)).collect()
}

fn judge_numa(
    nodes: &[BTreeSet<usize>],
    interface: Option<&Interface>,
    config: Option<&Config>,
) -> Finding {
    const NAME: &str = "numa";
    if nodes.len() < 2 {
        return Finding::pass(NAME, "one node: all memory is as near");
    }
    let found = format!("{} nodes", nodes.len());
    let Some(config) = config else {
        return Finding::pass(NAME, found);
    };
    let packet_cpu = config.packet.is_on.then_some(config.packet.cpu);
    let used: BTreeSet<_> = config
        .shard_cpus
        .iter()
        .copied()
        .chain(packet_cpu)
        .collect();
    let has_used = |node: &&BTreeSet<usize>| !node.is_disjoint(&used);
    let near = interface.and_then(|interface| nodes.get(interface.numa_node?));
    match near {
        Some(near) if !used.is_subset(near) => Finding::warn(
            NAME,
            format!(
                "{found}; the node uses {}, and the interface is near {}",
                show_cpus(&used),
                show_cpus(near)
            ),
            format!("give shard_cpus and packet_cpu of {}", show_cpus(near)),
        ),
        _ if nodes.iter().filter(has_used).count() > 1 => Finding::warn(
            NAME,
            format!("{found}; the node uses cores of several"),
            "give shard_cpus and packet_cpu of one NUMA node (`lscpu`): shards speak to each other",
        ),
        _ => Finding::pass(NAME, found),
    }
}

struct Interrupts<'a> {
    interface: &'a Interface,
    /// irqbalance runs, and moves them about.
    is_balanced: bool,
    /// The cores that this process may run on.
    allowed: BTreeSet<usize>,
}

fn judge_interrupts(interrupts: &Interrupts<'_>, config: &Config) -> Finding {
    const NAME: &str = "interrupts";
    let Interface {
        name,
        irq_cpus,
        has_rps,
        ..
    } = interrupts.interface;
    if irq_cpus.is_empty() {
        return Finding::pass(NAME, format!("{name} has none of its own"));
    }
    let found = format!("those of {name} run on {}", show_cpus(irq_cpus));
    if !config.packet.is_on {
        return Finding::pass(NAME, found);
    }
    let shards: BTreeSet<_> = config.shard_cpus.iter().copied().collect();
    let packet_cpu = config.packet.cpu;
    let mut others = interrupts.allowed.difference(&shards);
    let free = others.find(|cpu| **cpu != packet_cpu);
    match free {
        Some(free) if irq_cpus.contains(&packet_cpu) => Finding::warn(
            NAME,
            format!("{found}, and packets on {packet_cpu} too"),
            format!(
                "put them to a core that does nothing else: \
                 `echo {free} > /proc/irq/N/smp_affinity_list`, and stop irqbalance"
            ),
        ),
        _ if interrupts.is_balanced => Finding::warn(
            NAME,
            format!("{found}, and irqbalance moves them"),
            "keep it from the node's cores: IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance",
        ),
        _ if *has_rps => Finding::pass(NAME, format!("{found}, and the kernel spreads them (RPS)")),
        _ => Finding::pass(NAME, found),
    }
}

fn judge_governor(governor: Option<&str>) -> Finding {
    const NAME: &str = "governor";
    match governor {
        None => Finding::skip(NAME, "the machine sets its clock rate by itself"),
        Some("powersave" | "conservative" | "ondemand") => Finding::warn(
            NAME,
            governor.unwrap_or_default(),
            "cores are slow when packets come after a pause: `cpupower frequency-set -g performance`",
        ),
        Some(other) => Finding::pass(NAME, other),
    }
}

fn judge_huge_pages(enabled: Option<&str>) -> Finding {
    const NAME: &str = "huge_pages";
    let chosen = enabled.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0));
    match chosen {
        None => Finding::skip(NAME, "the system does not tell"),
        Some(chosen @ "never") => Finding::warn(
            NAME,
            chosen,
            "the replay filter and the index miss the TLB more often: `echo madvise > \
             /sys/kernel/mm/transparent_hugepage/enabled`",
        ),
        Some(chosen) => Finding::pass(NAME, chosen),
    }
}

fn has_process(name: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    entries
        .flatten()
        .take(PROCESS_COUNT_MAX)
        .any(|entry| read_text(entry.path().join("comm")).is_some_and(|comm| comm == name))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Pass, Skip, Warn};
    use super::super::tests::config;
    use super::*;

    fn cpus(cpus: &[usize]) -> BTreeSet<usize> {
        cpus.iter().copied().collect()
    }

    #[test]
    fn cores_are_near_the_interface_and_each_other() {
        let mut config = config();
        let nodes = [cpus(&[0, 1, 2, 3]), cpus(&[4, 5, 6, 7])];
        let at = |numa_node| Interface {
            numa_node,
            ..Interface::default()
        };
        let table: [(&[usize], usize, Option<usize>, _); 5] = [
            (&[0, 1], 2, Some(0), Pass),
            (&[0, 1], 2, Some(1), Warn),
            (&[0, 1], 2, None, Pass),
            (&[0, 4], 0, None, Warn),
            (&[0, 1], 4, Some(0), Warn),
        ];
        for (shards, packet_cpu, near, expected) in table {
            config.shard_cpus = shards.to_vec();
            config.packet.cpu = packet_cpu;
            let finding = judge_numa(&nodes, Some(&at(near)), Some(&config));
            assert_eq!(finding.verdict, expected, "{finding:?}");
            let one = judge_numa(&nodes[..1], Some(&at(near)), Some(&config));
            assert_eq!(one.verdict, Pass);
        }
    }

    #[test]
    fn interrupts_stay_away_from_the_packet_tile_where_they_can() {
        let mut config = config();
        config.shard_cpus = vec![0, 1];
        config.packet.cpu = 2;
        let judge = |config: &Config, irqs: &[usize], allowed: &[usize], is_balanced| {
            let interface = Interface {
                irq_cpus: cpus(irqs),
                ..Interface::default()
            };
            let interrupts = Interrupts {
                interface: &interface,
                is_balanced,
                allowed: cpus(allowed),
            };
            judge_interrupts(&interrupts, config).verdict
        };
        assert_eq!(judge(&config, &[2], &[0, 1, 2, 3], false), Warn);
        // There is no other core to put them to.
        assert_eq!(judge(&config, &[2], &[0, 1, 2], false), Pass);
        assert_eq!(judge(&config, &[3], &[0, 1, 2, 3], false), Pass);
        assert_eq!(judge(&config, &[3], &[0, 1, 2, 3], true), Warn);
        assert_eq!(judge(&config, &[], &[0, 1, 2, 3], true), Pass);
        config.packet.is_on = false;
        assert_eq!(judge(&config, &[2], &[0, 1, 2, 3], true), Pass);
    }

    #[test]
    fn slow_settings_are_told() {
        let table = [
            (None, Skip),
            (Some("performance"), Pass),
            (Some("schedutil"), Pass),
            (Some("powersave"), Warn),
        ];
        for (governor, expected) in table {
            assert_eq!(judge_governor(governor).verdict, expected, "{governor:?}");
        }
        let table = [
            (None, Skip),
            (Some("always [madvise] never"), Pass),
            (Some("[always] madvise never"), Pass),
            (Some("always madvise [never]"), Warn),
        ];
        for (enabled, expected) in table {
            assert_eq!(judge_huge_pages(enabled).verdict, expected, "{enabled:?}");
        }
    }
}
