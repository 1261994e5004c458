//! Two new accounts write to each other, and everything that can be checked about it is.

use core::fmt::Display;
use core::time::Duration;
use std::path::PathBuf;

use cepa_client::state::State;
use cepa_client::{Bootstrap, Client, ClientSettings, Cursors, Lane};
use cepa_crypto::Account;
use cepa_wire::ServiceNode;
use cepa_wire::onion::EncType;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::super::send::show_path;
use super::fleet::Fleet;
use super::lanes;
use super::plan::Plan;
use super::screen::Screen;
use crate::failure::Failure;

/// Somebody with an account and a client of their own.
pub(super) struct Party {
    pub(super) name: &'static str,
    pub(super) account: Account,
    pub(super) client: Client,
    cipher: &'static str,
    cursors: Cursors,
}

/// Waits for the nodes, then sends a message each way. Gives both parties once everything held.
pub(super) async fn run(
    plan: &Plan,
    fleet: &mut Fleet,
    screen: &Screen,
) -> Result<[Party; 2], Failure> {
    wait(plan, fleet, screen).await?;
    tokio::select! {
        outcome = exchange(plan, screen) => outcome,
        failure = fleet.watch() => Err(failure),
    }
}

async fn wait(plan: &Plan, fleet: &mut Fleet, screen: &Screen) -> Result<(), Failure> {
    let started = Instant::now();
    let bootstrap = Bootstrap::Nodes(plan.service_nodes());
    let mut client = connect(bootstrap, EncType::XChaCha20).await?;
    let count = plan.nodes.len();
    let progress = |ready: usize| screen.status(format!("{ready} of {count} nodes are ready"));
    let probe = async |node: &ServiceNode| client.is_ready(node).await;
    fleet.wait_until_ready(plan, probe, progress).await?;
    let took = started.elapsed().as_millis();
    screen.proven(
        "nodes are ready",
        format!("{count} of {count} answer info  {took} ms"),
    )?;
    screen.detail("network file", plan.network_file().display())?;
    screen.detail("seed", plan.seed_url())
}

/// A learns of the network from the seed, B from the file; each uses the other cipher.
async fn exchange(plan: &Plan, screen: &Screen) -> Result<[Party; 2], Failure> {
    let seed = Bootstrap::Seed(plan.seed_url());
    let file = Bootstrap::NetworkFile(plan.network_file());
    let mut a = Party::make("A", seed, EncType::XChaCha20, "xchacha20").await?;
    let mut b = Party::make("B", file, EncType::AesGcm, "aes-gcm").await?;
    for party in [&a, &b] {
        let node_count = party.client.nodes().len();
        check(node_count == plan.nodes.len(), || {
            format!("{} learned of {node_count} nodes only", party.name)
        })?;
        screen.proven(&format!("account {}", party.name), party.account.id())?;
    }
    deliver(
        plan,
        screen,
        &mut a,
        &mut b,
        "Hello from Cepa: three relays do not know us.",
    )
    .await?;
    deliver(
        plan,
        screen,
        &mut b,
        &mut a,
        "And nobody else could read it.",
    )
    .await?;
    lanes::compare(plan, screen, [&mut a, &mut b]).await?;
    Ok([a, b])
}

impl Party {
    async fn make(
        name: &'static str,
        bootstrap: Bootstrap,
        enc_type: EncType,
        cipher: &'static str,
    ) -> Result<Self, Failure> {
        let mut entropy = Zeroizing::new([0; 16]);
        getrandom::fill(entropy.as_mut_slice()).map_err(Failure::new)?;
        Ok(Self {
            name,
            account: Account::from_entropy(*entropy),
            client: connect(bootstrap, enc_type).await?,
            cipher,
            cursors: Cursors::default(),
        })
    }

    /// What its requests travel in.
    fn carrier(&self) -> String {
        match self.client.lane() {
            Lane::Request => format!("{} onion", self.cipher),
            Lane::Packet | Lane::Auto => "packets".to_owned(),
        }
    }

    /// Keeps the account for the commands that the user is told to try.
    pub(super) fn save(&self, directory: PathBuf) -> Result<(), Failure> {
        let state = State::open(Some(directory)).map_err(Failure::new)?;
        state.write_account(&self.account).map_err(Failure::new)
    }
}

