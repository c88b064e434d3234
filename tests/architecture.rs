//! The house keeps its floors: read from the sources themselves. No file uses a floor above its own, no files use each other
//! in pairs, and some crates are named on one floor alone. Unit tests and comments do not count; calls of methods, which name no
//! file, are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::visit::{self, Visit};

/// Floors from the ground up, with their rooms. A file may use its own floor and those below it.
const FLOORS: &[(&str, &[&str])] = &[
    ("machine: adapters, memory, pipelines; knows no model", &["gpu"]),
    ("ground: used by all", &["error", "host", "codes", "numbers", "shape", "order", "standard", "files"]),
    ("vocabulary: every kernel, declared once", &["kernels"]),
    ("data: samples, from wherever", &["data"]),
    ("layers: parameters, optimiser, networks as lists", &["nn"]),
    ("families: a folder each", &["models"]),
    ("twins: layers, kernels and models in f64", &["reference"]),
    ("runs: their settings and what is kept of them", &["config", "checkpoint"]),
    ("asking: what a trained model can tell", &["ask"]),
    ("loops: training", &["train"]),
    ("judging: kernels against twins, and how fast", &["doctor", "bench"]),
    ("experiments", &["reproduce"]),
    ("talking: flags, progress, words", &["cli"]),
];

/// Crates that some rooms alone may name. Settings whose words are flags too derive them by clap.
const KEPT: &[(&str, &[&str])] = &[
    ("wgpu", &["gpu"]),
    ("naga", &["gpu"]),
    ("ctrlc", &["cli"]),
    ("clap", &["cli", "codes", "order", "standard", "data", "models", "ask", "reproduce"]),
    ("indicatif", &["cli", "host", "train"]),
    ("plotters", &["files"]),
    ("sysinfo", &["host"]),
    ("tempfile", &["files", "bench"]),
];

/// Lines of a file at most, without its unit tests.
const MOST_LINES: usize = 700;

/// Source files by their paths below `src/` without the ending, `mod` left out: `nn/net`, `nn/net/taps`.
type Sources = BTreeMap<String, Source>;

/// What a file's own code names, its unit tests left out.
#[derive(Default)]
struct Source {
    lines: usize,
    /// Paths as they stand there, and whether the file only hands them on (`pub use`).
    paths: Vec<(String, bool)>,
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
        match entry.extension().and_then(|extension| extension.to_str()) {
            _ if entry.is_dir() => walk(&entry, found),
            Some("rs") => found.push(entry),
            _ => {}
        }
    }
}

/// Every file but the executables, tests and their helpers left out.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let module = |file: &Path| {
        let inside = file.strip_prefix(&root).expect("below src").with_extension("");
        let name = inside.to_str().expect("UTF-8").replace('\\', "/");
        name.strip_suffix("/mod").map_or(name.clone(), str::to_owned)
    };
    let files = files.iter().filter(|file| !file.ends_with("tests.rs") && !file.ends_with("testing.rs"));
    let read = |file: &PathBuf| (module(file), Source::new(&fs::read_to_string(file).expect("UTF-8")));
    files.map(read).filter(|(module, _)| module != "lib" && !module.starts_with("bin/")).collect()
}

impl Source {
    fn new(text: &str) -> Self {
        let tests = text.match_indices("\n#[cfg(test)]\n").find(|(at, mark)| {
            text[at + mark.len()..].lines().next().is_some_and(|line| line.ends_with('{') && line.contains("mod "))
        });
        let own = &text[..tests.map_or(text.len(), |(at, _)| at)];
        let mut source = Self { lines: own.lines().count(), ..Self::default() };
        source.visit_file(&syn::parse_file(text).expect("it compiles"));
        source
    }

    /// Paths in a text of tokens.
    fn take_words(&mut self, tokens: &str) {
        let text = tokens.replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        self.paths.extend(words.filter(|word| word.contains("::")).map(|word| (word.to_owned(), false)));
    }

    /// Paths of a `use` tree, one for each name.
    fn take_tree(&mut self, tree: &syn::UseTree, prefix: &str, hands_on: bool) {
        let with = |name: &syn::Ident| format!("{prefix}{name}");
        match tree {
            syn::UseTree::Path(path) => self.take_tree(&path.tree, &(with(&path.ident) + "::"), hands_on),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_tree(tree, prefix, hands_on)),
            syn::UseTree::Name(name) => self.paths.push((with(&name.ident), hands_on)),
            syn::UseTree::Rename(name) => self.paths.push((with(&name.ident), hands_on)),
            syn::UseTree::Glob(_) => self.paths.push((prefix.trim_end_matches(':').to_owned(), hands_on)),
        }
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| attribute.to_token_stream().to_string().contains("cfg (test)");
        if !item.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_tree(&item.tree, "", !matches!(item.vis, syn::Visibility::Inherited));
    }

    /// Attributes are not parsed either.
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if !attribute.path().is_ident("doc") {
            self.take_words(&attribute.to_token_stream().to_string());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.paths.push((names.join("::"), false));
        visit::visit_path(self, path);
    }

    /// What a macro gets is not parsed, but paths are easily seen.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        self.take_words(&item.tokens.to_string());
    }
}

