//! Input bytes that are read by position: in memory as far as a budget goes, on disk beyond it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::{SpooledData, SpooledTempFile};

use crate::error::{Error, Result};
use crate::files::{Bound, Input, Kind, UNPACK_LIMIT_MIB};
use crate::host;

const MIB: u64 = 1 << 20;
const CHUNK: usize = 1 << 16;
/// Bytes that are written there between two looks at what is free.
const BETWEEN_LOOKS: u64 = 16 * MIB;

/// Host memory that data may take, and what became of the data that went beyond it. All in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    limit: u64,
    left: u64,
    on_disk: u64,
    unpacked: u64,
    /// What each packed file, pipe or device may become.
    unpack_limit: u64,
}

impl Budget {
    /// That many MiB; up to 2^43 of them.
    pub(crate) fn of_mib(mib: u64) -> Self {
        Self { limit: mib * MIB, left: mib * MIB, on_disk: 0, unpacked: 0, unpack_limit: UNPACK_LIMIT_MIB * MIB }
    }

    /// The same, with another limit for packed files and streams.
    pub(crate) fn unpacking(self, mib: u64) -> Self {
        Self { unpack_limit: mib * MIB, ..self }
    }

    /// For one input that may take only a part of the memory.
    pub(crate) fn at_most_mib(&self, mib: u64) -> Self {
        Self { unpack_limit: self.unpack_limit, ..Self::of_mib((self.left / MIB).min(mib)) }
    }

    /// What is left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes memory for that many bytes; false, and nothing taken, when they do not fit.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.left;
        self.left -= if fits { bytes } else { 0 };
        fits
    }

    /// Counts bytes that stay on disk.
    pub(crate) fn leave(&mut self, bytes: u64) {
        self.on_disk += bytes;
    }

    /// What the user should know of data that did not fit.
    pub(crate) fn note(&self) -> Option<String> {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let unpacked = match self.unpacked {
            0 => String::new(),
            bytes => {
                let folder = std::env::temp_dir();
                format!("; {:.1} MiB of that are unpacked in a temporary file in {}", mib(bytes), folder.display())
            }
        };
        (self.on_disk > 0).then(|| {
            let (on_disk, limit) = (mib(self.on_disk), mib(self.limit));
            format!("{on_disk:.1} MiB of data stay on disk, as data.memory is {limit:.0} MiB{unpacked}")
        })
    }
}

/// Bytes of one input; clones and windows share them.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    subject: Arc<str>,
    place: Arc<Place>,
    start: u64,
    len: u64,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// Every read seeks first, so a lock keeps the two together.
    Disk(Mutex<File>),
}

impl Blob {
    /// Opens an input file of a kind, which its start must show. It stays where it is when the budget is too small for
    /// it, or it is unpacked to a temporary file when it is gzip, which has no positions.
    ///
    /// # Errors
    /// Bad input, as [`crate::files::read_input`] with the budget's limit, and what `kind` refuses; a full disk.
    pub(crate) fn open(path: &Path, budget: &mut Budget, kind: Kind<'_>) -> Result<Self> {
        let subject = path.display().to_string();
        let mut input = Input::open(path)?;
        let told = kind(input.start(&subject)?, &subject)?;
        match input.regular_len() {
            Some(len) if budget.left() < len => {
                budget.leave(len);
                Ok(Self::new(&subject, Place::Disk(Mutex::new(input.into_file())), len))
            }
            Some(_) => {
                let bytes = input.read_all(&subject)?;
                budget.take(bytes.len() as u64);
                Ok(Self::from_bytes(&subject, bytes))
            }
            None => {
                let is_packed = input.is_packed();
                let refuse = |source, done| Input::refuse(&subject, is_packed, &source, done);
                Self::unpack(input, &subject, told, budget, refuse)
            }
        }
    }

    /// Bytes that are in memory already; `subject` names them in errors.
    pub(crate) fn from_bytes(subject: &str, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::new(subject, Place::Memory(bytes), len)
    }

