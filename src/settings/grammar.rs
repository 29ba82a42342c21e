//! What a value in the environment means. The grammar is that of the `figment` crate, by which existing deployments are
//! written, and `tests/figment.rs` holds it to that; where figment finds no meaning, this one is more lenient.
//!
//! ```text
//! value  true | false | {key=value, ...} | [value, ...] | "text with \" escapes" | 'c' | a number | any other text
//! key    letters, digits, `_`, `-`, and here `.` as well; or "in quotes"
//! ```
//!
//! Unquoted text within a map or list ends before `,` `{` `}` `[` `]`. What does not fit as a whole is text as it stands.

/// How deep maps and lists may nest. Settings need four levels.
const DEPTH_MAX: usize = 16;

/// A value, or a part of one.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed<'a> {
    /// As it is written, without the blanks around it.
    pub(super) raw: &'a str,
    /// What it stands for.
    pub(super) meaning: Meaning<'a>,
}

/// What a value stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning<'a> {
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    List(Vec<Parsed<'a>>),
    Map(Vec<(String, Parsed<'a>)>),
}

/// What `text` means.
pub(super) fn parse(text: &str) -> Parsed<'_> {
    let mut rest = Rest(text);
    match rest.value(0) {
        Some(parsed) if rest.0.is_empty() => parsed,
        _ => Parsed { raw: text, meaning: Meaning::Text(text.to_owned()) },
    }
}

/// What is left to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn value(&mut self, depth: usize) -> Option<Parsed<'a>> {
        self.skip_blanks();
        let before = self.0;
        let meaning = self.meaning(depth)?;
        let raw = before.get(..before.len() - self.0.len())?.trim();
        self.skip_blanks();
        Some(Parsed { raw, meaning })
    }

    fn meaning(&mut self, depth: usize) -> Option<Meaning<'a>> {
        if self.eat("true") {
            return Some(Meaning::Bool(true));
        }
        if self.eat("false") {
            return Some(Meaning::Bool(false));
        }
        match self.0.chars().next() {
            Some('{' | '[') if depth >= DEPTH_MAX => None,
            Some('{') => self.map(depth),
            Some('[') => self.list(depth),
            Some('"') => self.quoted().map(Meaning::Text),
            Some('\'') => self.character(),
            _ => Some(unquoted(self.take_while(|c| !",{}[]".contains(c)).trim())),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Meaning<'a>> {
        let mut items = Vec::new();
        self.between('[', ']', |rest| rest.value(depth + 1).map(|item| items.push(item)))?;
        Some(Meaning::List(items))
    }

    fn map(&mut self, depth: usize) -> Option<Meaning<'a>> {
        let mut entries = Vec::new();
        self.between('{', '}', |rest| {
            let key = rest.key()?;
            rest.value(depth + 1).map(|value| entries.push((key, value)))
        })?;
        Some(Meaning::Map(entries))
    }

    /// Reads parts with commas between them; a comma may follow the last one.
    fn between(&mut self, open: char, close: char, mut part: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat_char(open).then_some(())?;
        loop {
            self.skip_blanks();
            if self.eat_char(close) {
                return Some(());
            }
            part(self)?;
            if !self.eat_char(',') {
                return self.eat_char(close).then_some(());
            }
        }
    }

    fn key(&mut self) -> Option<String> {
        self.skip_blanks();
        let key = match self.0.starts_with('"') {
            true => self.quoted()?,
            false => self.take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)).to_owned(),
        };
        self.skip_blanks();
        (!key.is_empty() && self.eat_char('=')).then_some(key)
    }

    /// Text in double quotes, its escapes undone.
    fn quoted(&mut self) -> Option<String> {
        self.eat_char('"').then_some(())?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                '\u{7f}' => return None,
                c if c >= ' ' || c == '\t' => text.push(c),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            '"' => '"',
            '\\' => '\\',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.code_point(4)?,
            'U' => self.code_point(8)?,
            _ => return None,
        })
    }

    fn code_point(&mut self, digits: usize) -> Option<char> {
        let hex = self.0.get(..digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.0 = self.0.get(digits..)?;
        char::from_u32(u32::from_str_radix(hex, 16).ok()?)
    }

    fn character(&mut self) -> Option<Meaning<'a>> {
        self.eat_char('\'').then_some(())?;
        let c = self.next()?;
        self.eat_char('\'').then(|| Meaning::Text(c.into()))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.0.chars().next()?;
        self.0 = self.0.get(c.len_utf8()..)?;
        Some(c)
    }

    fn eat(&mut self, start: &str) -> bool {
        self.0.strip_prefix(start).map(|rest| self.0 = rest).is_some()
    }

    fn eat_char(&mut self, c: char) -> bool {
        self.0.strip_prefix(c).map(|rest| self.0 = rest).is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches(|c: char| c.is_ascii_whitespace());
    }
}

fn unquoted<'a>(text: &str) -> Meaning<'a> {
    let float = text.parse().ok().filter(|_| text.contains('.')).map(Meaning::Float);
    let whole = || text.parse().ok().map(Meaning::Whole);
    float.or_else(whole).unwrap_or_else(|| Meaning::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;

    fn shown(text: &str) -> String {
        fn show(parsed: &Parsed<'_>) -> String {
            match &parsed.meaning {
                Meaning::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join("|")),
                Meaning::Map(entries) => {
                    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}:{}", show(value))).collect();
                    format!("{{{}}}", entries.join("|"))
                }
                Meaning::Text(text) => format!("t({text})"),
                other => format!("{other:?}"),
            }
        }
        show(&parse(text))
    }

    #[test]
    fn maps_and_lists_are_taken_apart() {
        assert_eq!(
            shown(r#"{a=1, b={c=x y,d="3,}"}, "e.f"=[true,'x',-2.5]}"#),
            r#"{a:Whole(1)|b:{c:t(x y)|d:t(3,})}|e.f:[Bool(true)|t(x)|Float(-2.5)]}"#
        );
        assert_eq!(shown("{a.b=c=d,}"), "{a.b:t(c=d)}");
        assert_eq!(
            (shown("[ ]").as_str(), shown("{ }").as_str(), shown("[a,,b]").as_str()),
            ("[]", "{}", "[t(a)|t()|t(b)]")
        );
    }

    #[test]
    fn what_does_not_fit_is_text_as_it_stands() {
        for text in
            ["{a=", "{a}", "[1", "]", "a,b", r#""a"#, r#""a" b"#, r#""\q""#, "true, x", "'xy'", "{a=1}}", " a,b "]
        {
            assert_eq!(shown(text), format!("t({text})"));
        }
    }

    #[test]
    fn deep_nesting_is_text() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&deep).meaning, Meaning::Text(deep.clone()));
    }
}
