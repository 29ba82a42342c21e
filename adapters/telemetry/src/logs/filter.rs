//! Reads `log_filter`.

use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, ParseError},
};

use super::LogError;

/// The filter that these comma-separated directives describe. What none of them speaks of is not logged; without any,
/// errors are. The environment is not asked.
pub(super) fn parse(directives: &str) -> Result<EnvFilter, LogError> {
    let directives: Vec<_> = directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    directives.iter().try_for_each(|directive| check(directive))?;
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| refused(&directives.join(","), &error))
}

fn check(directive: &str) -> Result<(), LogError> {
    directive.parse::<Directive>().map(drop).map_err(|error| refused(directive, &error))
}

fn refused(directive: &str, error: &ParseError) -> LogError {
    LogError::Filter { directive: directive.to_owned(), reason: error.to_string() }
}
