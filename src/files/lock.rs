//! One process that writes to a folder at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::host::utc;

/// Name of the file in a run folder.
const FILE: &str = "lock";
/// What is shown of a holder's words at most, bytes.
const LONGEST_HOLDER: u64 = 200;

/// The lock of a run folder. It is the operating system's, on the file `lock`: it goes with the process however that ends, so
/// that a file which a killed process left keeps nobody out. The file names who holds it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Whether the file system knows locks.
    holds: bool,
}

impl Lock {
    /// Takes the lock; makes the folder where it is missing.
    ///
    /// # Errors
    /// Bad input, naming the holder, when another process has it; a folder that cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let refused = |source| Error::file("open", &path, source, "Give a folder where you may write");
        std::fs::create_dir_all(folder).map_err(refused)?;
        // Not truncated: it may be another's.
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(refused)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::named(file, true)),
            Err(TryLockError::WouldBlock) => {
                let problem = format!("is in use by {}", holder(file));
                let remedy = "Wait until that ends, or give another folder";
                Err(Error::input(folder.display().to_string(), problem, remedy))
            }
            // Some network file systems have no locks; that is no reason not to work.
            Err(TryLockError::Error(_)) => Ok(Self::named(file, false)),
        }
    }

    /// Writes who holds it. Where that fails, others are kept out all the same.
    fn named(mut file: File, holds: bool) -> Self {
        let holder = format!("process {} on {}, since {}\n", std::process::id(), host(), utc(SystemTime::now()));
        let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
        Self { file, holds }
    }

    /// What the user should know of it.
    pub fn note(&self) -> Option<String> {
        let text = "the file system of the folder knows no locks: let no second command write there";
        (!self.holds).then(|| text.to_owned())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: another process may have opened it by now, and would lock a file that is no longer there.
        let _ = self.file.set_len(0).and_then(|()| self.file.unlock());
    }
}

/// Who wrote the file, in words that no terminal takes for commands.
fn holder(mut file: File) -> String {
    let mut bytes = Vec::new();
    // Windows lets nobody read what is locked; a holder that starts may not have written yet.
    let read = file.rewind().and_then(|()| file.take(LONGEST_HOLDER).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default().replace(char::is_control, "");
    if read.is_err() || line.is_empty() { "another process".into() } else { line }
}

/// The computer's name, as folders may be shared.
fn host() -> String {
    let of_system = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let names =
        of_system.into_iter().chain(["HOSTNAME", "COMPUTERNAME"].into_iter().filter_map(|v| std::env::var(v).ok()));
    let mut names = names.map(|name| name.trim().replace(char::is_control, "")).filter(|name| !name.is_empty());
    names.next().unwrap_or_else(|| "a computer without a name".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_who_is_named_and_is_free_again_afterwards() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("runs/new");
        let held = Lock::take(&folder).expect("free");
        assert_eq!(held.note(), None);
        let error = Lock::take(&folder).expect_err("held");
        assert_eq!(error.exit_status(), 2);
        if cfg!(unix) {
            let words = format!("is in use by process {} on ", std::process::id());
            assert!(error.to_string().contains(&words) && error.to_string().contains(" UTC"), "{error}");
        }
        drop(held);
        assert_eq!(std::fs::read(folder.join(FILE)).expect("it stays"), b"");
        Lock::take(&folder).expect("free again");
    }

    #[test]
    fn a_file_that_nobody_locks_keeps_nobody_out_and_its_words_are_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(
            root.path().join(FILE),
            "process 1 on elsewhere, since long ago, and with much to say\n".repeat(9),
        )
        .expect("written");
        let _held = Lock::take(root.path()).expect("its process is gone");
        if cfg!(unix) {
            let text = std::fs::read_to_string(root.path().join(FILE)).expect("written");
            assert!(
                text.starts_with(&format!("process {} on ", std::process::id())) && text.lines().count() == 1,
                "{text}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn words_in_the_file_cannot_move_the_cursor() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"process 7\x1b[2J on \xff\nsecond line").expect("written");
        assert_eq!(holder(file), "process 7[2J on \u{fffd}");
    }
}
