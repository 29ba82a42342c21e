//! What was measured, run by run.

use std::collections::BTreeMap;

/// The values of each quantity, by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    /// Adds the value of one run, and says it.
    pub(crate) fn add(&mut self, quantity: &'static str, value: f64) {
        println!("  {quantity}: {value:.2}");
        self.0.entry(quantity).or_default().push(value);
    }

    /// The middle one; of an even number the lower of the two in the middle.
    pub(crate) fn median(&self, quantity: &str) -> Option<f64> {
        let mut values = self.0.get(quantity)?.clone();
        values.sort_by(f64::total_cmp);
        values.get((values.len() - 1) / 2).copied()
    }

    /// All of one quantity, in the order of the runs.
    pub(crate) fn of(&self, quantity: &str) -> &[f64] {
        self.0.get(quantity).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> &BTreeMap<&'static str, Vec<f64>> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle_whatever_the_order() {
        let mut samples = Samples::default();
        [9.0, 1.0, 5.0].into_iter().for_each(|value| samples.add("a", value));
        assert_eq!(samples.median("a"), Some(5.0));
        samples.add("a", 7.0);
        assert_eq!(samples.median("a"), Some(5.0));
        assert_eq!(samples.median("b"), None);
    }
}
