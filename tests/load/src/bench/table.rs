//! The table, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    bars::{LINES, Line},
    samples::Samples,
};

/// A line with its figures. What was not measured has no line.
#[derive(Debug)]
pub(crate) struct Figure {
    line: Line,
    median: f64,
    least: f64,
    most: f64,
    bar: Option<f64>,
    floor: Option<f64>,
    met: Option<bool>,
}

/// The lines of what was measured.
pub(crate) fn of(samples: &Samples) -> Vec<Figure> {
    LINES.iter().filter_map(|line| figure(*line, samples)).collect()
}

fn figure(line: Line, samples: &Samples) -> Option<Figure> {
    let median = samples.median(line.quantity)?;
    let values = samples.of(line.quantity);
    Some(Figure {
        line,
        median,
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        bar: line.bar.value(samples),
        floor: line.floor.and_then(|floor| samples.median(floor)),
        met: line.bar.is_met(median, samples),
    })
}

/// As a table in Markdown.
pub(crate) fn text(figures: &[Figure]) -> String {
    let mut text =
        String::from("| measure | unit | median | least - most | bar | floor | met |\n|---|---|---|---|---|---|---|\n");
    for Figure { line, median, least, most, bar, floor, met } in figures {
        let bar = bar.map_or_else(String::new, |bar| format!("{} {}", line.bar.sign(), number(bar)));
        let floor = floor.map_or_else(String::new, number);
        let met = met.map_or("", |met| if met { "yes" } else { "NO" });
        let (median, least, most) = (number(*median), number(*least), number(*most));
        let (what, unit) = (line.what, line.unit);
        writeln!(text, "| {what} | {unit} | {median} | {least} - {most} | {bar} | {floor} | {met} |")
            .expect("a text grows");
    }
    text
}

/// Three digits, and commas between thousands.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// For programs: the table, and each value of each run.
pub(crate) fn json(figures: &[Figure], samples: &Samples, runs: u32) -> Value {
    let line = |figure: &Figure| {
        json!({
            "measure": figure.line.what, "quantity": figure.line.quantity, "unit": figure.line.unit,
            "median": figure.median, "bar": figure.bar, "floor": figure.floor, "met": figure.met,
        })
    };
    json!({ "runs": runs, "table": figures.iter().map(line).collect::<Vec<_>>(), "samples": samples.all() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_was_measured_with_its_bar_and_whether_it_is_met() {
        let mut samples = Samples::default();
        samples.add("pull-64.rate", 14_999.0);
        samples.add("pull-64.cpu", 44.9);
        samples.add("empty-64.cpu", 12.0);
        let text = text(&of(&samples));
        assert!(text.contains("| 14,999 | 14,999 - 14,999 | >= 15,000 |  | NO |"), "{text}");
        assert!(text.contains("| 44.9 | 44.9 - 44.9 | <= 45.0 | 12.0 | yes |"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }
}
