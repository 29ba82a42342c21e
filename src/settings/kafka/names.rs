//! The names that topics can have.

use super::{Common, Declared};
use crate::settings::{key::Key, reader::Reader};

/// Checks the name of every topic there is.
pub(super) fn check(reader: &mut Reader<'_>, declared: &Declared, common: &Common) {
    let topics = Key::new("kafka_topics");
    let declared = declared.topics.keys().map(|name| (topics.child(name), name));
    for (key, name) in declared.chain([(Key::new("kafka_long_topic"), &common.forward_topic)]) {
        let empty = name.is_empty() && reader.findings.problems.is_empty();
        if empty || !is_lawful(name) {
            let origin = reader.origin(&key);
            let reason =
                format!("no topic can be called {name:?}: 1 to 249 letters, digits, dots, underscores and hyphens");
            reader.findings.refuse(&key, None, &origin, reason);
        }
    }
}

/// Kafka's rule.
fn is_lawful(name: &str) -> bool {
    const LENGTH_MOST: usize = 249;
    let lawful = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= LENGTH_MOST && name != "." && name != ".." && name.chars().all(lawful)
}
