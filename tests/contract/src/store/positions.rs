//! Positions.

use std::sync::Arc;

use taskbroker_domain::{
    activation::{PartitionId, Slot, TopicId},
    ports::store::{Commit, Position},
};

use super::{Model, StoreUnderTest, accept, contents, fresh, position};

/// Applies one commit per list of positions, and expects what the model holds after each.
async fn set_in_turn(subject: &dyn StoreUnderTest, lists: Vec<Vec<Position>>) {
    let store = fresh(subject).await;
    let mut model = Model::default();
    for (number, positions) in (1..).zip(lists) {
        let commit = Commit { number, positions, ..Commit::default() };
        accept(&*store, &commit).await;
        model.apply(&commit);
        assert_eq!(contents(&*store).await, model.contents());
    }
}

/// Nothing of the former position stays, also where the new one has less.
pub async fn a_position_is_set_whole(subject: &dyn StoreUnderTest) {
    let bare = Position { settled: vec![], leader_epoch: None, acknowledged: 0, read_limit: 0, ..position(1, 0) };
    let extreme = Position {
        watermark: i64::MAX,
        leader_epoch: Some(i32::MAX),
        acknowledged: i64::MAX,
        read_limit: i64::MAX,
        ..position(1, 0)
    };
    set_in_turn(subject, vec![vec![position(1, 100)], vec![bare], vec![extreme], vec![position(1, 3)]]).await;
}

/// By topic, topic id, group and partition, whatever these are called.
pub async fn positions_of_several_partitions_are_kept_apart(subject: &dyn StoreUnderTest) {
    let named = |slot: u32, topic: &str, topic_id: u8, group: &str, partition: i32| Position {
        partition: Arc::new(PartitionId {
            topic: topic.into(),
            topic_id: TopicId([topic_id; 16]),
            group: group.into(),
            partition,
        }),
        slot: Slot(slot),
        ..position(0, i64::from(slot))
    };
    let all = vec![
        named(0, "taskworker", 0, "group", 0),
        named(1, "taskworker", 0xff, "group", 0),
        named(2, "taskworker", 0xff, "gruppe ß \"2\"", 0),
        named(3, "taskworker.retry_1-a", 0x80, "", i32::MAX),
        named(u32::MAX, "t", 1, "g", 7),
    ];
    set_in_turn(subject, vec![all.clone(), all[1..3].to_vec(), all]).await;
}

/// Others stay.
pub async fn dropped_positions_are_gone(subject: &dyn StoreUnderTest) {
    let store = fresh(subject).await;
    let set = Commit { number: 1, positions: (1..=4).map(|slot| position(slot, 9)).collect(), ..Commit::default() };
    let drop = Commit { number: 2, drop_positions: vec![Slot(1), Slot(3)], ..Commit::default() };
    accept(&*store, &set).await;
    accept(&*store, &drop).await;
    let held = contents(&*store).await;
    assert_eq!(held, Model::after([&set, &drop]).contents());
    assert_eq!(held.state.positions.len(), 2);
}

/// A second at 100,000 messages a second, and more.
pub async fn a_large_settled_set_comes_back(subject: &dyn StoreUnderTest) {
    let settled: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
    set_in_turn(subject, vec![vec![Position { settled, ..position(1, 5) }], vec![position(1, 6)]]).await;
}
