//! What is said about settings: where a value comes from, what is wrong with it, and what deserves a warning.

use std::{fmt, path::PathBuf};

use super::key::Key;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `config/default.yaml`, compiled in.
    Default,
    /// A configuration file.
    File {
        /// The file's path, as it was found.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// The process's environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
}

impl Origin {
    /// As the text that travels with a value of the `config` crate; [`Origin::decode`] reads it.
    pub(super) fn encode(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::File { name, line } => Some(format!("file {line} {name}")),
            Self::Environment { variable } => Some(format!("environment {variable}")),
        }
    }

    pub(super) fn decode(text: Option<&str>) -> Self {
        let Some((kind, rest)) = text.and_then(|text| text.split_once(' ')) else { return Self::Default };
        match (kind, rest.split_once(' ')) {
            ("environment", _) => Self::Environment { variable: rest.to_owned() },
            ("file", Some((line, name))) => Self::File { name: name.to_owned(), line: line.parse().unwrap_or(0) },
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
        }
    }
}

/// Why the settings cannot be used. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The configuration file is not there.
    #[error("the configuration file {} does not exist{}", path.display(), looked_in(*searched_parents))]
    Missing {
        /// As it was given.
        path: PathBuf,
        /// It is relative, so the directories above were searched as well.
        searched_parents: bool,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration file is no YAML that this program reads.
    #[error("{name} line {line}, column {column}: {reason}")]
    Syntax {
        /// Which file.
        name: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value that cannot be used.
    #[error("{key}{} ({origin}): {reason}", shown(value.as_deref()))]
    Value {
        /// Which setting.
        key: Key,
        /// Its value, unless it is secret or a whole section.
        value: Option<String>,
        /// Where it comes from.
        origin: Origin,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Settings that are each right but impossible together.
    #[error("{}: {reason}", list(keys))]
    Combination {
        /// Which settings.
        keys: Vec<Key>,
        /// Why they do not go together, and what to do.
        reason: String,
    },
}

/// Everything that is wrong with the settings; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// What is wrong, each by itself.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "the configuration cannot be used: {only}"),
            all => {
                write!(f, "the configuration cannot be used, for {} reasons:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

/// Something about the settings that works and deserves a look. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind it is.
    pub kind: WarningKind,
    /// Which setting.
    pub key: Key,
    /// Where it comes from: one for each time it is given.
    pub origins: Vec<Origin>,
    /// What happens, and what to do about it.
    pub message: String,
}

/// The kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// No setting has this name.
    Unknown,
    /// The name is an earlier one.
    Renamed,
    /// It is understood and has no effect.
    Ignored,
    /// It is a variable that Kubernetes made, not a setting.
    ServiceLink,
    /// It works, with a consequence that may not be wanted.
    Consequence,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.origins.iter().map(ToString::to_string).collect();
        write!(f, "{} ({}): {}", self.key, origins.join(", "), self.message)
    }
}

/// Collects what is found while the settings are read, so that everything is told at once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn refuse(&mut self, key: &Key, value: Option<String>, origin: &Origin, reason: impl Into<String>) {
        let value = value.filter(|_| !key.is_secret());
        let problem = Problem::Value { key: key.clone(), value, origin: origin.clone(), reason: reason.into() };
        // Two clusters may share a key.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn clash(&mut self, keys: &[&str], reason: impl Into<String>) {
        self.clash_of(&keys.iter().map(|key| Key::new(key)).collect::<Vec<_>>(), reason);
    }

    pub(super) fn clash_of(&mut self, keys: &[Key], reason: impl Into<String>) {
        self.problems.push(Problem::Combination { keys: keys.to_vec(), reason: reason.into() });
    }

    /// Warns; what is said of the same key in the same words is said once, with all its origins.
    pub(super) fn warn(&mut self, kind: WarningKind, key: &Key, origin: &Origin, message: impl Into<String>) {
        let message = message.into();
        let same = |warning: &&mut Warning| warning.key == *key && warning.message == message;
        match self.warnings.iter_mut().find(same) {
            Some(warning) if warning.origins.contains(origin) => {}
            Some(warning) => warning.origins.push(origin.clone()),
            None => self.warnings.push(Warning { kind, key: key.clone(), origins: vec![origin.clone()], message }),
        }
    }
}

fn shown(value: Option<&str>) -> String {
    value.map(|value| format!(" = {value}")).unwrap_or_default()
}

fn looked_in(searched_parents: bool) -> &'static str {
    if searched_parents { ", neither in the working directory nor in one above it" } else { "" }
}

fn list(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
