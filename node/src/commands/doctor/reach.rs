//! Whether others reach this node: from here by its public address, and through peers, by onions whose
//! destination we are. The last relay of such an onion asks us over OMQ, as any peer does.

use core::net::SocketAddr;
use core::time::Duration;

use cepa_client::{Bootstrap, Client, ClientError, ClientSettings, Lane};
use cepa_control::Config;
use cepa_edge::quic::client as quic;
use cepa_wire::ServiceNode;
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;

/// Paths that are tried at once, each with a guard of its own.
const PATH_COUNT: usize = 3;
/// Relays of a path; none of them is us.
const RELAY_COUNT: usize = 3;
/// How long a path may take, with what is tried again on the way.
const PATH_TIMEOUT: Duration = Duration::from_secs(25);
/// How long we may take to answer ourselves.
const DIRECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What came of one way to us.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Reached,
    /// There are too few nodes for a path.
    TooFew,
    Failed(String),
}

pub(super) async fn check(
    nodes: &[ServiceNode],
    us: &ServiceNode,
    config: &Config,
) -> Vec<Finding> {
    let paths = join_all((0..PATH_COUNT).map(|_| through(nodes, us, Lane::Request)));
    let packets = async {
        if config.packet.is_on {
            Some(through(nodes, us, Lane::Packet).await)
        } else {
            None
        }
    };
    let (https, omq, quic, paths, packets) = tokio::join!(
        own_https(us),
        own_omq(us),
        own_quic(us, config),
        paths,
        packets
    );
    let mut findings = vec![
        judge_direct("own_https", &format!("TCP {}:{}", us.ip, us.port), &https),
        judge_direct("own_omq", &format!("TCP {}:{}", us.ip, us.omq_port), &omq),
    ];
    findings.extend(
        quic.map(|quic| judge_direct("own_quic", &format!("UDP {}:{}", us.ip, us.omq_port), &quic)),
    );
    findings.push(judge_paths(&paths, us.omq_port));
    findings.extend(packets.map(|packets| judge_packets(&packets, config.packet.port)));
    findings
}

/// Asks us for our version, through three relays.
async fn through(nodes: &[ServiceNode], us: &ServiceNode, lane: Lane) -> Outcome {
    let is_relay =
        |node: &&ServiceNode| node.is_contactable() && node.pubkey_ed25519 != us.pubkey_ed25519;
    if nodes.iter().filter(is_relay).count() < RELAY_COUNT {
        return Outcome::TooFew;
    }
    let settings = ClientSettings {
        lane,
        ..ClientSettings::default()
    };
    let asked = async {
        let mut client = Client::connect(Bootstrap::Nodes(nodes.to_vec()), settings).await?;
        client.info(us).await
    };
    match timeout(PATH_TIMEOUT, asked).await {
        Ok(Ok(_)) => Outcome::Reached,
        // The client has given up some of them: they do not answer.
        Ok(Err(ClientError::TooFewNodes(_))) => Outcome::Failed("peers do not answer".to_owned()),
        Ok(Err(fault)) => Outcome::Failed(fault.to_string()),
        Err(_) => Outcome::Failed("no answer in time".to_owned()),
    }
}

