//! What of a partition may be acknowledged, against a naive model; and where to start, for every combination.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use taskbroker_domain::positions::{
    Because, CommittedBy, GroupPosition, Known, NoStart, OffsetReset, Plan, Reading, Tracker, plan,
};

fn reading(watermark: i64) -> Tracker {
    let mut tracker = Tracker::new(watermark);
    tracker.begin(watermark);
    tracker
}

#[test]
fn the_watermark_moves_over_rows_and_settled_offsets_only() {
    let mut tracker = reading(0);
    for offset in 0..4 {
        assert_eq!(tracker.read(offset, None), Reading::New);
    }
    tracker.settle(1);
    tracker.write(2);
    assert!(!tracker.advance());
    assert_eq!((tracker.watermark(), tracker.settled()), (0, vec![0b10]));
    tracker.write(0);
    assert!(tracker.advance());
    assert_eq!((tracker.watermark(), tracker.settled()), (3, vec![]));
}

#[test]
fn a_row_that_leaves_above_the_watermark_is_settled() {
    let mut tracker = reading(0);
    tracker.read(0, None);
    tracker.read(1, None);
    tracker.write(1);
    assert_eq!(tracker.settled(), vec![]);
    tracker.settle(1);
    assert_eq!(tracker.settled(), vec![0b10]);
    tracker.write(1);
    assert_eq!(tracker.settled(), vec![0b10], "what is settled stays settled");
}

#[test]
fn what_was_read_settled_or_written_before_is_known() {
    let mut tracker = Tracker::restore(10, None, &[0b101]);
    tracker.write(13);
    tracker.begin(8);
    let known: Vec<_> = (8..15).map(|offset| tracker.read(offset, None)).collect();
    use Reading::{Known as K, New as N};
    assert_eq!(known, [K, K, K, N, K, K, N]);
    assert_eq!(tracker.read(11, None), K, "read twice");
}

#[test]
fn nothing_is_read_before_reading_begins() {
    assert_eq!(Tracker::new(0).read(0, None), Reading::Known);
    let mut ended = reading(0);
    ended.end();
    assert_eq!((ended.read(0, None), ended.skip_to(5)), (Reading::Known, false));
}

#[test]
fn holes_count_as_settled_while_reading_goes_on_and_are_not_journalled() {
    let mut tracker = reading(0);
    tracker.read(0, None);
    tracker.read(5, None);
    tracker.settle(5);
    assert_eq!(tracker.settled(), vec![0b10_0000]);
    tracker.end();
    tracker.settle(0);
    tracker.advance();
    assert_eq!(tracker.watermark(), 1, "the next reading skips them again");
    tracker.begin(1);
    tracker.read(5, None);
    tracker.advance();
    assert_eq!(tracker.watermark(), 6);
}

#[test]
fn what_lies_beyond_the_end_of_a_cut_log_is_void() {
    let mut tracker = Tracker::restore(10, Some(3), &[0b1000_0110]);
    assert!(tracker.knows_from(17) && !tracker.knows_from(18));
    tracker.void_from(12);
    assert_eq!((tracker.watermark(), tracker.settled()), (10, vec![0b10]));
    assert!(!tracker.knows_from(12));
    tracker.void_from(4);
    assert_eq!((tracker.watermark(), tracker.settled()), (4, vec![]));
}

#[test]
fn the_leader_epoch_is_that_of_the_record_below_the_watermark_or_unknown() {
    let mut tracker = reading(0);
    for (offset, epoch) in [(0, 1), (1, 1), (2, 4)] {
        tracker.read(offset, Some(epoch));
        tracker.settle(offset);
    }
    assert_eq!(tracker.leader_epoch(), None);
    tracker.advance();
    assert_eq!(tracker.leader_epoch(), Some(4));
    tracker.skip_to(10);
    tracker.advance();
    assert_eq!((tracker.watermark(), tracker.leader_epoch()), (10, None), "what was skipped may be of a later epoch");
    tracker.read(10, Some(4));
    tracker.settle(10);
    tracker.advance();
    assert_eq!(tracker.leader_epoch(), Some(4));
    tracker.end();
    tracker.forward_to(20);
    assert_eq!(tracker.leader_epoch(), None, "somebody else read up to there");
    assert_eq!(Tracker::restore(5, Some(2), &[]).leader_epoch(), Some(2));
}

#[test]
fn the_span_is_what_a_settled_set_would_cover() {
    let mut tracker = reading(100);
    assert_eq!(tracker.span(), 0);
    tracker.read(100, None);
    tracker.read(1_000, None);
    tracker.settle(1_000);
    assert_eq!(tracker.span(), 901);
    tracker.settle(100);
    tracker.advance();
    assert_eq!((tracker.watermark(), tracker.span()), (1_001, 0));
}

