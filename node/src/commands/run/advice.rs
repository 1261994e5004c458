//! What an operator is told before the node starts: what can't work is refused, what looks like a
//! mistake is said.

use core::net::SocketAddr;

use cepa_control::config::PacketIo;
use cepa_control::{Config, NetworkSource};
use cepa_wire::Timestamp;

/// What `af_xdp` needs.
pub(super) const AF_XDP_HINT: &str =
    "packet_io \"af_xdp\" needs af_xdp_interface, such as \"eth0\"";

/// The 1st of January 2025: no clock that is set shows less.
const CLOCK_MIN: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// Why a node with this config can't work, a sentence for each reason.
pub(in crate::commands) fn refusals(config: &Config) -> Vec<String> {
    let mut refusals = Vec::new();
    let (https_port, omq_port) = (config.https_port, config.omq_port);
    if https_port == omq_port {
        refusals.push(format!(
            "HTTPS and OMQ can't both listen on port {https_port}: give another https_port or \
             omq_port"
        ));
    }
    let own = config.bind_ip.into();
    let listening = [
        ("admin_listen", config.admin_listen),
        ("seed_listen", config.seed_listen),
        ("https_port", Some(SocketAddr::new(own, https_port))),
        ("omq_port", Some(SocketAddr::new(own, omq_port))),
    ];
    for (index, (name, address)) in listening.iter().enumerate().take(2) {
        let others = listening.iter().skip(index + 1);
        let clash = others.filter(|(_, other)| does_clash(*address, *other));
        refusals.extend(clash.map(|(other, _)| {
            format!("{name} and {other} can't both have the same address and port: change one")
        }));
    }
    if config.packet.io == PacketIo::AfXdp && config.packet.af_xdp_interface.is_none() {
        refusals.push(AF_XDP_HINT.to_owned());
    }
    if config.bind_ip.is_loopback() && !is_lab(config) {
        refusals.push(format!(
            "bind_ip {} is reached from this machine alone, and nobody could use the node: give \
             0.0.0.0, or the address that oxend announces; for a lab, give network_file instead \
             of oxend_rpc, or testnet",
            config.bind_ip
        ));
    }
    refusals
}

/// Whether two can't be listened on at once.
fn does_clash(one: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    let is_same_ip = one.ip() == other.ip();
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    // Port 0 is one that the system chooses.
    one.port() == other.port() && one.port() != 0 && (is_same_ip || is_any)
}

/// Whether nobody depends on the node.
fn is_lab(config: &Config) -> bool {
    config.testnet || matches!(config.network, NetworkSource::File(_))
}

/// What looks like a mistake, a sentence each.
pub(in crate::commands) fn remarks(config: &Config, now: Timestamp, is_root: bool) -> Vec<String> {
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
pub(in crate::commands) fn is_root() -> bool {
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
            match (&refusals(&config)[..], expected) {
                ([], None) => {}
                ([told], Some(expected)) => assert!(told.contains(expected), "{told}"),
                other => panic!("{config:?}: {other:?}"),
            }
        }
        let mut testnet = config(loopback, [1, 2], oxend());
        testnet.testnet = true;
        assert!(refusals(&testnet).is_empty());
        // All of it is told.
        let mut all = config(loopback, [7, 7], oxend());
        all.admin_listen = Some("127.0.0.1:7".parse().unwrap());
        all.seed_listen = Some("0.0.0.0:7".parse().unwrap());
        all.packet.io = PacketIo::AfXdp;
        assert_eq!(refusals(&all).len(), 8, "{:#?}", refusals(&all));
        all.admin_listen = Some("127.0.0.1:8".parse().unwrap());
        all.seed_listen = Some("127.0.0.1:0".parse().unwrap());
        assert_eq!(refusals(&all).len(), 3);
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
