//! The ready queues, one for each namespace of each application, oldest first, and the counts kept for each.

use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

use super::{conservation::Counts, demand::Demand, entry::Handle, unfinished::Unfinished};
use crate::{ports::service::Wanted, time::Steady};

/// A namespace of an application.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) application: Box<str>,
    pub(super) namespace: Box<str>,
    pub(super) counts: Counts,
    pub(super) demand: Demand,
    pub(super) unfinished: Unfinished,
    queue: Queue,
    /// The front of its queue under which it is listed.
    listed: Option<Handle>,
}

impl Group {
    /// How many wait, give or take those that left without being taken out.
    pub(super) fn waiting_count(&self) -> usize {
        (self.queue.back.len() + self.queue.fresh.len()).saturating_sub(self.queue.left)
    }

    /// What waits, next in line first. Entries that left meanwhile may be among them.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Handle> {
        self.queue.iter()
    }
}

/// First in, first out; what comes back goes before all others, by age.
#[derive(Debug, Default)]
struct Queue {
    fresh: VecDeque<Handle>,
    back: BTreeSet<Handle>,
    /// How many entries left without being taken out, at most.
    left: usize,
}

/// As many entries that left may stay in a queue in any case.
const LEFT_MAX: usize = 64;

impl Queue {
    fn front(&self) -> Option<Handle> {
        self.back.first().or(self.fresh.front()).copied()
    }

    fn pop(&mut self) -> Option<Handle> {
        self.back.pop_first().or_else(|| self.fresh.pop_front())
    }

    /// An entry left without being taken out. Returns whether it is time to take those out.
    fn one_left(&mut self) -> bool {
        self.left += 1;
        self.left > LEFT_MAX.max((self.back.len() + self.fresh.len()) / 2)
    }

    fn retain(&mut self, waits: impl Fn(Handle) -> bool) {
        self.left = 0;
        self.fresh.retain(|handle| waits(*handle));
        self.back.retain(|handle| waits(*handle));
    }

    fn iter(&self) -> impl Iterator<Item = Handle> {
        self.back.iter().chain(&self.fresh).copied()
    }
}

/// How many groups are kept although nothing of theirs is in flight. Beyond it their counts are added up under no name.
const IDLE_GROUPS_MAX: usize = 1024;

/// All groups. Names come from outside, so idle ones are not kept without bound.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Slab<Group>,
    applications: HashMap<Box<str>, Application>,
    /// Groups with something in their queue, by its front.
    listed: BTreeSet<(Handle, u32)>,
    pub(super) others: Counts,
    /// When a worker last asked for whatever there is.
    asked: Option<Steady>,
    /// How often an application that had nothing to hand out got something.
    pub(super) awakenings: u64,
}

#[derive(Debug, Default)]
struct Application {
    /// When a worker last asked for it.
    asked: Option<Steady>,
    namespaces: HashMap<Box<str>, u32>,
    /// Those with something in their queue, by its front.
    listed: BTreeSet<(Handle, u32)>,
}

impl Groups {
    /// The group of these names; made when it is new.
    pub(super) fn of(&mut self, application: &str, namespace: &str) -> u32 {
        if let Some(index) = self.find(application, namespace) {
            return index;
        }
        self.forget_idle();
        let index = self.groups.insert(Group {
            application: application.into(),
            namespace: namespace.into(),
            counts: Counts::default(),
            demand: Demand::default(),
            unfinished: Unfinished::default(),
            queue: Queue::default(),
            listed: None,
        });
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let application = self.applications.entry(application.into()).or_default();
        application.namespaces.insert(namespace.into(), index);
        index
    }

    fn find(&self, application: &str, namespace: &str) -> Option<u32> {
        self.applications.get(application)?.namespaces.get(namespace).copied()
    }

    pub(super) fn counts(&mut self, group: u32) -> &mut Counts {
        match self.groups.get_mut(group as usize) {
            Some(group) => &mut group.counts,
            None => &mut self.others,
        }
    }

    /// Something came to a group, or left it.
    pub(super) fn unfinished(&mut self, group: u32, act: impl FnOnce(&mut Unfinished)) {
        if let Some(found) = self.groups.get_mut(group as usize) {
            act(&mut found.unfinished);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(_, group)| group)
    }

    /// Puts an entry at the end of its queue.
    pub(super) fn push(&mut self, group: u32, handle: Handle) {
        if let Some(found) = self.groups.get_mut(group as usize) {
            found.queue.fresh.push_back(handle);
        }
        self.relist(group);
    }

    /// Puts an entry that was handed out before back at the front, by age.
    pub(super) fn push_back(&mut self, group: u32, handle: Handle) {
        if let Some(found) = self.groups.get_mut(group as usize) {
            found.queue.back.insert(handle);
        }
        self.relist(group);
    }

    /// A worker asks.
    pub(super) fn asked(&mut self, wanted: &Wanted, now: Steady) {
        match wanted {
            Wanted::Any => self.asked = Some(now),
            Wanted::Application(application) => {
                if let Some(found) = self.applications.get_mut(application.as_str()) {
                    found.asked = Some(now);
                }
            }
            Wanted::Namespace { application, namespace } => {
                let found = self.find(application, namespace).and_then(|group| self.groups.get_mut(group as usize));
                found.into_iter().for_each(|group| group.demand.asked(now));
            }
        }
    }

