//! Carries out the handover of mailboxes: a log is read on in the background and sent to who is to have it.

use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use cepa_meter::{Share, count};
use cepa_storage::command::DumpCursor;
use cepa_storage::{Command, Outcome};
use cepa_swarm::handover::{Ended, Handover, Start};
use cepa_wire::Ed25519PublicKey;
use glommio::timer::sleep;

use crate::links;
use crate::store::LocalLog;
use crate::tile::Tile;
use crate::{NetworkView, clock, missed};

/// Payloads of one `sn.data`: the reference's batches have 9 MB, which hold a link up for long.
pub(crate) const BLOB_SIZE_MAX: usize = 1 << 20;
/// How long a peer has to store what it is sent.
pub(crate) const DATA_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked whether something is to be done.
const TICK: Duration = Duration::from_millis(250);
/// The file, beside the segments.
const FILE_NAME: &str = "handover.json";

/// Reads what is known of a log's handovers. A file that is damaged counts as none: at worst somebody who
/// joined in the moment of a crash lacks messages that other members have.
pub(crate) fn read(dir: &Path) -> Handover {
    let saved = fs::read(dir.join(FILE_NAME)).unwrap_or_default();
    Handover::parse(&saved).unwrap_or_default()
}

fn save(dir: &Path, saved: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(format!("{FILE_NAME}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(saved)?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(FILE_NAME))?;
    File::open(dir)?.sync_all()
}

/// Hands over what `log` holds for as long as the executor lives.
pub(crate) async fn run(tile: Rc<Tile>, log: Rc<LocalLog>, dir: PathBuf) -> ! {
    let us = tile.keys.ed25519_public();
    let mut handover = read(&dir);
    let mut seen: Option<Arc<NetworkView>> = None;
    let (pending, running) = (Share::default(), Share::default());
    let tell = |handover: &Handover, is_running: bool| {
        let count = u64::try_from(handover.len()).unwrap_or(u64::MAX);
        pending.set(&tile.counters.handover_pending, count);
        running.set(&tile.counters.handover_running, u64::from(is_running));
    };
    loop {
        sleep(TICK).await;
        let network = tile.network.load_full();
        if !seen
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, &network))
        {
            handover.handle_view(&network.view, &us);
            seen = Some(Arc::clone(&network));
        }
        while let Some(peer) = log.poll_anew() {
            if let Some(territory) = network.view.territory() {
                handover.add(peer, territory);
            }
        }
        // Who is given everything anew has no other note of what it lacks. Saved before it begins: what has
        // begun goes on from its cursor.
        save_changes(&mut handover, &dir).await;
        let due = {
            let health = tile.health.borrow();
            let is_up = |peer: &Ed25519PublicKey| {
                !health.is_down(peer) && network.peers.find(peer).is_some()
            };
            handover.poll_start(clock::now(), is_up)
        };
        if let Some(start) = due {
            let peer = start.peer;
            tell(&handover, true);
            let ended = hand_over(&tile, &log, start).await;
            if ended != Ended::Done {
                count(&tile.counters.transfer_failed);
            }
            handover.handle_ended(&peer, ended, clock::now());
        }
        tell(&handover, false);
        save_changes(&mut handover, &dir).await;
    }
}

/// Makes durable what changed.
async fn save_changes(handover: &mut Handover, dir: &Path) {
    if let Some(saved) = handover.poll_save() {
        let dir = dir.to_owned();
        let saving = glommio::executor().spawn_blocking(move || save(&dir, &saved));
        if let Err(fault) = saving.await {
            tracing::warn!(%fault, "cannot save the state of handovers; a restart begins them anew");
        }
    }
}

/// Carries a transfer out.
async fn hand_over(tile: &Rc<Tile>, log: &Rc<LocalLog>, start: Start) -> Ended {
    let peer = start.peer.0;
    let keep = |cursor| Command::KeepCursor { peer, cursor };
    let mut from = DumpCursor::START;
    if start.is_fresh {
        if log.execute(keep(None)).await != Outcome::CursorKept {
            return Ended::NotBegun;
        }
    } else if let Outcome::Cursor(Some(cursor)) = log.execute(Command::Cursor { peer }).await {
        from = cursor;
    }
    loop {
        let dump = Command::Dump {
            from,
            territory: start.territory.clone(),
            size_max: BLOB_SIZE_MAX,
        };
        let Outcome::Dumped { messages, next } = log.execute(dump).await else {
            return Ended::Stopped;
        };
        if !messages.is_empty() {
            let network = tile.network.load_full();
            let Some(node) = links::find(&network, &start.peer) else {
                return Ended::Done;
            };
            let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
            if !missed::send_messages(tile, node, messages).await {
                return Ended::Stopped;
            }
            tile.counters.handover_given.fetch_add(count, Relaxed);
        }
        let Some(next) = next else {
            log.execute(keep(None)).await;
            return Ended::Done;
        };
        log.execute(keep(Some(next))).await;
        from = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_and_what_is_damaged_is_nothing() {
        let dir = std::env::temp_dir().join(format!("cepa-handover-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory is made");
        assert_eq!(read(&dir), Handover::default());
        let mut handover = Handover::default();
        let territory = cepa_storage::territory::Territory::everything();
        handover.add(Ed25519PublicKey([3; 32]), territory);
        let saved = handover.poll_save().expect("something changed");
        save(&dir, &saved).expect("it is saved");
        assert_eq!(read(&dir), handover);
        fs::write(dir.join(FILE_NAME), b"{").expect("a file is written");
        assert_eq!(read(&dir), Handover::default());
        fs::remove_dir_all(&dir).expect("a directory is removed");
    }
}
