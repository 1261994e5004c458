//! Who may be aimed at: this machine, and what its owner listed.

use core::net::IpAddr;
use std::collections::BTreeSet;

use thiserror::Error;

/// A target that is neither this machine nor listed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0} is not this machine: load upon a node of others is an attack on it, and is refused. If the host is \
     your own, list it in the key `bench_hosts` of a cepa.toml (bench_hosts = [\"{0}\"]) and give that file \
     with --config"
)]
pub struct Refused(pub IpAddr);

/// Whether load may go to all of these: each is a loopback address or in `allowed`.
pub fn check(
    targets: impl IntoIterator<Item = IpAddr>,
    allowed: &BTreeSet<IpAddr>,
) -> Result<(), Refused> {
    let canonical: BTreeSet<_> = allowed.iter().map(IpAddr::to_canonical).collect();
    for target in targets {
        let target = target.to_canonical();
        // "Any address" is this machine to connect to, but nobody's to be known by.
        if !target.is_loopback() && (target.is_unspecified() || !canonical.contains(&target)) {
            return Err(Refused(target));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: &str, allowed: &[&str]) -> bool {
        let allowed = allowed.iter().map(|it| it.parse().unwrap()).collect();
        check([target.parse().unwrap()], &allowed).is_err()
    }

    #[test]
    fn only_this_machine_and_what_is_listed_is_aimed_at() {
        assert!(!refused("127.0.0.1", &[]));
        assert!(!refused("127.200.3.4", &[]));
        assert!(!refused("::1", &[]));
        assert!(!refused("::ffff:127.0.0.1", &[]));
        assert!(refused("192.0.2.1", &[]));
        assert!(refused("192.0.2.1", &["192.0.2.2"]));
        assert!(!refused("192.0.2.1", &["192.0.2.2", "192.0.2.1"]));
        assert!(!refused("::ffff:192.0.2.1", &["192.0.2.1"]));
        assert!(refused("0.0.0.0", &["0.0.0.0"]));
        assert!(refused("10.0.0.1", &[]));
        assert!(refused("169.254.0.1", &[]));
    }

    #[test]
    fn one_among_many_is_enough_and_the_refusal_says_what_to_do() {
        let targets = ["127.0.0.1", "192.0.2.7"].map(|it| it.parse().unwrap());
        let text = check(targets, &BTreeSet::new()).unwrap_err().to_string();
        for part in ["192.0.2.7", "bench_hosts", "--config", "attack"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
