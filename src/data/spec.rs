//! What a SPEC is made of, and what a wrong one was meant to be.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Density, folder, images};
use crate::error::{Error, Result, nearest};

/// Every form of a SPEC: what stands before the colon, and what belongs after it.
pub(super) const SPECS: [(&str, &str); 10] = [
    ("digits", ""),
    ("mnist", "DIR"),
    ("cifar10", "DIR"),
    ("images", "DIR"),
    ("idx", "FILE"),
    ("npy", "FILE"),
    ("npz", "FILE"),
    ("csv", "FILE"),
    ("toy", "NAME"),
    ("gaussian", "D"),
];

/// The two parts of a SPEC whose kind is known; a path in it is the whole one.
pub(super) fn parts(spec: &str) -> Result<(&'static str, Cow<'_, str>)> {
    let (kind, argument) = spec.split_once(':').unwrap_or((spec, ""));
    let Some(&(kind, expected)) = SPECS.iter().find(|(name, _)| *name == kind) else { return Err(unknown(spec)) };
    if expected.is_empty() != argument.is_empty() {
        let remedy = match meant_by_path(spec) {
            Some((kind, path)) => format!("Did you mean `{kind}:{path}`?"),
            None => format!("Write {}", form(kind, "")),
        };
        return Err(Error::input(spec, "is no complete data SPEC", remedy));
    }
    Ok((kind, if takes_path(expected) { whole_path(argument)? } else { argument.into() }))
}

fn takes_path(expected: &str) -> bool {
    matches!(expected, "DIR" | "FILE")
}

fn takes_folder(kind: &str) -> bool {
    SPECS.iter().any(|(name, expected)| *name == kind && *expected == "DIR")
}

/// A path with `~` at its start as the folder that it stands for: a shell knows it only at the start of a word.
pub(super) fn whole_path(path: &str) -> Result<Cow<'_, str>> {
    let Some(rest) = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\'])) else {
        return Ok(path.into());
    };
    if Path::new(path).exists() {
        return Ok(path.into());
    }
    let home = std::env::home_dir().and_then(|home| home.into_os_string().into_string().ok());
    match home.filter(|home| !home.is_empty()) {
        Some(home) => Ok((home + rest).into()),
        None => Err(Error::input(path, "starts with ~, and there is no folder HOME", "Write the whole path")),
    }
}

/// A kind with its argument, or with what belongs there.
fn form(kind: &str, argument: &str) -> String {
    match SPECS.iter().find(|(name, _)| *name == kind) {
        Some((_, "")) => kind.into(),
        Some((_, expected)) if argument.is_empty() => format!("{kind}:{expected}"),
        _ => format!("{kind}:{argument}"),
    }
}

fn unknown(spec: &str) -> Error {
    let forms = SPECS.map(|(name, _)| form(name, "")).join(", ");
    Error::input(spec, format!("is no data SPEC; there are {forms}"), format!("Did you mean `{}`?", meant(spec)))
}

/// What a SPEC of no known kind was meant to be.
fn meant(spec: &str) -> String {
    let (kind, argument) = spec.split_once(':').unwrap_or((spec, ""));
    let (kind, argument) = (kind.trim().to_ascii_lowercase(), argument.trim());
    if SPECS.iter().any(|(name, _)| *name == kind) {
        return if kind == "toy" { form(&kind, &argument.to_ascii_lowercase()) } else { form(&kind, argument) };
    }
    // One letter before the colon names a drive.
    let path = if argument.is_empty() || kind.len() == 1 || is_there(spec) { spec.trim() } else { argument };
    if let Some((kind, path)) = meant_by_path(path) {
        return form(kind, &path);
    }
    if argument.is_empty() && (path.ends_with(['/', '\\']) || is_folder(path)) {
        return form("images", path);
    }
    let near = nearest(&kind, SPECS.map(|(name, _)| name).into_iter().chain(Density::TOYS));
    if SPECS.iter().any(|(name, _)| *name == near) { form(near, argument) } else { format!("toy:{near}") }
}

/// The error of a SPEC whose kind is known, with what it was meant to be as the remedy where that is another one.
pub(super) fn explain(spec: &str, error: Error) -> Error {
    let Error::Input { subject, problem, remedy } = error else { return error };
    let (kind, argument) = spec.split_once(':').unwrap_or((spec, ""));
    let has_path = SPECS.iter().any(|(name, expected)| *name == kind && takes_path(expected));
    let plain = argument.trim();
    let meant = match meant_by_path(plain) {
        _ if !has_path => None,
        Some((other, path)) if is_there(plain) && (other != kind || takes_folder(kind) != is_folder(plain)) => {
            Some(form(other, &path))
        }
        // Of what is not there the name must say it.
        Some((other @ ("npy" | "npz"), path)) if other != kind && !is_there(plain) => Some(form(other, &path)),
        _ if plain != argument && !plain.is_empty() && !is_there(argument) => Some(form(kind, plain)),
        _ => None,
    };
    let remedy = meant.map_or(remedy, |meant| format!("Did you mean `{meant}`?"));
    Error::Input { subject, problem, remedy }
}

