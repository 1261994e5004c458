//! The processor: what speeds ciphers up, and the cores that the node is to have.

use std::collections::BTreeSet;

use cepa_control::Config;
use cepa_control::config::X25519Choice;
use cepa_crypto::x25519::Backend;
use cepa_crypto::{packet, x25519};
use cepa_host::probe;

use super::cgroup;
use super::finding::Finding;
use super::{Context, show_cpus};

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let config = context.config;
    let mut findings = vec![
        judge_ciphers(packet::has_aes(), &features()),
        judge_x25519(
            x25519::available(),
            config.map_or(X25519Choice::Auto, |config| config.packet.x25519),
        ),
    ];
    let cores = Cores {
        allowed: probe::allowed_cpus(),
        quota: cgroup::cpu_quota(),
    };
    findings.push(judge_cores(&cores, config));
    findings
}

/// What this processor has of what the ciphers use.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("AES", std::is_x86_feature_detected!("aes")),
        ("PCLMULQDQ", std::is_x86_feature_detected!("pclmulqdq")),
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("VAES", std::is_x86_feature_detected!("vaes")),
        ("AVX-512 IFMA", std::is_x86_feature_detected!("avx512ifma")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let all = [("AES", packet::has_aes())];
    let there = all.into_iter().filter(|(_, is_there)| *is_there);
    there.map(|(name, _)| name).collect()
}

fn judge_ciphers(has_aes: bool, features: &[&str]) -> Finding {
    const NAME: &str = "ciphers";
    if has_aes {
        return Finding::pass(NAME, features.join(", "));
    }
    let found = if features.is_empty() {
        "no AES instructions".to_owned()
    } else {
        format!("no AES instructions; {}", features.join(", "))
    };
    Finding::warn(
        NAME,
        found,
        "a packet costs some ten times as much in software: take a machine with AES, or, if this is a \
         virtual one, pass the host's processor through",
    )
}

fn judge_x25519(available: Backend, choice: X25519Choice) -> Finding {
    const NAME: &str = "x25519";
    match (available, choice) {
        (Backend::Avx512Ifma, X25519Choice::Auto) => {
            Finding::pass(NAME, "AVX-512 IFMA, eight peers at once")
        }
        (Backend::Avx512Ifma, X25519Choice::Scalar) => Finding::warn(
            NAME,
            "one peer after the other, though the processor has AVX-512 IFMA",
            "set x25519 = \"auto\" for eight at once",
        ),
        (Backend::Scalar, _) => Finding::pass(NAME, "one peer after the other (no AVX-512 IFMA)"),
    }
}

struct Cores {
    /// Those that this process may run on.
    allowed: Vec<usize>,
    /// How many of them it may use in the long run, in hundredths; none: all.
    quota: Option<u64>,
}

fn judge_cores(cores: &Cores, config: Option<&Config>) -> Finding {
    const NAME: &str = "cores";
    let allowed: BTreeSet<_> = cores.allowed.iter().copied().collect();
    let Some(config) = config else {
        return Finding::pass(NAME, format!("{}: {}", allowed.len(), show_cpus(&allowed)));
    };
    let packet_cpu = config.packet.is_on.then_some(config.packet.cpu);
    let shards: BTreeSet<_> = config.shard_cpus.iter().copied().collect();
    let wanted: BTreeSet<_> = shards.iter().copied().chain(packet_cpu).collect();
    let missing: BTreeSet<_> = wanted.difference(&allowed).copied().collect();
    let found = match packet_cpu {
        Some(cpu) => format!("shards on {}, packets on {cpu}", show_cpus(&shards)),
        None => format!("shards on {}", show_cpus(&shards)),
    };
    if !missing.is_empty() {
        return Finding::fail(
            NAME,
            format!(
                "{found}; this process may not run on {}",
                show_cpus(&missing)
            ),
            format!(
                "give shard_cpus and packet_cpu of {}, or let the process have the others (taskset, \
                 AllowedCPUs=, --cpuset-cpus)",
                show_cpus(&allowed)
            ),
        );
    }
    let hundredths = u64::try_from(shards.len()).unwrap_or(u64::MAX) * 100;
    match cores.quota {
        Some(quota) if quota < hundredths => Finding::warn(
            NAME,
            format!(
                "{found}; the control group lets it use {}.{:02} cores",
                quota / 100,
                quota % 100
            ),
            "shards are held up when the quota is used up: raise it (CPUQuota=, --cpus), or give fewer \
             shard_cpus",
        ),
        _ => Finding::pass(NAME, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Pass, Warn};
    use super::super::tests::config;
    use super::*;

    #[test]
    fn software_ciphers_are_warned_of() {
        assert_eq!(judge_ciphers(true, &["AES", "AVX2"]).found, "AES, AVX2");
        assert_eq!(judge_ciphers(false, &[]).verdict, Warn);
        assert_eq!(judge_ciphers(false, &["AVX2"]).verdict, Warn);
    }

    #[test]
    fn the_backend_that_the_node_takes_is_told() {
        let (auto, scalar) = (X25519Choice::Auto, X25519Choice::Scalar);
        let table = [
            (Backend::Avx512Ifma, auto, Pass, "eight peers"),
            (Backend::Avx512Ifma, scalar, Warn, "one peer after"),
            (Backend::Scalar, auto, Pass, "one peer after"),
            (Backend::Scalar, scalar, Pass, "one peer after"),
        ];
        for (backend, choice, verdict, found) in table {
            let finding = judge_x25519(backend, choice);
            assert_eq!(finding.verdict, verdict);
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn cores_are_there_and_suffice() {
        let mut config = config();
        config.shard_cpus = vec![0, 1, 2];
        config.packet.cpu = 3;
        let judge = |allowed: &[usize], quota| {
            let allowed = allowed.to_vec();
            judge_cores(&Cores { allowed, quota }, Some(&config))
        };
        assert_eq!(judge(&[0, 1, 2, 3], None).verdict, Pass);
        assert_eq!(judge(&[0, 1, 2, 3], Some(300)).verdict, Pass);
        let throttled = judge(&[0, 1, 2, 3], Some(150));
        assert_eq!(throttled.verdict, Warn);
        assert!(throttled.found.contains("1.50 cores"), "{throttled:?}");
        let missing = judge(&[0, 2], None);
        assert_eq!(missing.verdict, Fail);
        assert!(
            missing.found.ends_with("may not run on 1, 3"),
            "{missing:?}"
        );
        let without = Cores {
            allowed: vec![0, 1, 2, 4],
            quota: None,
        };
        assert_eq!(judge_cores(&without, None).found, "4: 0-2, 4");
    }
}
