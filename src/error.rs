//! Errors as values: what went wrong, where, what was expected, and how to mend it.
//!
//! Every error maps to one documented exit status ([`Error::exit_status`]), so that scripts can tell bad input
//! from a missing GPU, a full disk or a diverged run.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in arcsm. `Display` gives one line with the remedy in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user gave something that cannot be used: a flag, a config key, a file's content, a path.
    #[error("{}: {}. {}", harmless(subject), harmless(problem), harmless(remedy))]
    Input {
        /// The flag, key or file that is at fault.
        subject: String,
        /// What was found and what was expected.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// The operating system refused to read or write a file after the input had been checked (disk full, for one).
    #[error("cannot {action} {}: {source}. {remedy}", harmless(&path.display().to_string()))]
    File {
        /// `"read"`, `"write"`, `"create"` ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own word.
        source: std::io::Error,
        /// What the user can do, and what was kept.
        remedy: String,
    },
    /// There is no usable adapter, or it failed while working.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
    /// A loss, gradient or weight became NaN or infinite.
    #[error("{what} is not finite at step {step}. {remedy}")]
    NonFinite {
        /// The quantity.
        what: String,
        /// The optimiser step at which it was seen.
        step: u64,
        /// What was kept and what to change.
        remedy: String,
    },
    /// A check that the user asked for did not hold (`arcsm doctor`).
    #[error("{0}")]
    Failed(String),
    /// The user pressed Ctrl-C; everything was saved.
    #[error("interrupted; {0}")]
    Interrupted(String),
}

impl Error {
    /// Bad input, with its remedy.
    pub fn input(subject: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Input { subject: subject.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A file operation that the system refused.
    pub fn file(action: &'static str, path: &Path, source: std::io::Error, remedy: impl Into<String>) -> Self {
        Self::File { action, path: path.to_owned(), source, remedy: remedy.into() }
    }

    /// The documented exit status: 1 failure while running, 2 bad input, 3 GPU, 4 not finite, 130 interrupted.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Failed(_) => 1,
            Self::Input { .. } => 2,
            Self::Gpu(_) => 3,
            Self::NonFinite { .. } => 4,
            Self::Interrupted(_) => 130,
        }
    }
}

/// A text with names from outside, for a terminal or a log: without line ends, escape sequences and what turns the
/// direction of writing, which stand as their escapes.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(harms) {
        return text.into();
    }
    let shown = |c: char| if harms(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_lines_or_move_a_cursor() {
        let error = Error::input("a\nb", "has \x1b[2J and \u{202e}", "Did you mean `\u{9b}m` or `grün`?");
        assert_eq!(error.to_string(), r"a\nb: has \u{1b}[2J and \u{202e}. Did you mean `\u{9b}m` or `grün`?");
        let error = Error::file("read", Path::new("a\rb"), std::io::ErrorKind::NotFound.into(), "Look");
        assert!(error.to_string().starts_with(r"cannot read a\rb: "), "{error}");
    }
}
