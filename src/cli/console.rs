//! Where words go: results to stdout; notes, warnings and progress to stderr.
//!
//! Nobody's work ends because nobody listens: where stderr is closed or its disk is full, words are lost and nothing else.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Global;
use crate::error::{Error, Result};
use crate::files::harmless;

/// Time between two progress lines where no terminal shows a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Writes a line to stderr, if it can be written.
pub(super) fn tell(text: &str) {
    // In one piece, so that lines of several processes in one log stay whole.
    let _ = io::stderr().write_all(format!("{}\n", harmless(text)).as_bytes());
}

/// How much is said, and how.
pub(super) struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// Whether stderr moves a cursor.
    terminal: bool,
    /// Whether stderr shows colours.
    color: bool,
}

impl Console {
    pub(super) fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose, terminal, color }
    }

    /// Something worth knowing.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            tell(text);
        }
    }

    /// Something that some want to know.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose {
            tell(text);
        }
    }

    /// Something that may not be as the user thinks.
    pub(super) fn warn(&self, text: &str) {
        if !self.quiet {
            self.say("warning", "33", text);
        }
    }

    /// Why the command failed.
    pub(super) fn error(&self, text: &str) {
        self.say("error", "31", text);
    }

    fn say(&self, what: &str, ansi: &str, text: &str) {
        let (begin, end) = if self.color { (format!("\x1b[1;{ansi}m"), "\x1b[0m") } else { (String::new(), "") };
        let _ = io::stderr().write_all(format!("{begin}{what}:{end} {}\n", harmless(text)).as_bytes());
    }

    /// The result: `text` for people, `object` for programs.
    pub(super) fn result(&self, text: &str, object: &impl Serialize) -> Result<()> {
        let line = match self.json {
            true => serde_json::to_string(object).map_err(|e| Error::Failed(format!("the result is no JSON: {e}")))?,
            false => harmless(text.trim_end()).into_owned(),
        };
        match writeln!(io::stdout(), "{line}") {
            // The reader has seen enough (`arcsm adapters | head -1`), and the work is done: status 0.
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => {
                written.map_err(|source| Error::file("write", Path::new("stdout"), source, "Check where it goes"))
            }
        }
    }

    /// Progress of some work.
    pub(super) fn progress(&self) -> Progress {
        match (self.quiet, self.terminal) {
            (true, _) => Progress::Silent,
            (false, false) => Progress::Lines { next: Instant::now() + LINE_INTERVAL },
            (false, true) => {
                let style = ProgressStyle::with_template("{bar:28} {pos}/{len} {wide_msg}").expect("a valid template");
                Progress::Bar(ProgressBar::new(1).with_style(style))
            }
        }
    }
}

/// A bar on a terminal, and a line every few seconds elsewhere.
pub(super) enum Progress {
    Silent,
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// Shows that `done` of `total` steps are done; `message` says more.
    pub(super) fn show(&mut self, done: u64, total: u64, message: impl FnOnce() -> String) {
        match self {
            Self::Silent => {}
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(harmless(&message()).into_owned());
            }
            Self::Lines { next } => {
                if Instant::now() >= *next || done == total {
                    *next = Instant::now() + LINE_INTERVAL;
                    tell(&format!("{done}/{total} {}", message()));
                }
            }
        }
    }

    /// Prints a line that stays.
    pub(super) fn note(&self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Bar(bar) => bar.suspend(|| tell(text)),
            Self::Lines { .. } => tell(text),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Columns side by side under their headings; a column of numbers is aligned to the right.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let is_number = |cell: &String| cell == "-" || cell.parse::<f64>().is_ok();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).chain([headings[c].len()]).max().unwrap_or(0);
    let columns: [(usize, bool); N] = std::array::from_fn(|c| (width(c), rows.iter().all(|row| is_number(&row[c]))));
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(columns).map(|(cell, (width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|c| row[c].as_str())));
    std::iter::once(line(headings)).chain(body).collect()
}

/// A time in words: `48 s`, `12 min 05 s`, `3 h 20 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_words_left_and_numbers_right() {
        let rows = [["a".to_owned(), "5".into(), "x".into()], ["long".into(), "12".into(), "7".into()]];
        assert_eq!(table(["name", "n", "kind"], &rows), "name   n  kind\na      5  x\nlong  12  7\n");
    }

    #[test]
    fn durations_read_well() {
        let words = [-1.0, 59.4, 59.6, 3599.0, 12_000.0].map(duration);
        assert_eq!(words, ["0 s", "59 s", "1 min 00 s", "59 min 59 s", "3 h 20 min"]);
    }
}
