//! What an operator is told before the node starts: what can't work is refused, what looks like a
//! mistake is said.

use cepa_control::{Config, NetworkSource};
use cepa_wire::Timestamp;

/// The 1st of January 2025: no clock that is set shows less.
const CLOCK_MIN: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// Why a node with this config can't work, if it can't.
pub(super) fn refusal(config: &Config) -> Option<String> {
    let (https_port, omq_port) = (config.https_port, config.omq_port);
    if https_port == omq_port {
        return Some(format!(
            "HTTPS and OMQ can't both listen on port {https_port}: give another https_port or \
             omq_port"
        ));
    }
    if config.bind_ip.is_loopback() && !is_lab(config) {
        return Some(format!(
            "bind_ip {} is reached from this machine alone, and nobody could use the node: give \
             0.0.0.0, or the address that oxend announces; for a lab, give network_file instead \
             of oxend_rpc, or testnet",
            config.bind_ip
        ));
    }
    None
}

/// Whether nobody depends on the node.
fn is_lab(config: &Config) -> bool {
    config.testnet || matches!(config.network, NetworkSource::File(_))
}

/// What looks like a mistake, a sentence each.
pub(super) fn remarks(config: &Config, now: Timestamp, is_root: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if config.testnet {
        remarks.push("this node is for the testnet: leave testnet out for the real one".to_owned());
    }
    if now < CLOCK_MIN {
        remarks.push(
            "the clock is set to a time before 2025: requests are refused by their timestamps \
             until it is right; let systemd-timesyncd or chrony set it"
                .to_owned(),
        );
    }
    if !config.proxy_exceptions.is_empty() && !is_lab(config) {
        remarks.push(
            "proxy_exceptions are for labs: whoever sends onions reaches these private hosts"
                .to_owned(),
        );
    }
    if is_root && !is_lab(config) {
        remarks.push(
            "the node runs as root and need not: give it a user of its own, as config/cepa.service \
             does"
                .to_owned(),
        );
    }
    remarks
}

/// Whether we are root.
pub(super) fn is_root() -> bool {
    cepa_host::sandbox::is_root()
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::num::NonZeroU16;
    use core::time::Duration;

    use super::*;

    fn config(bind_ip: Ipv4Addr, ports: [u16; 2], network: NetworkSource) -> Config {
        let ports = ports.map(|port| NonZeroU16::new(port).unwrap());
        Config::new(bind_ip, ports, "data".into(), network)
    }

    fn oxend() -> NetworkSource {
        NetworkSource::Oxend("ipc:///run/oxend.sock".to_owned())
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let file = || NetworkSource::File("network.json".into());
        let (any, loopback) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST);
        let table = [
            (config(any, [1, 2], oxend()), None),
            (config(loopback, [1, 2], file()), None),
            (config(any, [7, 7], oxend()), Some("both listen on port 7")),
            (
                config(loopback, [1, 2], oxend()),
                Some("from this machine alone"),
            ),
            (
                config(Ipv4Addr::new(127, 9, 9, 9), [1, 2], oxend()),
                Some("bind_ip 127.9.9.9"),
            ),
        ];
        for (config, expected) in table {
            match (refusal(&config), expected) {
                (None, None) => {}
                (Some(told), Some(expected)) => assert!(told.contains(expected), "{told}"),
                other => panic!("{config:?}: {other:?}"),
            }
        }
        let mut testnet = config(loopback, [1, 2], oxend());
        testnet.testnet = true;
        assert_eq!(refusal(&testnet), None);
    }

    #[test]
    fn what_looks_wrong_is_said() {
        let mut config = config(Ipv4Addr::UNSPECIFIED, [1, 2], oxend());
        assert!(remarks(&config, CLOCK_MIN, false).is_empty());
        let early = CLOCK_MIN.saturating_sub(Duration::from_millis(1));
        let [clock, root] = remarks(&config, early, true).try_into().unwrap();
        assert!(clock.contains("before 2025"), "{clock}");
        assert!(root.contains("as root"), "{root}");
        config.proxy_exceptions = vec!["10.0.0.7:80".to_owned()];
        let [private] = remarks(&config, CLOCK_MIN, false).try_into().unwrap();
        assert!(private.contains("for labs"), "{private}");
        config.testnet = true;
        let [testnet] = remarks(&config, CLOCK_MIN, true).try_into().unwrap();
        assert!(testnet.contains("testnet"), "{testnet}");
    }
}
