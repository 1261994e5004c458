//! The disk of a log: segment files, through glommio.
//!
//! A segment has up to three descriptors, each opened when it is first needed: `O_DIRECT` with
//! `O_DSYNC` for writes that are durable when they complete (one operation; a write and a fdatasync
//! are two, and no faster), `O_DIRECT` for writes that need not be and for reading whole files, and
//! one through the page cache for records here and there, so that memory nobody else wants makes
//! repeated reads cheap. A block is read through the cache only after it was written, and a direct
//! write drops what the cache has of it.

use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use cepa_meter::Buckets;
use cepa_meter::bounds::LATENCY;
use cepa_storage::disk::{Access, Completion, Disk, DiskError, Done, Operation, SegmentId, Token};
use futures_util::future::{FutureExt as _, LocalBoxFuture, Shared, try_join_all};
use glommio::io::{BufferedFile, Directory, DmaFile, OpenOptions};
use glommio::{GlommioError, spawn_local};

use crate::clock;
use crate::wait::Notify;

/// Zeros are written in pieces of this size when a segment is made.
const ZEROS_SIZE: usize = 256 << 10;

/// Bytes of the file that glommio's question is asked of: a block of any disk.
const PROBE_SIZE: usize = 64 << 10;

/// So many of them at a time: commits get their turn between.
const ZEROS_COUNT: u64 = 2;

/// From `<fcntl.h>`, the same on every Linux but MIPS, Alpha and SPARC, where glommio does not run.
const O_DSYNC: i32 = 0o10000;

/// Segment files in one directory, named `segment-00000001.log`.
pub(crate) struct SegmentFiles {
    inner: Rc<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// See [`probe`]; cheap once it is done.
    probed: Shared<LocalBoxFuture<'static, ()>>,
    files: RefCell<BTreeMap<SegmentId, Files>>,
    completed: RefCell<VecDeque<Completion>>,
    wake: Rc<Notify>,
    write_seconds: Rc<RefCell<Buckets>>,
}

/// The descriptors of a segment.
#[derive(Clone, Default)]
struct Files {
    durable: Option<Rc<DmaFile>>,
    direct: Option<Rc<DmaFile>>,
    cached: Option<Rc<BufferedFile>>,
}

impl SegmentFiles {
    /// Segments in `dir`, which must be there; `wake` is notified of each completion.
    pub(crate) fn new(dir: PathBuf, wake: Rc<Notify>) -> Self {
        let inner = Inner {
            probed: probe(dir.clone()).boxed_local().shared(),
            dir,
            files: RefCell::default(),
            completed: RefCell::default(),
            wake,
            write_seconds: Rc::default(),
        };
        Self {
            inner: Rc::new(inner),
        }
    }
}

impl SegmentFiles {
    /// How long durable writes took, as they go on.
    pub(crate) fn write_seconds(&self) -> Rc<RefCell<Buckets>> {
        Rc::clone(&self.inner.write_seconds)
    }
}

impl Disk for SegmentFiles {
    fn submit(&mut self, token: Token, operation: Operation) {
        let inner = Rc::clone(&self.inner);
        spawn_local(async move {
            if inner.probed.peek().is_none() {
                inner.probed.clone().await;
            }
            let result = inner
                .carry_out(operation)
                .await
                .map_err(|error| disk_error(&error));
            inner
                .completed
                .borrow_mut()
                .push_back(Completion { token, result });
            inner.wake.notify();
        })
        .detach();
    }

    fn poll(&mut self) -> Option<Completion> {
        self.inner.completed.borrow_mut().pop_front()
    }
}

impl Inner {
    async fn carry_out(&self, operation: Operation) -> Result<Done, GlommioError<()>> {
        match operation {
            Operation::List => Ok(Done::Listed(list(&self.dir)?)),
            Operation::Create { segment, size } => self.create(segment, size).await,
            Operation::Write {
                segment,
                offset,
                data,
                is_durable,
            } => self.write(segment, offset, &data, is_durable).await,
            Operation::Sync { segment } => {
                self.direct(segment).await?.fdatasync().await?;
                Ok(Done::Done)
            }
            Operation::Read {
                segment,
                offset,
                size,
                access,
            } => self.read(segment, offset, size, access).await,
            Operation::Remove { segment } => self.remove(segment).await,
        }
    }

