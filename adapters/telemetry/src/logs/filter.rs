//! Reads `log_filter`.

use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, ParseError},
};

use super::LogError;

/// The filter that these comma-separated directives describe. What none of them speaks of is not logged; without any,
/// errors are. The environment is not asked. Spans of a target of their own pass whatever the directives say.
pub(super) fn parse(directives: &str, spans: Option<&str>) -> Result<EnvFilter, LogError> {
    let directives: Vec<_> = directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    directives.iter().try_for_each(|directive| check(directive))?;
    let filter =
        EnvFilter::builder().parse(directives.join(",")).map_err(|error| refused(&directives.join(","), &error))?;
    Ok(match spans {
        Some(target) => filter.add_directive(directive(&format!("{target}=info"))?),
        None => filter,
    })
}

fn check(text: &str) -> Result<(), LogError> {
    directive(text).map(drop)
}

fn directive(text: &str) -> Result<Directive, LogError> {
    text.parse().map_err(|error| refused(text, &error))
}

fn refused(directive: &str, error: &ParseError) -> LogError {
    LogError::Filter { directive: directive.to_owned(), reason: error.to_string() }
}
