//! What members missed while they were away: kept in files, and delivered when they are back.
//!
//! `missed/0-<key>-<number>` holds what shard 0 keeps for the peer with that key; the number tells it from an
//! earlier file, of which something may be under way still.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cepa_meter::{Share, count};
use cepa_relay::Counters;
use cepa_storage::{Command, DumpedMessage, Outcome};
use cepa_swarm::is_refused_for_now;
use cepa_swarm::limits::MEMBER_TIMEOUT;
use cepa_swarm::missed::{Delivered, Delivery, MissedQueues, Pushed, QUEUE_SIZE_MAX, Write};
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
    entries_told: Share,
    bytes_told: Share,
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
            entries_told: Share::default(),
            bytes_told: Share::default(),
        };
        let mut found = BTreeMap::<Ed25519PublicKey, Vec<PathBuf>>::new();
        for entry in fs::read_dir(&files.dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((owner, peer)) = name.and_then(parse_name) else {
                continue;
            };
            if owner == tile || owner >= tile_count && owner % tile_count == tile {
                found.entry(peer).or_default().push(path);
            }
        }
        for (peer, paths) in found {
            files.recover(peer, paths)?;
        }
        Ok(files)
    }

    /// Gathers what was kept for a peer in one file, as far as its frames are whole: what a crash tore
    /// was not promised, and nothing may stand behind it.
    fn recover(&self, peer: Ed25519PublicKey, mut paths: Vec<PathBuf>) -> io::Result<()> {
        // Names end with rising numbers.
        paths.sort();
        let (mut kept, mut entry_count) = (Vec::new(), 0);
        for path in &paths {
            let bytes = fs::read(path)?;
            let (size, count) = whole_frames(&bytes);
            kept.extend_from_slice(bytes.get(..size).unwrap_or_default());
            entry_count += count;
        }
        let gathered = self
            .dir
            .join(format!("{}-{}.new", self.tile, peer.to_hex()));
        let mut file = File::create(&gathered)?;
        io::Write::write_all(&mut file, &kept)?;
        file.sync_all()?;
        for path in paths.iter().filter(|path| **path != gathered) {
            fs::remove_file(path)?;
        }
        if kept.is_empty() {
            return fs::remove_file(&gathered);
        }
        let size = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        let mut queues = self.queues.borrow_mut();
        let generation = queues.recover(peer, size, entry_count);
        drop(queues);
        fs::rename(&gathered, self.path(&peer, generation))?;
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, peer: &Ed25519PublicKey, generation: u64) -> PathBuf {
        let name = format!("{}-{}-{generation:016x}", self.tile, peer.to_hex());
        self.dir.join(name)
    }

    fn remove(&self, peer: &Ed25519PublicKey, generation: u64) {
        // One that is not there was not written yet.
        drop(fs::remove_file(self.path(peer, generation)));
    }

    /// Tells how much is kept.
    fn tell(&self, counters: &Counters) {
        let queues = self.queues.borrow();
        self.entries_told
            .set(&counters.missed_entries, queues.entry_count());
        self.bytes_told.set(&counters.missed_bytes, queues.size());
    }

    /// Whether something is kept in memory only.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.queues.borrow().has_unwritten()
    }
}

/// The shard and the peer of a file: `0-<key>-<number>`, or `0-<key>.new` after a crash while it was
/// gathered.
fn parse_name(name: &str) -> Option<(usize, Ed25519PublicKey)> {
    let (owner, rest) = name.split_once('-')?;
    let (peer, _) = rest.split_at_checked(2 * Ed25519PublicKey::SIZE)?;
    let peer = Ed25519PublicKey::from_hex(peer.as_bytes())?;
    Some((owner.parse().ok()?, peer))
}

/// How many bytes are whole frames, and how many those are.
fn whole_frames(bytes: &[u8]) -> (usize, u64) {
    let (mut size, mut count) = (0, 0);
    while let Ok(Some((_, frame))) = Missed::parse(bytes.get(size..).unwrap_or_default()) {
        size += frame;
        count += 1;
    }
    (size, count)
}

/// Keeps something for a member that is away.
pub(crate) fn keep(tile: &Tile, peer: Ed25519PublicKey, missed: &Missed) {
    count(&tile.counters.missed_kept);
    let pushed = tile.missed.queues.borrow_mut().push(peer, missed);
    settle(tile, peer, pushed);
}

