//! Requests over the packet lane: each connection is a client of its own, with links to guards of its own.

use core::time::Duration;
use std::time::Instant;

use cepa_client::{Bootstrap, Client, ClientError, ClientSettings, ExchangeSettings, Lane};
use cepa_wire::ServiceNode;
use cepa_wire::request::ClientRequest;

use crate::clock;
use crate::engine::{Connection, Fault};

/// A request and who answers it.
pub struct PacketAsk {
    /// The last hop.
    pub node: ServiceNode,
    /// What is asked.
    pub request: ClientRequest,
}

/// A client of the packet lane.
pub struct PacketClient(Client);

impl PacketClient {
    /// Opens links to guards, and has `first` say what it is. `hops` counts the relays of a path with the
    /// destination, 2 to 5.
    pub async fn open(
        nodes: &[ServiceNode],
        first: &ServiceNode,
        hops: u8,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        let settings = ClientSettings {
            lane: Lane::Packet,
            exchange: ExchangeSettings {
                hops,
                // Whoever runs this gives up first, and says so.
                timeout: timeout + Duration::from_secs(1),
                ..ExchangeSettings::default()
            },
            ..ClientSettings::default()
        };
        let connected = Client::connect(Bootstrap::Nodes(nodes.to_vec()), settings).await;
        let mut client = Self(connected.map_err(|fault| failed(&fault))?);
        let ask = PacketAsk {
            node: first.clone(),
            request: ClientRequest::Info,
        };
        client.ask(ask).await?;
        Ok(client)
    }
}

fn failed(fault: &ClientError) -> Fault {
    match fault {
        ClientError::Malformed(_) => Fault::Malformed(fault.to_string()),
        _ => Fault::PacketLane(fault.to_string()),
    }
}

impl Connection for PacketClient {
    type Request = PacketAsk;

    /// Packets are built and answers opened within: that is part of the latency.
    async fn ask(&mut self, request: PacketAsk) -> Result<Instant, Fault> {
        let asked = self.0.ask_once(&request.node, &request.request).await;
        let answer = asked.map_err(|fault| failed(&fault))?;
        match answer.status {
            200 => Ok(clock::now()),
            status => Err(Fault::Status(status, answer.text())),
        }
    }
}
