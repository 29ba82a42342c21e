//! The name of a setting.

use std::fmt;

/// Where a setting stands in the tree of settings: `store.sqlite.path`. Topics and clusters have names of their own, which
/// may hold dots; those are quoted when shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<String>);

impl Key {
    /// The key with this dotted name.
    pub fn new(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    /// The key `name` within this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    /// The names from the outermost to the innermost.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Whether its value must never be shown. Judged by name, so that unknown keys are covered.
    pub fn is_secret(&self) -> bool {
        const TELLING: [&str; 5] = ["password", "secret", "token", "credential", "dsn"];
        self.0.iter().any(|segment| TELLING.iter().any(|word| segment.to_lowercase().contains(word)))
    }
}

impl From<Vec<String>> for Key {
    fn from(segments: Vec<String>) -> Self {
        Self(segments)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            let plain = !segment.is_empty() && segment.chars().all(|c| c.is_alphanumeric() || "_-<>".contains(c));
            if plain { write!(f, "{dot}{segment}")? } else { write!(f, "{dot}{segment:?}")? }
        }
        Ok(())
    }
}
