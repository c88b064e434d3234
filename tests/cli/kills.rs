//! Kills at moments in no order, and two trainings in one folder. `ARCSM_KILLS` says how many kills (`scripts/kills.sh`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arcsm::checkpoint::Checkpoint;
use serde_json::Value;

use super::{TINY, arcsm, folder, has_adapter, names_in, spawn, succeeds, train_tiny, wait_for_step};

/// Kills without `ARCSM_KILLS`.
const KILLS: u64 = 50;

/// How many lines each step has in the run's metrics: with a training loss, with a held-out loss.
fn lines_of_steps(run: &Path) -> BTreeMap<u64, [usize; 2]> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("written");
    let mut counts = BTreeMap::<u64, [usize; 2]>::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("whole lines");
        let count = counts.entry(line["step"].as_u64().expect("a step")).or_default();
        for (count, key) in count.iter_mut().zip(["train_loss", "held_out_loss"]) {
            *count += usize::from(!line[key].is_null());
        }
    }
    counts
}

#[test]
fn kills_leave_a_readable_checkpoint_each_line_once_and_nothing_else() {
    if !has_adapter() {
        return;
    }
    let kills = std::env::var("ARCSM_KILLS").map_or(KILLS, |kills| kills.parse().expect("ARCSM_KILLS is a number"));
    let here = folder();
    let last = train_tiny(here.path(), "run", 2);
    let run = here.path().join("run");
    let mut reached = 2;
    for kill in 0..kills {
        let mut child = spawn(here.path(), "train --resume run --steps 1000000 --checkpoint-every 1");
        // One in five is killed while it starts; the others save all the time by then.
        if kill % 5 > 0 {
            wait_for_step(&last, reached + 1);
        }
        sleep(Duration::from_micros(kill * 7919 % 60_000));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let checkpoint = Checkpoint::load(&last).expect("always readable");
        assert!(checkpoint.step >= reached, "step {} after step {reached}", checkpoint.step);
        reached = checkpoint.step;
        Checkpoint::load(&run.join("checkpoints/best.safetensors")).expect("always readable");
    }
    assert!(reached > kills, "the kills must have hit training, which got to step {reached} only");
    let steps = reached + 1;
    succeeds(&mut arcsm(here.path(), &format!("train --resume run --steps {steps}")));
    let lines = lines_of_steps(&run);
    assert!(lines.keys().copied().eq(1..=steps), "steps 1 to {steps} have lines");
    let doubled: Vec<_> = lines.iter().filter(|(_, [train, held_out])| *train != 1 || *held_out > 1).collect();
    assert!(doubled.is_empty(), "lines that are missing or doubled: {doubled:?}");
    let expected = ["checkpoints", "config.toml", "lock", "loss.png", "metrics.jsonl", "samples"];
    assert_eq!(names_in(&run), expected, "nothing is left of the kills");
    assert_eq!(names_in(&run.join("checkpoints")), ["best.safetensors", "last.safetensors"]);
    let pictures = names_in(&run.join("samples"));
    assert!(pictures.iter().all(|name| name.starts_with("step-") && name.ends_with(".png")), "{pictures:?}");
    println!("{kills} kills over {steps} steps: 0 unreadable, 0 doubled lines, 0 leftovers");
}

/// Waits until one of two trainings ends; gives how it ended, and the other.
fn first_to_end(mut both: [Child; 2]) -> (Output, Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for ended in 0..2 {
            if both[ended].try_wait().expect("a child").is_some() {
                let [first, second] = both;
                let (loser, winner) = if ended == 0 { (first, second) } else { (second, first) };
                return (loser.wait_with_output().expect("it ended"), winner);
            }
        }
        assert!(Instant::now() < deadline, "two trainings go on in one folder");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn of_two_trainings_in_a_folder_one_is_refused_however_they_interleave() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let new = format!("train {TINY} --steps 1000000 --checkpoint-every 1 --out");
    for interleaving in 0..10_u64 {
        let run = format!("run{interleaving}");
        let (first, second) = match interleaving % 3 {
            0 => (format!("{new} {run}"), format!("{new} {run}")),
            1 => (format!("{new} {run}"), format!("{new} {run} --force")),
            _ => {
                train_tiny(here.path(), &run, 2);
                (format!("train --resume {run} --steps 1000000"), format!("train --resume {run} --steps 1000000"))
            }
        };
        let first = spawn(here.path(), &first);
        sleep(Duration::from_millis(interleaving * 15));
        let second = spawn(here.path(), &second);
        let (refused, mut goes_on) = first_to_end([first, second]);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "interleaving {interleaving}: {text}");
        let reason = ["is in use by", "holds a run already"].iter().any(|reason| text.contains(reason));
        assert!(reason && text.contains("give another folder"), "interleaving {interleaving}: {text}");
        wait_for_step(&here.path().join(&run).join("checkpoints/last.safetensors"), 2);
        assert!(goes_on.try_wait().expect("a child").is_none(), "interleaving {interleaving}: the other one goes on");
        goes_on.kill().expect("it runs");
        goes_on.wait().expect("it ends");
    }
    println!("10 interleavings of two trainings: one refused each time");
}
