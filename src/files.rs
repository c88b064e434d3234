//! Reading input whole and writing output whole: a file that arcsm writes is either complete or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Names of files that are being written start so.
const UNFINISHED: &str = ".arcsm-unfinished-";

/// Reads a whole input file; gzip is unpacked, whatever the file's name.
///
/// # Errors
/// Bad input: the file is missing or unreadable, named `.gz` without being gzip, or broken gzip.
pub fn read_input(path: &Path) -> Result<Vec<u8>> {
    Input::open(path)?.read_all(&path.display().to_string())
}

/// Unpacks gzip data; `subject` names it in errors.
///
/// # Errors
/// Bad input, when the data is cut off or its checksum does not hold.
pub fn gunzip(packed: &[u8], subject: &str) -> Result<Vec<u8>> {
    read_to_end(MultiGzDecoder::new(packed), subject, true)
}

fn read_to_end(mut reader: impl Read, subject: &str, is_packed: bool) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    read.map_err(|source| Input::refuse(subject, is_packed, &source, bytes.len() as u64))?;
    Ok(bytes)
}

/// What is read of a file: the bytes that were looked at, and the rest. A pipe cannot be rewound.
type Whole = io::Chain<io::Cursor<Vec<u8>>, File>;

/// An input file that is read from its start, and unpacked on the way where it is gzip.
#[derive(Debug)]
pub(crate) enum Input {
    /// As it is.
    Plain(Whole),
    /// Gzip.
    Packed(MultiGzDecoder<Whole>),
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// Bad input: the file is missing or unreadable, or named `.gz` without being gzip.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let subject = path.display().to_string();
        let mut start = Vec::new();
        let file = File::open(path).and_then(|file| (&file).take(2).read_to_end(&mut start).map(|_| file));
        let file = file.map_err(|source| Self::refuse(&subject, false, &source, 0))?;
        let is_packed = start == GZIP_MAGIC;
        if !is_packed && path.extension().is_some_and(|extension| extension == "gz") {
            let found = start.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let problem = "is named .gz but is no gzip file: it must start with 1f8b, found";
            let remedy = "Fetch the file again, or drop .gz from its name if it is not packed";
            return Err(Error::input(subject, format!("{problem} {}", or_nothing(&found)), remedy));
        }
        let whole = io::Cursor::new(start).chain(file);
        Ok(if is_packed { Self::Packed(MultiGzDecoder::new(whole)) } else { Self::Plain(whole) })
    }

    /// Whether it is gzip.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Number of bytes of a file that is read as it is and by position; none for gzip and for pipes.
    pub(crate) fn regular_len(&self) -> Option<u64> {
        let Self::Plain(whole) = self else { return None };
        whole.get_ref().1.metadata().ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// The file itself, as it is and at any position.
    pub(crate) fn into_file(self) -> File {
        match self {
            Self::Plain(whole) => whole.into_inner().1,
            Self::Packed(unpacked) => unpacked.into_inner().into_inner().1,
        }
    }

    /// Everything that is left to read.
    ///
    /// # Errors
    /// As [`read_input`].
    pub(crate) fn read_all(self, subject: &str) -> Result<Vec<u8>> {
        let is_packed = self.is_packed();
        read_to_end(self, subject, is_packed)
    }

    /// The error for a failure after `done` bytes.
    pub(crate) fn refuse(subject: &str, is_packed: bool, source: &io::Error, done: u64) -> Error {
        if is_packed {
            let problem = format!("is broken gzip: {source} after {done} bytes");
            return Error::input(subject, problem, "Fetch the file again");
        }
        Error::input(subject, format!("cannot be read: {source}"), "Give a file that exists and may be read")
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(whole) => whole.read(out),
            Self::Packed(unpacked) => unpacked.read(out),
        }
    }

    // Delegated because a file knows how much it has.
    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(whole) => whole.read_to_end(bytes),
            Self::Packed(unpacked) => unpacked.read_to_end(bytes),
        }
    }
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// Makes sure that a file can be written at `path` later on, before the work whose result it shall hold.
/// Creates nothing that stays.
///
/// # Errors
/// Bad input: `path` is a folder or a device, a parent is a file, or writing there is not allowed.
pub fn check_writable(path: &Path) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::input(path.display().to_string(), problem, "Give a path to a file in a folder where you may write"))
    };
    if path.is_dir() {
        return refuse("is a folder, not a file".into());
    }
    if path.exists() && !path.is_file() {
        return refuse("is no regular file".into());
    }
    if path.file_name().is_none() {
        return refuse("names no file".into());
    }
    let folder = folder_of(path);
    let nearest = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    if !nearest.is_dir() {
        return refuse(format!("cannot be written: {} is a file, not a folder", nearest.display()));
    }
    match tempfile::tempfile_in(nearest) {
        Ok(_) => Ok(()),
        Err(source) => refuse(format!("cannot be written: {} says: {source}", nearest.display())),
    }
}

