//! Cells that keep their number, in chunks that never move: growing costs one allocation, whatever
//! there is already.

const CHUNK_SIZE: usize = 4096;

/// No cell.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    /// Numbers of free cells, in chunks as well. None of these is empty.
    free: Vec<Vec<u32>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

const fn split(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / CHUNK_SIZE, number % CHUNK_SIZE)
}

impl<T> Slab<T> {
    /// Cells there are, free ones among them: numbers are smaller.
    pub(crate) fn size(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK_SIZE + last.len(),
            None => 0,
        }
    }

    /// Bytes of memory.
    pub(crate) fn memory_size(&self) -> usize {
        self.chunks.len() * CHUNK_SIZE * size_of::<T>()
            + self.free.len() * CHUNK_SIZE * size_of::<u32>()
            + (self.chunks.capacity() + self.free.capacity()) * size_of::<Vec<T>>()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (chunk, at) = split(number);
        self.chunks.get(chunk)?.get(at)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (chunk, at) = split(number);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    /// Fills a cell and gives its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.take_free() {
            if let Some(cell) = self.get_mut(number) {
                *cell = value;
            }
            return number;
        }
        let number = u32::try_from(self.size()).unwrap_or(NONE);
        assert!(number < NONE, "four milliards of cells");
        push(&mut self.chunks, value);
        number
    }

    fn take_free(&mut self) -> Option<u32> {
        let chunk = self.free.last_mut()?;
        let number = chunk.pop();
        if chunk.is_empty() {
            self.free.pop();
        }
        number
    }

    /// Gives a cell back; what stands in it is the caller's affair.
    pub(crate) fn free(&mut self, number: u32) {
        push(&mut self.free, number);
    }
}

/// Appends to the last chunk, or to a fresh one.
fn push<T>(chunks: &mut Vec<Vec<T>>, value: T) {
    match chunks.last_mut() {
        Some(chunk) if chunk.len() < CHUNK_SIZE => chunk.push(value),
        _ => {
            let mut chunk = Vec::with_capacity(CHUNK_SIZE);
            chunk.push(value);
            chunks.push(chunk);
        }
    }
}
