//! The image files of a folder and of the folders in it, and what else lies there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Ends of the names of files that are read; their content then decides which of the formats they have.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp", "gif"];
/// Endings that are told apart among what is passed over.
const MOST_ENDINGS: usize = 6;

/// Everything in a folder that is no image, counted.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    /// Files of other endings, or without one.
    endings: BTreeMap<String, usize>,
    /// Symbolic links to folders, which may lead in circles, or to nothing.
    links: usize,
    /// Names that start with a dot: whoever made them wants them overlooked.
    hidden: usize,
    /// Pipes, sockets and devices, which may never end.
    others: usize,
}

impl PassedOver {
    fn is_empty(&self) -> bool {
        self.endings.is_empty() && [self.links, self.hidden, self.others] == [0; 3]
    }

    /// What the user should know of it, if there is anything.
    pub(super) fn note(&self) -> Option<String> {
        (!self.is_empty()).then(|| format!("passed over: {self}"))
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut endings: Vec<_> = self.endings.iter().collect();
        endings.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let (named, more) = endings.split_at(endings.len().min(MOST_ENDINGS));
        let mut parts: Vec<_> = named.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
        let more: usize = more.iter().map(|(_, count)| **count).sum();
        let counted =
            [(more, "other file"), (self.links, "link"), (self.others, "special file"), (self.hidden, "dot-file")];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        parts.extend(counted.map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" })));
        f.write_str(&parts.join(", "))
    }
}

/// Files that are named like images, sorted. Links to files are files; those to folders are not followed.
pub(super) fn image_files(folder: &Path) -> Result<(Vec<PathBuf>, PassedOver)> {
    let (mut files, mut folders, mut passed_over) = (Vec::new(), vec![folder.to_owned()], PassedOver::default());
    while let Some(folder) = folders.pop() {
        let unreadable = |source: io::Error| {
            let problem = format!("cannot be read: {source}");
            Error::input(folder.display().to_string(), problem, "Give a folder that exists and may be read")
        };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            match kind_of(&entry).map_err(unreadable)? {
                Kind::Folder => folders.push(entry.path()),
                Kind::Image => files.push(entry.path()),
                Kind::File(ending) => *passed_over.endings.entry(ending).or_default() += 1,
                Kind::Link => passed_over.links += 1,
                Kind::Hidden => passed_over.hidden += 1,
                Kind::Other => passed_over.others += 1,
            }
        }
    }
    if files.is_empty() {
        let passed_over = passed_over.note().map_or(String::new(), |note| format!("; {note}"));
        let problem = format!("holds no file named .{}{passed_over}", ENDINGS.join(", ."));
        return Err(Error::input(folder.display().to_string(), problem, "Give a folder with image files"));
    }
    files.sort();
    Ok((files, passed_over))
}

enum Kind {
    Folder,
    Image,
    /// Another file, with its ending in words.
    File(String),
    Link,
    Hidden,
    Other,
}

fn kind_of(entry: &DirEntry) -> io::Result<Kind> {
    if entry.file_name().to_string_lossy().starts_with('.') {
        return Ok(Kind::Hidden);
    }
    // The type is that of a link itself, so a link to a folder above cannot lead in circles.
    let found = entry.file_type()?;
    if found.is_dir() {
        return Ok(Kind::Folder);
    }
    let is_link = found.is_symlink();
    // One that leads nowhere, or to itself, has no metadata.
    let is_file = found.is_file() || is_link && std::fs::metadata(entry.path()).is_ok_and(|behind| behind.is_file());
    let path = entry.path();
    let ending = ending_of(&path);
    Ok(match ending {
        _ if !is_file && is_link => Kind::Link,
        _ if !is_file => Kind::Other,
        _ if is_named_like_image(&path) => Kind::Image,
        _ if is_link => Kind::Link,
        Some(ending) => Kind::File(format!(".{}", ending.escape_debug())),
        None => Kind::File("without an ending".into()),
    })
}

fn ending_of(path: &Path) -> Option<String> {
    path.extension().map(OsStr::to_string_lossy).map(|ending| ending.to_ascii_lowercase())
}

pub(super) fn is_named_like_image(path: &Path) -> bool {
    ending_of(path).is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(folder: &Path, names: &[&str]) {
        names.iter().for_each(|name| fs::write(folder.join(name), "x").expect("written"));
    }

    #[test]
    fn what_is_no_image_is_counted_by_its_ending() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), &["b.PNG", "a.tiff", "1.txt", "2.TXT", "3.txt", "x.svg", "README", ".DS_Store", ".a.png"]);
        let (files, passed_over) = image_files(folder.path()).expect("images");
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
        assert_eq!(names, ["a.tiff", "b.PNG"]);
        let note = passed_over.note().expect("something");
        assert_eq!(note, "passed over: 3 .txt, 1 .svg, 1 without an ending, 2 dot-files");
        put(folder.path(), &["1.a", "2.b", "3.c", "4.d", "5.e", "new.li\nne"]);
        let note = image_files(folder.path()).expect("images").1.note().expect("something");
        assert_eq!(note, "passed over: 3 .txt, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 3 other files, 2 dot-files");
        assert_eq!(PassedOver::default().note(), None);
    }

    #[test]
    fn a_folder_without_images_says_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), &["x.csv"]);
        let error = image_files(folder.path()).expect_err("none").to_string();
        assert!(error.contains("holds no file named .png, .jpg") && error.contains("passed over: 1 .csv"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_circles_are_counted_and_links_to_images_are_read() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("made");
        put(folder.path(), &["a.png"]);
        for (to, name) in [("..", "up"), ("nowhere", "gone.png"), ("self.png", "self.png"), ("../a.png", "b.png")] {
            symlink(to, inner.join(name)).expect("linked");
        }
        let (files, passed_over) = image_files(folder.path()).expect("images");
        assert_eq!(files, [folder.path().join("a.png"), inner.join("b.png")]);
        assert_eq!(passed_over.note().expect("links"), "passed over: 3 links");
    }

    #[cfg(unix)]
    #[test]
    fn what_may_never_end_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), &["a.png"]);
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("b.png")).expect("bound");
        let (files, passed_over) = image_files(folder.path()).expect("images");
        assert_eq!((files.len(), passed_over.note().expect("a socket").as_str()), (1, "passed over: 1 special file"));
    }
}