    pub(super) fn any_waits(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Each group, and when a worker last asked for its application or for anything.
    pub(super) fn each_with_what_was_asked(&mut self, mut act: impl FnMut(&mut Group, Option<Steady>)) {
        for (_, group) in &mut self.groups {
            let application = self.applications.get(&group.application).and_then(|application| application.asked);
            act(group, application.max(self.asked));
        }
    }

    /// Whether any entry stands in a queue that fits.
    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        let group = self.oldest(wanted).and_then(|group| self.groups.get(group as usize));
        group.is_some_and(|group| group.queue.front().is_some())
    }

    /// Takes the oldest entry that fits. Entries that left meanwhile may still come: the caller looks and asks again.
    pub(super) fn pop(&mut self, wanted: &Wanted) -> Option<Handle> {
        let group = self.oldest(wanted)?;
        let found = self.groups.get_mut(group as usize)?;
        let handle = found.queue.pop();
        self.relist(group);
        handle
    }

    /// An entry that may stand in the queue left without being claimed. Where nobody claims, such entries are taken out when
    /// they are the most: `waits` tells which are not.
    pub(super) fn one_left(&mut self, group: u32, waits: impl Fn(Handle) -> bool) {
        if let Some(found) = self.groups.get_mut(group as usize)
            && found.queue.one_left()
        {
            found.queue.retain(waits);
            self.relist(group);
        }
    }

    /// The entries next in line of the group, up to `count`.
    pub(super) fn upcoming(&self, group: u32, count: usize) -> impl Iterator<Item = Handle> {
        self.groups.get(group as usize).into_iter().flat_map(Group::waiting).take(count)
    }

    fn oldest(&self, wanted: &Wanted) -> Option<u32> {
        let listed = match wanted {
            Wanted::Namespace { application, namespace } => return self.find(application, namespace),
            Wanted::Application(application) => &self.applications.get(application.as_str())?.listed,
            Wanted::Any => &self.listed,
        };
        listed.first().map(|(_, group)| *group)
    }

    /// Lists the group under the front of its queue, as it is by now.
    fn relist(&mut self, group: u32) {
        let Some(found) = self.groups.get_mut(group as usize) else { return };
        let front = found.queue.front();
        let before = std::mem::replace(&mut found.listed, front);
        if before == front {
            return;
        }
        let application = self.applications.get_mut(&found.application).map(|application| &mut application.listed);
        if front.is_some() && application.as_ref().is_some_and(|listed| listed.is_empty()) {
            self.awakenings += 1;
        }
        for listed in [Some(&mut self.listed), application].into_iter().flatten() {
            if let Some(before) = before {
                listed.remove(&(before, group));
            }
            if let Some(front) = front {
                listed.insert((front, group));
            }
        }
    }

    fn unlist(&mut self, group: u32) {
        let Some(found) = self.groups.get_mut(group as usize) else { return };
        found.queue = Queue::default();
        self.relist(group);
    }

