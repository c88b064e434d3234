//! Reading input whole and writing output whole: a file that arcsm writes is either complete or not there.

pub mod arrays;
pub(crate) mod blob;
pub mod image_grid;
pub mod lock;
pub mod plot;
pub mod safetensors;
pub mod tuning;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Names of files that are being written start so.
const UNFINISHED: &str = ".arcsm-unfinished-";

/// What packed files, pipes and devices may become where nothing else is said, MiB.
pub const UNPACK_LIMIT_MIB: u64 = 2048;
/// Bytes at the start of an input that tell whether it is of the kind that is wanted.
pub(crate) const START: usize = 1 << 17;

/// Holds the start of an input, under its name, against the kind that is wanted: how many bytes an input that starts so
/// has at most, where its header tells.
///
/// # Errors
/// Bad input: another kind.
pub(crate) type Kind<'a> = &'a dyn Fn(&[u8], &str) -> Result<Option<u64>>;

/// Any kind of input, of any length.
pub(crate) fn any_kind(_start: &[u8], _subject: &str) -> Result<Option<u64>> {
    Ok(None)
}

/// Reads a whole input file; gzip is unpacked, whatever the file's name.
///
/// # Errors
/// Bad input: the file is missing or unreadable, named `.gz` without being gzip, broken gzip, or unpacks to more than
/// [`UNPACK_LIMIT_MIB`].
pub fn read_input(path: &Path) -> Result<Vec<u8>> {
    read_input_of(path, &any_kind)
}

/// The same of a file of a kind, which its start must show.
///
/// # Errors
/// As [`read_input`], and what `kind` refuses.
pub(crate) fn read_input_of(path: &Path, kind: Kind<'_>) -> Result<Vec<u8>> {
    let (mut input, subject) = (Input::open(path)?, path.display().to_string());
    let most = kind(input.start(&subject)?, &subject)?;
    if input.regular_len().is_some() {
        return input.read_all(&subject);
    }
    let is_packed = input.is_packed();
    let bound = Bound::of(most, UNPACK_LIMIT_MIB << 20, &subject)?;
    let mut bytes = Vec::new();
    let read = input.by_ref().take(bound.most().saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| Input::refuse(&subject, is_packed, &source, bytes.len() as u64))?;
    bound.check(bytes.len() as u64, &subject)?;
    Ok(bytes)
}

/// Reads a text that people write: settings, names.
///
/// # Errors
/// Bad input: missing, unreadable, no UTF-8, or longer than anyone writes.
pub(crate) fn read_text(path: &Path, wanted: &str) -> Result<String> {
    const LONGEST: u64 = 1 << 24;
    let refuse = |problem: String| Error::input(path.display().to_string(), problem, format!("Give {wanted}"));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    read.map_err(|error| refuse(format!("cannot be read: {error}")))?;
    match text.len() as u64 > LONGEST {
        true => Err(refuse(format!("is longer than {} MiB", LONGEST >> 20))),
        false => Ok(text),
    }
}

/// How many bytes may come out of a packed file, a pipe or a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// What its header tells.
    told: u64,
    limit: u64,
}

impl Bound {
    /// Of an input whose header tells that it has at most so many bytes, if it does.
    ///
    /// # Errors
    /// Bad input, when that is beyond the limit.
    pub(crate) fn of(told: Option<u64>, limit: u64, subject: &str) -> Result<Self> {
        let bound = Self { told: told.unwrap_or(u64::MAX), limit };
        told.map_or(Ok(bound), |told| bound.check(told, subject).map(|()| bound))
    }

    fn most(self) -> u64 {
        self.told.min(self.limit)
    }

    /// Refuses so many bytes.
    ///
    /// # Errors
    /// Bad input, with the bound that they exceed.
    pub(crate) fn check(self, bytes: u64, subject: &str) -> Result<()> {
        if bytes <= self.most() {
            return Ok(());
        }
        if bytes > self.told && self.told < self.limit {
            let problem = format!("goes on after the {} bytes that its header tells", self.told);
            return Err(Error::input(subject, problem, "The file is damaged or of another kind: write it again"));
        }
        let problem = format!("becomes more than the {} MiB that packed files and streams may be", self.limit >> 20);
        let remedy = "Unpack it first; for data, allow more by --unpack-limit MIB (data.unpack_limit)";
        Err(Error::input(subject, problem, remedy))
    }
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
pub(crate) struct Input {
    /// Bytes that were looked at, and those of them that are still to be read.
    looked_at: io::Cursor<Vec<u8>>,
    source: Source,
}

#[derive(Debug)]
enum Source {
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
        let source = if is_packed { Source::Packed(MultiGzDecoder::new(whole)) } else { Source::Plain(whole) };
        Ok(Self { looked_at: io::Cursor::default(), source })
    }

