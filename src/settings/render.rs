//! The effective configuration as text.

use std::{collections::BTreeMap, fmt::Write};

use super::{Loaded, key::Key, reader::Effective, value::quoted_if_needed};

/// The settings that are in force, as YAML, each with a comment that says where it comes from. Secrets are redacted. Given as a
/// configuration file it leads to the same settings, but for the secrets.
pub fn render_effective(loaded: &Loaded) -> String {
    let mut text = String::from("# The settings in force, and where each comes from.\n");
    let mut section: &[String] = &[];
    for (key, effective) in in_order(&loaded.effective) {
        let Some((name, within)) = key.segments().split_last() else { continue };
        open(&mut text, section, within);
        section = within;
        line(&mut text, within.len(), name, effective);
    }
    text
}

/// Single settings before sections, so that each section is opened once.
fn in_order(effective: &BTreeMap<Key, Effective>) -> Vec<(&Key, &Effective)> {
    let mut entries: Vec<_> = effective.iter().collect();
    entries.sort_by_cached_key(|(key, _)| sort_key(key));
    entries
}

/// At each level, the last name of a key sorts before names that open a section.
fn sort_key(key: &Key) -> Vec<(bool, String)> {
    let last = key.segments().len().saturating_sub(1);
    key.segments().iter().enumerate().map(|(depth, name)| (depth != last, name.clone())).collect()
}

/// Writes the headings that lead from one section to another.
fn open(text: &mut String, from: &[String], to: &[String]) {
    let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    for (depth, name) in to.iter().enumerate().skip(shared) {
        text.push_str(&format!("{}{}:\n", "  ".repeat(depth), quoted_if_needed(name)));
    }
}

fn line(text: &mut String, depth: usize, name: &str, effective: &Effective) {
    let indent = "  ".repeat(depth);
    let Effective { value, origin } = effective;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}{}: {value}  # {}", quoted_if_needed(name), origin.to_string().escape_debug());
}
