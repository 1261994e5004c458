//! What members missed while they were away: kept in files, and delivered when they are back.
//!
//! `missed/0-<key>` holds what shard 0 keeps for the peer with that key.

use core::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cepa_relay::counters::count;
use cepa_storage::{Command, DumpedMessage, Outcome};
use cepa_swarm::limits::MEMBER_TIMEOUT;
use cepa_swarm::missed::{MissedQueues, Pushed, QUEUE_SIZE_MAX, Write};
use cepa_wire::missed::Missed;
use cepa_wire::transfer::{self, Transferred};
use cepa_wire::{Ed25519PublicKey, ServiceNode};
use crossbeam::queue::ArrayQueue;
use glommio::spawn_local;

use crate::links::{self, Blame};
use crate::tile::Tile;
use crate::{clock, handover};

/// Messages that are sent together: at the usual few KiB each well below what a message may be.
const BATCH_COUNT_MAX: usize = 64;
/// Peers that are to get everything anew; a swarm has ten members.
const ANEW_COUNT_MAX: usize = 256;

/// For each shard, the peers that are to get everything of its logs anew.
pub(crate) type Anew = Arc<[ArrayQueue<Ed25519PublicKey>]>;

/// Nobody yet.
pub(crate) fn make_anew(tile_count: usize) -> Anew {
    (0..tile_count)
        .map(|_| ArrayQueue::new(ANEW_COUNT_MAX))
        .collect()
}

/// The files of one shard.
pub(crate) struct MissedFiles {
    dir: PathBuf,
    tile: usize,
    queues: RefCell<MissedQueues>,
}

impl MissedFiles {
    /// Finds what shard `tile` of `tile_count` kept, and what shards kept that are no more.
    pub(crate) fn open(data_dir: &Path, tile: usize, tile_count: usize) -> io::Result<Self> {
        let dir = data_dir.join("missed");
        fs::create_dir_all(&dir)?;
        let files = Self {
            dir,
            tile,
            queues: RefCell::default(),
        };
        for entry in fs::read_dir(&files.dir)? {
            let name = entry?.file_name();
            let Some((owner, peer)) = name.to_str().and_then(parse_name) else {
                continue;
            };
            if owner != tile && owner >= tile_count && owner % tile_count == tile {
                let kept = fs::read(files.dir.join(&name))?;
                let mut own = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(files.path(&peer))?;
                io::Write::write_all(&mut own, &kept)?;
                fs::remove_file(files.dir.join(&name))?;
            }
        }
        files.recover()?;
        Ok(files)
    }

    fn recover(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some((owner, peer)) = name.to_str().and_then(parse_name)
                && owner == self.tile
            {
                let size = entry.metadata()?.len();
                self.queues.borrow_mut().recover(peer, size);
            }
        }
        Ok(())
    }

    fn path(&self, peer: &Ed25519PublicKey) -> PathBuf {
        self.dir.join(format!("{}-{}", self.tile, peer.to_hex()))
    }
}

fn parse_name(name: &str) -> Option<(usize, Ed25519PublicKey)> {
    let (owner, peer) = name.split_once('-')?;
    let peer = Ed25519PublicKey::from_hex(peer.as_bytes())?;
    Some((owner.parse().ok()?, peer))
}

/// Keeps something for a member that is away.
pub(crate) fn keep(tile: &Tile, peer: Ed25519PublicKey, missed: &Missed) {
    count(&tile.counters.missed_kept);
    let pushed = tile.missed.queues.borrow_mut().push(peer, missed);
    if pushed == Pushed::Overflow {
        drop(fs::remove_file(tile.missed.path(&peer)));
        give_anew(tile, peer);
    }
}

/// Lets every log give a peer all that it is to have.
fn give_anew(tile: &Tile, peer: Ed25519PublicKey) {
    count(&tile.counters.missed_overflowed);
    for queue in tile.anew.iter() {
        if queue.push(peer).is_err() {
            // So many peers are away that it is not the swarm that is out of order.
            count(&tile.counters.ring_dropped);
        }
    }
}