    /// The first [`START`] bytes of what it becomes, or all where there are fewer. They can still be read. Before any
    /// other read.
    ///
    /// # Errors
    /// As [`read_input`].
    pub(crate) fn start(&mut self, subject: &str) -> Result<&[u8]> {
        let (mut start, is_packed) = (Vec::new(), self.is_packed());
        let read = self.source.by_ref().take(START as u64).read_to_end(&mut start);
        read.map_err(|source| Self::refuse(subject, is_packed, &source, start.len() as u64))?;
        self.looked_at = io::Cursor::new(start);
        Ok(self.looked_at.get_ref())
    }

    /// Whether it is gzip.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.source, Source::Packed(_))
    }

    /// Number of bytes of a file that is read as it is and by position; none for gzip and for pipes.
    pub(crate) fn regular_len(&self) -> Option<u64> {
        let Source::Plain(whole) = &self.source else { return None };
        whole.get_ref().1.metadata().ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// The file itself, as it is and at any position.
    pub(crate) fn into_file(self) -> File {
        match self.source {
            Source::Plain(whole) => whole.into_inner().1,
            Source::Packed(unpacked) => unpacked.into_inner().into_inner().1,
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
        match self.looked_at.read(out)? {
            0 => self.source.read(out),
            count => Ok(count),
        }
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        Ok(self.looked_at.read_to_end(bytes)? + self.source.read_to_end(bytes)?)
    }
}

impl Read for Source {
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
    W: FnOnce(&mut Writer) -> io::Result<()>,
{
    let mut file = Unfinished::create(path)?;
    file.write(write)?;
    file.finish()
}

/// What files are written through.
pub type Writer = BufWriter<tempfile::NamedTempFile>;

/// A file that is written piece by piece beside `path`, and takes its place when it is whole; see [`write_atomically`].
/// Dropped before that, it vanishes.
pub struct Unfinished {
    writer: Writer,
    path: PathBuf,
}

impl Unfinished {
    /// An empty one.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn create(path: &Path) -> Result<Self> {
        // A rename would replace a symbolic link itself instead of the file that it stands for.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = folder_of(&path);
        fs::create_dir_all(&folder).map_err(|source| refused("create", &folder, source))?;
        if path.exists() && !path.is_file() {
            check_writable(&path)?;
        }
        let prefix = unfinished_of(&path);
        sweep(&folder, &prefix);
        let temporary = temporary_in(&folder, &prefix).map_err(|source| refused("write", &path, source))?;
        // Held until the process ends, however it does: others see by it that the file is no leftover. Not every disk can.
        _ = temporary.as_file().try_lock();
        Ok(Self { writer: BufWriter::with_capacity(1 << 18, temporary), path })
    }

    /// Writes the next piece.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn write<W>(&mut self, write: W) -> Result<()>
    where
        W: FnOnce(&mut Writer) -> io::Result<()>,
    {
        write(&mut self.writer).map_err(|source| refused("write", &self.path, source))
    }

    /// The file takes its place.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn finish(self) -> Result<()> {
        let Self { mut writer, path } = self;
        let to_error = |source| refused("write", &path, source);
        writer.flush().and_then(|()| writer.get_ref().as_file().sync_all()).map_err(to_error)?;
        let temporary = writer.into_inner().map_err(|failure| to_error(failure.into_error()))?;
        temporary.persist(&path).map_err(|failure| to_error(failure.error))?;
        sync_folder(&folder_of(&path)).map_err(to_error)
    }
}

/// How the names of files start that are to become this one. A hash, as a name may have any length that still fits.
fn unfinished_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!("{UNFINISHED}{:08x}-", crc32fast::hash(name.as_encoded_bytes()))
}

