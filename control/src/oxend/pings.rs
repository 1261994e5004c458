//! Tells oxend that this node lives, and asks to be told of blocks and addresses.

use core::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{AskError, OurNode, OxendHandle};
use crate::standing::Standing;

/// How often: oxend misses pings after minutes, and subscriptions end after half an hour.
const INTERVAL: Duration = Duration::from_secs(30);
/// The version that is reported; peers and oxend choose by it what to speak.
const VERSION: [u16; 3] = cepa_wire::ServiceNode::VERSION_DEFAULT;
/// The status of a ping that is taken.
const ACCEPTED: &str = "OK";
/// Pings between two lines about the same refusal: 10 minutes.
const REPEAT_COUNT: u32 = 20;

/// Pings and renews subscriptions, at once after each connection, until the future is dropped.
pub(super) async fn keep(handle: &OxendHandle, us: &OurNode, standing: &Standing) -> ! {
    let mut connections = handle.connections();
    let mut log = PingLog::default();
    loop {
        // The sender lives as long as whoever runs this.
        if connections.wait_for(Option::is_some).await.is_err() {
            core::future::pending::<()>().await;
        }
        connections.mark_unchanged();
        standing.handle_ping(ping(handle, us, &mut log).await);
        for command in ["sub.block", "sub.snode_addr"] {
            subscribe(handle, command).await;
        }
        // Ends early when the connection does.
        drop(timeout(INTERVAL, connections.changed()).await);
    }
}

/// Pings once; tells whether oxend took it.
async fn ping(handle: &OxendHandle, us: &OurNode, log: &mut PingLog) -> bool {
    let ping = json!({
        "version": VERSION,
        "pubkey_ed25519": us.pubkey_ed25519.to_hex(),
        "https_port": us.https_port,
        "omq_port": us.omq_port,
    });
    let answer = handle.call_for_status("admin.storage_server_ping", &ping);
    let status = match answer.await {
        Ok(status) => status,
        Err(fault) => fault.to_string(),
    };
    log.note(&status);
    status == ACCEPTED
}

/// Says what changes, and repeats what is wrong.
#[derive(Default)]
struct PingLog {
    last_status: String,
    repeat_count: u32,
}

impl PingLog {
    fn note(&mut self, status: &str) {
        let is_new = status != self.last_status;
        status.clone_into(&mut self.last_status);
        self.repeat_count = if is_new { 0 } else { self.repeat_count + 1 };
        let is_due = self.repeat_count.is_multiple_of(REPEAT_COUNT);
        if status == ACCEPTED {
            if is_new {
                info!("oxend takes our pings");
            }
        } else if is_due {
            error!(
                status,
                "oxend does not take our pings: without them this node is decommissioned"
            );
        }
    }
}

async fn subscribe(handle: &OxendHandle, command: &'static str) {
    match handle.request(command, None).await {
        Ok(parts) => match parts.first().map(|part| &part[..]) {
            Some(b"OK") => info!(command, "subscribed"),
            Some(b"ALREADY") => debug!(command, "subscription renewed"),
            _ => warn!(command, "oxend gave no subscription"),
        },
        // An oxend before 11 has no addresses to tell.
        Err(AskError::Refused) if command == "sub.snode_addr" => {
            debug!(command, "oxend does not know it");
        }
        Err(fault) => warn!(command, %fault, "no subscription"),
    }
}