/// The path behind a written one, without the name of an array.
fn behind(written: &str) -> PathBuf {
    let whole = whole_path(written).unwrap_or(written.into());
    match whole.rsplit_once('#') {
        Some((file, _)) if !Path::new(&*whole).exists() => file.into(),
        _ => whole.into_owned().into(),
    }
}

fn is_there(written: &str) -> bool {
    behind(written).exists()
}

fn is_folder(written: &str) -> bool {
    behind(written).is_dir()
}

/// The SPEC of a file of samples or a folder of images, by its content or else its name; an array where these say nothing.
pub fn of_file(path: &Path) -> String {
    let written = path.to_string_lossy();
    let kind = match meant_by_path(&written) {
        Some((kind, argument)) if argument == written => kind,
        _ if path.is_dir() => "images",
        _ => "npy",
    };
    format!("{kind}:{written}")
}

/// The kind that a path is of, by its content where it is there and by its name elsewhere, and the path that belongs
/// after it.
fn meant_by_path(written: &str) -> Option<(&'static str, String)> {
    let path = behind(written);
    if path.is_dir() {
        return meant_by_folder(written, &path);
    }
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let is_packed = name.ends_with(".gz");
    let name = name.trim_end_matches(".gz");
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let kind = match if path.is_file() && !is_packed { kind_of_start(&start_of(&path)?) } else { None } {
        Some(kind) => kind,
        None if matches!(ending, "csv" | "tsv" | "txt" | "dat") => "csv",
        // What is there, and is not packed, would have been known by its start.
        None if path.is_file() && !is_packed => return None,
        None if ending == "npy" => "npy",
        None if ending == "npz" => "npz",
        None if ending == "idx" || name.ends_with("-ubyte") => "idx",
        None if folder::is_named_like_image(Path::new(name)) => "images",
        None => return None,
    };
    let folder = written.rsplit_once(['/', '\\']).map_or(".", |(folder, _)| folder);
    Some((kind, if kind == "images" { folder } else { written }.to_owned()))
}

fn meant_by_folder(written: &str, path: &Path) -> Option<(&'static str, String)> {
    let entries = std::fs::read_dir(path).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = entries.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    let any = |start: &str| names.iter().any(|name| name.starts_with(start));
    let same = |kind| Some((kind, written.to_owned()));
    if any("train-images-idx3-ubyte") {
        return same("mnist");
    }
    if any("data_batch") {
        return same("cifar10");
    }
    if names.iter().any(|name| folder::is_named_like_image(Path::new(name))) {
        return same("images");
    }
    let inside = |name: &String| format!("{}/{name}", written.trim_end_matches(['/', '\\']));
    let mut files = names.iter().map(inside).filter(|name| behind(name).is_file());
    files.find_map(|file| meant_by_path(&file))
}

/// The first bytes of a file.
fn start_of(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(16).read_to_end(&mut start).ok()?;
    Some(start)
}

