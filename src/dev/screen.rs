//! Where the display goes: redrawn in place on a terminal, line by line elsewhere.

use std::io::{self, IsTerminal, Write};

use super::picture::{self, Moment};

/// The output.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    terminal: bool,
}

/// What is assumed of a terminal that does not tell its size.
const USUAL_SIZE: (usize, usize) = (80, 24);

// https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

impl Screen<io::Stdout> {
    /// On standard output.
    pub fn stdout() -> io::Result<Self> {
        let out = io::stdout();
        let terminal = out.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self::new(out, terminal)
    }
}

impl<W: Write> Screen<W> {
    fn new(mut out: W, terminal: bool) -> io::Result<Self> {
        if terminal {
            out.write_all(ENTER.as_bytes())?;
        }
        Ok(Self { out, terminal })
    }

    /// Whether it is redrawn in place.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Says what does not change. A terminal shows it all the time, so it is not said there.
    pub(super) fn introduce(&mut self, facts: &[(String, String)]) -> io::Result<()> {
        if !self.terminal {
            facts.iter().try_for_each(|(name, value)| writeln!(self.out, "{name}: {value}"))?;
        }
        self.out.flush()
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, moment: &Moment, facts: &[(String, String)]) -> io::Result<()> {
        if self.terminal {
            let (width, height) = size();
            self.draw(&picture::picture(moment, facts, width, height))
        } else {
            writeln!(self.out, "{}", picture::line(moment))?;
            self.out.flush()
        }
    }

    /// In one write, so that nothing flickers.
    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let body = lines.join(&format!("{CLEAR_LINE}\r\n"));
        self.out.write_all(format!("{HOME}{body}{CLEAR_LINE}{CLEAR_BELOW}").as_bytes())?;
        self.out.flush()
    }

    /// Gives the terminal back as it was.
    fn restore(&mut self) {
        if std::mem::take(&mut self.terminal) {
            // A terminal that is gone need not be restored.
            self.out.write_all(LEAVE.as_bytes()).and_then(|()| self.out.flush()).ok();
        }
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        self.restore();
    }
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size().map_or(USUAL_SIZE, |(width, height)| (width.0.into(), height.0.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(terminal: bool, act: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, terminal).unwrap();
        act(&mut screen);
        drop(screen);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_is_left_as_it_was_found() {
        let out = written(true, |screen| screen.show(&Moment::default(), &[]).unwrap());
        assert!(out.starts_with(ENTER), "{out:?}");
        assert!(out.ends_with(LEAVE), "{out:?}");
    }

    #[test]
    fn without_a_terminal_there_are_lines_and_no_control_sequences() {
        let facts = [("Kafka".to_owned(), "127.0.0.1:1".to_owned())];
        let out = written(false, |screen| {
            screen.introduce(&facts).unwrap();
            screen.show(&Moment::default(), &facts).unwrap();
        });
        assert_eq!(out.lines().count(), 2, "{out:?}");
        assert!(out.starts_with("Kafka: 127.0.0.1:1\n0s: produced=0"), "{out:?}");
        assert!(!out.contains('\x1b'));
    }

    #[test]
    fn a_picture_is_drawn_over_the_one_before() {
        let out = written(true, |screen| screen.draw(&["one".to_owned(), "two".to_owned()]).unwrap());
        assert_eq!(out, format!("{ENTER}\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J{LEAVE}"));
    }
}
