//! What happens to a run from outside: a second training, closed terminals, full logs, kills.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arcsm::checkpoint::Checkpoint;
use serde_json::Value;

use super::{
    TINY, arcsm, folder, has_adapter, json_of, names_in, program, refuses, spawn, succeeds, train_tiny, wait_for_step,
};

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

/// A run of two steps whose last checkpoint is changed; gives that file and its bytes by then.
fn changed_run(folder: &Path, change: impl FnOnce(&mut Checkpoint)) -> (PathBuf, Vec<u8>) {
    succeeds(&mut arcsm(folder, &format!("train {TINY} --score-activation silu --steps 2 --force --out run")));
    let last = folder.join("run/checkpoints/last.safetensors");
    let mut checkpoint = Checkpoint::load(&last).expect("written");
    change(&mut checkpoint);
    checkpoint.save(&last).expect("written");
    let bytes = fs::read(&last).expect("written");
    (last, bytes)
}

#[test]
fn gradients_that_are_not_finite_end_the_run_though_its_loss_is_finite() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    // Factors that cancel out in the score leave the loss finite, but not the squares of the hidden layer's gradient.
    let (last, bytes) = changed_run(here.path(), |checkpoint| {
        for (name, factor) in [("net.lin.1.weight", 1e-22), ("net.lin.1.bias", 1e-22), ("net.lin.2.weight", 1e22)] {
            checkpoint.tensors.get_mut(name).expect("a score network").values.iter_mut().for_each(|w| *w *= factor);
        }
    });
    let resume = "train --resume run --steps 40 --checkpoint-every 1000";
    let output = arcsm(here.path(), resume).output().expect("the executable starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for words in ["step 3 changed nothing", "step 4 changed nothing", "the gradient of 3 steps in a row is not finite"]
    {
        assert!(text.contains(words), "`{words}` is not in {text}");
    }
    assert!(text.contains("at step 5") && text.contains("smaller learning rate"), "{text}");
    assert_eq!(fs::read(&last).expect("kept"), bytes, "the last checkpoint is kept");
}

#[test]
fn columns_of_any_size_train_or_say_so() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let row = |n: u32| [n * 7919 % 101, n * 104_729 % 97, n * 1_299_709 % 89].map(|k| (f64::from(k) - 50.0) * 3e9);
    let lines: Vec<String> = (0..200).map(row).map(|[a, b, c]| format!("{a},{b},{c}")).collect();
    fs::write(here.path().join("large.csv"), format!("a,b,c\n{}\n", lines.join("\n"))).expect("written");
    let words = "train --data csv:large.csv --hidden 16 --score-hidden 16 --steps 40 --out";
    let report = json_of(&mut arcsm(here.path(), &format!("{words} run")));
    assert_eq!((report["steps"].as_u64(), report["skipped_steps"].as_u64()), (Some(40), Some(0)), "{report}");
    refuses(&mut arcsm(here.path(), &format!("{words} raw --standardise none")), 4, &["not finite"]);
}

#[test]
fn a_run_without_a_checkpoint_starts_anew_and_force_leaves_no_old_pictures() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    succeeds(&mut arcsm(here.path(), &format!("train {TINY} --steps 4 --sample-every 2 --out run")));
    assert_eq!(names_in(&here.path().join("run/samples")), ["step-2.png", "step-4.png"]);
    fs::write(here.path().join("run/samples/mine.png"), "kept").expect("written");
    succeeds(&mut arcsm(here.path(), &format!("train {TINY} --steps 3 --force --out run")));
    assert_eq!(names_in(&here.path().join("run/samples")), ["mine.png", "step-3.png"]);
    let lines = || fs::read_to_string(here.path().join("run/metrics.jsonl")).expect("written");
    let (before, last) = (lines(), here.path().join("run/checkpoints/last.safetensors"));
    // As a run that was killed before its first checkpoint.
    fs::remove_file(&last).expect("written");
    let output = arcsm(here.path(), "train --resume run").output().expect("the executable starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("it starts anew"), "{text}");
    assert_eq!((lines(), Checkpoint::load(&last).expect("written").step), (before, 3));
}

