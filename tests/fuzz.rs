//! Mutated files of strangers to every parser: none may panic, hang, or take more memory than its input can be worth.
//!
//! `scripts/fuzz.sh` runs it for hours. In the environment: `ARCSM_FUZZ_SECONDS` (30), `ARCSM_FUZZ_SEED` (0),
//! `ARCSM_FUZZ_TARGETS` (all; names with commas), `ARCSM_FUZZ_FINDINGS` (a folder for inputs with faults),
//! `ARCSM_FUZZ_SEEDS` (a folder: seeds are written there for cargo-fuzz, and nothing is executed).

#[path = "fuzz/judge.rs"]
mod judge;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use judge::{Counting, execute, held};
use mutate::{Dice, mutated};
use targets::{Frame, TARGETS, Target, folder};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Executions of a target before it is the next one's turn, by time.
const TURN: Duration = Duration::from_millis(200);

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("ARCSM_FUZZ_{name}")).ok()
}

/// What became of one target's executions.
#[derive(Default)]
struct Tally {
    executions: u64,
    taken: u64,
    time: Duration,
    longest: Duration,
    memory: usize,
    /// By what is wrong, without its numbers: how often, and the first input.
    faults: BTreeMap<String, (u64, Vec<u8>, String)>,
}

impl Tally {
    fn add(&mut self, target: &Target, bytes: &[u8]) {
        let outcome = execute(target, bytes);
        self.executions += 1;
        self.taken += u64::from(outcome.taken == Ok(true));
        self.time += outcome.time;
        self.longest = self.longest.max(outcome.time);
        self.memory = self.memory.max(outcome.memory);
        if let Some(fault) = outcome.fault(target, bytes.len()) {
            let kind = fault.split([':', ' ']).take(6).collect::<Vec<_>>().join(" ");
            let kind = if outcome.taken.is_err() { kind } else { "takes".into() };
            self.faults.entry(kind).or_insert_with(|| (0, bytes.to_vec(), fault)).0 += 1;
        }
    }
}

#[test]
fn no_parser_panics_hangs_or_takes_memory_without_bound() {
    let wanted = setting("TARGETS");
    let is_wanted =
        |target: &Target| wanted.as_ref().is_none_or(|names| names.split(',').any(|name| name == target.name));
    let targets: Vec<(usize, Target, Vec<Vec<u8>>)> = TARGETS
        .into_iter()
        .enumerate()
        .filter(|(_, target)| is_wanted(target))
        .map(|(number, target)| (number, target, seeds::of(target.name)))
        .collect();
    if let Some(folder) = setting("SEEDS") {
        return write_seeds(&PathBuf::from(folder), &targets);
    }
    let seconds = setting("SECONDS").map_or(30.0, |text| text.parse().expect("a number of seconds"));
    let seed: u64 = setting("SEED").map_or(0, |text| text.parse().expect("a whole number"));
    check_that_planted_faults_are_seen();
    let start = Instant::now();
    let mut tallies: Vec<Tally> = targets.iter().map(|_| Tally::default()).collect();
    for ((_, target, seeds), tally) in targets.iter().zip(&mut tallies) {
        seeds.iter().for_each(|seed| tally.add(target, seed));
        assert!(tally.taken > 0, "{} takes none of its seeds", target.name);
    }
    let before = held();
    while start.elapsed().as_secs_f64() < seconds {
        for ((number, target, seeds), tally) in targets.iter().zip(&mut tallies) {
            let turn = Instant::now();
            while turn.elapsed() < TURN {
                let mut dice = Dice::of(seed, *number, tally.executions);
                tally.add(target, &mutated(target, seeds, &mut dice));
            }
        }
    }
    let grown = held().saturating_sub(before);
    println!(
        "{:<12}{:>12}{:>10}{:>9}{:>12}{:>12}{:>8}",
        "target", "executions", "a second", "taken", "most KiB", "longest ms", "faults"
    );
    for ((_, target, _), tally) in targets.iter().zip(&tallies) {
        let rate = tally.executions as f64 / tally.time.as_secs_f64().max(1e-9);
        let share = 100.0 * tally.taken as f64 / tally.executions as f64;
        let (longest, faults) =
            (tally.longest.as_secs_f64() * 1e3, tally.faults.values().map(|(count, ..)| count).sum::<u64>());
        println!(
            "{:<12}{:>12}{rate:>10.0}{share:>8.1}%{:>12}{longest:>12.1}{faults:>8}",
            target.name,
            tally.executions,
            tally.memory >> 10
        );
    }
    let executions: u64 = tallies.iter().map(|tally| tally.executions).sum();
    println!(
        "{executions} executions in {:.0} s with seed {seed}; {} KiB more are held than before",
        start.elapsed().as_secs_f64(),
        grown >> 10
    );
    let faults = reported(&targets, &tallies);
    fs::remove_dir_all(folder()).ok();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The faults in words, each with the file that its first input was written to.
fn reported(targets: &[(usize, Target, Vec<Vec<u8>>)], tallies: &[Tally]) -> Vec<String> {
    let findings = setting("FINDINGS").map_or_else(|| std::env::temp_dir().join("arcsm-fuzz-findings"), PathBuf::from);
    let mut faults = Vec::new();
    for ((_, target, _), tally) in targets.iter().zip(tallies) {
        for (count, bytes, words) in tally.faults.values() {
            let path = findings.join(format!("{}-{:08x}", target.name, crc32fast::hash(bytes)));
            fs::create_dir_all(&findings).and_then(|()| fs::write(&path, bytes)).expect("written");
            faults.push(format!("{} {words} ({count} times; {})", target.name, path.display()));
        }
    }
    faults
}

fn write_seeds(corpus: &std::path::Path, targets: &[(usize, Target, Vec<Vec<u8>>)]) {
    for (_, target, seeds) in targets {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder).expect("made");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).expect("written");
        }
    }
    fs::remove_dir_all(folder()).ok();
}

/// A judge that never condemns would let everything pass. A part of the test: both use the files in memory.
fn check_that_planted_faults_are_seen() {
    fn planted(bytes: &[u8]) -> bool {
        match bytes {
            b"panic" => panic!("as\nasked"),
            b"memory" => drop(std::hint::black_box(vec![1u8; 3 << 20])),
            b"slow" => std::thread::sleep(judge::LONGEST + Duration::from_millis(50)),
            b"thread" => drop(std::thread::spawn(|| std::hint::black_box(vec![1u8; 3 << 20])).join()),
            _ => return bytes == b"fine",
        }
        true
    }
    let target = Target {
        name: "planted",
        run: planted,
        frame: Frame::None,
        words: &[],
        most_memory: 2 << 20,
        memory_of_a_byte: 1,
    };
    let fault = |bytes: &[u8]| execute(&target, bytes).fault(&target, bytes.len());
    assert_eq!([fault(b"fine"), fault(b"refused")], [None, None]);
    assert!(fault(b"panic").expect("seen").contains("as asked"));
    for memory in [&b"memory"[..], b"thread"] {
        assert!(fault(memory).expect("seen").contains("for 6 bytes, at most 2048"));
    }
    assert!(fault(b"slow").expect("seen").contains("takes 5."));
}
