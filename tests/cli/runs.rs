//! What happens to a run from outside: a second training, closed terminals, full logs, kills.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use arcsm::checkpoint::Checkpoint;

use super::{TINY, arcsm, folder, has_adapter, program, refuses, spawn, succeeds, wait_for_step};

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

/// Where stderr may go: to a reader that has left, to a disk that is full, nowhere.
#[cfg(target_os = "linux")]
fn deaf() -> [Stdio; 3] {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    [writer.into(), full.into(), Stdio::null()]
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_does_not_need_anyone_who_listens() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    for (number, stderr) in deaf().into_iter().enumerate() {
        let words = format!("-v train {TINY} --steps 6 --out run{number}");
        let mut command = program("arcsm");
        command.current_dir(here.path()).args(words.split_whitespace()).env("RUST_LOG", "trace");
        let output = command.stdout(Stdio::piped()).stderr(stderr).output().expect("the executable starts");
        assert_eq!(output.status.code(), Some(0), "stderr {number}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("6 steps in"), "stderr {number}");
        let last = here.path().join(format!("run{number}/checkpoints/last.safetensors"));
        assert_eq!(Checkpoint::load(&last).expect("written").step, 6);
    }
    // `2>&-` takes the stream away altogether, and errors have nowhere to go either.
    for (words, status) in [("train --resume run0 --steps 8", 0), ("train --resume none", 2)] {
        let script = format!("exec \"$0\" {words} 2>&-");
        let mut command = Command::new("sh");
        command.current_dir(here.path()).args(["-c", &script, env!("CARGO_BIN_EXE_arcsm")]);
        let ended = command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).stdout(Stdio::null()).status();
        assert_eq!(ended.expect("a shell").code(), Some(status), "{words}");
    }
    for stderr in deaf() {
        let mut command = program("arcsm");
        command.current_dir(here.path()).args(["train", "--resume", "none"]).stderr(stderr);
        assert_eq!(command.status().expect("the executable starts").code(), Some(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_nobody_reads_end_quietly() {
    let here = folder();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = program("arcsm");
    command.current_dir(here.path()).args(["train", "--data", "digits", "--out", "run", "--print-config"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().expect("the executable starts");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = command.stdout(full).output().expect("the executable starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("stdout") && !text.contains("panicked"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_whose_terminal_closes_saves_and_can_go_on() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let last = here.path().join("run/checkpoints/last.safetensors");
    for (number, stderr) in deaf().into_iter().enumerate() {
        let words = match number {
            0 => format!("train {TINY} --steps 1000000 --checkpoint-every 2 --out run"),
            _ => "train --resume run".to_owned(),
        };
        let before = if number == 0 { 0 } else { Checkpoint::load(&last).expect("readable").step };
        let mut command = program("arcsm");
        command.current_dir(here.path()).args(words.split_whitespace()).stdout(Stdio::null()).stderr(stderr);
        let mut child = command.spawn().expect("the executable starts");
        let seen = wait_for_step(&last, before + 2).step;
        let signalled = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(signalled.expect("kill starts").success());
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "stderr {number}");
        assert!(Checkpoint::load(&last).expect("readable").step >= seen);
    }
}

#[test]
fn a_loss_that_rises_far_ends_the_run_and_keeps_the_last_good_checkpoint() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words = format!("train {TINY} --steps 2 --checkpoint-every 1 --out run");
    succeeds(&mut arcsm(here.path(), &words));
    let last = here.path().join("run/checkpoints/last.safetensors");
    // Scores a thousand times too large, as a learning rate that is too high leaves them.
    let mut checkpoint = Checkpoint::load(&last).expect("written");
    checkpoint.tensors.get_mut("net.lin.2.weight").expect("a score network").values.iter_mut().for_each(|w| *w *= 3e4);
    checkpoint.save(&last).expect("written");
    let before = fs::read(&last).expect("written");
    let words = "train --resume run --steps 60 --checkpoint-every 1 --learning-rate 1e-6";
    refuses(&mut arcsm(here.path(), words), 4, &["training diverged", "100 times the first", "smaller learning rate"]);
    assert_eq!(fs::read(&last).expect("kept"), before, "no checkpoint is written while the loss is that large");
}