async fn connect(bootstrap: Bootstrap, enc_type: EncType) -> Result<Client, Failure> {
    let settings = ClientSettings {
        enc_type,
        ..ClientSettings::default()
    };
    Client::connect(bootstrap, settings)
        .await
        .map_err(Failure::new)
}

/// One message from its sender to its recipient, and into every copy of the mailbox.
async fn deliver(
    plan: &Plan,
    screen: &Screen,
    sender: &mut Party,
    recipient: &mut Party,
    text: &str,
) -> Result<(), Failure> {
    let members = plan.members(&recipient.account.id());
    let (hash, _) = send(screen, sender, recipient, text, &members).await?;
    receive(screen, sender, recipient, text).await?;
    read_every_copy(screen, recipient, &hash, &members).await
}

/// Gives the hash, and how long it took.
pub(super) async fn send(
    screen: &Screen,
    sender: &mut Party,
    recipient: &Party,
    text: &str,
    members: &[ServiceNode],
) -> Result<(String, Duration), Failure> {
    let step = format!("{} sends to {}", sender.name, recipient.name);
    screen.status(step.clone());
    let mailbox = recipient.account.id();
    let sent = sender
        .client
        .send_text(&sender.account, &mailbox, text)
        .await;
    let report = sent.map_err(|fault| failed(&step, fault))?;
    let (signed, count) = (report.signed_count, members.len());
    check(report.member_count == count && signed == count, || {
        format!("{step}: {signed} of {count} members signed that they stored it")
    })?;
    let path = show_path(&report.path);
    let took = report.elapsed.as_millis();
    screen.proven(
        &step,
        format!("{} through {path}  {took} ms", sender.carrier()),
    )?;
    screen.detail("message hash", &report.hash)?;
    screen.detail("stored", format!("{signed} of {count} members signed"))?;
    Ok((report.hash, report.elapsed))
}

/// Gives how long it took.
pub(super) async fn receive(
    screen: &Screen,
    sender: &Party,
    recipient: &mut Party,
    text: &str,
) -> Result<Duration, Failure> {
    let step = format!("{} receives", recipient.name);
    screen.status(step.clone());
    let received = recipient
        .client
        .receive(&recipient.account, &mut recipient.cursors)
        .await;
    let report = received.map_err(|fault| failed(&step, fault))?;
    let [message] = report.messages.as_slice() else {
        let count = report.messages.len();
        return Err(failed(&step, format!("{count} messages instead of one")));
    };
    check(report.unreadable_count == 0, || {
        format!("{step}: a message does not decrypt")
    })?;
    check(message.text == text, || {
        format!("{step}: the text is not the one that was sent")
    })?;
    check(message.sender == sender.account.id(), || {
        format!("{step}: the proven sender is not {}", sender.name)
    })?;
    let took = report.elapsed.as_millis();
    screen.proven(&step, format!("{:?}  {took} ms", message.text))?;
    screen.detail("signed by", message.sender)?;
    screen.detail("read through", show_path(&report.path))?;
    Ok(report.elapsed)
}

/// Asks each member by itself: a new reader, so that it gives everything that it has.
async fn read_every_copy(
    screen: &Screen,
    recipient: &mut Party,
    hash: &str,
    members: &[ServiceNode],
) -> Result<(), Failure> {
    let started = Instant::now();
    let step = format!("each copy for {}", recipient.name);
    screen.status(step.clone());
    for member in members {
        let (account, client) = (&recipient.account, &mut recipient.client);
        let read = client
            .read_new(account, member, &mut Cursors::default())
            .await;
        let messages = read.map_err(|fault| failed(&step, fault))?;
        check(messages.iter().any(|message| message.hash == hash), || {
            format!(
                "{step}: {}:{} does not hold the message",
                member.ip, member.port
            )
        })?;
    }
    let count = members.len();
    let took = started.elapsed().as_millis();
    screen.proven(
        &step,
        format!("{count} of {count} members hold it  {took} ms"),
    )
}

pub(super) fn failed(step: &str, fault: impl Display) -> Failure {
    Failure::new(format!("{step}: {fault}"))
}

pub(super) fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(otherwise()))
    }
}