/// Writes what is to be kept, delivers what may be, forgets who left. Called often.
pub(crate) fn tick(tile: &Rc<Tile>) {
    while let Some(write) = tile.missed.queues.borrow_mut().poll_write() {
        let tile = Rc::clone(tile);
        spawn_local(async move { write_out(&tile, write).await }).detach();
    }
    let network = tile.network.load();
    let is_known = |peer: &Ed25519PublicKey| network.peers.find(peer).is_some();
    for peer in tile.missed.queues.borrow_mut().retain(is_known) {
        drop(fs::remove_file(tile.missed.path(&peer)));
    }
    let health = tile.health.borrow();
    let is_up = |peer: &Ed25519PublicKey| !health.is_down(peer) && is_known(peer);
    let due = tile
        .missed
        .queues
        .borrow_mut()
        .poll_delivery(clock::now(), is_up);
    if let Some((peer, from)) = due {
        let tile = Rc::clone(tile);
        spawn_local(async move { deliver(&tile, peer, from).await }).detach();
    }
}

async fn write_out(tile: &Tile, write: Write) {
    let Write {
        peer,
        offset,
        bytes,
    } = write;
    let path = tile.missed.path(&peer);
    let written = glommio::executor()
        .spawn_blocking(move || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.write_all_at(&bytes, offset)?;
            file.sync_data()
        })
        .await;
    let pushed = tile
        .missed
        .queues
        .borrow_mut()
        .handle_written(&peer, written.is_ok());
    if pushed == Pushed::Overflow {
        give_anew(tile, peer);
    }
}

/// Delivers to a peer from a place in its file on.
async fn deliver(tile: &Rc<Tile>, peer: Ed25519PublicKey, from: u64) {
    let path = tile.missed.path(&peer);
    let kept = glommio::executor()
        .spawn_blocking(move || read_from(&path, from))
        .await;
    let (delivered, is_good) = match kept {
        Ok(kept) => deliver_kept(tile, &peer, from, &kept).await,
        Err(_) => (u64::MAX, true),
    };
    let is_done =
        tile.missed
            .queues
            .borrow_mut()
            .handle_delivered(&peer, delivered, is_good, clock::now());
    if is_done {
        drop(fs::remove_file(tile.missed.path(&peer)));
    }
}

fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len().saturating_sub(from);
    let size = usize::try_from(size.min(2 * QUEUE_SIZE_MAX)).unwrap_or(0);
    let mut kept = vec![0; size];
    file.read_exact_at(&mut kept, from)?;
    Ok(kept)
}