#[derive(Clone, Debug)]
enum Op {
    /// Reads the record after a gap of so many.
    Read(i64),
    /// Settles or writes one of those read.
    Settle(usize),
    Write(usize),
    Advance,
    /// Everything that is not journalled is forgotten, and reading begins anew.
    Restart,
    Void(i64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![4 => Just(0), 1 => 1..20_i64].prop_map(Op::Read),
        4 => (0..64_usize).prop_map(Op::Settle),
        3 => (0..64_usize).prop_map(Op::Write),
        2 => Just(Op::Advance),
        1 => Just(Op::Restart),
        1 => (0..10_i64).prop_map(Op::Void),
    ]
}

/// The naive model: what every offset is, and nothing else.
#[derive(Debug, Default)]
struct Model {
    log: BTreeMap<i64, Mark>,
    watermark: i64,
    next: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    Hole,
    Read,
    Row,
    Settled,
}

impl Model {
    fn is_done(&self, offset: i64) -> bool {
        offset < self.watermark || self.log.get(&offset).is_some_and(|mark| *mark != Mark::Read)
    }

    fn advance(&mut self) {
        while self.log.contains_key(&self.watermark) && self.is_done(self.watermark) {
            self.watermark += 1;
        }
    }

    fn settled(&self) -> Vec<i64> {
        let settled = self.log.range(self.watermark..).filter(|(_, mark)| **mark == Mark::Settled);
        settled.map(|(offset, _)| *offset).collect()
    }

    fn nth_read(&self, nth: usize) -> Option<i64> {
        let read: Vec<i64> =
            self.log.iter().filter(|(_, mark)| **mark != Mark::Hole).map(|(offset, _)| *offset).collect();
        read.get(nth % read.len().max(1)).copied()
    }
}

fn bits(first: i64, bytes: &[u8]) -> Vec<i64> {
    let all =
        bytes.iter().enumerate().flat_map(|(index, byte)| (0..8).map(move |bit| (index * 8 + bit, byte >> bit & 1)));
    all.filter(|(_, bit)| *bit == 1).map(|(index, _)| first + i64::try_from(index).unwrap()).collect()
}

fn apply(op: &Op, tracker: &mut Tracker, model: &mut Model) {
    match op {
        Op::Read(gap) => {
            let offset = model.next + gap;
            for hole in model.next..offset {
                model.log.entry(hole).or_insert(Mark::Hole);
            }
            let known = model.is_done(offset);
            let reading = tracker.read(offset, None);
            assert_eq!(reading == Reading::Known, known, "{offset}");
            if !known {
                model.log.insert(offset, Mark::Read);
            }
            model.next = offset + 1;
        }
        Op::Settle(nth) => {
            let Some(offset) = model.nth_read(*nth) else { return };
            tracker.settle(offset);
            model.log.insert(offset, Mark::Settled);
        }
        Op::Write(nth) => {
            let Some(offset) = model.nth_read(*nth) else { return };
            tracker.write(offset);
            let mark = model.log.entry(offset).or_insert(Mark::Row);
            if *mark == Mark::Read {
                *mark = Mark::Row;
            }
        }
        Op::Advance => {
            tracker.advance();
            model.advance();
        }
        Op::Restart => restart(tracker, model),
        Op::Void(below) => {
            let end = (model.next - below).max(0);
            tracker.void_from(end);
            model.log.split_off(&end);
            model.watermark = model.watermark.min(end);
            model.next = model.next.min(end);
        }
    }
}

fn restart(tracker: &mut Tracker, model: &mut Model) {
    tracker.advance();
    model.advance();
    let rows: Vec<i64> =
        model.log.range(model.watermark..).filter(|(_, mark)| **mark == Mark::Row).map(|(offset, _)| *offset).collect();
    *tracker = Tracker::restore(tracker.watermark(), None, &tracker.settled());
    for row in rows {
        tracker.write(row);
    }
    tracker.begin(tracker.watermark());
    model.log.retain(|offset, mark| *offset < model.watermark || matches!(mark, Mark::Row | Mark::Settled));
    model.next = model.watermark;
}

