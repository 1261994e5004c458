//! What is made before the load begins: accounts with a message each, connections.

use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use cepa_client::answer::read_swarm;
use cepa_load::https::HttpsConnection;
use cepa_load::packets::PacketClient;
use cepa_load::workload::{Action, Asker, Owner, RPC_PATH, Subject, draw_account};
use cepa_wire::request::ClientRequest;
use cepa_wire::{Mailbox, ServiceNode};

use super::aim::{Aim, address};
use super::arguments::BenchArguments;
use crate::failure::Failure;

/// Accounts that are drawn for each that is wanted, until one is kept by a node that is asked: there are not
/// more swarms than some hundred.
const DRAW_COUNT_MAX: usize = 4096;
/// Connections that are opened before anything is measured; of more nodes they are opened by the warm-up.
const OPENED_COUNT_MAX: usize = 1024;

/// What draws requests, with accounts that have a message each if anything is retrieved.
pub(super) async fn asker(arguments: &BenchArguments, aim: &Aim) -> Result<Asker, Failure> {
    let mix = arguments.mix();
    let has = |action: Action| mix.iter().any(|(other, _)| *other == action);
    let mut http = HttpsConnection::new(arguments.source.map(|sources| sources.nth(0)));
    let mut owners = Vec::new();
    if !has(Action::Info) {
        let mut checked = BTreeSet::new();
        for _ in 0..arguments.accounts {
            let owner = draw_owner(arguments, aim, &mut http).await?;
            let member = owner.members().first();
            if let Some(member) = member.filter(|member| checked.insert(address(member))) {
                check_swarm(aim, &mut http, member, owner.account_id()).await?;
            }
            owners.push(owner);
        }
    }
    if has(Action::Retrieve) {
        for (owner, number) in owners.iter().zip(0..) {
            // Older than all others, it is the one that a retrieve brings.
            let (size, ttl) = (arguments.body_size(), arguments.whole_span());
            let member = owner.members().first();
            let member = member.ok_or_else(|| Failure::new("a swarm has no members"))?;
            ask(&mut http, member, &owner.store(size, ttl, number)).await?;
        }
    }
    let nodes = if arguments.is_direct() {
        aim.entries.clone()
    } else {
        aim.nodes.clone()
    };
    Asker::new(Subject {
        mix,
        owners,
        nodes,
        body_size: arguments.body_size(),
        ttl: arguments.ttl(),
    })
    .map_err(Failure::new)
}

/// An account that a node keeps which may be asked.
async fn draw_owner(
    arguments: &BenchArguments,
    aim: &Aim,
    http: &mut HttpsConnection,
) -> Result<Owner, Failure> {
    let is_entry = |node: &ServiceNode| {
        !arguments.is_direct()
            || aim
                .entries
                .iter()
                .any(|entry| address(entry) == address(node))
    };
    for _ in 0..DRAW_COUNT_MAX {
        if aim.has_network {
            let mut owner = Owner::draw(&aim.nodes).map_err(Failure::new)?;
            if owner.keep_members(is_entry) {
                return Ok(owner);
            }
            continue;
        }
        let account = draw_account().map_err(Failure::new)?;
        for entry in &aim.entries {
            let body = ask(http, entry, &ClientRequest::GetSwarm(account.id())).await?;
            let body = serde_json::from_slice(&body).map_err(Failure::new)?;
            let members = read_swarm(&body).map_err(Failure::new)?;
            if members
                .iter()
                .any(|member| address(member) == address(entry))
            {
                return Ok(Owner::at(account, entry));
            }
        }
    }
    Err(Failure::new("the nodes that may be asked keep no accounts"))
}

/// Whether all that a node would pass messages on to may be aimed at: a node of this machine may be one of the
/// public network, and what it stores goes to its whole swarm.
async fn check_swarm(
    aim: &Aim,
    http: &mut HttpsConnection,
    node: &ServiceNode,
    mailbox: Mailbox,
) -> Result<(), Failure> {
    let body = ask(http, node, &ClientRequest::GetSwarm(mailbox)).await?;
    let body = serde_json::from_slice(&body).map_err(Failure::new)?;
    let mut members = read_swarm(&body).map_err(Failure::new)?;
    members.retain(|member| !member.ip.is_unspecified());
    aim.check_hosts(&members)
        .map_err(|refused| Failure::new(format!("the swarm of {}: {refused}", address(node))))
}

async fn ask(
    http: &mut HttpsConnection,
    node: &ServiceNode,
    request: &ClientRequest,
) -> Result<Bytes, Failure> {
    let fault = |reason: String| Failure::new(format!("{}: {reason}", address(node)));
    let body = request.encode_json().into();
    match http.post(address(node), RPC_PATH, body).await {
        Ok((200, body, _)) => Ok(body),
        Ok((status, body, _)) => {
            let text = String::from_utf8_lossy(&body).into_owned();
            Err(fault(format!(
                "it answers {} with {status}: {text}",
                request.method()
            )))
        }
        Err(reason) => Err(fault(reason.to_string())),
    }
}

/// Connections with their sources, open if they are not too many.
pub(super) async fn https_connections(
    arguments: &BenchArguments,
    aim: &Aim,
) -> Result<Vec<HttpsConnection>, Failure> {
    let count = usize::from(arguments.connections);
    let entries: Vec<_> = aim.entries.iter().map(address).collect();
    let opened = if count * entries.len() <= OPENED_COUNT_MAX {
        entries.as_slice()
    } else {
        // Whether anybody answers is found out all the same.
        entries.get(..1).unwrap_or_default()
    };
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let source = arguments.source.map(|sources| sources.nth(number));
        let mut connection = HttpsConnection::new(source);
        let outcome = connection.open(opened).await;
        outcome.map_err(|reason| Failure::new(format!("cannot open a connection: {reason}")))?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Clients of the packet lane, each with its guards.
pub(super) async fn packet_clients(
    arguments: &BenchArguments,
    aim: &Aim,
) -> Result<Vec<PacketClient>, Failure> {
    /// What is tried again: nodes that have just started do not know each other yet.
    const TRY_COUNT: usize = 5;
    let mut clients = Vec::new();
    let (hops, timeout) = (arguments.hop_count(), arguments.timeout);
    let mut tried = 0;
    let mut firsts = aim.nodes.iter().cycle();
    while clients.len() < usize::from(arguments.connections) {
        let first = firsts
            .next()
            .ok_or_else(|| Failure::new("there are no nodes"))?;
        match PacketClient::open(&aim.nodes, first, hops, timeout).await {
            Ok(client) => clients.push(client),
            Err(reason) if tried >= TRY_COUNT => {
                return Err(Failure::new(format!(
                    "cannot open the packet lane: {reason}"
                )));
            }
            Err(_) => {
                tried += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    Ok(clients)
}