/// Delivers what was read; tells how far that is in the file and whether all of it arrived.
async fn deliver_kept(
    tile: &Rc<Tile>,
    peer: &Ed25519PublicKey,
    from: u64,
    kept: &[u8],
) -> (u64, bool) {
    let end = from + u64::try_from(kept.len()).unwrap_or(u64::MAX);
    let mut rest = kept;
    while !rest.is_empty() {
        let at = end - u64::try_from(rest.len()).unwrap_or(0);
        let Ok((batch, size)) = take_batch(rest) else {
            give_anew(tile, *peer);
            return (end, true);
        };
        if batch.is_empty() {
            // Torn off by a crash: what was not whole was not promised.
            return (end, true);
        }
        if !deliver_batch(tile, peer, batch).await {
            return (at, false);
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    (end, true)
}

/// Some messages, or one request, and the size of their frames.
fn take_batch(kept: &[u8]) -> Result<(Vec<Missed>, usize), cepa_wire::missed::Damaged> {
    let mut batch = Vec::new();
    let mut size = 0;
    while let Some((missed, frame)) = Missed::parse(kept.get(size..).unwrap_or_default())? {
        let is_request = matches!(missed, Missed::Request { .. });
        if is_request && !batch.is_empty() {
            break;
        }
        size += frame;
        batch.push(missed);
        if is_request || batch.len() >= BATCH_COUNT_MAX {
            break;
        }
    }
    Ok((batch, size))
}

/// Whether it arrived; a peer that left gets nothing, and that is as well.
async fn deliver_batch(tile: &Rc<Tile>, peer: &Ed25519PublicKey, batch: Vec<Missed>) -> bool {
    let network = tile.network.load_full();
    let Some(node) = links::find(&network, peer) else {
        return true;
    };
    let mut messages = Vec::new();
    for missed in batch {
        match missed {
            Missed::Message { mailbox, hash } => {
                let hashes = vec![hash];
                let outcome = tile
                    .stores
                    .execute(Command::Fetch { mailbox, hashes })
                    .await;
                if let Outcome::Fetched(found) = outcome {
                    messages.extend(found);
                }
            }
            Missed::Request { method, params } => {
                let parts = vec![Bytes::copy_from_slice(method.as_bytes()), params];
                let asked = ("sn.storage_cc", parts);
                let reply = links::request(tile, node, asked, MEMBER_TIMEOUT, Blame::Peer).await;
                if reply.is_none() {
                    return false;
                }
            }
        }
    }
    count(&tile.counters.missed_delivered);
    send_messages(tile, node, messages).await
}

/// Hands messages over to a peer; tells whether it has them.
pub(crate) async fn send_messages(
    tile: &Rc<Tile>,
    node: &ServiceNode,
    messages: Vec<DumpedMessage>,
) -> bool {
    let mut messages = messages.into_iter().map(transferred).peekable();
    while messages.peek().is_some() {
        let mut blob = Vec::new();
        let mut size = 0;
        while let Some(message) =
            messages.next_if(|next| size + next.data.len() <= handover::BLOB_SIZE_MAX)
        {
            size += message.data.len();
            blob.push(message);
        }
        let sent = u64::try_from(blob.len()).unwrap_or(u64::MAX);
        let parts = vec![Bytes::from(transfer::encode(&blob))];
        let asked = ("sn.data", parts);
        let reply = links::request(tile, node, asked, handover::DATA_TIMEOUT, Blame::Peer).await;
        if reply.is_none() {
            return false;
        }
        let counter = &tile.counters.transfer_sent;
        counter.fetch_add(sent, core::sync::atomic::Ordering::Relaxed);
    }
    true
}

fn transferred(dumped: DumpedMessage) -> Transferred {
    Transferred {
        mailbox: dumped.mailbox,
        namespace: dumped.namespace,
        hash: dumped.message.hash,
        timestamp: dumped.message.timestamp,
        expiry: dumped.message.expiry,
        data: dumped.message.data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shards_kept_that_are_no_more_is_adopted() {
        let dir = std::env::temp_dir().join(format!("cepa-missed-{}", std::process::id()));
        let peer = Ed25519PublicKey([7; 32]);
        let write = |owner: usize, bytes: &[u8]| {
            let name = format!("{owner}-{}", peer.to_hex());
            fs::create_dir_all(dir.join("missed")).expect("a directory is made");
            fs::write(dir.join("missed").join(name), bytes).expect("a file is written");
        };
        write(0, b"own ");
        write(1, b"other ");
        write(2, b"former");
        fs::write(dir.join("missed/notes"), b"?").expect("a file is written");
        let files = MissedFiles::open(&dir, 0, 2).expect("files are read");
        assert_eq!(files.queues.borrow().size(), 10);
        let kept = read_from(&files.path(&peer), 4).expect("a file is read");
        assert_eq!(kept, b"former");
        let other = MissedFiles::open(&dir, 1, 2).expect("files are read");
        assert_eq!(other.queues.borrow().size(), 6);
        fs::remove_dir_all(&dir).expect("a directory is removed");
    }
}
