//! How many entries stand where: of all, and of each topic they were read from.

use std::{collections::HashMap, sync::Arc};

use super::entry::Entry;
use crate::{
    admission::Depths,
    lifecycle::{Publication, State},
};

/// The counts. A topic is named by its place; 0 stands for none.
#[derive(Debug)]
pub(super) struct Standings {
    all: Depths,
    topics: Vec<Depths>,
    names: HashMap<Arc<str>, u16>,
}

impl Default for Standings {
    fn default() -> Self {
        Self { all: Depths::default(), topics: vec![Depths::default()], names: HashMap::new() }
    }
}

impl Standings {
    pub(super) fn all(&self) -> Depths {
        self.all
    }

    pub(super) fn of(&self, topic: &str) -> Depths {
        let place = self.names.get(topic).copied().unwrap_or(0);
        self.topics.get(usize::from(place)).copied().unwrap_or_default()
    }

    /// The place of a topic; made when it is new. Topics come from the settings, so there are few.
    pub(super) fn place(&mut self, topic: &Arc<str>) -> u16 {
        if let Some(place) = self.names.get(topic) {
            return *place;
        }
        let Ok(place) = u16::try_from(self.topics.len()) else { return 0 };
        self.topics.push(Depths::default());
        self.names.insert(topic.clone(), place);
        place
    }

    pub(super) fn enter(&mut self, entry: &Entry) {
        *standing(&mut self.all, entry) += 1;
        if let Some(depths) = self.topics.get_mut(usize::from(entry.topic)) {
            *standing(depths, entry) += 1;
        }
    }

    pub(super) fn leave(&mut self, entry: &Entry) {
        let less = |depth: &mut usize| *depth = depth.saturating_sub(1);
        less(standing(&mut self.all, entry));
        if let Some(depths) = self.topics.get_mut(usize::from(entry.topic)) {
            less(standing(depths, entry));
        }
    }
}

/// Where an entry is counted.
fn standing<'a>(depths: &'a mut Depths, entry: &Entry) -> &'a mut usize {
    match &entry.state {
        State::Pending { .. } if entry.flags.delayed => &mut depths.delayed,
        State::Pending { .. } => &mut depths.pending,
        State::Processing(_) => &mut depths.processing,
        State::Retry { publication, .. } | State::Forward { publication } | State::Failed { publication, .. }
            if matches!(publication, Publication::Parked(_)) =>
        {
            &mut depths.parked
        }
        State::Retry { .. } => &mut depths.retry,
        State::Forward { .. } => &mut depths.forward,
        State::Failed { .. } => &mut depths.failed,
        State::Done(_) => &mut depths.done,
    }
}
