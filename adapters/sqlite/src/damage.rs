//! A damaged file is moved out of the way, whole, so that it can be looked at.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use taskbroker_domain::{ports::store::StoreError, time::Timestamp};

use crate::{
    error::file_error,
    paths::{beside, sync_directory},
};

/// What belongs to one SQLite database: itself, its write-ahead log, and the index of that.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// Renames the file with its log to `<path>.damaged-<UTC time>` and returns the new name. Nothing may have it open.
pub(crate) fn set_aside(path: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let aside = free_name(path, now);
    for part in PARTS {
        let (from, to) = (beside(path, part), beside(&aside, part));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("cannot set aside the damaged file", &from, &error)),
            Ok(()) => {}
        }
    }
    sync_directory(path)?;
    Ok(aside)
}

fn free_name(path: &Path, now: Timestamp) -> PathBuf {
    let base = beside(path, &format!(".damaged-{}", utc(now).replace([':', '-'], "")));
    let numbered = (2..).map(|number| beside(&base, &format!(".{number}")));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(|name| !name.exists()).unwrap_or(base)
}

/// The moment in UTC, to the second, as in ISO 8601: `2026-05-28T20:26:40Z`.
pub(crate) fn utc(moment: Timestamp) -> String {
    let seconds = moment.as_millis() / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01, which must not be negative. Years are counted from March, so that
/// the leap day comes last; eras are 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_000, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_780_000_000_123, "2026-05-28T20:26:40Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (Timestamp::MAX.as_millis(), "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(Timestamp::from_millis(ms)), text);
        }
    }
}