proptest! {
    #[test]
    fn the_tracker_agrees_with_the_naive_model(ops in prop::collection::vec(op(), 0..120)) {
        let (mut tracker, mut model) = (reading(0), Model::default());
        for op in &ops {
            apply(op, &mut tracker, &mut model);
            prop_assert_eq!(tracker.watermark(), model.watermark, "after {:?}", op);
            prop_assert_eq!(bits(tracker.watermark(), &tracker.settled()), model.settled(), "after {:?}", op);
        }
        tracker.advance();
        model.advance();
        prop_assert_eq!(tracker.watermark(), model.watermark);
    }

    #[test]
    fn a_settled_set_survives_the_journal(watermark in 0..1_000_000_i64, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let tracker = Tracker::restore(watermark, None, &bytes);
        let again = Tracker::restore(watermark, None, &tracker.settled());
        prop_assert_eq!(bits(watermark, &tracker.settled()), bits(watermark, &bytes));
        prop_assert_eq!(again.settled(), tracker.settled());
    }

    #[test]
    fn a_plan_never_jumps_over_records_that_exist_and_were_not_done(
        stored in prop::option::of(0..100_i64),
        committed in prop::option::of((0..100_i64, any_committer())),
        log_start in 0..100_i64,
        length in 0..100_i64,
    ) {
        let committed = committed.map(|(offset, by)| GroupPosition { offset, by });
        let log_end = log_start + length;
        let known = Known { stored, committed, log_start, log_end, recreated: false, taken_over: false, reset: OffsetReset::Earliest };
        let Ok(plan) = plan(known) else { return Ok(()) };
        prop_assert!((log_start..=log_end).contains(&plan.at));
        let done = stored.max(committed.map(|committed| committed.offset)).unwrap_or(log_start);
        prop_assert!(plan.at <= done.max(log_start));
        prop_assert_eq!(plan.lost > 0, plan.because != Because::Reset && plan.at == log_start && started(known) < log_start);
    }
}

/// Where the plan would start if the log had everything.
fn started(known: Known) -> i64 {
    plan(Known { log_start: 0, ..known }).map_or(0, |plan| plan.at)
}

fn any_committer() -> impl Strategy<Value = CommittedBy> {
    prop::sample::select(vec![CommittedBy::ThisStore, CommittedBy::AnotherStore, CommittedBy::Somebody])
}

fn known(stored: Option<i64>, committed: Option<(i64, CommittedBy)>) -> Known {
    let committed = committed.map(|(offset, by)| GroupPosition { offset, by });
    Known {
        stored,
        committed,
        log_start: 10,
        log_end: 90,
        recreated: false,
        taken_over: false,
        reset: OffsetReset::Latest,
    }
}

#[test]
fn every_combination_of_positions_has_its_start() {
    use Because::{Committed, Reset, Rewound, Stored};
    use CommittedBy::{AnotherStore, Somebody, ThisStore};
    let table = [
        (None, None, 90, Reset),
        (Some(50), None, 50, Stored),
        (None, Some((50, ThisStore)), 50, Committed),
        (None, Some((50, AnotherStore)), 50, Committed),
        (None, Some((50, Somebody)), 50, Committed),
        (Some(50), Some((50, ThisStore)), 50, Stored),
        (Some(50), Some((50, AnotherStore)), 50, Stored),
        (Some(50), Some((50, Somebody)), 50, Stored),
        (Some(50), Some((40, ThisStore)), 50, Stored),
        (Some(50), Some((40, AnotherStore)), 50, Stored),
        (Some(50), Some((40, Somebody)), 40, Rewound),
        (Some(50), Some((60, AnotherStore)), 60, Committed),
        (Some(50), Some((60, Somebody)), 60, Committed),
    ];
    for (stored, committed, at, because) in table {
        let expected = Plan { at, because, lost: 0, cut: false };
        assert_eq!(plan(known(stored, committed)), Ok(expected), "{stored:?} {committed:?}");
    }
    let older = NoStart::OlderCopy { stored: 50, committed: 60 };
    assert_eq!(plan(known(Some(50), Some((60, ThisStore)))), Err(older));
}

#[test]
fn without_a_position_the_operator_chooses_unless_the_topic_is_new() {
    let with = |reset, recreated| plan(Known { reset, recreated, ..known(None, None) });
    assert_eq!(with(OffsetReset::Earliest, false).unwrap().at, 10);
    assert_eq!(with(OffsetReset::Latest, false).unwrap().at, 90);
    assert_eq!(with(OffsetReset::Error, false), Err(NoStart::Forbidden));
    for reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::Error] {
        assert_eq!(with(reset, true).unwrap().at, 10, "no record of it was seen");
    }
}

#[test]
fn what_retention_took_is_counted_and_what_the_log_lost_is_said() {
    let behind = plan(known(Some(3), None)).unwrap();
    assert_eq!((behind.at, behind.lost, behind.cut), (10, 7, false));
    let beyond = plan(known(Some(95), None)).unwrap();
    assert_eq!((beyond.at, beyond.lost, beyond.cut), (90, 0, true));
    let ours = plan(known(Some(50), Some((95, CommittedBy::ThisStore)))).unwrap();
    assert_eq!((ours.at, ours.because), (50, Because::Stored), "a position of ours that a cut log left behind is void");
}
