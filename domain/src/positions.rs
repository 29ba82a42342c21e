//! What of a partition's log may be acknowledged, and where to start reading it.

use std::collections::BTreeMap;

/// The widest span of offsets above the watermark that a settled set may cover: 1 MiB as a bitmap. A span that grows wider
/// (a log with large holes) makes the ledger write what holds the watermark.
pub const SPAN_MAX: i64 = 8 * 1024 * 1024;

/// Follows one partition: its watermark, what above it is a row or settled, and how far it was read.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    watermark: i64,
    /// What is known of offsets at and above the watermark.
    marks: BTreeMap<i64, Mark>,
    /// Ranges that the log does not have, by start; they need not be journalled, the log skips them again.
    holes: BTreeMap<i64, i64>,
    /// From which offset on which leader epoch applies, where it is known.
    epochs: BTreeMap<i64, Option<i32>>,
    next: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Row,
    Settled,
}

/// What a record that is read is to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Not known: it is to be admitted, and then settled or written.
    New,
    /// A row of this offset is there, or it is settled, or it was read before.
    Known,
}

impl Tracker {
    /// A tracker for a partition of which everything below `watermark` is done.
    pub fn new(watermark: i64) -> Self {
        Self { watermark, ..Self::default() }
    }

    /// A tracker as it was journalled.
    pub fn restore(watermark: i64, leader_epoch: Option<i32>, settled: &[u8]) -> Self {
        let mut tracker = Self::new(watermark);
        tracker.note_epoch(i64::MIN, leader_epoch);
        for offset in bits(watermark, settled) {
            tracker.marks.insert(offset, Mark::Settled);
        }
        tracker
    }

