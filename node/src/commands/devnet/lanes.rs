//! The same messages by packets, and what either lane takes.

use core::time::Duration;

use cepa_client::{Client, ExchangeSettings, Lane, lane_size};
use tokio::time::{Instant, sleep};

use super::exchange::{Party, check, failed, receive, send};
use super::plan::Plan;
use super::screen::Screen;
use crate::failure::Failure;

/// From the last node that was ready until all know of all: they ask each other at once, and who was not
/// ready again after some seconds.
const KNOWN_TIMEOUT: Duration = Duration::from_mins(1);
const KNOWN_INTERVAL: Duration = Duration::from_millis(100);
/// Requests of which the median is shown.
const SAMPLE_COUNT: usize = 9;

const LANES: [(Lane, &str); 2] = [(Lane::Request, "request"), (Lane::Packet, "packet")];

/// A line of the table.
struct Row {
    lane: &'static str,
    what: String,
    took: Duration,
}

/// Sends a message each way over both lanes and shows what that took, side by side.
pub(super) async fn compare(
    plan: &Plan,
    screen: &Screen,
    [a, b]: [&mut Party; 2],
) -> Result<(), Failure> {
    wait_until_known(plan, screen).await?;
    let mut rows = Vec::new();
    for (lane, name) in LANES {
        for party in [&mut *a, &mut *b] {
            party.client.set_lane(lane, ExchangeSettings::default());
        }
        // The first request opens connections, or links.
        for what in ["first info", "info"] {
            let took = ask(&mut a.client, what).await?;
            let what = what.to_owned();
            rows.push(Row {
                lane: name,
                what,
                took,
            });
        }
        let there = format!("Over the {name} lane.");
        exchange(plan, screen, [&mut *a, &mut *b], (name, &there), &mut rows).await?;
        let back = format!("And back over the {name} lane.");
        exchange(plan, screen, [&mut *b, &mut *a], (name, &back), &mut rows).await?;
    }
    for party in [a, b] {
        party
            .client
            .set_lane(Lane::Request, ExchangeSettings::default());
    }
    show(screen, &rows)
}

async fn exchange(
    plan: &Plan,
    screen: &Screen,
    [from, to]: [&mut Party; 2],
    (lane, text): (&'static str, &str),
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let members = plan.members(&to.account.id());
    let (_, took) = send(screen, from, to, text, &members).await?;
    let what = format!("{} sends", from.name);
    rows.push(Row { lane, what, took });
    let took = receive(screen, from, to, text).await?;
    let what = format!("{} receives", to.name);
    rows.push(Row { lane, what, took });
    Ok(())
}

/// Each node must know the packet lanes of all.
async fn wait_until_known(plan: &Plan, screen: &Screen) -> Result<(), Failure> {
    let started = Instant::now();
    let nodes = plan.service_nodes();
    let count = nodes.len();
    screen.status("the nodes learn of each other's packet lanes".to_owned());
    for node in &nodes {
        loop {
            let known = lane_size(node, &nodes).await;
            if known == count {
                break;
            }
            let is_in_time = started.elapsed() < KNOWN_TIMEOUT;
            check(is_in_time, || {
                let address = node.address();
                format!("{address} knows the packet lanes of {known} of {count} nodes only")
            })?;
            sleep(KNOWN_INTERVAL).await;
        }
    }
    let took = started.elapsed().as_millis();
    let proof = format!("{count} of {count} nodes have the descriptors of all  {took} ms");
    screen.proven("packet lane", proof)
}

/// The first takes what it takes; of the others the median counts.
async fn ask(client: &mut Client, what: &str) -> Result<Duration, Failure> {
    let count = if what == "info" { SAMPLE_COUNT } else { 1 };
    let node = client.nodes().last().cloned();
    let node = node.ok_or_else(|| Failure::new("a devnet has nodes"))?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let asked = client.info(&node).await;
        asked.map_err(|fault| failed(what, fault))?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took.get(count / 2).copied().unwrap_or_default())
}

fn show(screen: &Screen, rows: &[Row]) -> Result<(), Failure> {
    screen.heading("what either lane took, in ms")?;
    screen.line(&format!(
        "    {:<12} {:>8} {:>8}",
        "what", "request", "packet"
    ))?;
    let of = |lane| rows.iter().filter(move |row| row.lane == lane);
    for (request, packet) in of("request").zip(of("packet")) {
        let [one, other] = [request, packet].map(|row| row.took.as_secs_f64() * 1000.0);
        let what = &request.what;
        screen.line(&format!("    {what:<12} {one:>8.1} {other:>8.1}"))?;
    }
    Ok(())
}
