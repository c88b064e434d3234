//! Names the commit that is being built (`arcsm --version`, checkpoints and benchmark records carry it), and lists the WGSL
//! that kernels include.

use std::path::Path;
use std::process::Command;

fn main() {
    list_shared_shaders();
    name_commit();
}

/// Writes an expression of all (name, text) in `shaders/shared/`, in the order of their names.
fn list_shared_shaders() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("shaders/shared");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = std::fs::read_dir(&folder).expect("the folder of included shaders");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wgsl"));
    files.sort();
    let entry = |file: &std::path::PathBuf| {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name in ASCII");
        format!("    ({stem:?}, include_str!({file:?})),\n")
    };
    let list: String = files.iter().map(entry).collect();
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("shared_shaders.rs"), format!("&[\n{list}]\n")).expect("a folder to write in");
}

fn name_commit() {
    println!("cargo::rerun-if-env-changed=ARCSM_COMMIT");
    // The reflog of HEAD changes with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = std::env::var("ARCSM_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=ARCSM_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// Output of a git command in this folder; None without git or outside of a clone.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
