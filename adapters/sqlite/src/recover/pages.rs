//! The pages of a database file: <https://www.sqlite.org/fileformat2.html>. Nothing in it is believed without a look: every
//! number may be damaged.

use std::{collections::HashSet, fs::File, os::unix::fs::FileExt, path::Path};

use taskbroker_domain::ports::store::StoreError;

use super::record::varint;
use crate::{error::file_error, paths::size};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite takes by itself.
const PAGE_BYTES_DEFAULT: usize = 4_096;
/// The first page begins with the file's header.
const HEADER_BYTES: usize = 100;
/// A leaf of a table.
const LEAF: u8 = 0x0d;
/// A larger record is none of ours.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// A database file.
pub(super) struct Pages {
    file: File,
    page_bytes: usize,
    /// Of each page, without what is reserved at its end.
    usable: usize,
    count: u32,
    /// Pages that were let go; none where their list cannot be read.
    free: Option<HashSet<u32>>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) rowid: i64,
    page: u32,
    at: usize,
}

impl Pages {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| file_error("cannot open", path, &error))?;
        let mut header = [0; HEADER_BYTES];
        let is_whole = file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(MAGIC);
        let (page_bytes, reserved) = match page_size(&header).filter(|_| is_whole) {
            Some(bytes) => (bytes, usize::from(header[20])),
            None => (PAGE_BYTES_DEFAULT, 0),
        };
        let count = u32::try_from(size(path) / page_bytes as u64).unwrap_or(u32::MAX);
        let mut pages = Self { file, page_bytes, usable: page_bytes.saturating_sub(reserved), count, free: None };
        if is_whole {
            pages.free = pages.read_free(number(&header, 32), number(&header, 36));
        }
        Ok(pages)
    }

    /// Whether pages in use can be told from those that were let go.
    pub(super) fn knows_free(&self) -> bool {
        self.free.is_some()
    }

    /// Calls this with every row of every table on pages in use.
    pub(super) fn each_cell(&self, mut found: impl FnMut(Cell)) {
        for page in (1..=self.count).filter(|page| !self.free.as_ref().is_some_and(|free| free.contains(page))) {
            let Some(bytes) = self.page(page) else { continue };
            let start = if page == 1 { HEADER_BYTES } else { 0 };
            for at in cells(&bytes, start) {
                let Some((_, after)) = varint(&bytes, at) else { continue };
                let Some((rowid, _)) = varint(&bytes, after) else { continue };
                found(Cell { rowid: rowid.cast_signed(), page, at });
            }
        }
    }

    /// The record of a row, with what of it stands on other pages; none where it cannot be put together.
    pub(super) fn record(&self, cell: Cell) -> Option<Vec<u8>> {
        let page = self.page(cell.page)?;
        let (length, after) = varint(&page, cell.at)?;
        let (_, start) = varint(&page, after)?;
        let length = usize::try_from(length).ok().filter(|_| length <= RECORD_BYTES_MAX)?;
        let local = self.local_bytes(length);
        let mut record = page.get(start..start.checked_add(local)?)?.to_vec();
        if local < length {
            self.overflow(number_at(&page, start + local)?, length, &mut record)?;
        }
        Some(record)
    }

    /// Follows a chain. One that comes back to itself is none: it would fill memory as far as the record says.
    fn overflow(&self, first: u32, length: usize, record: &mut Vec<u8>) -> Option<()> {
        let (mut next, mut visited) = (first, HashSet::new());
        while record.len() < length {
            if !visited.insert(next) {
                return None;
            }
            let page = self.page(next)?;
            next = number_at(&page, 0)?;
            let own = page.get(4..self.usable)?;
            record.extend_from_slice(own.get(..own.len().min(length - record.len()))?);
        }
        Some(())
    }

    /// How much of a record stands on the leaf itself.
    fn local_bytes(&self, length: usize) -> usize {
        let most = self.usable.saturating_sub(35);
        if length <= most {
            return length;
        }
        let least = (self.usable.saturating_sub(12) * 32 / 255).saturating_sub(23);
        let fitting = least + length.saturating_sub(least) % self.usable.saturating_sub(4).max(1);
        if fitting <= most { fitting } else { least }
    }

    /// The list of pages that were let go: trunks, each with the next and its leaves. All or nothing: a list that is cut off
    /// would let finished tasks come back unsaid.
    fn read_free(&self, first: u32, count: u32) -> Option<HashSet<u32>> {
        let mut free = HashSet::new();
        let mut trunk = first;
        while trunk != 0 {
            let page = self.page(trunk)?;
            if !free.insert(trunk) {
                return None;
            }
            let leaves = usize::try_from(number_at(&page, 4)?).ok()?;
            for leaf in 0..leaves {
                free.insert(number_at(&page, leaf.checked_mul(4)?.checked_add(8)?)?);
            }
            trunk = number_at(&page, 0)?;
        }
        (free.len() == usize::try_from(count).ok()?).then_some(free)
    }

    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let index = u64::from(number.checked_sub(1)?);
        if number > self.count {
            return None;
        }
        let mut bytes = vec![0; self.page_bytes];
        self.file.read_exact_at(&mut bytes, index * self.page_bytes as u64).ok()?;
        Some(bytes)
    }
}

fn page_size(header: &[u8; HEADER_BYTES]) -> Option<usize> {
    match u16::from_be_bytes([header[16], header[17]]) {
        1 => Some(65_536),
        bytes if bytes >= 512 && bytes.is_power_of_two() => Some(usize::from(bytes)),
        _ => None,
    }
}

/// Where the cells of a leaf begin; none where the page is no leaf of a table.
fn cells(page: &[u8], start: usize) -> Vec<usize> {
    if page.get(start) != Some(&LEAF) {
        return Vec::new();
    }
    let count = short_at(page, start + 3).unwrap_or(0);
    (0..count).filter_map(|index| short_at(page, start + 8 + 2 * index)).filter(|at| *at > start).collect()
}

fn short_at(bytes: &[u8], at: usize) -> Option<usize> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_be_bytes(pair.try_into().ok()?)))
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    number_at(bytes, at).unwrap_or(0)
}
