//! Early reports and tombstones.

use taskbroker_domain::{
    activation::{ActivationId, Slot},
    ports::{
        service::Verdict,
        store::{Commit, EarlyReport, Tombstone},
    },
};

use super::{Model, StoreUnderTest, accept, contents, every_wish, fresh, odd_texts};

fn odd_ids() -> Vec<ActivationId> {
    odd_texts().into_iter().map(ActivationId::new).collect()
}

fn every_verdict() -> Vec<(Verdict, bool)> {
    let wishes = every_wish().into_iter().map(|wish| (Verdict::Retry(wish), false));
    let others = [(Verdict::Complete, false), (Verdict::Failure, false), (Verdict::Complete, true)];
    others.into_iter().chain(wishes).collect()
}

/// Whatever they look like; once each, and the later one replaces the earlier.
pub async fn early_reports_are_remembered_and_forgotten(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let mut model = Model::default();
    let ids = odd_ids();
    let reports = |verdict: usize| -> Vec<EarlyReport> {
        let verdicts = every_verdict().into_iter().cycle().skip(verdict);
        ids.iter().cloned().zip(verdicts).map(|(id, (verdict, of_copy))| EarlyReport { id, verdict, of_copy }).collect()
    };
    let commits = [
        Commit { number: 1, remember: reports(0), ..Commit::default() },
        Commit { number: 2, remember: reports(1)[..3].to_vec(), ..Commit::default() },
        Commit { number: 3, forget: ids.iter().step_by(2).cloned().collect(), ..Commit::default() },
        Commit { number: 4, forget: ids.clone(), ..Commit::default() },
    ];
    for commit in &commits {
        accept(&*store, commit).await;
        model.apply(commit);
        assert_eq!(contents(&*store).await, model.contents());
    }
    assert!(contents(&*store).await.state.early_reports.is_empty());
}

/// Oldest first, also when some in between are gone and when one is buried anew.
pub async fn tombstones_keep_their_order(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let mut model = Model::default();
    let ids = odd_ids();
    let tombstone = |(slot, id): (u32, &ActivationId)| Tombstone { id: id.clone(), slot: Slot(slot) };
    let (first, later) = ids.split_at(ids.len() / 2);
    let commits = [
        Commit { number: 1, bury: (0..).zip(first).map(tombstone).collect(), ..Commit::default() },
        Commit { number: 2, bury: (u32::MAX - 99..).zip(later).map(tombstone).collect(), ..Commit::default() },
        Commit { number: 3, unbury: ids.iter().step_by(3).cloned().collect(), ..Commit::default() },
        Commit { number: 4, bury: (7..).zip(&ids[..1]).map(tombstone).collect(), ..Commit::default() },
        Commit { number: 5, unbury: vec![ids[ids.len() - 1].clone()], ..Commit::default() },
        Commit { number: 6, bury: (8..).zip(&ids[3..4]).map(tombstone).collect(), ..Commit::default() },
    ];
    for commit in &commits {
        accept(&*store, commit).await;
        model.apply(commit);
        assert_eq!(contents(&*store).await, model.contents());
    }
    let last = Commit { number: 7, unbury: ids, ..Commit::default() };
    accept(&*store, &last).await;
    assert!(contents(&*store).await.state.tombstones.is_empty());
}