async fn own_https(us: &ServiceNode) -> Result<(), String> {
    let asked = timeout(DIRECT_TIMEOUT, cepa_client::direct_info(us)).await;
    match asked {
        // 503 is an answer: that we serve nobody yet is told elsewhere.
        Ok(Ok(_) | Err(ClientError::Refused { .. })) => Ok(()),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn own_omq(us: &ServiceNode) -> Result<(), String> {
    let connected = timeout(DIRECT_TIMEOUT, TcpStream::connect((us.ip, us.omq_port))).await;
    let connected = connected.map_err(|_| "no answer in time".to_owned())?;
    connected.map(drop).map_err(|fault| fault.to_string())
}

/// A handshake alone: a ping would be counted as a test by a peer.
async fn own_quic(us: &ServiceNode, config: &Config) -> Option<Result<(), String>> {
    if !config.quic {
        return None;
    }
    let address = SocketAddr::from((us.ip, us.omq_port));
    let asked = async {
        let client = quic::Client::towards(address, None)?;
        client.connect(address, us.pubkey_ed25519).await.map(drop)
    };
    let asked = timeout(DIRECT_TIMEOUT, asked).await;
    let asked = asked.map_err(|_| "no answer in time".to_owned());
    Some(asked.and_then(|asked| asked.map_err(|fault| fault.to_string())))
}

/// Many routers do not lead from inside to their own outside: so this is no failure.
fn judge_direct(name: &str, address: &str, asked: &Result<(), String>) -> Finding {
    match asked {
        Ok(()) => Finding::pass(name, format!("{address} answers from here")),
        Err(fault) => Finding::warn(
            name,
            format!("{address}: {fault}"),
            "if `reached` passes, only the way from here to our own address is closed; else open the \
             port in firewall and router",
        ),
    }
}

fn judge_paths(paths: &[Outcome], omq_port: u16) -> Finding {
    const NAME: &str = "reached";
    let count = paths.len();
    let reached = paths.iter().filter(|path| **path == Outcome::Reached);
    let reached = reached.count();
    let found = format!("{reached} of {count} onions through peers came here and back");
    let fault = paths.iter().find_map(|path| match path {
        Outcome::Failed(fault) => Some(fault),
        _ => None,
    });
    match fault {
        None if reached == 0 => Finding::skip(NAME, "too few nodes for a path of three to us"),
        Some(fault) if reached == 0 => Finding::fail(
            NAME,
            format!("{found}: {fault}"),
            format!(
                "open TCP {omq_port} to everybody in firewall and router, or see that peers can be \
                 reached from here at all (clock_offset)"
            ),
        ),
        Some(fault) if reached * 2 < count => Finding::warn(
            NAME,
            format!("{found}: {fault}"),
            "ask again: the relays may be at fault; if it stays, see the load of this node",
        ),
        _ => Finding::pass(NAME, found),
    }
}

fn judge_packets(outcome: &Outcome, port: u16) -> Finding {
    const NAME: &str = "reached_by_packets";
    match outcome {
        Outcome::Reached => Finding::pass(NAME, "packets through peers came here and back"),
        Outcome::TooFew => Finding::skip(NAME, "too few nodes for a path of three to us"),
        Outcome::Failed(fault) => Finding::warn(
            NAME,
            fault.clone(),
            format!(
                "open UDP {port} to everybody; nodes without a packet lane carry none, so this may \
                 also be the network"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Pass, Skip, Warn};
    use super::*;

    fn failed() -> Outcome {
        Outcome::Failed("no".into())
    }

    #[test]
    fn one_way_to_us_is_one() {
        let reached = || Outcome::Reached;
        let table: [(Vec<Outcome>, Verdict); 5] = [
            (vec![reached(), reached(), reached()], Pass),
            (vec![reached(), reached(), failed()], Pass),
            (vec![reached(), failed(), failed()], Warn),
            (vec![failed(), failed(), Outcome::TooFew], Fail),
            (vec![Outcome::TooFew, Outcome::TooFew], Skip),
        ];
        for (paths, expected) in table {
            let finding = judge_paths(&paths, 22_020);
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn what_only_peers_can_tell_is_no_failure() {
        assert_eq!(judge_direct("own_omq", "x", &Ok(())).verdict, Pass);
        let refused = judge_direct("own_omq", "x", &Err("refused".into()));
        assert_eq!(refused.verdict, Warn);
        assert_eq!(judge_packets(&Outcome::Reached, 1).verdict, Pass);
        assert_eq!(judge_packets(&Outcome::TooFew, 1).verdict, Skip);
        assert_eq!(judge_packets(&failed(), 1).verdict, Warn);
    }
}
