//! What settings are read from: a file, and the environment.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::report::Problem;

/// The largest configuration file that is read, in bytes. One of ours has 16 KB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What settings are read from, over the built-in defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<Source>,
    environment: Vec<(OsString, OsString)>,
}

#[derive(Clone, Debug)]
enum Source {
    Path(PathBuf),
    Text { name: String, yaml: String },
}

impl Sources {
    /// Nothing but the built-in defaults.
    pub fn defaults() -> Self {
        Self::default()
    }

    /// The given file, if any, and the environment of this process.
    pub fn of_this_process(file: Option<PathBuf>) -> Self {
        Self { file: file.map(Source::Path), environment: std::env::vars_os().collect() }
    }

    /// With a YAML file. A relative path that is not in the working directory is looked for in the directories above
    /// it, as existing deployments expect.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(Source::Path(path.into()));
        self
    }

    /// With YAML text in place of a file; `name` is what it is called in messages.
    #[must_use]
    pub fn with_yaml(mut self, name: &str, yaml: &str) -> Self {
        self.file = Some(Source::Text { name: name.to_owned(), yaml: yaml.to_owned() });
        self
    }

    /// With these environment variables. They win over the file.
    #[must_use]
    pub fn with_environment<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    pub(super) fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// The file's name and text, if there is to be one.
    pub(super) fn text(&self) -> Result<Option<(String, String)>, Problem> {
        match &self.file {
            None => Ok(None),
            Some(Source::Text { name, yaml }) => Ok(Some((name.clone(), yaml.clone()))),
            Some(Source::Path(path)) => {
                let found = find(path)?;
                let text = read(&found)?;
                Ok(Some((found.display().to_string(), text)))
            }
        }
    }
}

fn find(path: &Path) -> Result<PathBuf, Problem> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    let missing = Problem::Missing { path: path.to_owned(), searched_parents: path.is_relative() };
    if path.is_absolute() {
        return Err(missing);
    }
    let here = std::env::current_dir().map_err(|_| missing.clone())?;
    here.ancestors().skip(1).map(|directory| directory.join(path)).find(|candidate| candidate.exists()).ok_or(missing)
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |reason: String| Problem::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| unreadable(format!("it is not UTF-8: {error}")))
}
