//! Values of settings: how each type is read from what was written, and how it is written again.

use std::{
    net::IpAddr,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use config::ValueKind;
use secrecy::SecretString;

pub(in crate::settings) use super::written::Written;
use super::yaml;

/// A type that a setting can have.
pub(in crate::settings) trait Setting: Sized {
    /// Reads it; the error says what was expected.
    fn read(written: &Written) -> Result<Self, String>;

    /// Stands in for a value that was refused, so that the remaining settings are read and everything wrong is told at
    /// once. Never leaves `load`.
    fn placeholder() -> Self;

    /// As YAML that reads as the same value.
    fn write(&self) -> String;
}

impl Setting for String {
    fn read(written: &Written) -> Result<Self, String> {
        match written.text() {
            Some("") => Err("expected a text that is not empty".to_owned()),
            Some(text) => Ok(text.to_owned()),
            None => Err("expected a text; put it in quotes".to_owned()),
        }
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn write(&self) -> String {
        quoted_if_needed(self)
    }
}

impl Setting for SecretString {
    fn read(written: &Written) -> Result<Self, String> {
        String::read(written).map(Self::from)
    }

    fn placeholder() -> Self {
        Self::from("")
    }

    fn write(&self) -> String {
        "\"<redacted>\"".to_owned()
    }
}

impl Setting for PathBuf {
    fn read(written: &Written) -> Result<Self, String> {
        String::read(written).map(Self::from)
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn write(&self) -> String {
        quoted_if_needed(&self.to_string_lossy())
    }
}

impl Setting for IpAddr {
    fn read(written: &Written) -> Result<Self, String> {
        let text = written.text().ok_or(IP_EXPECTED)?;
        text.parse().map_err(|_| IP_EXPECTED.to_owned())
    }

    fn placeholder() -> Self {
        Self::from([127, 0, 0, 1])
    }

    fn write(&self) -> String {
        quoted_if_needed(&self.to_string())
    }
}

const IP_EXPECTED: &str =
    "expected an IP address such as 127.0.0.1, 0.0.0.0 or \"::\"; host names are not resolved here";

impl Setting for bool {
    fn read(written: &Written) -> Result<Self, String> {
        written.boolean().ok_or_else(|| "expected true or false".to_owned())
    }

    fn placeholder() -> Self {
        false
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Whole numbers: what a type cannot hold is out of its range.
macro_rules! whole_numbers {
    ($($type:ty, $placeholder:expr;)+) => {$(
        impl Setting for $type {
            fn read(written: &Written) -> Result<Self, String> {
                let number = written.whole().ok_or("expected a whole number")?;
                let wide = u64::try_from(number).map_err(|_| "expected a number that is not negative")?;
                <$type>::try_from(wide).map_err(|_| format!("expected a number from {} to {}", <$type>::MIN, <$type>::MAX))
            }

            fn placeholder() -> Self {
                $placeholder
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

/// The same for numbers that are at least 1.
macro_rules! counts {
    ($($type:ty, $inner:ty;)+) => {$(
        impl Setting for $type {
            fn read(written: &Written) -> Result<Self, String> {
                let number = <$inner>::read(written)?;
                Self::new(number).ok_or_else(|| "expected a number of at least 1".to_owned())
            }

            fn placeholder() -> Self {
                Self::MIN
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_numbers! { u16, 0; u32, 0; u64, 0; usize, 0; }
counts! { NonZeroU16, u16; NonZeroU32, u32; NonZeroU64, u64; NonZeroUsize, usize; }

impl Setting for i32 {
    fn read(written: &Written) -> Result<Self, String> {
        let number = written.whole().ok_or("expected a whole number")?;
        Self::try_from(number).map_err(|_| format!("expected a number from {} to {}", Self::MIN, Self::MAX))
    }

    fn placeholder() -> Self {
        0
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// A list; what is no list counts as a list of one.
impl<T: Setting> Setting for Vec<T> {
    fn read(written: &Written) -> Result<Self, String> {
        written.items()?.into_iter().map(|item| T::read(&item)).collect()
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn write(&self) -> String {
        let items: Vec<_> = self.iter().map(T::write).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Setting for Duration {
    fn read(written: &Written) -> Result<Self, String> {
        match written.whole() {
            Some(0) => return Ok(Self::ZERO),
            Some(number) => {
                return Err(format!("a duration needs a unit: {number}ms, {number}s, {number}m, {number}h?"));
            }
            None => {}
        }
        let text = written.text().ok_or(DURATION_EXPECTED)?;
        parse_duration(text).ok_or_else(|| DURATION_EXPECTED.to_owned())
    }

    fn placeholder() -> Self {
        Self::ZERO
    }

    fn write(&self) -> String {
        show_duration(*self)
    }
}

pub(crate) const DURATION_EXPECTED: &str =
    "expected a duration: a whole number and ms, s, m, h or d, without blanks, such as 200ms";

/// The units of durations, the longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*ms).map(Duration::from_millis)
}

/// In the largest unit that divides it; sub-millisecond parts, which cannot be given, are left out.
pub(super) fn show_duration(duration: Duration) -> String {
    let total_ms = duration.as_millis();
    let fits = |(_, ms): &&(&str, u64)| total_ms.is_multiple_of(u128::from(*ms));
    match UNITS.iter().find(fits) {
        Some((unit, ms)) if total_ms > 0 => format!("{}{unit}", total_ms / u128::from(*ms)),
        _ => "0".to_owned(),
    }
}

/// A setting that is one word of a few.
macro_rules! words {
    ($type:ty { $($word:literal => $variant:ident),+ $(,)? } $(refused { $($other:literal => $why:literal),+ $(,)? })?) => {
        impl $crate::settings::value::Setting for $type {
            fn read(written: &$crate::settings::value::Written) -> Result<Self, String> {
                match <String as $crate::settings::value::Setting>::read(written)?.to_lowercase() {
                    $(word if word == $word.to_lowercase() => Ok(Self::$variant),)+
                    $($(word if word == $other.to_lowercase() => Err($why.to_owned()),)+)?
                    _ => Err(format!("expected one of: {}", [$($word),+].join(" | "))),
                }
            }

            fn placeholder() -> Self {
                [$(Self::$variant),+][0]
            }

            fn write(&self) -> String {
                let word = [$((Self::$variant, $word)),+].into_iter().find(|(variant, _)| variant == self);
                word.map(|(_, word)| word.to_owned()).unwrap_or_default()
            }
        }
    };
}
pub(super) use words;

/// `text` as YAML: bare where it is an ordinary word, else in double quotes with JSON's escapes, which YAML shares.
pub(super) fn quoted_if_needed(text: &str) -> String {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/');
    let ordinary = |c: char| c.is_ascii_alphanumeric() || "_./,=-".contains(c);
    let bare = begins_well && text.chars().all(ordinary) && matches!(yaml::plain(text), ValueKind::String(_));
    if bare { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        // What YAML calls not printable, and what it takes for a line break.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        _ => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        assert_eq!(parse_duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("2d"), Some(Duration::from_secs(172_800)));
        for wrong in ["", "5", "s", "1.5s", "1 s", "-1s", "5min", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_that_fits() {
        for text in ["0", "1ms", "1500ms", "90s", "10m", "25h", "7d"] {
            let duration = parse_duration(text).unwrap_or_default();
            assert_eq!(show_duration(duration), text);
        }
    }
}
