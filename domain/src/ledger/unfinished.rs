//! What is here of a namespace, oldest first: for its age, in whatever state it is.

use std::collections::VecDeque;

use super::entry::Handle;

/// As many entries that left may stay in the list in any case.
const GONE_MAX: usize = 64;

/// Entries in the order in which they came. One that left is taken out when it stands at the front, or when those that left are the most:
/// both ends of an entry's stay cost the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    all: VecDeque<Handle>,
    /// How many of them left.
    gone: usize,
}

impl Unfinished {
    /// One came.
    pub(super) fn came(&mut self, handle: Handle) {
        self.all.push_back(handle);
    }

    /// One left. `is_here` tells which did not.
    pub(super) fn left(&mut self, is_here: impl Fn(Handle) -> bool) {
        self.gone += 1;
        while self.all.front().is_some_and(|front| !is_here(*front)) {
            self.all.pop_front();
            self.gone = self.gone.saturating_sub(1);
        }
        if self.gone > GONE_MAX.max(self.all.len() / 2) {
            self.all.retain(|handle| is_here(*handle));
            self.gone = 0;
        }
    }

    /// The one that has been here for longest.
    pub(super) fn oldest(&self) -> Option<Handle> {
        self.all.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::activation::Key;

    fn handle(key: u64) -> Handle {
        Handle { key: Key(key), index: 0 }
    }

    proptest! {
        #[test]
        fn the_oldest_is_always_one_that_is_here_and_little_else_is_kept(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..600),
        ) {
            let (mut list, mut here, mut next) = (Unfinished::default(), BTreeSet::new(), 0);
            for (comes, which) in steps {
                if comes || here.is_empty() {
                    here.insert(handle(next));
                    list.came(handle(next));
                    next += 1;
                } else {
                    let leaving = *which.get(&here.iter().copied().collect::<Vec<_>>());
                    here.remove(&leaving);
                    list.left(|handle| here.contains(&handle));
                }
                prop_assert_eq!(list.oldest(), here.first().copied());
                prop_assert!(list.all.len() <= 2 * here.len() + 2 * GONE_MAX);
            }
        }
    }
}
