//! Drivers that fail: a Vulkan layer makes one call of a function fail, or all from then on, and the command has to end
//! with status 3 and one line, or with the results that it has without a fault.
//!
//! The layer is built from `fi.c` and `fi.json` in the folder that `ARCSM_FAULT_LAYER` names. `ARCSM_FAULT_STRIDE=1`
//! fails each of the first calls (`scripts/faults.sh`) in place of every seventh, in every way.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{TINY, folder, has_adapter, program};

/// Calls of each function that are made to fail, at most.
const CALLS: usize = 60;
/// Longer than this, and a command hangs.
const LONGEST: Duration = Duration::from_secs(60);
/// VK_ERROR_DEVICE_LOST and VK_ERROR_OUT_OF_DEVICE_MEMORY.
const RESULTS: [(i32, &str); 2] = [(-4, "lost"), (-2, "memory")];
/// Calls whose failure ends the process inside the driver or wgpu, where nothing can be caught: none is known.
const CRASHES: [(&str, usize); 0] = [];

/// A command with a fault.
#[derive(Debug, Clone)]
struct Case {
    command: usize,
    function: String,
    call: usize,
    is_sticky: bool,
    result: (i32, &'static str),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// Status 3 and one line, which says whether memory was short.
    Refused {
        names_memory: bool,
    },
    /// Status 0 and the right results.
    Unharmed,
    /// Status 0 and others.
    Wrong,
    /// Words of a panic, or its status.
    Panicked,
    Hung,
    /// A signal.
    Crashed(i32),
    /// Another status, or more than one line.
    Other(Option<i32>),
}

/// What every command leaves when nothing fails.
struct Bench {
    layer: PathBuf,
    /// A run to be asked.
    root: TempDir,
    commands: [(&'static str, String); 3],
    expected: Vec<Vec<u8>>,
    counts: Vec<BTreeMap<String, usize>>,
}

impl Bench {
    fn new(layer: &Path) -> Self {
        let root = folder();
        let ask = "--checkpoint ../run/checkpoints/last.safetensors";
        let commands = [
            ("train", format!("train {TINY} --steps 6 --sample-every 6 --out run")),
            ("sample", format!("sample {ask} --count 4 --seed 3 --out a.png")),
            ("evaluate", format!("evaluate {ask} --count 4 --flow-count 1 --flow-steps 2")),
        ];
        let mut bench = Self { layer: layer.to_owned(), root, commands, expected: Vec::new(), counts: Vec::new() };
        let ended = bench.command(0, bench.root.path()).output().expect("the executable starts");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        for command in 0..bench.commands.len() {
            let place = bench.place();
            let counts = place.path().join("counts");
            let ended = bench.command(command, place.path()).env("FI_COUNT", &counts).output();
            let ended = ended.expect("the executable starts");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            let counts = fs::read_to_string(&counts).expect("the layer was loaded");
            let count = |line: &str| line.split_once(' ').map(|(name, n)| (name.into(), n.parse().expect("a number")));
            bench.counts.push(counts.lines().filter_map(count).filter(|(_, n)| *n > 0).collect());
            bench.expected.push(results(&ended.stdout, place.path()));
        }
        bench
    }

    fn place(&self) -> TempDir {
        tempfile::tempdir_in(self.root.path()).expect("a folder")
    }

    fn command(&self, command: usize, place: &Path) -> Command {
        let mut arcsm = program("arcsm");
        arcsm.current_dir(place).args(self.commands[command].1.split_whitespace()).args(["-q", "--json"]);
        arcsm.env("VK_LAYER_PATH", &self.layer).env("VK_INSTANCE_LAYERS", "VK_LAYER_FI_inject");
        arcsm
    }

    /// Every `stride`-th of the first calls of each function, in both ways and with both results where all are wanted.
    fn cases(&self, stride: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        for (command, counts) in self.counts.iter().enumerate() {
            for (function, &count) in counts {
                for (number, call) in (1..=count.min(CALLS)).step_by(stride).enumerate() {
                    for way in 0..4 {
                        if stride == 1 || way == (number + command) % 4 {
                            let (is_sticky, result) = (way % 2 == 1, RESULTS[way / 2]);
                            cases.push(Case { command, function: function.clone(), call, is_sticky, result });
                        }
                    }
                }
            }
        }
        cases
    }

    fn judge(&self, case: &Case) -> (Verdict, String) {
        let place = self.place();
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| place.path().join(name));
        let file = |path| Stdio::from(File::create(path).expect("a file"));
        let mut command = self.command(case.command, place.path());
        command.env("FI_FUNC", &case.function).env("FI_N", case.call.to_string());
        command.env("FI_RES", case.result.0.to_string());
        if case.is_sticky {
            command.env("FI_STICKY", "1");
        }
        let mut child = command.stdout(file(&stdout)).stderr(file(&stderr)).spawn().expect("the executable starts");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status;
            }
            if began.elapsed() > LONGEST {
                child.kill().expect("it runs");
                child.wait().expect("it ends");
                return (Verdict::Hung, String::new());
            }
            sleep(Duration::from_millis(5));
        };
        let text = String::from_utf8_lossy(&fs::read(&stderr).expect("a file")).into_owned();
        let verdict = match status.code() {
            _ if text.contains("panicked") => Verdict::Panicked,
            None => Verdict::Crashed(status.signal().unwrap_or(0)),
            Some(101) => Verdict::Panicked,
            Some(0) if results(&fs::read(&stdout).expect("a file"), place.path()) == self.expected[case.command] => {
                Verdict::Unharmed
            }
            Some(0) => Verdict::Wrong,
            Some(3) if text.starts_with("error: ") && text.lines().count() == 1 => {
                Verdict::Refused { names_memory: text.contains("out of GPU memory") }
            }
            other => Verdict::Other(other),
        };
        (verdict, text)
    }
}