/// Removes what processes that were killed while writing a file left beside it. What cannot be removed is in nobody's
/// way.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let left = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_left = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    for path in left.filter(|path| is_left(path)) {
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            _ = fs::remove_file(&path);
        }
    }
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
fn temporary_in(folder: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // The default of temporary files is 0600; results shall be as readable as the user's umask says.
    tempfile::Builder::new().prefix(prefix).permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(prefix).tempfile_in(folder)
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

/// Serialises a path as text, with replacement characters for what is no UTF-8.
pub(crate) fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// The same of several.
pub(crate) fn lossy_each<S: serde::Serializer>(
    paths: &[PathBuf],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// Text with every control character but line ends written out, and so are changes of the direction of writing: names from
/// outside cannot move a terminal's cursor or show a text in another order.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmless = |c: char| c == '\n' || !c.is_control() && !turns(c);
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if is_harmless(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(shown).collect())
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
        let left = temporary_in(root.path(), UNFINISHED).expect("a file").keep().expect("kept").1;
        fs::write(root.path().join("last.safetensors"), "whole").expect("a file");
        remove_unfinished(root.path()).expect("swept");
        assert!(!left.exists());
        assert_eq!(names_in(root.path()), ["last.safetensors"]);
        remove_unfinished(&root.path().join("absent")).expect("nothing to do");
    }

    #[test]
    fn what_kills_left_of_a_file_goes_when_it_is_written_again_and_nothing_else_does() {
        let root = tempfile::tempdir().expect("a folder");
        let [path, other] = ["out.npy", "other.npy"].map(|name| root.path().join(name));
        let unfinished = |path: &Path| temporary_in(root.path(), &unfinished_of(path)).expect("a file");
        let leftover = |path: &Path| unfinished(path).keep().expect("kept").1;
        let (left, of_other) = ([leftover(&path), leftover(&path)], leftover(&other));
        let at_work = unfinished(&path);
        at_work.as_file().try_lock().expect("nobody else has it");
        write_atomically(&path, |writer| writer.write_all(b"whole")).expect("written");
        assert!(left.iter().all(|left| !left.exists()), "leftovers go");
        assert!(of_other.exists() && at_work.path().exists(), "another file's stays, and one that is being written");
        assert_eq!(fs::read(&path).expect("there"), b"whole");
        write_atomically(&other, |writer| writer.write_all(b"whole")).expect("written");
        assert!(!of_other.exists());
    }

    #[test]
    fn a_name_of_any_length_can_be_written() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("n".repeat(255));
        write_atomically(&path, |writer| writer.write_all(b"x")).expect("written");
        assert_eq!(names_in(root.path()), ["n".repeat(255)]);
    }

    #[test]
    fn a_stream_or_packed_file_is_held_against_its_start() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a.gz");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&[3; 500_000]).expect("memory");
        fs::write(&path, packer.finish().expect("memory")).expect("written");
        let told = |most: u64| read_input_of(&path, &move |start, _| Ok((start[0] == 3).then_some(most)));
        assert_eq!(told(500_000).expect("as told"), [3; 500_000]);
        for (most, problem) in [(499_999, "goes on after"), (u64::MAX, "more than the 2048 MiB")] {
            let error = told(most).expect_err("refused");
            assert!(error.to_string().contains(problem) && error.exit_status() == 2, "{error}");
        }
        let other = |_: &[u8], subject: &str| Err(Error::input(subject, "is another kind", "Give the right one"));
        assert!(read_input_of(&path, &other).expect_err("refused").to_string().contains("another kind"));
        #[cfg(target_os = "linux")]
        assert!(
            read_input_of(Path::new("/dev/zero"), &other).expect_err("refused").to_string().contains("another kind")
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn settings_are_not_read_from_a_device_without_end() {
        let error = read_text(Path::new("/dev/zero"), "a TOML file").expect_err("refused");
        assert!(error.to_string().contains("is longer than 16 MiB") && error.exit_status() == 2, "{error}");
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
        let nowhere = tempfile::TempPath::try_from_path("/nowhere").expect("an absolute path");
        let writer = BufWriter::new(tempfile::NamedTempFile::from_parts(full, nowhere));
        let mut file = Unfinished { writer, path: "out.bin".into() };
        file.write(|writer| writer.write_all(b"small enough for the buffer")).expect("buffered");
        let error = file.finish().expect_err("no space").to_string();
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