#[test]
fn data_that_changed_since_the_last_checkpoint_are_told() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let write = |rows: u32, shift: f64| {
        let lines: Vec<String> = (0..rows).map(|n| format!("{},{}", f64::from(n) + shift, n * n % 17)).collect();
        fs::write(here.path().join("t.csv"), format!("a,b\n{}\n", lines.join("\n"))).expect("written");
    };
    let resume = |steps: u32| {
        let output = arcsm(here.path(), &format!("train --resume run --steps {steps}")).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    write(60, 0.0);
    succeeds(&mut arcsm(here.path(), "train --data csv:t.csv --hidden 8 --score-hidden 8 --steps 2 --out run"));
    assert!(!resume(3).contains("have changed"));
    write(60, 0.25);
    assert!(resume(4).contains("the data have changed since the last checkpoint (other values)"));
    write(80, 0.25);
    assert!(resume(5).contains("51 samples and 9 held out, now 68 and 12"));
    assert!(!resume(6).contains("have changed"), "the new data are known by now");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_removed_while_training_is_made_again_and_told_of() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let mut child = spawn(here.path(), &format!("train {TINY} --steps 1000000 --checkpoint-every 5 --out run"));
    wait_for_step(&here.path().join("run/checkpoints/last.safetensors"), 5);
    fs::remove_dir_all(here.path().join("run")).expect("removed");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let steps = Checkpoint::load(&here.path().join("run/checkpoints/last.safetensors")).expect("whole").step + 1;
    succeeds(&mut arcsm(here.path(), &format!("train --resume run --steps {steps}")));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_or_move_the_cursor_do_no_harm() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let here = folder();
    let name = "no\u{1b}[31m.csv";
    let output = arcsm(here.path(), "train --out run --data").arg(format!("csv:{name}")).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains(r"\u{1b}[31m") && !text.contains('\u{1b}'), "{text}");
    if !has_adapter() {
        return;
    }
    let [run, array] = [&b"run\xff"[..], b"a\xff.npy"].map(OsStr::from_bytes);
    let report = json_of(arcsm(here.path(), &format!("train {TINY} --steps 2 --out")).arg(run));
    assert!(report["checkpoint"].as_str().is_some_and(|path| path.starts_with("run\u{fffd}/")), "{report}");
    let report = json_of(arcsm(here.path(), "sample --count 2 --checkpoint").arg(run).arg("--npy").arg(array));
    assert_eq!((report["checkpoint"].as_str(), here.path().join(array).exists()), (Some("run\u{fffd}"), true));
}

#[test]
fn sizes_beyond_all_bounds_are_refused_with_the_flag() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    train_tiny(here.path(), "run", 2);
    let train = format!("train {} --out other", TINY.replace("--batch 16", ""));
    for (words, named) in [
        (format!("{train} --batch 4000000000"), "train.batch"),
        (format!("{train} --steps 4294967295"), "train.steps"),
        (format!("{train} --row-stride 4294967296"), "train.row_stride"),
        ("sample --checkpoint run --count 4000000000 --npy a.npy".into(), "a.npy"),
        ("sample --checkpoint run --count 4000000000 --out a.png".into(), "--out"),
        ("denoise --checkpoint run --sigma 0.3 --method draw --draws 4000000000 --out a.png".into(), "--draws"),
        ("inpaint --checkpoint run --mask bottom --completions 4000000000 --out a.png".into(), "--completions"),
        ("detect --checkpoint run --data digits --resolution 1e30".into(), "--resolution"),
    ] {
        let started = std::time::Instant::now();
        refuses(&mut arcsm(here.path(), &words), 2, &[named]);
        assert!(started.elapsed().as_secs() < 5, "{words} took {:?}", started.elapsed());
    }
    assert!(!here.path().join("other").exists() && !here.path().join("a.npy").exists());
    refuses(&mut arcsm(here.path(), &format!("{train} --batch 4093 --memory 8")), 2, &["no divisor", "Use 4"]);
}

#[test]
fn a_checkpoint_of_before_is_taken_and_told_to_have_no_checksum() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let last = train_tiny(here.path(), "run", 2);
    let bytes = fs::read(&last).expect("written");
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    header["__metadata__"].as_object_mut().expect("metadata").remove("checksum").expect("it has one");
    let header = header.to_string();
    let new_length = (header.len() as u64).to_le_bytes();
    fs::write(&last, [&new_length[..], header.as_bytes(), &bytes[8 + length..]].concat()).expect("written");
    for words in
        ["sample --checkpoint run/checkpoints/last.safetensors --count 2 --npy a.npy", "train --resume run --steps 3"]
    {
        let output = arcsm(here.path(), words).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("last.safetensors has no checksum"), "{text}");
    }
    let output = arcsm(here.path(), "train --resume run --steps 4").output().expect("it starts");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("no checksum"), "it was written anew");
}
