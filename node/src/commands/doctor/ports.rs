//! The ports that the node listens on, and the kernel's buffers behind them.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};

use cepa_control::Config;
use cepa_host::packet_io::SOCKET_BUFFER_SIZE;

use super::finding::Finding;
use super::{Context, read_number};

/// Connections that wait to be accepted: of a busy moment.
const BACKLOG_MIN: u64 = 1024;
/// How long this machine may take to connect to itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

/// A port that the config asks for.
#[derive(Clone, Copy, Debug)]
struct Port {
    /// The check's name, which is the key of the config, or what it carries.
    name: &'static str,
    transport: Transport,
    address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    Free,
    Taken,
    Refused(ErrorKind, String),
}

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = match context.config {
        None => vec![Finding::skip(
            "listening",
            "the ports are those of a config",
        )],
        Some(config) => ports_of(config)
            .iter()
            .map(|port| judge_port(port, &bind(port), context.is_running))
            .collect(),
    };
    if context.config.is_none_or(|config| config.packet.is_on) {
        findings.push(judge_buffers(
            read_number("/proc/sys/net/core/rmem_max"),
            read_number("/proc/sys/net/core/wmem_max"),
        ));
    }
    findings.push(judge_backlog(read_number("/proc/sys/net/core/somaxconn")));
    findings
}

fn ports_of(config: &Config) -> Vec<Port> {
    let at = |port| SocketAddr::from((config.bind_ip, port));
    let port = |name, transport, address| Port {
        name,
        transport,
        address,
    };
    let mut ports = vec![
        port("https_port", Transport::Tcp, at(config.https_port)),
        port("omq_port", Transport::Tcp, at(config.omq_port)),
    ];
    if config.quic {
        ports.push(port("quic", Transport::Udp, at(config.omq_port)));
    }
    if config.packet.is_on {
        ports.push(port("packet_port", Transport::Udp, at(config.packet.port)));
    }
    let others = [
        ("admin_listen", config.admin_listen),
        ("seed_listen", config.seed_listen),
    ];
    for (name, address) in others {
        ports.extend(address.map(|address| port(name, Transport::Tcp, address)));
    }
    ports
}

/// Tries to have the port, alone, for a moment. Connections that linger after a node was killed keep a
/// TCP port from that for a minute, and not from a node, which shares it among its shards: so it counts
/// as taken when somebody answers there.
fn bind(port: &Port) -> Bound {
    let bound = match port.transport {
        Transport::Tcp => TcpListener::bind(port.address).map(drop),
        Transport::Udp => UdpSocket::bind(port.address).map(drop),
    };
    let Err(fault) = bound else {
        return Bound::Free;
    };
    if fault.kind() != ErrorKind::AddrInUse {
        return Bound::Refused(fault.kind(), fault.to_string());
    }
    if port.transport == Transport::Udp || is_answered(port.address) {
        Bound::Taken
    } else {
        Bound::Free
    }
}

fn is_answered(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
}

fn judge_port(port: &Port, bound: &Bound, is_running: bool) -> Finding {
    let Port {
        name,
        transport,
        address,
    } = port;
    let kind = match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    let where_ = format!("{kind} {address}");
    match (bound, is_running) {
        (Bound::Free, false) => Finding::pass(*name, format!("{where_} is free")),
        (Bound::Taken, true) => Finding::pass(*name, format!("{where_} is the running node's")),
        (Bound::Free, true) => Finding::warn(
            *name,
            format!("nobody listens on {where_}, though a node runs on this data_dir"),
            "it may be starting, or run with another config: see its log",
        ),
        (Bound::Taken, false) => Finding::fail(
            *name,
            format!("{where_} is taken by another process"),
            format!(
                "find it with `ss -{}lpn 'sport = :{}'` and stop it, or give another port",
                if *transport == Transport::Tcp {
                    "t"
                } else {
                    "u"
                },
                address.port()
            ),
        ),
        (Bound::Refused(ErrorKind::PermissionDenied, fault), _) => Finding::fail(
            *name,
            format!("{where_}: {fault}"),
            "ports below 1024 need CAP_NET_BIND_SERVICE: give a higher one",
        ),
        (Bound::Refused(ErrorKind::AddrNotAvailable, fault), _) => Finding::fail(
            *name,
            format!("{where_}: {fault}"),
            "this machine does not have that address: give bind_ip = \"0.0.0.0\"",
        ),
        (Bound::Refused(_, fault), _) => Finding::fail(
            *name,
            format!("{where_}: {fault}"),
            "see bind_ip and the ports of the config",
        ),
    }
}

