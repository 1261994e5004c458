//! The exchange that a devnet is judged by: two new accounts write to each other through onions, each
//! message lies at every member of the recipient's swarm, and each is decrypted by whom it is for.

use std::time::Instant;

use cepa_client::{Bootstrap, Client, ClientSettings, Cursors, StoreReport, is_ready};
use cepa_crypto::Account;
use cepa_wire::ServiceNode;
use cepa_wire::onion::EncType;

use super::fleet::Fleet;
use super::plan::Plan;
use super::screen::Screen;
use crate::commands::send::show_path;
use crate::failure::Failure;

/// What is written there and back.
const LETTER: &str = "Hello from Cepa: no phone number, no name, three relays.";
const REPLY: &str = "Received, and sealed with the other cipher.";

/// Runs it: an error is the first thing that did not hold.
pub(super) async fn run(plan: &Plan, fleet: &mut Fleet, screen: &Screen) -> Result<(), Failure> {
    let watch = stopwatch();
    let count = plan.nodes.len();
    let progress = |ready: usize| screen.status(format!("{ready} of {count} nodes are ready"));
    fleet
        .wait_until_ready(plan, async |node| is_ready(&node.entry).await, progress)
        .await?;
    screen.proven(
        "nodes ready",
        format!("{count} of {count} in {}", elapsed(watch)),
    )?;

    screen.status("asking the seed for the network".to_owned());
    let seed = Bootstrap::Seed(plan.seed_url());
    let client = Client::connect(seed, ClientSettings::default())
        .await
        .map_err(Failure::new)?;
    let mut exchange = Exchange { client, screen };
    let known = exchange.client.nodes().len();
    require(known == count, "the seed does not name all nodes")?;
    screen.proven("seed", format!("{} names {known} nodes", plan.seed_url()))?;

    let (alice, bob) = (new_account()?, new_account()?);
    screen.proven("account of Alice", alice.id())?;
    screen.proven("account of Bob", bob.id())?;
    exchange
        .write(("Alice", &alice), ("Bob", &bob), LETTER)
        .await?;
    exchange.client.set_enc_type(EncType::AesGcm);
    exchange
        .write(("Bob", &bob), ("Alice", &alice), REPLY)
        .await
}

struct Exchange<'a> {
    client: Client,
    screen: &'a Screen,
}

impl Exchange<'_> {
    /// One message: sent, found at every member, received, read.
    async fn write(
        &mut self,
        (sender_name, sender): (&str, &Account),
        (recipient_name, recipient): (&str, &Account),
        text: &str,
    ) -> Result<(), Failure> {
        let screen = self.screen;
        screen.status(format!("{sender_name} writes to {recipient_name}"));
        let report = self
            .client
            .send_text(sender, &recipient.id(), text)
            .await
            .map_err(Failure::new)?;
        show_stored(
            screen,
            &format!("{sender_name} to {recipient_name}"),
            &report,
        )?;
        require(
            report.signed_count == report.member_count,
            "not every member signed",
        )?;

        screen.status(format!(
            "looking for the message in the swarm of {recipient_name}"
        ));
        self.check_members(recipient, &report).await?;

        screen.status(format!("{recipient_name} reads"));
        let mut cursors = Cursors::default();
        let received = self
            .client
            .receive(recipient, &mut cursors)
            .await
            .map_err(Failure::new)?;
        let message = received
            .messages
            .iter()
            .find(|message| message.text == text);
        let message = message.ok_or_else(|| Failure::new("the message did not arrive"))?;
        require(
            message.sender == sender.id(),
            "the message names another sender",
        )?;
        let title = format!("{recipient_name} received");
        let millis = received.elapsed.as_millis();
        screen.proven(&title, format!("\"{}\"", message.text))?;
        screen.detail("", format!("signed by {}", message.sender))?;
        screen.detail(
            "",
            format!("through {} in {millis} ms", show_path(&received.path)),
        )
    }

    /// Asks each member by itself, through an onion.
    async fn check_members(
        &mut self,
        recipient: &Account,
        report: &StoreReport,
    ) -> Result<(), Failure> {
        let watch = stopwatch();
        let members = self
            .client
            .swarm(&recipient.id())
            .await
            .map_err(Failure::new)?;
        for member in &members {
            let held = self
                .client
                .read_new(recipient, member, &mut Cursors::default())
                .await;
            let held = held.map_err(Failure::new)?;
            let has_it = held.iter().any(|message| message.hash == report.hash);
            require(
                has_it,
                &format!("member {} does not hold the message", address(member)),
            )?;
        }
        let addresses: Vec<String> = members.iter().map(address).collect();
        let count = members.len();
        let title = format!("held by {count} of {count}");
        self.screen.proven(
            &title,
            format!("{} in {}", addresses.join(" "), elapsed(watch)),
        )
    }
}

fn show_stored(screen: &Screen, title: &str, report: &StoreReport) -> Result<(), Failure> {
    let (signed, members) = (report.signed_count, report.member_count);
    let millis = report.elapsed.as_millis();
    screen.proven(title, format!("hash {}", report.hash))?;
    screen.detail("", format!("through {}", show_path(&report.path)))?;
    screen.detail(
        "",
        format!("{signed} of {members} members signed that they keep it, {millis} ms"),
    )
}

fn address(node: &ServiceNode) -> String {
    format!("{}:{}", node.ip, node.port)
}

fn new_account() -> Result<Account, Failure> {
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).map_err(Failure::new)?;
    Ok(Account::from_entropy(entropy))
}

fn require(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(otherwise))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person is told how long it took"
)]
fn stopwatch() -> Instant {
    Instant::now()
}

fn elapsed(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}
