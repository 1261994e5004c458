//! The disk of a shard: glommio's `DmaFile` (`O_DIRECT` through `io_uring`) behind storage's trait.

use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use cepa_storage::disk::{Completion, Disk, DiskError, Done, Operation, SegmentId, Token};
use glommio::io::{Directory, DmaFile, OpenOptions};
use glommio::{GlommioError, spawn_local};

use crate::wait::Notify;

/// Segment files in one directory, named `segment-00000001.log`.
pub(crate) struct SegmentFiles {
    inner: Rc<Inner>,
}

struct Inner {
    dir: PathBuf,
    files: RefCell<BTreeMap<SegmentId, Rc<DmaFile>>>,
    completed: RefCell<VecDeque<Completion>>,
    wake: Rc<Notify>,
}

impl SegmentFiles {
    /// Segments in `dir`, which must be there; `wake` is notified of each completion.
    pub(crate) fn new(dir: PathBuf, wake: Rc<Notify>) -> Self {
        let inner = Inner {
            dir,
            files: RefCell::default(),
            completed: RefCell::default(),
            wake,
        };
        Self {
            inner: Rc::new(inner),
        }
    }
}

impl Disk for SegmentFiles {
    fn submit(&mut self, token: Token, operation: Operation) {
        let inner = Rc::clone(&self.inner);
        spawn_local(async move {
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
            } => self.write(segment, offset, &data).await,
            Operation::Sync { segment } => {
                self.file(segment).await?.fdatasync().await?;
                Ok(Done::Done)
            }
            Operation::Read {
                segment,
                offset,
                size,
            } => {
                let read = self.file(segment).await?.read_at(offset, size).await?;
                Ok(Done::Read(Bytes::copy_from_slice(&read)))
            }
            Operation::Remove { segment } => self.remove(segment).await,
        }
    }

    async fn create(&self, segment: SegmentId, size: u64) -> Result<Done, GlommioError<()>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .dma_open(self.path(segment))
            .await?;
        // Blocks are reserved now, so that a full disk shows here and not within a commit.
        file.pre_allocate(size, false).await?;
        file.fdatasync().await?;
        self.files.borrow_mut().insert(segment, Rc::new(file));
        self.sync_dir().await?;
        Ok(Done::Done)
    }

    async fn write(
        &self,
        segment: SegmentId,
        offset: u64,
        data: &[u8],
    ) -> Result<Done, GlommioError<()>> {
        let file = self.file(segment).await?;
        let mut buffer = file.alloc_dma_buffer(data.len());
        buffer.as_bytes_mut().copy_from_slice(data);
        let written = file.write_at(buffer, offset).await?;
        if written < data.len() {
            // A short write of O_DIRECT: the device ran out of space.
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        Ok(Done::Done)
    }

    async fn remove(&self, segment: SegmentId) -> Result<Done, GlommioError<()>> {
        let file = self.files.borrow_mut().remove(&segment);
        glommio::io::remove(self.path(segment)).await?;
        self.sync_dir().await?;
        if let Some(file) = file {
            file.close_rc().await?;
        }
        Ok(Done::Done)
    }

    /// A rename-free directory change is durable only once the directory is.
    async fn sync_dir(&self) -> Result<(), GlommioError<()>> {
        let dir = Directory::open(&self.dir).await?;
        dir.sync().await?;
        dir.close().await
    }

    async fn file(&self, segment: SegmentId) -> Result<Rc<DmaFile>, GlommioError<()>> {
        if let Some(file) = self.files.borrow().get(&segment) {
            return Ok(Rc::clone(file));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(self.path(segment))
            .await?;
        let file = Rc::new(file);
        self.files.borrow_mut().insert(segment, Rc::clone(&file));
        Ok(file)
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(format!("segment-{:08}.log", segment.0))
    }
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

fn disk_error(error: &GlommioError<()>) -> DiskError {
    let kind = match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            source.kind()
        }
        _ => io::ErrorKind::Other,
    };
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Failed,
    }
}