    /// Every offset below it is a row or settled, as far as was marked.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The next offset that is expected, while the partition is being read.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// The epoch of the leader that wrote the record just below the watermark. None where that is not known: a consumer
    /// that is told an older one would see a cut log where there is none.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.epochs.range(..self.watermark).next_back().and_then(|(_, epoch)| *epoch)
    }

    /// Reading begins at `offset`; nothing of an earlier reading counts but rows and what is settled.
    pub fn begin(&mut self, offset: i64) {
        self.next = Some(offset);
    }

    /// Reading ended; what was read and is neither row nor settled will be read again.
    pub fn end(&mut self) {
        self.next = None;
        self.holes.clear();
    }

    /// A record was read. What the log skipped before it counts as settled.
    pub fn read(&mut self, offset: i64, leader_epoch: Option<i32>) -> Reading {
        let Some(next) = self.next else { return Reading::Known };
        if offset < next {
            return Reading::Known;
        }
        self.skip_to(offset);
        self.next = Some(offset + 1);
        self.note_epoch(offset, leader_epoch);
        match self.is_done(offset) {
            true => Reading::Known,
            false => Reading::New,
        }
    }

    /// The log has nothing between the next expected offset and `offset`. Returns whether that was news.
    pub fn skip_to(&mut self, offset: i64) -> bool {
        let Some(next) = self.next else { return false };
        if offset <= next {
            return false;
        }
        let start = next.max(self.watermark);
        if start < offset {
            self.holes.insert(start, offset);
        }
        self.note_epoch(next, None);
        self.next = Some(offset);
        true
    }

    /// The record at `offset` is done with: it needs no row, or no longer has one.
    pub fn settle(&mut self, offset: i64) {
        if offset >= self.watermark {
            self.marks.insert(offset, Mark::Settled);
        }
    }

    /// The record at `offset` has a row.
    pub fn write(&mut self, offset: i64) {
        if offset >= self.watermark {
            self.marks.entry(offset).or_insert(Mark::Row);
        }
    }

    /// Moves the watermark over everything that is done. Returns whether it moved.
    pub fn advance(&mut self) -> bool {
        let before = self.watermark;
        loop {
            if self.marks.remove(&self.watermark).is_some() {
                self.watermark += 1;
            } else if let Some((&start, &end)) = self.holes.range(..=self.watermark).next_back() {
                self.holes.remove(&start);
                self.watermark = self.watermark.max(end);
            } else {
                break;
            }
        }
        self.forget_below();
        self.watermark != before
    }

    /// How wide the settled set is, in offsets.
    pub fn span(&self) -> i64 {
        self.marks.last_key_value().map_or(0, |(last, _)| last + 1 - self.watermark)
    }

    /// The settled set as [`crate::ports::store::Position::settled`] wants it.
    pub fn settled(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (offset, mark) in &self.marks {
            if *mark == Mark::Settled {
                set_bit(&mut bytes, offset - self.watermark);
            }
        }
        bytes
    }

    /// Whether the record at `offset` is a row, settled, or below the watermark.
    pub fn is_done(&self, offset: i64) -> bool {
        offset < self.watermark || self.marks.contains_key(&offset)
    }

    /// Whether anything at or above `offset` is a row, settled, or below the watermark.
    pub fn knows_from(&self, offset: i64) -> bool {
        offset < self.watermark || self.marks.last_key_value().is_some_and(|(last, _)| *last >= offset)
    }

    /// Everything from `offset` up is void: marks are dropped, and the watermark falls to it if it was above.
    pub fn void_from(&mut self, offset: i64) {
        self.marks.split_off(&offset);
        self.holes.split_off(&offset);
        if let Some(mut last) = self.holes.last_entry() {
            let end = (*last.get()).min(offset);
            last.insert(end);
        }
        self.epochs.split_off(&offset);
        self.watermark = self.watermark.min(offset);
        self.next = self.next.map(|next| next.min(offset));
    }

    /// Everything below `offset` is done with, by whoever did it.
    pub fn forward_to(&mut self, offset: i64) {
        if offset > self.watermark {
            self.epochs.clear();
            self.watermark = offset;
            self.forget_below();
        }
    }

    fn forget_below(&mut self) {
        if self.marks.first_key_value().is_some_and(|(first, _)| *first < self.watermark) {
            self.marks = self.marks.split_off(&self.watermark);
        }
        while let Some((&start, &end)) = self.holes.first_key_value() {
            if end > self.watermark {
                break;
            }
            self.holes.remove(&start);
        }
        while self.epochs.len() > 1 && self.epochs.keys().nth(1).is_some_and(|second| *second < self.watermark) {
            self.epochs.pop_first();
        }
    }

    fn note_epoch(&mut self, offset: i64, leader_epoch: Option<i32>) {
        if self.epochs.last_key_value().and_then(|(_, last)| *last) != leader_epoch {
            self.epochs.insert(offset, leader_epoch);
        }
    }
}

fn bits(first: i64, bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    (first..)
        .step_by(8)
        .zip(bytes)
        .flat_map(|(base, byte)| (0..8u8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| base + i64::from(bit)))
}

fn set_bit(bytes: &mut Vec<u8>, index: i64) {
    let Ok(index) = usize::try_from(index) else { return };
    if bytes.len() <= index / 8 {
        bytes.resize(index / 8 + 1, 0);
    }
    if let Some(byte) = bytes.get_mut(index / 8) {
        *byte |= 1 << (index % 8);
    }
}

/// What to do where neither store nor group knows a position (`auto_offset_reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Read the whole log.
    Earliest,
    /// Read what comes from here on.
    #[default]
    Latest,
    /// Do not read; say so.
    Error,
}

/// What is known when a partition is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The journal's position in this log.
    pub stored: Option<i64>,
    /// The group's position in this log.
    pub committed: Option<GroupPosition>,
    /// The log's first offset.
    pub log_start: i64,
    /// The offset after the log's last record.
    pub log_end: i64,
    /// An earlier log of the same name was read: this one is new, and no record of it was seen.
    pub recreated: bool,
    /// The journal's position was taken over from the existing system, which commits seldom: a lower one of the group is
    /// its own, and no rewind.
    pub taken_over: bool,
    /// What the operator chose for a first start.
    pub reset: OffsetReset,
}