    fn forget_idle(&mut self) {
        if self.groups.len() < IDLE_GROUPS_MAX {
            return;
        }
        let idle: Vec<usize> =
            self.groups.iter().filter(|(_, group)| group.counts.in_flight == 0).map(|(index, _)| index).collect();
        for index in idle {
            self.unlist(u32::try_from(index).unwrap_or(u32::MAX));
            let group = self.groups.remove(index);
            self.others.add(&group.counts);
            if let Some(application) = self.applications.get_mut(&group.application) {
                application.namespaces.remove(&group.namespace);
                if application.namespaces.is_empty() {
                    self.applications.remove(&group.application);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::Key;

    fn handle(key: u64) -> Handle {
        Handle { key: Key(key), index: u32::try_from(key).unwrap_or(0) }
    }

    fn app(name: &str) -> Wanted {
        Wanted::Application(name.into())
    }

    #[test]
    fn the_oldest_of_all_namespaces_of_the_application_comes_first() {
        let mut groups = Groups::default();
        let (a, b, other) = (groups.of("app", "a"), groups.of("app", "b"), groups.of("other", "a"));
        groups.push(other, handle(0));
        groups.push(b, handle(1));
        groups.push(a, handle(2));
        groups.push(b, handle(3));
        let popped: Vec<_> = std::iter::from_fn(|| groups.pop(&app("app"))).map(|handle| handle.key().0).collect();
        assert_eq!(popped, [1, 2, 3]);
        assert_eq!(groups.pop(&Wanted::Any), Some(handle(0)));
        assert_eq!(groups.pop(&Wanted::Any), None);
    }

    #[test]
    fn what_comes_back_goes_first_by_age() {
        let mut groups = Groups::default();
        let group = groups.of("app", "ns");
        groups.push(group, handle(3));
        groups.push_back(group, handle(2));
        groups.push_back(group, handle(1));
        let popped: Vec<_> = std::iter::from_fn(|| groups.pop(&app("app"))).map(|handle| handle.key().0).collect();
        assert_eq!(popped, [1, 2, 3]);
    }

    #[test]
    fn a_namespace_is_asked_for_by_itself() {
        let mut groups = Groups::default();
        let (a, b) = (groups.of("app", "a"), groups.of("app", "b"));
        groups.push(a, handle(1));
        groups.push(b, handle(2));
        let wanted = Wanted::Namespace { application: "app".into(), namespace: "b".into() };
        assert_eq!(groups.pop(&wanted), Some(handle(2)));
        assert_eq!(groups.pop(&wanted), None);
    }

    #[test]
    fn an_application_awakes_when_it_has_something_after_nothing() {
        let mut groups = Groups::default();
        let (a, b, other) = (groups.of("app", "a"), groups.of("app", "b"), groups.of("other", "a"));
        groups.push(a, handle(1));
        assert_eq!(groups.awakenings, 1);
        groups.push(a, handle(2));
        groups.push(b, handle(3));
        assert_eq!(groups.awakenings, 1, "it was awake");
        groups.push(other, handle(4));
        assert_eq!(groups.awakenings, 2);
        while groups.pop(&app("app")).is_some() {}
        assert!(!groups.has(&app("app")) && groups.has(&app("other")));
        groups.push_back(b, handle(3));
        assert_eq!(groups.awakenings, 3);
    }

    #[test]
    fn names_from_outside_do_not_pile_up() {
        let mut groups = Groups::default();
        for name in 0..10 * IDLE_GROUPS_MAX {
            let group = groups.of("app", &name.to_string());
            groups.counts(group).admitted += 1;
            groups.counts(group).completed += 1;
        }
        assert!(groups.groups.len() <= IDLE_GROUPS_MAX);
        let total: u64 = groups.iter().map(|group| group.counts.admitted).sum::<u64>() + groups.others.admitted;
        assert_eq!(total, 10 * IDLE_GROUPS_MAX as u64);
    }

    #[test]
    fn entries_that_left_do_not_pile_up_where_nobody_claims() {
        let mut groups = Groups::default();
        let group = groups.of("app", "ns");
        groups.push(group, handle(0));
        for key in 1..10_000 {
            groups.push(group, handle(key));
            groups.one_left(group, |handle| handle.key() == Key(0));
        }
        assert!(groups.upcoming(group, usize::MAX).count() <= LEFT_MAX + 2);
        assert_eq!(groups.pop(&Wanted::Any), Some(handle(0)));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        PushBack(usize, u64),
        Pop(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..4_usize).prop_map(Op::Push),
            1 => (0..4_usize, 0..50_u64).prop_map(|(group, key)| Op::PushBack(group, key)),
            3 => (0..7_usize).prop_map(Op::Pop),
        ]
    }

    const NAMES: [(&str, &str); 4] = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "z")];

    fn wanted(which: usize) -> (Wanted, Vec<usize>) {
        match which {
            0..=3 => {
                let (application, namespace) = NAMES[which];
                (Wanted::Namespace { application: application.into(), namespace: namespace.into() }, vec![which])
            }
            4 => (app("a"), vec![0, 1]),
            5 => (app("b"), vec![2, 3]),
            _ => (Wanted::Any, vec![0, 1, 2, 3]),
        }
    }

    /// The naive model of a queue: what came back by age, then the others as they came.
    #[derive(Clone, Default)]
    struct Naive {
        back: Vec<Handle>,
        fresh: Vec<Handle>,
    }

    impl Naive {
        fn front(&self) -> Option<Handle> {
            self.back.iter().min().or(self.fresh.first()).copied()
        }

        fn remove(&mut self, handle: Handle) {
            let list = if self.back.contains(&handle) { &mut self.back } else { &mut self.fresh };
            list.retain(|other| *other != handle);
        }
    }

    proptest! {
        #[test]
        fn the_queues_agree_with_the_naive_model(ops in prop::collection::vec(op(), 0..200)) {
            let mut groups = Groups::default();
            let indexes: Vec<u32> = NAMES.iter().map(|(application, namespace)| groups.of(application, namespace)).collect();
            let mut naive = vec![Naive::default(); 4];
            let mut next = 100;
            for op in ops {
                match op {
                    Op::Push(group) => {
                        groups.push(indexes[group], handle(next));
                        naive[group].fresh.push(handle(next));
                        next += 1;
                    }
                    Op::PushBack(group, key) if naive.iter().all(|queue| !queue.back.contains(&handle(key))) => {
                        groups.push_back(indexes[group], handle(key));
                        naive[group].back.push(handle(key));
                    }
                    Op::PushBack(..) => {}
                    Op::Pop(which) => {
                        let (wanted, of) = wanted(which);
                        let expected = of.iter().filter_map(|group| Some((naive[*group].front()?, *group))).min();
                        prop_assert_eq!(groups.pop(&wanted), expected.map(|(handle, _)| handle));
                        if let Some((handle, group)) = expected {
                            naive[group].remove(handle);
                        }
                    }
                }
            }
        }
    }
}
