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
    #[error("{}: {}. {}", one_line(subject), one_line(problem), one_line(remedy))]
    Input {
        /// The flag, key or file that is at fault.
        subject: String,
        /// What was found and what was expected.
        problem: String,
        /// What the user can do.
        remedy: String,
    },
    /// The operating system refused to read or write a file after the input had been checked (disk full, for one).
    #[error("cannot {action} {}: {source}. {remedy}", one_line(&path.display().to_string()))]
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
    /// Finite, but no number to trust: a loss that rose without end, a density that cannot be one.
    #[error("{what} at step {step}. {remedy}")]
    Unsound {
        /// The quantity, and what is wrong with it.
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

    /// The documented exit status: 1 failure while running, 2 bad input, 3 GPU, 4 not finite or not to be trusted, 130 interrupted.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Failed(_) => 1,
            Self::Input { .. } => 2,
            Self::Gpu(_) => 3,
            Self::NonFinite { .. } | Self::Unsound { .. } => 4,
            Self::Interrupted(_) => 130,
        }
    }
}

/// A text in which names from outside have no line ends; what else could harm a terminal, whoever shows it takes away.
fn one_line(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\r']) {
        true => text.replace('\n', "\\n").replace('\r', "\\r").into(),
        false => text.into(),
    }
}

/// Refuses a setting outside of its range.
///
/// # Errors
/// Bad input, naming the key, where `holds` is false.
pub(crate) fn require(holds: bool, key: &str, problem: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(key, problem, "Change it in the config file or by its flag")) }
}

/// The candidate that looks most like `found`: what somebody may have meant, for remedies.
pub(crate) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    let likeness = |candidate: &str| strsim::jaro_winkler(found, candidate);
    candidates.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).expect("there are candidates")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_the_names_in_it() {
        let error = Error::input("a\nb", "has\r\n", "Did you mean `\n`?");
        assert_eq!(error.to_string(), r"a\nb: has\r\n. Did you mean `\n`?");
        let error = Error::file("read", Path::new("a\nb"), std::io::ErrorKind::NotFound.into(), "Look");
        assert!(error.to_string().starts_with(r"cannot read a\nb: "), "{error}");
    }
}