/// A path from the crate's root; none of other crates.
fn from_root(module: &str, path: &str) -> Option<String> {
    let mut base: Vec<&str> = module.split('/').collect();
    let mut segments = path.split("::").filter(|segment| !segment.is_empty()).peekable();
    match segments.next()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while segments.peek() == Some(&"super") {
                segments.next();
                base.pop();
            }
        }
        _ => return None,
    }
    base.extend(segments.take_while(|segment| *segment != "self"));
    Some(base.join("::"))
}

/// The file in which what a path names is defined: names that a module only hands on are followed.
fn home(path: &str, handed_on: &BTreeMap<(String, String), String>, sources: &Sources) -> Option<String> {
    let segments: Vec<&str> = path.split("::").collect();
    let mut module = None;
    for (at, segment) in segments.iter().enumerate() {
        let inner = module.as_ref().map_or((*segment).to_owned(), |module| format!("{module}/{segment}"));
        if sources.contains_key(&inner) {
            module = Some(inner);
            continue;
        }
        let key = (module.clone().unwrap_or_default(), (*segment).to_owned());
        return match handed_on.get(&key) {
            Some(real) => home(&[&[real.as_str()][..], &segments[at + 1..]].concat().join("::"), handed_on, sources),
            None => module,
        };
    }
    module
}

/// Which files each file uses.
fn uses(sources: &Sources) -> BTreeMap<String, BTreeSet<String>> {
    let mut handed_on = BTreeMap::new();
    for (module, source) in sources {
        for (path, _) in source.paths.iter().filter(|(_, hands_on)| *hands_on) {
            let is_relative = !["crate::", "self::", "super::"].iter().any(|root| path.starts_with(root));
            let path = if is_relative { format!("self::{path}") } else { path.clone() };
            let last = path.rsplit("::").next().unwrap_or_default().to_owned();
            handed_on.extend(from_root(module, &path).map(|real| ((module.clone(), last), real)));
        }
    }
    let of = |module: &String, source: &Source| {
        let real = source
            .paths
            .iter()
            .filter_map(|(path, _)| from_root(module, path).or_else(|| own_child(module, path, sources)));
        let files = real.filter_map(|path| home(&path, &handed_on, sources));
        (module.clone(), files.filter(|file| file != module).collect())
    };
    sources.iter().map(|(module, source)| of(module, source)).collect()
}

/// A path that begins with a module of this one.
fn own_child(module: &str, path: &str, sources: &Sources) -> Option<String> {
    let (first, _) = path.split_once("::")?;
    sources.contains_key(&format!("{module}/{first}")).then(|| format!("{}::{path}", module.replace('/', "::")))
}

fn room(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|(_, rooms)| rooms.contains(&room(module)));
    found.unwrap_or_else(|| panic!("src/{module}.rs stands on no floor: name its room in FLOORS"))
}

fn arrows_up(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (module, used) in uses(sources) {
        let above = used.iter().filter(|other| floor(other) > floor(&module));
        found.extend(above.map(|other| format!("{module} uses {other}, which stands above it")));
    }
    found
}

/// A folder's own file and those in the folder are one: the first shows outside what the others are made of.
fn circles(sources: &Sources) -> Vec<String> {
    let uses = uses(sources);
    let mut found = Vec::new();
    for (module, used) in &uses {
        let is_inside = |other: &str| other.starts_with(&format!("{module}/"));
        let back = used.iter().filter(|other| *other > module && !is_inside(other) && uses[*other].contains(module));
        found.extend(back.map(|other| format!("{module} and {other} use each other")));
    }
    found
}

#[test]
fn no_arrow_runs_up() {
    let found = arrows_up(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_two_files_use_each_other() {
    let found = circles(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names that are handed on, called in full, given to macros or used by a child of a folder.
#[test]
fn arrows_and_circles_are_seen_however_they_are_written() {
    let house = |files: &[(&str, &str)]| -> Sources {
        files.iter().map(|&(module, text)| (module.to_owned(), Source::new(text))).collect()
    };
    let ask = ("ask", "mod draw;\npub use draw::Draw;");
    let below = [
        "use crate::ask::Draw;",
        "pub use crate::ask::{Draw};",
        "fn f() { crate::ask::draw::f() }",
        "m!(crate::ask::Draw);",
    ];
    for text in below {
        let found = arrows_up(&house(&[("nn", text), ask, ("ask/draw", "pub struct Draw;")]));
        assert_eq!(found, ["nn uses ask/draw, which stands above it"], "{text}");
    }
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::ask::Draw;\n}\n";
    assert!(arrows_up(&house(&[("nn", tests), ask, ("ask/draw", "pub struct Draw;")])).is_empty());
    let folder = ("data", "mod a;\nmod b;\npub use a::A;\nfn f() { b::g() }");
    let found = circles(&house(&[folder, ("data/a", "use super::b::B;"), ("data/b", "use super::A;\nuse super::f;")]));
    assert_eq!(found, ["data/a and data/b use each other"]);
}

#[test]
fn crates_keep_to_their_rooms() {
    let mut found = Vec::new();
    for (module, source) in sources() {
        for (name, rooms) in KEPT {
            let is_named = source.paths.iter().any(|(path, _)| path.split("::").next() == Some(name));
            if is_named && !rooms.contains(&room(&module)) {
                found.push(format!("{module} names {name}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_fit_the_eye() {
    let long = sources().into_iter().map(|(module, source)| (module, source.lines));
    let long: Vec<_> = long.filter(|(_, lines)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:?}");
}
