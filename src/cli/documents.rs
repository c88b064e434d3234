//! The pages keep what they promise: commands are taken, links lead somewhere, the README stays short.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Lines of the README at most.
const README_LINES: usize = 150;

/// Folders whose files a page may name by their paths from the root.
const FOLDERS: [&str; 9] =
    ["assets/", "benches/", "configs/", "docs/", "fuzz/", "scripts/", "shaders/", "src/", "tests/"];

/// A page of the project.
struct Page {
    /// From the root.
    path: PathBuf,
    text: String,
}

/// A line of a page.
struct Line<'a> {
    /// `PATH:NUMBER`, for what a test finds.
    place: String,
    /// In a fence or indented by four, without that.
    is_code: bool,
    text: &'a str,
}

impl Page {
    fn lines(&self) -> Vec<Line<'_>> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (index, text) in self.text.lines().enumerate() {
            if text.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let indented = text.strip_prefix("    ");
            let place = format!("{}:{}", self.path.display(), index + 1);
            lines.push(Line { place, is_code: fenced || indented.is_some(), text: indented.unwrap_or(text) });
        }
        lines
    }

    /// The names under which links find its headings.
    fn anchors(&self) -> Vec<String> {
        let headings = self.lines().into_iter().filter(|line| !line.is_code && line.text.starts_with('#'));
        headings.map(|line| anchor(line.text.trim_start_matches('#').trim())).collect()
    }
}

/// As GitHub makes it of a heading: letters and digits in lower case, hyphens for blanks, nothing for all else.
fn anchor(heading: &str) -> String {
    let kept = |letter: char| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page: of the root itself, and of its folders with all that is in them but builds.
fn pages() -> Vec<Page> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    let mut files = entries(root());
    while let Some(folder) = folders.pop() {
        let (inner, found): (Vec<_>, Vec<_>) = entries(&folder).into_iter().partition(|path| path.is_dir());
        folders.extend(inner.into_iter().filter(|path| !path.ends_with("target")));
        files.extend(found);
    }
    files.retain(|path| path.extension() == Some(OsStr::new("md")));
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        Page { path: path.strip_prefix(root()).expect("below the root").to_owned(), text }
    };
    assert!(files.len() > 20, "{} pages", files.len());
    files.into_iter().map(page).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect()
}

/// The words of a command line of one of the executables, the name first: without a comment, without what the shell takes,
/// and with that name in place of `cargo run`.
fn command(line: &str) -> Option<Vec<String>> {
    let end = [" #", " > ", " | "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    let mut words = Vec::new();
    for (index, part) in line[..end].split('"').enumerate() {
        match index % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned())),
        }
    }
    if words.starts_with(&["cargo", "run", "--release"].map(str::to_owned)) {
        let at = words.iter().position(|word| word == "--")?;
        let name = words[..at].iter().skip_while(|word| *word != "--bin").nth(1).cloned();
        words.splice(..=at, [name.unwrap_or_else(|| "arcsm".to_owned())]);
    }
    let is_ours = words.first().is_some_and(|name| ["arcsm", "arcsm-sample", "arcsm-bench"].contains(&name.as_str()));
    is_ours.then_some(words)
}

/// What clap says of the words, where it does not take them.
fn complaint(words: &[String]) -> Option<String> {
    let parser = match words[0].as_str() {
        "arcsm" => Arcsm::command(),
        "arcsm-sample" => Single::<sample::Sample>::command(),
        _ => Single::<bench::Bench>::command(),
    };
    parser.try_get_matches_from(words).err().map(|error| error.to_string())
}

/// Names of what is built in.
fn recipes() -> impl Iterator<Item = &'static str> {
    settings::BUILT_IN.iter().map(|(name, _)| *name)
}

/// The targets of a line's links and pictures.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// What stands between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a span is the path of one file or folder of the project, with no word that stands for another.
fn is_path(span: &str) -> bool {
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-/".contains(letter);
    FOLDERS.iter().any(|folder| span.starts_with(folder)) && span.chars().all(is_name)
}

#[test]
fn every_command_is_taken() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in &pages() {
        for line in page.lines().iter().filter(|line| line.is_code) {
            let Some(words) = command(line.text) else { continue };
            count += 1;
            wrong.extend(complaint(&words).map(|complaint| format!("{}: {complaint}", line.place)));
            let recipe = words.iter().skip_while(|word| *word != "--config").nth(1);
            let is_known = |name: &String| name.ends_with(".toml") || recipes().any(|recipe| recipe == name);
            wrong.extend(recipe.filter(|name| !is_known(name)).map(|name| format!("{}: no recipe {name}", line.place)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "{count} commands: are they still found?");
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    for page in &pages {
        let folder = root().join(page.path.parent().expect("a file"));
        for line in page.lines().iter().filter(|line| !line.is_code) {
            for link in links(line.text).filter(|link| !link.contains("://")) {
                let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
                let target = if path.is_empty() { root().join(&page.path) } else { folder.join(path) };
                let Ok(target) = target.canonicalize() else {
                    wrong.push(format!("{}: there is no {link}", line.place));
                    continue;
                };
                let same = |page: &&Page| root().join(&page.path).canonicalize().is_ok_and(|path| path == target);
                let is_there =
                    || pages.iter().find(same).is_some_and(|page| page.anchors().iter().any(|a| a == wanted));
                if !wanted.is_empty() && !is_there() {
                    wrong.push(format!("{}: {link} has no such heading", line.place));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut wrong = Vec::new();
    for page in &pages() {
        for line in page.lines() {
            let script = line.text.split_whitespace().next().filter(|_| line.is_code);
            let named = spans(line.text).filter(|_| !line.is_code).chain(script);
            let missing = named.filter(|path| is_path(path) && !root().join(path).exists());
            wrong.extend(missing.map(|path| format!("{}: there is no {path}", line.place)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recipe_is_named_where_it_is_looked_for() {
    let help = Arcsm::command().find_subcommand_mut("train").expect("a command").render_long_help().to_string();
    let page = fs::read_to_string(root().join("docs/models/ar-csm.md")).expect("text");
    let words: Vec<&str> = help.split(|letter: char| letter.is_whitespace() || ",.:".contains(letter)).collect();
    for recipe in recipes() {
        assert!(words.contains(&recipe), "{recipe} is not in the help of `arcsm train`");
        assert!(page.contains(&format!("`{recipe}`")), "{recipe} is not among the recipes of docs/models/ar-csm.md");
    }
}

#[test]
fn the_readme_stays_short() {
    let lines = fs::read_to_string(root().join("README.md")).expect("text").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, at most {README_LINES}: move some into docs/");
}

#[test]
fn commands_are_told_from_what_surrounds_them() {
    let words = |line: &str| command(line).map(|words| words.join(" "));
    assert_eq!(words("arcsm doctor --json > doctor.json  # all").as_deref(), Some("arcsm doctor --json"));
    assert_eq!(words("cargo run --release -- demo").as_deref(), Some("arcsm demo"));
    let bench = words("cargo run --release --bin arcsm-bench -- kernels [--full-passes]");
    assert_eq!(bench.as_deref(), Some("arcsm-bench kernels --full-passes"));
    let quoted = command("arcsm reproduce toy-2d --only \"moons mog\" --out a").expect("a command");
    assert_eq!(quoted[4], "moons mog");
    assert_eq!(words("cargo test --release"), None);
    assert!(complaint(&["arcsm", "train", "--no-such-flag"].map(str::to_owned)).is_some());
    assert_eq!(anchor("8-bit: what `it` says"), "8-bit-what-it-says");
}