/// Gives a peer everything anew whose file is full or could not be written.
fn settle(tile: &Tile, peer: Ed25519PublicKey, pushed: Pushed) {
    if let Pushed::Overflow(generation) = pushed {
        tile.missed.remove(&peer, generation);
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
    write_pending(tile);
    tile.missed.tell(&tile.counters);
    let network = tile.network.load();
    let is_known = |peer: &Ed25519PublicKey| network.peers.find(peer).is_some();
    for (peer, generation) in tile.missed.queues.borrow_mut().retain(is_known) {
        tile.missed.remove(&peer, generation);
    }
    let health = tile.health.borrow();
    let is_up = |peer: &Ed25519PublicKey| !health.is_down(peer) && is_known(peer);
    let due = tile
        .missed
        .queues
        .borrow_mut()
        .poll_delivery(clock::now(), is_up);
    if let Some(delivery) = due {
        let tile = Rc::clone(tile);
        spawn_local(async move { deliver(&tile, delivery).await }).detach();
    }
}

/// Writes what is to be kept.
pub(crate) fn write_pending(tile: &Rc<Tile>) {
    while let Some(write) = tile.missed.queues.borrow_mut().poll_write() {
        let tile = Rc::clone(tile);
        spawn_local(async move { write_out(&tile, write).await }).detach();
    }
}

async fn write_out(tile: &Tile, write: Write) {
    let Write {
        peer,
        generation,
        offset,
        bytes,
    } = write;
    let path = tile.missed.path(&peer, generation);
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
    let is_good = written.is_ok();
    let pushed = tile
        .missed
        .queues
        .borrow_mut()
        .handle_written(&peer, generation, is_good);
    if pushed == Pushed::Stale {
        tile.missed.remove(&peer, generation);
    }
    settle(tile, peer, pushed);
}

/// Delivers to a peer from a place in its file on.
async fn deliver(tile: &Rc<Tile>, delivery: Delivery) {
    let Delivery {
        peer,
        generation,
        from,
        end,
    } = delivery;
    let path = tile.missed.path(&peer, generation);
    let kept = glommio::executor()
        .spawn_blocking(move || read_from(&path, from, end))
        .await;
    let (delivered, is_good) = match kept {
        Ok(kept) => deliver_kept(tile, &peer, from, &kept).await,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            give_anew(tile, peer);
            (all_of(end), true)
        }
        Err(_) => {
            let nothing = Delivered {
                to: from,
                entry_count: 0,
            };
            (nothing, false)
        }
    };
    let is_done = tile.missed.queues.borrow_mut().handle_delivered(
        &delivery,
        delivered,
        is_good,
        clock::now(),
    );
    if is_done {
        tile.missed.remove(&peer, generation);
    }
}

fn read_from(path: &Path, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = end.saturating_sub(from).min(2 * QUEUE_SIZE_MAX);
    let mut kept = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut kept, from)?;
    Ok(kept)
}

/// All of what was read, however much that is: its peer gets everything anew.
const fn all_of(end: u64) -> Delivered {
    Delivered {
        to: end,
        entry_count: u64::MAX,
    }
}

/// Delivers what was read; tells how far that is in the file and whether all of it arrived.
async fn deliver_kept(
    tile: &Rc<Tile>,
    peer: &Ed25519PublicKey,
    from: u64,
    kept: &[u8],
) -> (Delivered, bool) {
    let end = from + u64::try_from(kept.len()).unwrap_or(u64::MAX);
    let mut rest = kept;
    let mut delivered = Delivered {
        to: from,
        entry_count: 0,
    };
    while !rest.is_empty() {
        let Ok((batch, size)) = take_batch(rest) else {
            give_anew(tile, *peer);
            return (all_of(end), true);
        };
        if batch.is_empty() {
            // What is written is written in whole frames.
            give_anew(tile, *peer);
            return (all_of(end), true);
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if !deliver_batch(tile, peer, batch).await {
            return (delivered, false);
        }
        delivered.to += u64::try_from(size).unwrap_or(u64::MAX);
        delivered.entry_count += count;
        rest = rest.get(size..).unwrap_or_default();
    }
    (delivered, true)
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
                if reply.is_none_or(|parts| is_refused_for_now(&parts)) {
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

    fn frame(number: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let missed = Missed::Message {
            mailbox: cepa_wire::Mailbox {
                prefix: 5,
                key: [number; 32],
            },
            hash: cepa_wire::MessageHash([number; 32]),
        };
        missed.encode(&mut frame).expect("it is small");
        frame
    }

    #[test]
    fn what_was_kept_is_found_and_what_shards_kept_that_are_no_more_is_adopted() {
        let data_dir = tempfile::tempdir().expect("a directory is made");
        let dir = data_dir.path().join("missed");
        fs::create_dir_all(&dir).expect("a directory is made");
        let peer = Ed25519PublicKey([7; 32]);
        let write = |owner: usize, bytes: &[u8]| {
            let name = format!("{owner}-{}-{:016x}", peer.to_hex(), 3);
            fs::write(dir.join(name), bytes).expect("a file is written");
        };
        // Its end is torn.
        let own = [frame(1), frame(2)[..30].to_vec()].concat();
        write(0, &own);
        write(1, &frame(3));
        write(2, &frame(4));
        fs::write(dir.join("notes"), b"?").expect("a file is written");
        for _ in 0..2 {
            let files = MissedFiles::open(data_dir.path(), 0, 2).expect("files are read");
            let expected = [frame(1), frame(4)].concat();
            let size = expected.len() as u64;
            assert_eq!(files.queues.borrow().size(), size);
            assert_eq!(files.queues.borrow().entry_count(), 2);
            let delivery = files
                .queues
                .borrow_mut()
                .poll_delivery(clock::now(), |_| true);
            let delivery = delivery.expect("something is kept");
            let path = files.path(&peer, delivery.generation);
            assert_eq!(read_from(&path, 0, size).expect("a file is read"), expected);
        }
        let other = MissedFiles::open(data_dir.path(), 1, 2).expect("files are read");
        assert_eq!(other.queues.borrow().size(), frame(3).len() as u64);
    }
}