fn kind_of_start(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "npy",
        [b'P', b'K', 3, 4, ..] => "npz",
        [0, 0, 0x08..=0x0e, 1..=4, ..] => "idx",
        _ if images::is_image(start) => "images",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(error: Error) -> String {
        let text = error.to_string();
        assert!(error.exit_status() == 2 && !text.contains('\n'), "{text}");
        text[text.rfind("Did you mean").expect(&text)..].to_owned()
    }

    /// A folder of files that are told by their start or by their name.
    fn files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in [
            ("x.csv", &b"1,2\n"[..]),
            ("x.npy", b"\x93NUMPY\x01"),
            ("x.npz", b"PK\x03\x04 and so on"),
            ("packed.csv.gz", b"\x1f\x8b"),
            ("labels-idx1-ubyte", &[0, 0, 8, 1, 0]),
            ("photos/a.png", b"\x89PNG\r\n\x1a\n"),
            ("mnist/train-images-idx3-ubyte.gz", b"\x1f\x8b"),
            ("cifar/data_batch_1.bin", b"x"),
            ("tables/one.csv", b"1,2\n"),
            ("nothing/notes", b"x"),
            ("text.npy", b"1,2\n"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        folder
    }

    #[test]
    fn a_file_has_the_spec_of_its_content() {
        let folder = files();
        let of = |name: &str| of_file(&folder.path().join(name)).split(':').next().map(str::to_owned);
        std::fs::write(folder.path().join("rows.txt"), "1,2\n").expect("written");
        std::fs::write(folder.path().join("numbers"), b"\x93NUMPY").expect("written");
        std::fs::create_dir(folder.path().join("empty")).expect("made");
        assert_eq!(
            ["rows.txt", "numbers", "empty", "none"].map(of),
            ["csv", "npy", "images", "npy"].map(|s| Some(s.into()))
        );
    }

    #[test]
    fn a_bare_path_is_told_by_what_is_there() {
        let folder = files();
        let at = |name: &str| format!("{}/{name}", folder.path().display());
        for (name, meant) in [
            ("x.csv", "csv:@/x.csv"),
            ("x.npy", "npy:@/x.npy"),
            ("x.npz", "npz:@/x.npz"),
            ("x.npz#a", "npz:@/x.npz#a"),
            ("packed.csv.gz", "csv:@/packed.csv.gz"),
            ("labels-idx1-ubyte", "idx:@/labels-idx1-ubyte"),
            ("photos/", "images:@/photos/"),
            ("photos", "images:@/photos"),
            ("photos/a.png", "images:@/photos"),
            ("mnist", "mnist:@/mnist"),
            ("cifar", "cifar10:@/cifar"),
            ("tables/", "csv:@/tables/one.csv"),
            ("nothing", "images:@/nothing"),
            ("gone.csv", "csv:@/gone.csv"),
            ("gone.tsv", "csv:@/gone.tsv"),
            ("gone.txt.gz", "csv:@/gone.txt.gz"),
            ("gone.dat", "csv:@/gone.dat"),
            ("gone.npz", "npz:@/gone.npz"),
            ("gone-idx3-ubyte", "idx:@/gone-idx3-ubyte"),
        ] {
            let meant = format!("Did you mean `{}`?", meant.replace('@', &folder.path().display().to_string()));
            assert_eq!(remedy(parts(&at(name)).expect_err(name)), meant);
        }
    }

    #[test]
    fn slips_of_the_pen_are_mended() {
        for (spec, meant) in [
            ("CSV:x.csv", "csv:x.csv"),
            ("Csv: x.csv", "csv:x.csv"),
            (" digits", "digits"),
            ("Toy:Moons", "toy:moons"),
            ("cvs:x.csv", "csv:x.csv"),
            ("file:x.npy", "npy:x.npy"),
            ("C:\\x.csv", "csv:C:\\x.csv"),
            ("mnits:here", "mnist:here"),
            ("toys:moons", "toy:moons"),
            ("IMAGES:", "images:DIR"),
            ("photos/", "images:photos/"),
            ("~/x.csv", "csv:~/x.csv"),
        ] {
            assert_eq!(remedy(parts(spec).expect_err(spec)), format!("Did you mean `{meant}`?"), "{spec}");
        }
    }

    #[test]
    fn an_argument_of_another_kind_names_its_own() {
        let folder = files();
        let here = folder.path().display().to_string();
        let explained = |spec: &str| explain(&spec.replace('@', &here), Error::input("x", "is odd", "Mend it"));
        for (spec, meant) in [
            ("csv: @/x.csv", "csv:@/x.csv"),
            ("csv:@/photos", "images:@/photos"),
            ("csv:@/tables", "csv:@/tables/one.csv"),
            ("npy:@/tables", "csv:@/tables/one.csv"),
            ("images:@/x.csv", "csv:@/x.csv"),
            ("images:@/photos/a.png", "images:@/photos"),
            ("npy:@/x.npz", "npz:@/x.npz"),
            ("npy:@/x.npz#a", "npz:@/x.npz#a"),
            ("npz:@/x.npy", "npy:@/x.npy"),
            ("csv:@/x.npy", "npy:@/x.npy"),
            ("mnist:@/cifar", "cifar10:@/cifar"),
            ("cifar10:@/photos", "images:@/photos"),
            ("idx:@/packed.csv.gz", "csv:@/packed.csv.gz"),
            ("csv: gone.csv", "csv:gone.csv"),
            ("npy:gone.npz", "npz:gone.npz"),
        ] {
            let meant = format!("Did you mean `{meant}`?");
            assert!(explained(spec).to_string().ends_with(&meant.replace('@', &here)), "{spec}: {}", explained(spec));
        }
        for spec in ["csv:@/x.csv", "npz:@/x.npz#b", "csv:@/text.npy", "idx:@/gone.dat", "toy:x.csv", "images:@/photos"]
        {
            assert_eq!(explained(spec).to_string(), "x: is odd. Mend it", "{spec}");
        }
    }

    #[test]
    fn a_tilde_stands_for_the_home_folder_at_the_start_alone() {
        let home = std::env::home_dir().expect("a home").display().to_string();
        for (written, whole) in [("~/x.csv", format!("{home}/x.csv")), ("~", home.clone())] {
            assert_eq!(whole_path(written).expect("a home"), whole);
            assert_eq!(parts(&format!("csv:{written}")).expect("known").1, whole);
        }
        for as_it_is in ["~x.csv", "a/~/x.csv", "x.csv~", ""] {
            assert_eq!(whole_path(as_it_is).expect("nothing to do"), as_it_is);
        }
    }
}