/// Writes a file through a temporary one beside it, so that `path` holds the old content or the new, never a part.
///
/// Missing parent folders are created. The data and the folder are synced before this returns; whatever fails, the
/// temporary file vanishes and an old file stays.
///
/// # Errors
/// [`Error::File`] with the system's word (a full disk is named), or bad input as in [`check_writable`].
pub fn write_atomically<W>(path: &Path, write: W) -> Result<()>
where
    W: FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
{
    // A rename would replace a symbolic link itself instead of the file that it stands for.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = folder_of(path);
    fs::create_dir_all(&folder).map_err(|source| refused("create", &folder, source))?;
    if path.exists() && !path.is_file() {
        return check_writable(path);
    }
    let temporary = temporary_in(&folder).map_err(|source| refused("write", path, source))?;
    write_and_sync(temporary.as_file(), path, write)?;
    temporary.persist(path).map_err(|failure| refused("write", path, failure.error))?;
    sync_folder(&folder).map_err(|source| refused("write", path, source))
}

/// Removes what a process that was killed while writing left in a folder. Nobody else may be writing there.
///
/// # Errors
/// A file that may not be removed.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) {
            fs::remove_file(&path).map_err(|source| refused("remove", &path, source))?;
        }
    }
    Ok(())
}

fn write_and_sync<W>(file: &File, path: &Path, write: W) -> Result<()>
where
    W: FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
{
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    write(&mut writer)
        .and_then(|()| writer.flush())
        .and_then(|()| file.sync_all())
        .map_err(|source| refused("write", path, source))
}

fn refused(action: &'static str, path: &Path, source: io::Error) -> Error {
    let remedy = match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "The disk is full: free some space; an older file was kept"
        }
        _ => "Check the folder and its permissions; an older file was kept",
    };
    Error::file(action, path, source, remedy)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(unix)]
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // The default of temporary files is 0600; results shall be as readable as the user's umask says.
    tempfile::Builder::new().prefix(UNFINISHED).permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)
}

/// Without this a power cut may undo the rename.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// A word of a command, quoted so that a POSIX shell takes it back.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let left = temporary_in(root.path()).expect("a file").keep().expect("kept").1;
        fs::write(root.path().join("last.safetensors"), "whole").expect("a file");
        remove_unfinished(root.path()).expect("swept");
        assert!(!left.exists());
        assert_eq!(names_in(root.path()), ["last.safetensors"]);
        remove_unfinished(&root.path().join("absent")).expect("nothing to do");
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_written_file_is_complete_and_alone_in_its_new_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("runs/7/out.bin");
        check_writable(&path).expect("writable");
        assert!(names_in(root.path()).is_empty(), "the check must leave nothing behind");
        write_atomically(&path, |writer| writer.write_all(b"one")).expect("written");
        write_atomically(&path, |writer| writer.write_all(b"second")).expect("overwritten");
        assert_eq!(fs::read(&path).expect("there"), b"second");
        assert_eq!(names_in(path.parent().expect("a parent")), ["out.bin"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_other() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("out.bin");
        write_atomically(&path, |writer| writer.write_all(b"old")).expect("written");
        let error = write_atomically(&path, |writer| {
            writer.write_all(&[7; 1 << 20])?;
            Err(io::Error::from(ErrorKind::StorageFull))
        });
        let error = error.expect_err("the closure failed");
        assert!(error.to_string().contains("The disk is full"), "{error}");
        assert_eq!(error.exit_status(), 1);
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert_eq!(names_in(root.path()), ["out.bin"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let error =
            write_and_sync(&full, Path::new("out.bin"), |writer| writer.write_all(b"small enough for the buffer"));
        let error = error.expect_err("no space").to_string();
        assert!(error.contains("cannot write out.bin") && error.contains("The disk is full"), "{error}");
    }

    #[test]
    fn paths_that_cannot_be_written_are_bad_input() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("file");
        fs::write(&file, "x").expect("written");
        for path in [root.path().to_owned(), file.join("below.png"), PathBuf::new(), PathBuf::from("..")] {
            assert_eq!(check_writable(&path).expect_err("refused").exit_status(), 2, "{}", path.display());
        }
        check_writable(Path::new("a-bare-name.png")).expect("the current folder counts");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_and_forbidden_folders_are_bad_input() {
        for path in ["/proc/arcsm/out.png", "/dev/null"] {
            assert_eq!(check_writable(Path::new(path)).expect_err("refused").exit_status(), 2, "{path}");
        }
        assert!(write_atomically(Path::new("/dev/null"), |_| Ok(())).is_err(), "must not replace a device");
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_one() {
        let root = tempfile::tempdir().expect("a folder");
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::write(&target, "old").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        write_atomically(&link, |writer| writer.write_all(b"new")).expect("written");
        assert_eq!(fs::read(&target).expect("there"), b"new");
        assert!(link.is_symlink());
    }

    #[test]
    fn gzip_is_unpacked_and_its_faults_are_bad_input() {
        let root = tempfile::tempdir().expect("a folder");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&[3; 5000]).expect("memory");
        let packed = packer.finish().expect("memory");
        let path = root.path().join("a.gz");
        fs::write(&path, &packed).expect("written");
        assert_eq!(read_input(&path).expect("gzip"), [3; 5000]);
        for broken in [&packed[..packed.len() - 5], b"plain text", b""] {
            fs::write(&path, broken).expect("written");
            assert_eq!(read_input(&path).expect_err("broken").exit_status(), 2);
        }
        assert_eq!(read_input(&root.path().join("none")).expect_err("missing").exit_status(), 2);
        assert_eq!(read_input(root.path()).expect_err("a folder").exit_status(), 2);
    }
}
