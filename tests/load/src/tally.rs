//! Whether every activation came exactly once.

use anyhow::{Result, ensure};

use crate::activation::Task;

/// Which numbers have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    seen: Vec<u64>,
    /// How many different ones came.
    pub(crate) distinct: u64,
    /// How many came that had come before.
    pub(crate) repeated: u64,
    /// How many came that are none of ours.
    pub(crate) strangers: u64,
}

impl Tally {
    /// Takes note of one that came.
    pub(crate) fn note(&mut self, task: &Task) {
        match task.number() {
            Some(number) => self.number(number),
            None => self.strangers += 1,
        }
    }

    fn number(&mut self, number: u64) {
        let Ok(word) = usize::try_from(number / 64) else { return self.strangers += 1 };
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.distinct += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// How many came in all.
    pub(crate) fn taken(&self) -> u64 {
        self.distinct + self.repeated + self.strangers
    }

    /// That nothing came twice and nothing that was not produced.
    pub(crate) fn none_twice(&self) -> Result<()> {
        ensure!(self.repeated == 0, "{} tasks came more than once", self.repeated);
        ensure!(self.strangers == 0, "{} tasks came that were not produced", self.strangers);
        Ok(())
    }

    /// That the numbers below this came, each exactly once.
    pub(crate) fn exactly(&self, count: u64) -> Result<()> {
        self.none_twice()?;
        ensure!(self.distinct == count, "{} of {count} tasks came", self.distinct);
        let last = self.seen.iter().rposition(|word| *word != 0).map_or(0, |word| word as u64);
        ensure!(last * 64 < count.max(1), "a task came whose number is not below {count}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::id;

    fn tally(numbers: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for number in numbers {
            note(&mut tally, &id(3, *number));
        }
        tally
    }

    fn note(tally: &mut Tally, id: &str) {
        tally.note(&Task { id: id.to_owned(), received_at: None });
    }

    #[test]
    fn each_exactly_once_is_right() {
        tally(&[2, 0, 1]).exactly(3).unwrap();
    }

    #[test]
    fn a_missing_a_repeated_and_a_strange_one_are_each_noticed() {
        assert!(tally(&[0, 2]).exactly(3).is_err());
        assert!(tally(&[0, 0]).exactly(1).is_err());
        let mut strange = tally(&[0]);
        note(&mut strange, "another");
        assert!(strange.exactly(1).is_err());
        assert!(tally(&[0, 640]).exactly(2).is_err());
    }
}