fn judge_buffers(receive: Option<u64>, send: Option<u64>) -> Finding {
    const NAME: &str = "socket_buffers";
    let (Some(receive), Some(send)) = (receive, send) else {
        return Finding::skip(NAME, "the system does not tell");
    };
    let wanted = u64::try_from(SOCKET_BUFFER_SIZE).unwrap_or(u64::MAX);
    let found = format!(
        "rmem_max {} KiB, wmem_max {} KiB",
        receive >> 10,
        send >> 10
    );
    if receive.min(send) < wanted {
        let advice = format!(
            "sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted}, and the same in \
             /etc/sysctl.d/: with less, packets are dropped in bursts"
        );
        return Finding::warn(NAME, found, advice);
    }
    Finding::pass(NAME, found)
}

fn judge_backlog(most: Option<u64>) -> Finding {
    const NAME: &str = "somaxconn";
    match most {
        None => Finding::skip(NAME, "the system does not tell"),
        Some(most) if most < BACKLOG_MIN => Finding::warn(
            NAME,
            most.to_string(),
            format!(
                "sysctl -w net.core.somaxconn={BACKLOG_MIN}: with less, connections are refused in bursts"
            ),
        ),
        Some(most) => Finding::pass(NAME, most.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Pass, Skip, Warn};
    use super::super::tests::config;
    use super::*;

    #[test]
    fn the_ports_are_those_that_a_node_opens() {
        let names = |config: &Config| {
            let ports = ports_of(config);
            ports.iter().map(|port| port.name).collect::<Vec<_>>()
        };
        let mut config = config();
        let all = ["https_port", "omq_port", "quic", "packet_port"];
        assert_eq!(names(&config), all);
        config.quic = false;
        config.packet.is_on = false;
        config.admin_listen = Some("127.0.0.1:9100".parse().unwrap());
        assert_eq!(names(&config), ["https_port", "omq_port", "admin_listen"]);
    }

    #[test]
    fn a_port_is_ours_or_free() {
        let port = Port {
            name: "https_port",
            transport: Transport::Tcp,
            address: "0.0.0.0:22021".parse().unwrap(),
        };
        let denied = Bound::Refused(ErrorKind::PermissionDenied, "denied".into());
        let absent = Bound::Refused(ErrorKind::AddrNotAvailable, "absent".into());
        let table = [
            (&Bound::Free, false, Pass, "is free"),
            (&Bound::Taken, true, Pass, "running node"),
            (&Bound::Free, true, Warn, "nobody listens"),
            (&Bound::Taken, false, Fail, "taken by another"),
            (&denied, false, Fail, "denied"),
            (&absent, true, Fail, "absent"),
        ];
        for (bound, is_running, verdict, found) in table {
            let finding = judge_port(&port, bound, is_running);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn what_is_taken_is_seen() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let (tcp, udp);
            let address = match transport {
                Transport::Tcp => {
                    tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                    tcp.local_addr().unwrap()
                }
                Transport::Udp => {
                    udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                    udp.local_addr().unwrap()
                }
            };
            let port = |address| Port {
                name: "port",
                transport,
                address,
            };
            assert_eq!(bind(&port(address)), Bound::Taken);
            assert_eq!(bind(&port("127.0.0.1:0".parse().unwrap())), Bound::Free);
        }
    }

    #[test]
    fn buffers_hold_a_burst() {
        let wanted = 8 << 20;
        assert_eq!(judge_buffers(Some(wanted), Some(wanted)).verdict, Pass);
        assert_eq!(judge_buffers(Some(212_992), Some(wanted)).verdict, Warn);
        assert_eq!(judge_buffers(Some(wanted), Some(0)).verdict, Warn);
        assert_eq!(judge_buffers(None, Some(wanted)).verdict, Skip);
        assert_eq!(judge_backlog(Some(4096)).verdict, Pass);
        assert_eq!(judge_backlog(Some(128)).verdict, Warn);
    }
}