    /// Writes zeros over the whole file: blocks that are only reserved would cost every commit a
    /// change of the file system's own records, and a full disk would show within a commit.
    async fn create(&self, segment: SegmentId, size: u64) -> Result<Done, GlommioError<()>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .dma_open(self.path(segment))
            .await?;
        let file = Rc::new(file);
        let written = self.write_zeros(&file, size).await;
        if written.is_err() {
            // Half a segment is of no use, and the space may be what others wait for.
            drop(glommio::io::remove(self.path(segment)).await);
            drop(file.close_rc().await);
            written?;
            return Ok(Done::Done);
        }
        file.fdatasync().await?;
        let files = Files {
            direct: Some(file),
            ..Files::default()
        };
        self.files.borrow_mut().insert(segment, files);
        self.sync_dir().await?;
        Ok(Done::Done)
    }

    async fn write_zeros(&self, file: &DmaFile, size: u64) -> Result<(), GlommioError<()>> {
        file.pre_allocate(size, false).await?;
        let piece_size = ZEROS_SIZE as u64;
        let mut begin = 0;
        while begin < size {
            let end = size.min(begin + ZEROS_COUNT * piece_size);
            let pieces = (begin..end).step_by(ZEROS_SIZE).map(|offset| {
                let piece_size = usize::try_from(piece_size.min(end - offset)).unwrap_or(0);
                async move {
                    let mut zeros = file.alloc_dma_buffer(piece_size);
                    zeros.as_bytes_mut().fill(0);
                    let written = file.write_at(zeros, offset).await?;
                    check_written(written, piece_size)
                }
            });
            try_join_all(pieces).await?;
            begin = end;
        }
        Ok(())
    }

    async fn write(
        &self,
        segment: SegmentId,
        offset: u64,
        data: &[u8],
        is_durable: bool,
    ) -> Result<Done, GlommioError<()>> {
        let file = if is_durable {
            self.durable(segment).await?
        } else {
            self.direct(segment).await?
        };
        let mut buffer = file.alloc_dma_buffer(data.len());
        buffer.as_bytes_mut().copy_from_slice(data);
        let begun = clock::nanos();
        let written = file.write_at(buffer, offset).await?;
        check_written(written, data.len())?;
        if is_durable {
            let taken = clock::nanos().saturating_sub(begun);
            self.write_seconds.borrow_mut().record(&LATENCY, taken);
        }
        Ok(Done::Done)
    }

    async fn read(
        &self,
        segment: SegmentId,
        offset: u64,
        size: usize,
        access: Access,
    ) -> Result<Done, GlommioError<()>> {
        let bytes = match access {
            Access::Random => {
                let file = self.cached(segment).await?;
                Bytes::copy_from_slice(&file.read_at(offset, size).await?)
            }
            Access::Sequential => {
                let file = self.direct(segment).await?;
                Bytes::copy_from_slice(&file.read_at(offset, size).await?)
            }
        };
        Ok(Done::Read(bytes))
    }

    async fn remove(&self, segment: SegmentId) -> Result<Done, GlommioError<()>> {
        let files = self.files.borrow_mut().remove(&segment);
        match glommio::io::remove(self.path(segment)).await {
            // A removal before this one failed behind its unlink.
            Err(error) if is_not_found(&error) => {}
            removed => removed?,
        }
        self.sync_dir().await?;
        let files = files.unwrap_or_default();
        for file in [files.durable, files.direct].into_iter().flatten() {
            file.close_rc().await?;
        }
        if let Some(cached) = files.cached.and_then(Rc::into_inner) {
            cached.close().await?;
        }
        Ok(Done::Done)
    }

    /// A rename-free directory change is durable only once the directory is.
    async fn sync_dir(&self) -> Result<(), GlommioError<()>> {
        let dir = Directory::open(&self.dir).await?;
        dir.sync().await?;
        dir.close().await
    }

    async fn durable(&self, segment: SegmentId) -> Result<Rc<DmaFile>, GlommioError<()>> {
        if let Some(file) = self.known(segment).durable {
            return Ok(file);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_DSYNC)
            .dma_open(self.path(segment))
            .await?;
        let file = Rc::new(file);
        self.remember(segment, |files| files.durable = Some(Rc::clone(&file)));
        Ok(file)
    }

    async fn direct(&self, segment: SegmentId) -> Result<Rc<DmaFile>, GlommioError<()>> {
        if let Some(file) = self.known(segment).direct {
            return Ok(file);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(self.path(segment))
            .await?;
        let file = Rc::new(file);
        self.remember(segment, |files| files.direct = Some(Rc::clone(&file)));
        Ok(file)
    }

    async fn cached(&self, segment: SegmentId) -> Result<Rc<BufferedFile>, GlommioError<()>> {
        if let Some(file) = self.known(segment).cached {
            return Ok(file);
        }
        let file = Rc::new(BufferedFile::open(self.path(segment)).await?);
        self.remember(segment, |files| files.cached = Some(Rc::clone(&file)));
        Ok(file)
    }

    fn known(&self, segment: SegmentId) -> Files {
        let files = self.files.borrow();
        files.get(&segment).cloned().unwrap_or_default()
    }

    fn remember(&self, segment: SegmentId, change: impl FnOnce(&mut Files)) {
        change(self.files.borrow_mut().entry(segment).or_default());
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(format!("segment-{:08}.log", segment.0))
    }
}

/// A short direct write: the device ran out of space.
fn check_written(written: usize, size: usize) -> Result<(), GlommioError<()>> {
    if written < size {
        return Err(io::Error::from(io::ErrorKind::StorageFull).into());
    }
    Ok(())
}

fn list(dir: &Path) -> io::Result<Vec<(SegmentId, u64)>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".log"))
            .and_then(|digits| digits.parse().ok());
        if let Some(id) = id {
            segments.push((SegmentId(id), entry.metadata()?.len()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

fn kind(error: &GlommioError<()>) -> io::ErrorKind {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            source.kind()
        }
        _ => io::ErrorKind::Other,
    }
}

fn is_not_found(error: &GlommioError<()>) -> bool {
    kind(error) == io::ErrorKind::NotFound
}

/// Lets glommio find out whether the device can be polled. It asks that once, by reading from the first
/// file that is opened; were that a new segment, the read behind its end would succeed without asking
/// the device, and later reads would fail with EOPNOTSUPP. So the first file has something in it.
async fn probe(dir: PathBuf) {
    let path = dir.join("probe");
    let made = {
        let path = path.clone();
        glommio::executor()
            .spawn_blocking(move || {
                std::fs::write(&path, vec![1; PROBE_SIZE])?;
                std::fs::File::open(&path)?.sync_all()
            })
            .await
    };
    // Where it can't be made no segment can either, and that is told.
    if made.is_ok()
        && let Ok(file) = OpenOptions::new().read(true).dma_open(&path).await
    {
        drop(file.close().await);
    }
    drop(std::fs::remove_file(&path));
}

fn disk_error(error: &GlommioError<()>) -> DiskError {
    match kind(error) {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Failed,
    }
}