/// A position of the group, and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    /// The offset of the next record.
    pub offset: i64,
    /// Who wrote it.
    pub by: CommittedBy,
}

/// Who committed a position, as its metadata tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommittedBy {
    /// This store.
    ThisStore,
    /// Another store of ours.
    AnotherStore,
    /// An operator, or an older kind of broker.
    Somebody,
}

/// Where to start, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The offset of the first record to be read.
    pub at: i64,
    /// Why there.
    pub because: Because,
    /// Offsets that retention took before they were read: `lost` of them, below `at`.
    pub lost: u64,
    /// The log ends before what was known of it: everything from its end up is void.
    pub cut: bool,
}

/// Why a start was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The journal's position, at or above the group's.
    Stored,
    /// The position taken over from the existing system, at or above the group's.
    TakenOver,
    /// The group's position, above the journal's.
    Committed,
    /// Somebody set the group's position back, and it wins.
    Rewound,
    /// Nobody knew a position.
    Reset,
}

/// Why a partition is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStart {
    /// The group has a position of this very store above the journal's: the store is an old copy.
    #[error(
        "the group's position {committed} was committed by this store, whose own is {stored}: the store is an older copy of \
         itself (a restored backup?). To go on from either position, set the group's offset to it (kafka-consumer-groups \
         --reset-offsets) and restart"
    )]
    OlderCopy {
        /// The journal's position.
        stored: i64,
        /// The group's.
        committed: i64,
    },
    /// No position is known and the settings forbid to choose one.
    #[error("no position is known and kafka_auto_offset_reset is \"error\": set the group's offset and restart")]
    Forbidden,
}

/// Decides where to start (rule 5 of the design): at the larger of the stored and the committed position, unless somebody
/// set the committed one back. Never over records that still exist, never silently over lost ones.
pub fn plan(known: Known) -> Result<Plan, NoStart> {
    let (at, because) = choose(known.without_void())?;
    let lost = u64::try_from(known.log_start - at).unwrap_or(0);
    let cut = at > known.log_end;
    Ok(Plan { at: at.min(known.log_end).max(known.log_start), because, lost, cut })
}

impl Known {
    /// A position that this very store committed and that lies beyond the log's end is of a log that was cut since; it says
    /// nothing about this store's age.
    fn without_void(self) -> Self {
        let is_void = |committed: &GroupPosition| {
            committed.by == CommittedBy::ThisStore && committed.offset > self.log_end && self.stored.is_some()
        };
        Self { committed: self.committed.filter(|committed| !is_void(committed)), ..self }
    }
}

fn choose(known: Known) -> Result<(i64, Because), NoStart> {
    use CommittedBy as By;
    match (known.stored, known.committed) {
        (Some(stored), Some(GroupPosition { offset, by: By::ThisStore })) if offset > stored => {
            Err(NoStart::OlderCopy { stored, committed: offset })
        }
        (Some(stored), Some(GroupPosition { offset, by: By::Somebody })) if offset < stored && !known.taken_over => {
            Ok((offset, Because::Rewound))
        }
        (Some(stored), Some(GroupPosition { offset, .. })) if offset > stored => Ok((offset, Because::Committed)),
        (Some(stored), _) if known.taken_over => Ok((stored, Because::TakenOver)),
        (Some(stored), _) => Ok((stored, Because::Stored)),
        (None, Some(GroupPosition { offset, .. })) => Ok((offset, Because::Committed)),
        (None, None) if known.recreated => Ok((known.log_start, Because::Reset)),
        (None, None) => match known.reset {
            OffsetReset::Earliest => Ok((known.log_start, Because::Reset)),
            OffsetReset::Latest => Ok((known.log_end, Because::Reset)),
            OffsetReset::Error => Err(NoStart::Forbidden),
        },
    }
}
