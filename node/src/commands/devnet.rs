//! `cepa devnet`: a whole network of node processes on this machine, and two accounts that write to
//! each other through it. Each step is shown with what proves it.

mod exchange;
mod fleet;
mod lanes;
mod plan;
mod screen;

use core::pin::pin;
use std::path::{Path, PathBuf};
use std::{env, fs};

use cepa_control::{Endpoint, seed};
use cepa_wire::packet::epoch::EpochLength;

use self::exchange::Party;
use self::fleet::Fleet;
use self::plan::{Plan, Shape};
use self::screen::Screen;
use super::run::{control_runtime, stop_signal};
use crate::failure::Failure;

/// A path has three hops, and none of them is the node that it leads to.
const NODE_COUNT_MIN: i64 = 4;
/// Each node is a process with a message log: more of them only crowd the machine.
const NODE_COUNT_MAX: i64 = 64;

/// Those of `packet_epoch_seconds`.
const EPOCH_SECONDS_MIN: i64 = 20;
const EPOCH_SECONDS_MAX: i64 = 604_800;

const EXAMPLES: &str = "\
Every node is a process of its own on loopback, with keys, a message log and a packet lane, and all know
each other by one network.json. Without --once the network stays until Ctrl-C, and prints how to send and
receive a message in it.

Examples:
  cepa devnet                                ten nodes in two swarms, in ./devnet
  cepa devnet --once                         for scripts: messages, then exit 0 if all held
  cepa devnet --nodes 4 --swarms 1 --dir /tmp/net
  cepa devnet --base-port 20000              ports that stay the same";

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DevnetArguments {
    /// How many nodes to run
    #[arg(long, value_name = "COUNT", default_value_t = 10,
          value_parser = clap::value_parser!(u8).range(NODE_COUNT_MIN..=NODE_COUNT_MAX))]
    nodes: u8,
    /// How many swarms they form
    #[arg(long, value_name = "COUNT", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=NODE_COUNT_MAX))]
    swarms: u8,
    /// Send the messages and stop: exit 0 only if everything held
    #[arg(long)]
    once: bool,
    /// Where keys, messages and logs stand; the next devnet there goes on with them [default:
    /// ./devnet, or with --once a temporary directory that is removed if everything held]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// The first of the ports to listen on [default: any that are free]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// How long a key of the packet lane is used, in seconds: a day on the real network
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(EPOCH_SECONDS_MIN..=EPOCH_SECONDS_MAX))]
    epoch_seconds: u32,
}

pub(super) fn run(arguments: &DevnetArguments) -> Result<(), Failure> {
    let node_count = usize::from(arguments.nodes);
    let swarm_count = usize::from(arguments.swarms);
    if swarm_count > node_count {
        let reason = format!("--swarms {swarm_count} is more than --nodes {node_count}");
        return Err(Failure::new(reason));
    }
    let is_temporary = arguments.once && arguments.dir.is_none();
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None if is_temporary => temporary_directory()?,
        None => PathBuf::from("devnet"),
    };
    let epoch = EpochLength::from_secs(arguments.epoch_seconds);
    let shape = Shape {
        node_count,
        swarm_count,
        epoch: epoch.ok_or_else(|| Failure::new("--epoch-seconds is too long"))?,
    };
    let plan = Plan::make(directory, &shape, arguments.base_port)?;
    let screen = Screen::new();
    let outcome = control_runtime()?.block_on(live(arguments.once, &plan, &screen));
    screen.end_status();
    if is_temporary && outcome.is_ok() {
        fs::remove_dir_all(&plan.directory).map_err(|fault| {
            Failure::new(format!(
                "cannot remove {}: {fault}",
                plan.directory.display()
            ))
        })?;
    }
    outcome
}

/// A name that no other has; [`Plan::make`] makes it.
fn temporary_directory() -> Result<PathBuf, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|fault| Failure::new(fault.to_string()))?;
    Ok(env::temp_dir().join(format!("cepa-devnet-{}", hex::encode(random))))
}

/// From the first process to the last.
async fn live(once: bool, plan: &Plan, screen: &Screen) -> Result<(), Failure> {
    let endpoint = Endpoint::bind(plan.seed_address)
        .await
        .map_err(Failure::new)?;
    let nodes = plan.service_nodes();
    let mut seeding = pin!(seed::serve(endpoint, move || nodes.clone()));
    screen.status("starting the nodes".to_owned());
    let mut fleet = Fleet::start(plan)?;

    let proven = tokio::select! {
        proven = prove(plan, &mut fleet, screen) => proven,
        never = &mut seeding => match never {},
        signalled = stop_signal() => signalled.and_then(|()| Err(Failure::new("interrupted"))),
    };
    let outcome = match proven.and_then(|parties| show_outcome(once, plan, screen, &parties)) {
        Ok(()) if !once => tokio::select! {
            failure = fleet.watch() => Err(failure),
            never = &mut seeding => match never {},
            signalled = stop_signal() => signalled,
        },
        outcome => outcome,
    };
    screen.status("stopping the nodes".to_owned());
    // What went wrong first is what is told.
    let stopped = fleet.stop().await;
    outcome.and(stopped)
}

/// The nodes get ready and carry two messages.
async fn prove(plan: &Plan, fleet: &mut Fleet, screen: &Screen) -> Result<[Party; 2], Failure> {
    let node_count = plan.nodes.len();
    let swarm_count = plan.swarm_count;
    let plural = if swarm_count == 1 { "" } else { "s" };
    let directory = plan.directory.display();
    screen.heading(&format!(
        "cepa devnet: {node_count} nodes in {swarm_count} swarm{plural} below {directory}"
    ))?;
    for (index, node) in plan.nodes.iter().enumerate() {
        let entry = &node.entry;
        let (https, omq_port) = (node.https_address(), entry.omq_port);
        let packet_port = node.packet_port;
        let addresses = format!("https {https}  omq {omq_port}  packets {packet_port}");
        let keys = format!("swarm {:016x}  {}", entry.swarm_id, entry.pubkey_ed25519);
        screen.detail(&format!("node {index:02}"), format!("{addresses}  {keys}"))?;
    }
    exchange::run(plan, fleet, screen).await
}

fn show_outcome(
    once: bool,
    plan: &Plan,
    screen: &Screen,
    [a, b]: &[Party; 2],
) -> Result<(), Failure> {
    if once {
        return screen.heading("everything held");
    }
    let [directory_a, directory_b] =
        ["account-a", "account-b"].map(|name| plan.directory.join(name));
    a.save(directory_a.clone())?;
    b.save(directory_b.clone())?;
    screen.end_status();
    screen.heading("everything held; the network runs until Ctrl-C. Try it:")?;
    let cepa = quoted(
        &env::args_os()
            .next()
            .map_or_else(|| "cepa".into(), PathBuf::from),
    );
    let network = quoted(&plan.network_file());
    let to = b.account.id();
    let [from, dir] = [directory_a, directory_b].map(|directory| quoted(&directory));
    screen.command(&format!(
        "{cepa} send --network {network} --dir {from} --to {to} 'Hello again'"
    ))?;
    screen.command(&format!("{cepa} receive --network {network} --dir {dir}"))?;
    screen.command(&format!(
        "{cepa} bench mixed --network {network} --rate 200 --duration 20m --plot soak.svg \
         --json soak.json"
    ))?;
    match plan.nodes.first() {
        Some(node) => screen.command(&format!(
            "{cepa} top --config {}",
            quoted(&node.config_file())
        )),
        None => Ok(()),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
