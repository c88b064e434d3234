//! What `arcsm-bench --tune` found out about adapters, remembered in the user's cache folder.
//!
//! One JSON file, an entry for each adapter with its driver and version of arcsm. It only ever makes things faster: a file
//! that cannot be used is told of and left aside. `ARCSM_TUNING=FILE` names another file, `ARCSM_TUNING=off` none.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{AdapterSummary, Tuning};

/// Of the file's form.
const FORMAT: u32 = 1;
/// What measured kernels are measured again for.
const PROGRAM: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("ARCSM_COMMIT"));

/// The file of tunings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuningFile {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    format: u32,
    adapters: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    adapter: String,
    backend: String,
    driver: String,
    program: String,
    date: String,
    tuning: Tuning,
}

impl Entry {
    fn is_of(&self, adapter: &AdapterSummary) -> bool {
        (&self.adapter, &self.backend, &self.driver) == (&adapter.name, &adapter.backend, &adapter.driver)
    }
}

impl TuningFile {
    /// A file of one's own.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's: what `ARCSM_TUNING` says, else `arcsm/tuning.json` in the cache folder of the system. None where that
    /// says `off`, or where there is no such folder.
    pub fn of_user() -> Option<Self> {
        match std::env::var("ARCSM_TUNING").ok().filter(|named| !named.is_empty()).as_deref() {
            Some("off") => None,
            Some(path) => Some(Self::at(path)),
            None => cache_folder().map(|folder| Self::at(folder.join("arcsm").join("tuning.json"))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is remembered of an adapter; nothing where there is no file, or nothing about this adapter.
    ///
    /// # Errors
    /// A file that cannot be read or is of another form, and an entry of another version of arcsm: reasons to measure again,
    /// not to stop.
    pub fn load(&self, adapter: &AdapterSummary) -> Result<Tuning> {
        let Some(content) = self.read()? else { return Ok(Tuning::default()) };
        match content.adapters.into_iter().find(|entry| entry.is_of(adapter)) {
            None => Ok(Tuning::default()),
            Some(entry) if entry.program == PROGRAM => Ok(entry.tuning),
            Some(entry) => Err(self.refuse(format!(
                "what it says of {} was measured by arcsm {}, this is {PROGRAM}",
                adapter.name, entry.program
            ))),
        }
    }

    /// Remembers an adapter's tuning beside those of others.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, adapter: &AdapterSummary, tuning: &Tuning) -> Result<()> {
        // What cannot be read any more is of no use to anyone.
        let mut content = self.read().ok().flatten().unwrap_or_default();
        content.format = FORMAT;
        content.adapters.retain(|entry| !entry.is_of(adapter));
        content.adapters.push(Entry {
            adapter: adapter.name.clone(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            program: PROGRAM.into(),
            date: crate::host::today(),
            tuning: tuning.clone(),
        });
        let text = serde_json::to_string_pretty(&content).expect("plain data");
        files::write_atomically(&self.path, |file| file.write_all(text.as_bytes()))
    }

    fn read(&self) -> Result<Option<Content>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| self.refuse(format!("cannot be read: {error}")))?,
        };
        let content: Content =
            serde_json::from_str(&text).map_err(|error| self.refuse(format!("is not what it should be: {error}")))?;
        if content.format != FORMAT {
            return Err(self.refuse(format!("has format {}, expected {FORMAT}", content.format)));
        }
        Ok(Some(content))
    }

    fn refuse(&self, problem: String) -> Error {
        let remedy = "It is ignored; `arcsm-bench --tune` measures again, ARCSM_TUNING=off keeps this quiet";
        Error::input(self.path.display().to_string(), problem, remedy)
    }
}

/// As the XDG Base Directory Specification, Apple and Microsoft have it.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        return absolute("LOCALAPPDATA");
    }
    let in_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(in_home)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Needs};

    fn adapter(name: &str) -> AdapterSummary {
        AdapterSummary { name: name.into(), ..Gpu::noop().adapter().clone() }
    }

    fn tuning(groups: usize) -> Tuning {
        let variants = [("adam".to_owned(), Needs::Baseline)].into_iter().collect();
        Tuning { variants, parallel_groups: Some(groups) }
    }

    #[test]
    fn tunings_of_adapters_are_kept_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = TuningFile::at(folder.path().join("deep/tuning.json"));
        assert_eq!(file.load(&adapter("a")).expect("no file is no error"), Tuning::default());
        for (name, groups) in [("a", 3), ("b", 5), ("a", 7)] {
            file.save(&adapter(name), &tuning(groups)).expect("saved");
        }
        assert_eq!(file.load(&adapter("a")).expect("loaded"), tuning(7));
        assert_eq!(file.load(&adapter("b")).expect("loaded"), tuning(5));
        let other_driver = AdapterSummary { driver: "2".into(), ..adapter("a") };
        assert_eq!(file.load(&other_driver).expect("loaded"), Tuning::default());
    }

    #[test]
    fn broken_and_old_files_are_told_of_and_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = TuningFile::at(folder.path().join("tuning.json"));
        file.save(&adapter("a"), &tuning(3)).expect("saved");
        let text = std::fs::read_to_string(file.path()).expect("text");
        for (broken, problem) in [
            ("{ \"format\": 1,".to_owned(), "is not what it should be"),
            (text.replace("\"format\": 1", "\"format\": 9"), "format 9, expected 1"),
            (text.replace(PROGRAM, "0.0.1 old"), "arcsm 0.0.1 old"),
            (text.replace("baseline", "warp"), "is not what it should be"),
        ] {
            std::fs::write(file.path(), &broken).expect("written");
            let error = file.load(&adapter("a")).expect_err(&broken).to_string();
            assert!(error.contains(problem) && error.contains("arcsm-bench --tune"), "{error}");
        }
        file.save(&adapter("a"), &tuning(4)).expect("saved");
        assert_eq!(file.load(&adapter("a")).expect("loaded"), tuning(4));
    }
}