/// Everything that a command made, but for times.
fn results(stdout: &[u8], place: &Path) -> Vec<u8> {
    let mut object: Value = serde_json::from_slice(stdout).unwrap_or_default();
    if let Some(object) = object.as_object_mut() {
        object.retain(|key, _| !key.starts_with("seconds") && key != "samples_per_minute");
    }
    let mut all = object.to_string().into_bytes();
    for file in ["run/checkpoints/last.safetensors", "run/checkpoints/best.safetensors", "a.png"] {
        all.extend(fs::read(place.join(file)).unwrap_or_default());
    }
    all
}

/// The layer, built; or why it cannot be.
fn layer() -> Result<TempDir, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tools/fault-layer");
    let source = std::env::var_os("ARCSM_FAULT_LAYER").map_or(beside, PathBuf::from);
    let built = folder();
    fs::copy(source.join("fi.json"), built.path().join("fi.json"))
        .map_err(|error| format!("no layer in {} ({error}); ARCSM_FAULT_LAYER=DIR names another", source.display()))?;
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(built.path().join("libfi.so")).arg(source.join("fi.c"));
    match compiler.output() {
        Ok(output) if output.status.success() => Ok(built),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!(
                "the layer does not compile (is libvulkan-dev installed?): {}",
                words.lines().next().unwrap_or("")
            ))
        }
        Err(error) => Err(format!("gcc does not start: {error}")),
    }
}

/// Says it straight to the stream: what a passing test prints would be swallowed.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr is open");
}

/// One row a function: how its failures ended.
fn table(outcomes: &[(Case, Verdict)]) -> String {
    let mut rows: BTreeMap<&str, [usize; 8]> = BTreeMap::new();
    for (case, verdict) in outcomes {
        let row = rows.entry(&case.function).or_default();
        let column = match verdict {
            Verdict::Refused { names_memory } => {
                row[2] += usize::from(*names_memory && case.result.1 == "memory");
                1
            }
            Verdict::Unharmed => 3,
            Verdict::Wrong => 4,
            Verdict::Panicked => 5,
            Verdict::Hung => 6,
            Verdict::Crashed(_) | Verdict::Other(_) => 7,
        };
        row[0] += 1;
        row[column] += 1;
    }
    let mut sum = [0; 8];
    rows.values().for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, n)| *sum += n));
    let line = |name: &str, row: &[usize; 8]| {
        let cells: Vec<_> = row.iter().map(ToString::to_string).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    let head = "| function | faults | status 3, one line | of these called out of memory | status 0, right results | \
                wrong results | panics | hangs | crashes, others |\n|---|---|---|---|---|---|---|---|---|\n";
    head.to_owned() + &rows.iter().map(|(name, row)| line(name, row)).collect::<String>() + &line("all", &sum)
}

#[test]
fn what_wgpu_logs_can_be_seen() {
    if !has_adapter() {
        return;
    }
    let log = |filter: &str| {
        let output = program("arcsm").arg("adapters").env("RUST_LOG", filter).output().expect("the executable starts");
        String::from_utf8(output.stderr).expect("a log is text")
    };
    assert!(log("wgpu_hal=debug").contains("wgpu_hal::vulkan"), "validation speaks there too");
    assert!(!log("off").contains("wgpu_hal"));
}

#[test]
fn a_driver_that_fails_ends_in_one_line_or_changes_nothing() {
    if !has_adapter() {
        return;
    }
    let layer = match layer() {
        Ok(layer) => layer,
        Err(reason) => return say(&format!("SKIPPED: {reason}")),
    };
    let stride = std::env::var("ARCSM_FAULT_STRIDE").map_or(7, |text| text.parse().expect("a whole number"));
    let bench = Bench::new(layer.path());
    let cases = bench.cases(stride);
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (verdict, text) = bench.judge(case);
                    let is_known = CRASHES.contains(&(case.function.as_str(), case.call));
                    let is_fine = matches!(verdict, Verdict::Refused { .. } | Verdict::Unharmed)
                        || matches!(verdict, Verdict::Crashed(_)) && is_known;
                    if !is_fine {
                        say(&format!("{} {case:?}: {verdict:?} {text}", bench.commands[case.command].0));
                    }
                    outcomes.lock().expect("no panic").push((case.clone(), verdict, is_fine));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    let functions: HashSet<_> = cases.iter().map(|case| &case.function).collect();
    assert!(functions.len() >= 20, "functions that are called: {functions:?}");
    let fine = outcomes.iter().filter(|(_, _, is_fine)| *is_fine).count();
    let judged: Vec<_> = outcomes.into_iter().map(|(case, verdict, _)| (case, verdict)).collect();
    print!("{}", table(&judged));
    let refused = judged.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Refused { .. })).count();
    assert!(2 * refused > judged.len(), "{refused} of {} faults were seen at all", judged.len());
    assert_eq!(fine, judged.len(), "faults that ended as they should");
}