    /// Everything that `source` gives, of which a header may tell how much that is at most; `refuse` makes an error of
    /// its failure after a number of bytes.
    ///
    /// # Errors
    /// What `refuse` makes; bad input, when it gives more than it should; a full disk.
    pub(crate) fn unpack(
        mut source: impl Read,
        subject: &str,
        told: Option<u64>,
        budget: &mut Budget,
        refuse: impl Fn(io::Error, u64) -> Error,
    ) -> Result<Self> {
        let bound = Bound::of(told, budget.unpack_limit, subject)?;
        let (mut spool, mut chunk) = (Spool::new(budget), vec![0; CHUNK]);
        loop {
            match source.read(&mut chunk) {
                Ok(0) => return Ok(spool.finish(subject, budget)),
                Ok(count) => {
                    bound.check(spool.len + count as u64, subject)?;
                    spool.write(&chunk[..count])?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(refuse(error, spool.len)),
            }
        }
    }

    fn new(subject: &str, place: Place, len: u64) -> Self {
        Self { subject: subject.into(), place: Arc::new(place), start: 0, len }
    }

    /// Name of the input.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes from `start` on, under the name of `subject`.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn window(&self, subject: &str, start: u64, len: u64) -> Self {
        assert!(start + len <= self.len, "bytes {start} to {} of {}", start + len, self.len);
        Self { subject: subject.into(), place: self.place.clone(), start: self.start + start, len }
    }

    /// The `len` bytes from `start` on.
    ///
    /// # Errors
    /// The system cannot read them (any more).
    ///
    /// # Panics
    /// When they do not lie inside.
    pub(crate) fn read(&self, start: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        assert!(start + len as u64 <= self.len, "{len} bytes at {start} of {}", self.len);
        if let Place::Memory(bytes) = &*self.place {
            return Ok(Cow::Borrowed(&bytes[(self.start + start) as usize..][..len]));
        }
        let mut bytes = vec![0; len];
        self.read_exact(start, &mut bytes).map_err(|source| unreadable(&self.subject, source))?;
        Ok(Cow::Owned(bytes))
    }

    /// Reads the bytes one after another, from the first.
    pub(crate) fn reader(&self) -> BlobReader {
        BlobReader { blob: self.clone(), at: 0 }
    }

    fn read_exact(&self, start: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.place {
            Place::Memory(bytes) => out.copy_from_slice(&bytes[(self.start + start) as usize..][..out.len()]),
            Place::Disk(file) => {
                // A panic elsewhere leaves no state behind that the seek would not set anew.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(self.start + start))?;
                file.read_exact(out)?;
            }
        }
        Ok(())
    }
}

/// An input that was fine when it was opened.
pub(crate) fn unreadable(subject: &str, source: io::Error) -> Error {
    Error::file("read", Path::new(subject), source, "It changed or went away while it was in use: put it back")
}

/// See [`Blob::reader`].
#[derive(Debug)]
pub(crate) struct BlobReader {
    blob: Blob,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.len.saturating_sub(self.at).min(out.len() as u64) as usize;
        if count > 0 {
            self.blob.read_exact(self.at, &mut out[..count])?;
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blob.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Bytes that come one after another: in memory at first, in a temporary file once they are more than the budget has
/// left. That file has no name where the system allows it, so it vanishes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Spool {
    file: SpooledTempFile,
    len: u64,
    /// The length beyond which it lies on the disk, and the one at which free space is looked at next.
    in_memory: u64,
    next_look: u64,
}

impl Spool {
    /// An empty one.
    pub(crate) fn new(budget: &Budget) -> Self {
        let in_memory = budget.left();
        let file = SpooledTempFile::new(usize::try_from(in_memory).unwrap_or(usize::MAX));
        Self { file, len: 0, in_memory, next_look: in_memory + 1 }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The temporary file cannot be written, or would leave too little of its disk free.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        let written = self.look().and_then(|()| self.file.write_all(bytes));
        written.map_err(|source| {
            let remedy = "Free some space, name another folder by TMPDIR, or allow more --data-memory";
            Error::file("unpack data in", &std::env::temp_dir(), source, remedy)
        })
    }

