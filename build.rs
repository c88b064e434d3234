//! Names the commit that is being built: `arcsm --version`, checkpoints and benchmark records carry it.

use std::process::Command;

fn main() {
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
