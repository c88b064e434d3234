//! What happens to a run from outside: a second training, closed terminals, full logs, kills.

use std::fs;

use arcsm::checkpoint::Checkpoint;

use super::{TINY, arcsm, folder, has_adapter, refuses, spawn, succeeds, wait_for_step};

#[test]
fn a_folder_takes_one_training_at_a_time() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words = format!("train {TINY} --steps 1000000 --checkpoint-every 1 --out run");
    let mut first = spawn(here.path(), &words);
    let last = here.path().join("run/checkpoints/last.safetensors");
    wait_for_step(&last, 1);
    let holder = format!("is in use by process {} on ", first.id());
    let holder = if cfg!(unix) { holder.as_str() } else { "is in use by" };
    for second in [words.clone(), format!("{words} --force"), "train --resume run".into()] {
        refuses(&mut arcsm(here.path(), &second), 2, &["run", holder, "give another folder"]);
    }
    let reached = wait_for_step(&last, 2).step;
    assert!(wait_for_step(&last, reached + 1).step > reached, "the first one goes on");
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    assert!(here.path().join("run/lock").exists(), "a killed process leaves the file");
    let steps = Checkpoint::load(&last).expect("readable").step + 1;
    succeeds(&mut arcsm(here.path(), &format!("train --resume run --steps {steps}")));
    assert_eq!(fs::read(here.path().join("run/lock")).expect("it stays"), b"", "nobody holds it");
}