    /// Looks from time to time whether the disk has room for what comes.
    fn look(&mut self) -> io::Result<()> {
        if self.len < self.next_look {
            return Ok(());
        }
        self.next_look = self.len + BETWEEN_LOOKS;
        // What was in memory goes to the disk with the first bytes beyond it.
        let comes = if self.file.is_rolled() { BETWEEN_LOOKS } else { self.len + BETWEEN_LOOKS };
        check_room(host::free_space(&std::env::temp_dir()), comes)
    }

    /// The bytes, charged to the budget; `subject` names them in errors.
    pub(crate) fn finish(self, subject: &str, budget: &mut Budget) -> Blob {
        debug_assert_eq!(self.file.is_rolled(), self.len > self.in_memory, "memory holds what fits");
        let place = match self.file.into_inner() {
            SpooledData::InMemory(bytes) => {
                budget.take(self.len);
                Place::Memory(Cursor::into_inner(bytes))
            }
            SpooledData::OnDisk(file) => {
                budget.leave(self.len);
                budget.unpacked += self.len;
                Place::Disk(Mutex::new(file))
            }
        };
        Blob::new(subject, place, self.len)
    }
}

/// Refuses to write so many bytes where that leaves too little free; what is free may be unknown.
fn check_room(free: Option<u64>, comes: u64) -> io::Result<()> {
    match free {
        Some(free) if free < comes.saturating_add(host::LEFT_FREE) => {
            let problem = format!("{} MiB are free, and {} MiB are to stay so", free / MIB, host::LEFT_FREE / MIB);
            Err(io::Error::new(ErrorKind::StorageFull, problem))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::any_kind;

    fn budget(left: u64) -> Budget {
        Budget { limit: left, left, ..Budget::of_mib(0) }
    }

    fn is_in_memory(blob: &Blob) -> bool {
        matches!(*blob.place, Place::Memory(_))
    }

    #[test]
    fn files_beyond_the_budget_stay_on_disk_and_read_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes: Vec<u8> = (0..200_000u64).map(|i| ((i * i) >> 3) as u8).collect();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&bytes).expect("memory");
        let (plain, packed) = (folder.path().join("a"), folder.path().join("a.gz"));
        std::fs::write(&plain, &bytes).expect("written");
        std::fs::write(&packed, packer.finish().expect("memory")).expect("written");
        for (path, unpacked) in [(&plain, 0), (&packed, 200_000)] {
            for (left, in_memory) in [(0, false), (199_999, false), (200_000, true)] {
                let mut budget = budget(left);
                let blob = Blob::open(path, &mut budget, &any_kind).expect("fine");
                assert_eq!((is_in_memory(&blob), blob.len()), (in_memory, 200_000), "{left}");
                assert_eq!(budget.left, if in_memory { 0 } else { left });
                assert_eq!((budget.on_disk, budget.unpacked), if in_memory { (0, 0) } else { (200_000, unpacked) });
                assert_eq!(budget.note().is_none(), in_memory);
                assert_eq!(*blob.read(70_000, 1000).expect("there"), bytes[70_000..71_000]);
                let window = blob.window("part", 1000, 500);
                assert_eq!((window.len(), window.subject()), (500, "part"));
                assert_eq!(*window.window("", 100, 400).read(1, 7).expect("there"), bytes[1101..1108]);
                let (mut reader, mut rest) = (window.reader(), Vec::new());
                assert_eq!(reader.seek(SeekFrom::End(-20)).expect("inside"), 480);
                reader.read_to_end(&mut rest).expect("there");
                assert_eq!(rest, bytes[1480..1500]);
                assert!(reader.seek(SeekFrom::Current(-501)).is_err());
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left behind");
    }

    fn packed(parts: &[(&[u8], usize)]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for &(bytes, times) in parts {
            (0..times).for_each(|_| packer.write_all(bytes).expect("memory"));
        }
        packer.finish().expect("memory")
    }

    fn refusal(path: &Path, budget: &mut Budget, kind: Kind<'_>) -> String {
        let error = Blob::open(path, budget, kind).expect_err("refused");
        assert!(error.exit_status() == 2 && !error.to_string().contains('\n'), "{error}");
        error.to_string()
    }

    #[test]
    fn a_packed_file_becomes_no_more_than_the_limit_or_its_header_allows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bomb.gz");
        std::fs::write(&path, packed(&[(&[0; 1 << 20], 3)])).expect("written");
        for memory in [0, 8] {
            let budget = || Budget::of_mib(memory);
            let text = refusal(&path, &mut budget().unpacking(2), &any_kind);
            assert!(text.contains("more than the 2 MiB") && text.contains("--unpack-limit"), "{text}");
            assert_eq!(Blob::open(&path, &mut budget().unpacking(3), &any_kind).expect("it fits").len(), 3 << 20);
            let text = refusal(&path, &mut budget(), &|_, _| Ok(Some((3 << 20) - 1)));
            assert!(text.contains("goes on after the 3145727 bytes that its header tells"), "{text}");
            Blob::open(&path, &mut budget(), &|_, _| Ok(Some(3 << 20))).expect("as told");
            let text = refusal(&path, &mut budget().unpacking(7), &|_, _| Ok(Some(u64::MAX)));
            assert!(text.contains("more than the 7 MiB"), "{text}");
        }
    }

    #[test]
    fn another_kind_is_refused_by_its_start_and_the_right_one_loses_no_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = packed(&[(b"magic", 1), (&[7; 1000], 300)]);
        for (name, bytes) in [("a.gz", bytes), ("a", [&b"magic"[..], &[7; 300_000]].concat())] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            let begins = |with: &'static [u8]| {
                move |start: &[u8], subject: &str| match start.starts_with(with) {
                    true => Ok(None),
                    false => Err(Error::input(subject, "is another kind", "Give the right one")),
                }
            };
            assert!(refusal(&path, &mut budget(1000), &begins(b"other")).contains("is another kind"));
            for left in [0, 1 << 20] {
                let blob = Blob::open(&path, &mut budget(left), &begins(b"magic")).expect("of the kind");
                assert_eq!(*blob.read(0, 300_005).expect("there"), [&b"magic"[..], &[7; 300_000]].concat());
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_end_is_refused() {
        for memory in [0, 8] {
            let mut budget = Budget::of_mib(memory).unpacking(4);
            assert!(refusal(Path::new("/dev/zero"), &mut budget, &any_kind).contains("more than the 4 MiB"));
        }
    }

    #[test]
    fn a_part_of_the_disk_is_left_free() {
        check_room(None, u64::MAX).expect("unknown");
        check_room(Some(host::LEFT_FREE + 5), 5).expect("enough");
        let error = check_room(Some(host::LEFT_FREE + 5), 6).expect_err("too little").to_string();
        assert!(error.contains("1024 MiB are free, and 1024 MiB are to stay so"), "{error}");
        assert!(check_room(Some(u64::MAX - 1), u64::MAX).is_err());
        #[cfg(unix)]
        assert!(host::free_space(&std::env::temp_dir()).is_some(), "every disk tells");
    }

    #[test]
    fn a_budget_is_shared_in_the_order_of_asking() {
        let mut budget = budget(10);
        assert_eq!([7, 4, 3, 1].map(|bytes| budget.take(bytes)), [true, false, true, false]);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shrinks.bin");
        std::fs::write(&path, [1; 100]).expect("written");
        let blob = Blob::open(&path, &mut budget(0), &any_kind).expect("there");
        std::fs::write(&path, [1; 50]).expect("written");
        assert_eq!(*blob.read(40, 10).expect("there"), [1; 10]);
        let error = blob.read(41, 10).expect_err("gone");
        assert!(error.to_string().contains("shrinks.bin") && error.exit_status() == 1, "{error}");
    }
}
