//! The executables as a user runs them: help, JSON, bad input, kills, and an outsider's numbers.

#[cfg(target_os = "linux")]
#[path = "cli/bombs.rs"]
mod bombs;
#[path = "cli/drivers.rs"]
mod drivers;
#[cfg(unix)]
#[path = "cli/kills.rs"]
mod kills;
#[path = "cli/own_data.rs"]
mod own_data;
#[path = "cli/runs.rs"]
mod runs;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arcsm::checkpoint::Checkpoint;
use arcsm::files::arrays::{HostTensor, write_npy};
use arcsm::files::lock::Lock;
use arcsm::files::safetensors::read_weights;
use ndarray_npy::NpzReader;
use serde_json::Value;
use tempfile::TempDir;

/// Settings that train in milliseconds.
const TINY: &str = "--data digits --hidden 16,16 --context 4 --score-hidden 8,8 --batch 16 --validate-every 5";

fn program(name: &str) -> Command {
    let path = match name {
        "arcsm" => env!("CARGO_BIN_EXE_arcsm"),
        "arcsm-sample" => env!("CARGO_BIN_EXE_arcsm-sample"),
        "arcsm-bench" => env!("CARGO_BIN_EXE_arcsm-bench"),
        other => panic!("{other} is no executable of this package"),
    };
    let mut command = Command::new(path);
    command.env_remove("WGPU_ADAPTER_NAME").env_remove("WGPU_BACKEND").env("XDG_RUNTIME_DIR", std::env::temp_dir());
    // What this machine's user has measured is no business of the tests.
    command.env("ARCSM_TUNING", "off");
    command
}

/// `arcsm` with these words, in a folder.
fn arcsm(folder: &Path, words: &str) -> assert_cmd::Command {
    let mut command = program("arcsm");
    command.current_dir(folder).args(words.split_whitespace());
    command.into()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

/// Whether there is an adapter; a test without one is skipped aloud, unless the environment forbids it.
fn has_adapter() -> bool {
    if !arcsm::gpu::list_adapters().is_empty() {
        return true;
    }
    assert!(std::env::var_os("ARCSM_REQUIRE_GPU").is_none_or(|v| v != "1"), "ARCSM_REQUIRE_GPU=1, but no adapter");
    println!("SKIPPED: no adapter");
    false
}

/// The command fails with this status and one line that holds these words.
fn refuses(command: &mut assert_cmd::Command, status: i32, words: &[&str]) {
    let output = command.arg("-q").output().expect("the executable starts");
    let text = String::from_utf8(output.stderr).expect("errors are text");
    assert_eq!(output.status.code(), Some(status), "{command:?}: {text}");
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "one line: {text}");
    assert!(output.stdout.is_empty(), "results of a failure: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

fn succeeds(command: &mut assert_cmd::Command) -> String {
    let output = command.output().expect("the executable starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("results are text")
}

fn json_of(command: &mut assert_cmd::Command) -> Value {
    let text = succeeds(command.arg("--json"));
    assert_eq!(text.trim_end().lines().count(), 1, "one object: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Trains a tiny model; gives its last checkpoint.
fn train_tiny(folder: &Path, run: &str, steps: u32) -> PathBuf {
    succeeds(&mut arcsm(folder, &format!("train {TINY} --steps {steps} --out {run}")));
    folder.join(run).join("checkpoints/last.safetensors")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

// ---- help, versions, JSON ---------------------------------------------------------------------------------------

#[test]
fn every_help_has_examples_and_exit_statuses() {
    let commands = [
        "",
        "demo",
        "train",
        "sample",
        "score",
        "evaluate",
        "denoise",
        "inpaint",
        "detect",
        "reproduce",
        "import",
        "adapters",
        "doctor",
    ];
    let here = folder();
    for command in commands {
        let help = succeeds(&mut arcsm(here.path(), &format!("{command} --help")));
        for part in ["Examples:", "Exit status:", "--json", "--adapter"] {
            assert!(help.contains(part), "{part} is not in the help of `{command}`");
        }
    }
    for name in ["arcsm-sample", "arcsm-bench"] {
        let help = succeeds(assert_cmd::Command::from(program(name)).arg("--help"));
        assert!(help.contains("Examples:") && help.contains(name), "{help}");
    }
}

#[test]
fn heads_are_trained_and_drawn_from_and_useless_flags_are_refused() {
    let here = folder();
    let train = |words: &str| arcsm(here.path(), &format!("train --data digits --out run {words}"));
    refuses(&mut train("--objective ml --config digits-made"), 2, &["train.objective", "score head"]);
    refuses(&mut train("--head gaussian --components 3"), 2, &["--components", "gaussian"]);
    refuses(&mut train("--head mog --context 8"), 2, &["--context", "mog"]);
    refuses(&mut train("--head mog --bins 17"), 2, &["--bins", "mog"]);
    refuses(&mut train("--head mol --bins 17"), 2, &["model.bins", "ml"]);
    refuses(&mut train("--head mol --components 0"), 2, &["model.components"]);
    let printed = succeeds(&mut train("--head mol --components 5 --objective ml --bins 17 --print-config"));
    for line in ["head = \"mol\"", "components = 5", "objective = \"ml\"", "bins = 17"] {
        assert!(printed.contains(line), "{line} is not in {printed}");
    }
    if !has_adapter() {
        return;
    }
    let tiny = "--hidden 16,16 --head mog --components 3 --objective ml --batch 16 --steps 4";
    let report = json_of(&mut train(tiny));
    assert!(report["held_out_loss"].as_f64().is_some(), "{report}");
    let sample = "sample --checkpoint run/checkpoints/last.safetensors --count 5 --out a.png";
    let drawn = json_of(&mut arcsm(here.path(), sample));
    assert_eq!(drawn["sampler"], "direct --levels 0");
    refuses(&mut arcsm(here.path(), &format!("{sample} --sampler mlq")), 2, &["--sampler direct"]);
    refuses(&mut arcsm(here.path(), &format!("{sample} --points 9")), 2, &["--points", "direct"]);
    let sharper = json_of(&mut arcsm(here.path(), &format!("{sample} --temperature 0.5 --snap 17")));
    assert_eq!(sharper["sampler"], "direct --levels 0 --temperature 0.5 --snap 17");
    let words = "evaluate --checkpoint run/checkpoints/last.safetensors --count 4 --csv nats.csv --npz nats.npz";
    let report = json_of(&mut arcsm(here.path(), words));
    let nats = read_npz(&here.path().join("nats.npz"), "nats");
    let mean = nats.iter().copied().map(f64::from).sum::<f64>() / 4.0;
    let reported = report["closed_form"][0]["mean_nats"].as_f64().expect("a number");
    assert!(nats.len() == 4 && (mean - reported).abs() <= 1e-5 * (1.0 + reported.abs()), "{report}");
    let lines = fs::read_to_string(here.path().join("nats.csv")).expect("written");
    assert!(lines.lines().count() == 5 && lines.starts_with("sample,sigma,nats,bits_per_dimension"), "{lines}");
    assert!(report["truth"][0].is_null(), "digits have no known density: {report}");
}

#[test]
fn a_head_in_closed_form_is_held_against_the_known_density() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words =
        "train --data gaussian:3 --hidden 8 --head gaussian --objective ml --sigma-min 0 --batch 16 --steps 2 --out g";
    json_of(&mut arcsm(here.path(), words));
    let report = json_of(&mut arcsm(here.path(), "evaluate --checkpoint g/checkpoints/last.safetensors --count 50"));
    let nats = report["closed_form"][0]["mean_nats"].as_f64().expect("a number");
    let [truth, difference] =
        ["nats", "difference"].map(|key| report["truth"][0][key]["mean"].as_f64().expect("known"));
    // A model of two steps is worse than the truth.
    assert!((nats - truth - difference).abs() <= 1e-9 * nats.abs() && difference > 0.1, "{report}");
}

#[test]
fn every_sampler_draws_and_refuses_the_flags_of_others() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    train_tiny(here.path(), "run", 3);
    let sample = |words: &str| {
        let words = format!("sample --checkpoint run/checkpoints/last.safetensors --count 3 --npy a.npy {words}");
        arcsm(here.path(), &words)
    };
    let cases = [
        ("--sampler mlq --levels 0.5,0.1 --points 16", "mlq --levels 0.5,0.1 --points 16", 49, 3),
        ("--levels 0.5,0.1 --points 16 --first-points 9", "mlq --levels 0.5,0.1 --points 16 --first-points 9", 26, 3),
        ("--sampler ode --levels 1,0.5,0.1", "ode --levels 1,0.5,0.1 --points 24", 48 + 5, 6),
        ("--sampler ancestral --levels 1,0.1 --points 8", "ancestral --levels 1,0.1 --points 8", 18, 3),
        ("--sampler langevin --levels 1,0.1 --steps 2", "langevin --levels 1,0.1 --steps 2 --step-size 1", 5, 5),
        ("--sampler mala --levels 1,0.1 --steps 2", "mala --levels 1,0.1 --steps 2 --step-size 1", 18, 6),
    ];
    for (words, described, evaluations, rounds) in cases {
        let report = json_of(&mut sample(&format!("{words} --temperature 0.8 --snap 17")));
        assert_eq!(report["sampler"], format!("{described} --temperature 0.8 --snap 17"));
        assert_eq!(
            (&report["score_evaluations_per_value"], &report["rounds_per_value"]),
            (&evaluations.into(), &rounds.into())
        );
        let rates = report["acceptance"].as_array().expect("a list");
        assert_eq!(rates.len(), if words.contains("mala") { 2 } else { 0 });
        assert!(rates.iter().all(|level| (0.0..=1.0).contains(&level["rate"].as_f64().expect("a number"))), "{report}");
        let values = arcsm::files::arrays::read_npy(&here.path().join("a.npy")).expect("written").values;
        assert!(values.iter().all(|x| (16.0 * x - (16.0 * x).round()).abs() <= 1e-5), "{described}: not on levels");
    }
    let refusals: [(&str, &[&str]); 10] = [
        ("--sampler ode --step-size 1", &["--step-size", "another sampler"]),
        ("--sampler ode --first-points 20", &["--first-points", "another sampler"]),
        ("--first-points 300", &["300 grid points of the first level", "8 to 256"]),
        ("--sampler ode --steps 4 --levels 1,0.1", &["--steps", "--levels"]),
        ("--sampler mala --points 9", &["--points", "another sampler"]),
        ("--steps 9", &["--steps", "another sampler"]),
        ("--temperature 0", &["temperature", "positive"]),
        ("--snap 1", &["snapping", "2 to 65536"]),
        ("--sampler ode --points 3", &["3 grid points", "8 to 128"]),
        ("--sampler ancestral --levels 0.1,1", &["do not fall"]),
    ];
    for (words, expected) in refusals {
        refuses(&mut sample(words), 2, expected);
    }
}

#[test]
fn experiments_leave_reports_and_refuse_useless_flags() {
    let here = folder();
    let reproduce = |words: &[&str]| {
        let mut command = arcsm(here.path(), "reproduce");
        command.args(words);
        command
    };
    if !has_adapter() {
        return;
    }
    refuses(&mut reproduce(&["toy-2d", "--out", "x", "--budget", "0"]), 2, &["--budget"]);
    refuses(&mut reproduce(&["toy-2d", "--out", "x", "--only", "squares"]), 2, &["--only", "spirals"]);
    refuses(&mut reproduce(&["toy-2d", "--out", "y", "--data", "digits"]), 2, &["--data", "toy-2d"]);
    refuses(&mut reproduce(&["ood", "--out", "y", "--data", "toy:moons"]), 2, &["toy:moons", "images"]);
    let toys = ["toy-2d", "--out", "toys", "--budget", "0.02", "--only", "moons gaussian ml"];
    let report = json_of(&mut reproduce(&toys));
    let row = &report["tables"][1]["rows"][0];
    assert!(row["KL, nats"].as_f64().is_some_and(|kl| kl > 0.0) && row["head"] == "gaussian", "{report}");
    assert!(row["integral off"].as_f64().is_some_and(|off| off <= 1e-3), "{report}");
    assert_eq!(
        names_in(&here.path().join("toys")),
        ["experiment.json", "lock", "models", "moons.png", "parts", "report.json", "report.md"]
    );
    refuses(&mut reproduce(&toys), 2, &["toys", "--resume"]);
    let other = Lock::take(&here.path().join("toys")).expect("nobody holds it");
    refuses(reproduce(&toys).arg("--resume"), 2, &["toys", "is in use by", "another folder"]);
    drop(other);
    // Everything is there already: the same numbers, at once.
    let again = json_of(reproduce(&toys).arg("--resume"));
    assert_eq!(again["tables"], report["tables"]);
    refuses(reproduce(&toys).args(["--resume", "--seed", "3"]), 2, &["toys", "other settings"]);
    let markdown = fs::read_to_string(here.path().join("toys/report.md")).expect("a report");
    assert!(markdown.contains("| gaussian | ml ") && markdown.contains("(moons.png)"), "{markdown}");
}

#[test]
fn experiments_on_images_run_on_the_digits() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let reproduce = |words: &str| json_of(&mut arcsm(here.path(), &format!("reproduce {words} --budget 0.02")));
    let denoised = reproduce("denoise-0.6 --out denoised");
    let rows = denoised["tables"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    // Digits in noise of 0.6: 4.4 dB; what is linear needs no training.
    assert!((rows[0]["PSNR"].as_f64().expect("a number") - 4.4).abs() < 0.2, "{denoised}");
    assert!(rows[3]["PSNR"].as_f64().expect("a number") > 12.0, "{denoised}");
    let outliers = reproduce("ood --out outliers");
    let columns = outliers["tables"][0]["columns"].as_array().expect("columns");
    assert!(columns.iter().any(|c| c == "letters") && columns.iter().any(|c| c == "worst"), "{outliers}");
    let mut models = arcsm(here.path(), "reproduce mnist --out models --budget 0.02");
    let models = json_of(models.args(["--only", "made score dsm", "--only", "made mog ml"]));
    let rows = models["tables"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3, "two models and the real images");
    // Untrained models are far from the images, other images are near.
    let distance = |row: usize| rows[row]["FD"].as_f64().expect("a number");
    assert!(distance(2) < distance(0) && distance(2) < distance(1), "{models}");
    for picture in
        ["denoised/denoised.png", "outliers/histograms.png", "models/samples-made.png", "models/samplers.png"]
    {
        assert!(here.path().join(picture).is_file(), "{picture}");
    }
}

#[test]
fn losses_are_compared_over_dimensions() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let scaling = |out: &str| arcsm(here.path(), &format!("reproduce scaling --out {out} --budget 0.2 --seed 3"));
    refuses(scaling("x").args(["--only", "slised"]), 2, &["--only", "sliced-vr"]);
    let report = json_of(scaling("scaling").args(["--only", "10 exact", "--only", "10 sliced"]));
    let rows = report["tables"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| &row["loss"]).collect::<Vec<_>>(), ["exact", "sliced"]);
    for row in rows {
        assert!(row["ms a step"].as_f64().is_some_and(|time| time > 0.0), "{row}");
        assert!(row["optimum"].as_f64().is_some_and(|optimum| optimum < -5.0 && row["D"] == 10), "{row}");
    }
    assert_eq!(rows[0]["optimum"], rows[1]["optimum"], "both have one expectation");
    // A slow adapter may not get as far as gradients.
    let gradients = report["tables"][1]["rows"].as_array().expect("rows");
    for row in gradients.iter().filter(|row| row["loss"] == "exact") {
        assert_eq!(row["of the loss alone"], 0.0, "nothing in it is random");
    }
    assert!(here.path().join("scaling/scaling.png").is_file());
}

#[test]
fn versions_name_the_commit() {
    for name in ["arcsm", "arcsm-sample", "arcsm-bench"] {
        let text = succeeds(assert_cmd::Command::from(program(name)).arg("--version"));
        assert!(text.starts_with(&format!("{name} {} (commit ", env!("CARGO_PKG_VERSION"))), "{text}");
    }
}

#[test]
fn the_benchmark_times_what_its_flags_say() {
    refuses(&mut bench("sample-langevin --evaluations 55"), 2, &["--evaluations: 55", "multiple of 10"]);
    if !has_adapter() {
        return;
    }
    let layer = json_of(&mut bench("gemm-forward --layer 40 24 --batch 8 --repetitions 1"));
    assert_eq!(layer["records"][0]["needed_flop"], 2 * 8 * 40 * 24);
    // Unit k of 24 has degree floor(40 k / 24) + 1, and sees as many inputs.
    let seen: u32 = (0..24).map(|k| 40 * k / 24 + 1).sum();
    assert_eq!(layer["records"][1]["needed_flop"], 2 * 8 * seen);
    let words = "sample-langevin --model digits --context 3 --evaluations 20 --count 2 --repetitions 1";
    let chain = json_of(&mut bench(words));
    let sizes = chain["records"][0]["sizes"].as_str().expect("text");
    assert!(sizes.ends_with("batch 2 21 evaluations"), "{sizes}");
}

fn bench(words: &str) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::from(program("arcsm-bench"));
    command.args(words.split_whitespace());
    command
}

#[test]
fn the_benchmark_sweeps_and_prints_in_every_form() {
    refuses(&mut bench("train-step --model mnist-gated --dimensions 20"), 2, &["--dimensions", "mnist-made"]);
    if !has_adapter() {
        return;
    }
    let sweep =
        "--case train-step --model digits-made --dimensions 5,9 --batch 2,4 --repetitions 1 --warm-up 0 --no-ceiling";
    let lines = succeeds(&mut bench(&format!("{sweep} -o jsonl")));
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let records: Vec<Value> = records.filter(|record| record["case"] == "train-step").collect();
    let sizes: Vec<&str> = records.iter().map(|record| record["sizes"].as_str().expect("text")).collect();
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes[1].starts_with("5") && sizes[1].contains("batch 4"), "{sizes:?}");
    assert!(sizes[2].starts_with("9") && sizes[2].contains("batch 2"), "{sizes:?}");
    assert!(records.iter().all(|record| record["needed_bytes"].as_u64() > Some(0) && record["adapter"].is_string()));
    assert!(records[0]["bound"].is_null(), "without a ceiling: {}", records[0]);
    let text = succeeds(&mut bench(&format!("{sweep} -o csv")));
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let column = table.headers().expect("headings").iter().position(|name| name == "flop").expect("a column");
    let rows = table.records().map(|row| row.expect("a row")).filter(|row| &row[0] == "train-step");
    let flop: Vec<String> = rows.map(|row| row[column].to_owned()).collect();
    assert_eq!(flop[3], records[3]["needed_flop"].to_string());
    let layer = json_of(&mut bench("ceiling gemm-forward --layer 64 64 --batch 8 --repetitions 1"));
    let ceiling = &layer["environment"]["ceiling"];
    assert!(ceiling["gemm_gflop_per_second"].as_f64() > Some(0.0), "{ceiling}");
    assert!(ceiling["dispatch_seconds"].as_f64() < ceiling["round_trip_seconds"].as_f64(), "{ceiling}");
    let dense = layer["records"].as_array().expect("records").last().expect("one");
    let (share, bound) = (dense["fraction_of_ceiling"].as_f64(), &dense["bound"]);
    assert!(share > Some(0.0) && (bound == "compute" || bound == "memory"), "{dense}");
}

#[test]
fn a_profile_is_what_trace_viewers_read() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let path = here.path().join("trace.json");
    let words = "train-step kernels --model digits-made --batch 4 --count 1 --repetitions 1 --no-ceiling --profile";
    let table = json_of(bench(words).arg(&path));
    let trace: Value = serde_json::from_slice(&fs::read(&path).expect("written")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let mut kernels = 0;
    for event in events {
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        match event["ph"].as_str() {
            Some("M") => assert!(event["args"]["name"].is_string(), "{event}"),
            Some("X") => {
                assert!(event["ts"].as_f64() >= Some(0.0) && event["dur"].as_f64() >= Some(0.0), "{event}");
                kernels += usize::from(event["cat"] == "kernel");
            }
            other => panic!("{other:?} in {event}"),
        }
    }
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    // Each training step has one; the case of whole steps and the case of kernels show one step each.
    assert_eq!(named("score_train"), 2);
    assert!(named("encode and submit") > 0 && kernels > 20, "{kernels} kernels");
    let of_step = |name: &str| {
        let case = format!("train: {name}");
        let records = table["records"].as_array().expect("records").iter();
        records.filter(|record| record["case"] == case.as_str()).map(|record| record["part"].clone()).next_back()
    };
    let adam = of_step("adam").expect("adam is a part of a step");
    assert_eq!(named("adam"), 2 * adam["calls"].as_u64().expect("calls") as usize);
}

#[test]
fn a_memory_of_tunings_that_is_of_no_use_is_told_of() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let path = here.path().join("tuning.json");
    fs::write(&path, "no JSON").expect("written");
    let words = "gemm-forward --layer 8 8 --batch 8 --repetitions 1 --no-ceiling";
    let output = bench(words).env("ARCSM_TUNING", &path).output().expect("the executable starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success() && said.contains("tuning.json") && said.contains("--tune"), "{said}");
    refuses(&mut bench("--tune"), 2, &["ARCSM_TUNING"]);
}

#[test]
fn settings_are_printed_and_read_back() {
    let here = folder();
    let words = "train --data mnist:somewhere --steps 7 --hidden 5,6 --print-config";
    let printed = succeeds(&mut arcsm(here.path(), words));
    fs::write(here.path().join("c.toml"), &printed).expect("written");
    assert_eq!(succeeds(&mut arcsm(here.path(), "train --config c.toml --print-config")), printed);
    let config = arcsm::config::Config::from_toml(&printed, "printed").expect("settings");
    assert_eq!((config.train.steps, config.model.hidden), (7, vec![5, 6]));
    assert_eq!(config.train.row_stride, 4, "the recipe that is built in for MNIST");
    assert_eq!(json_of(&mut arcsm(here.path(), words))["data"]["spec"], "mnist:somewhere");
}

#[test]
fn results_are_one_json_object() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let adapters = json_of(&mut arcsm(here.path(), "adapters"));
    assert!(adapters["adapters"][0]["name"].is_string(), "{adapters}");
    let report = json_of(&mut arcsm(here.path(), &format!("train {TINY} --steps 6 --out run")));
    assert_eq!(report["steps"], 6);
    let checkpoint = report["checkpoint"].as_str().expect("a path");
    let drawn = json_of(&mut arcsm(
        here.path(),
        &format!("sample --checkpoint {checkpoint} --count 3 --out a.png --npy a.npy --seed 5"),
    ));
    let flops = &drawn["context_flops_per_sample"];
    assert_eq!(flops["full_passes"].as_u64(), flops["incremental"].as_u64().map(|n| 64 * n), "{flops}");
    let array = arcsm::files::arrays::read_npy(&here.path().join("a.npy")).expect("written");
    assert_eq!(array.shape, [3, 8, 8, 1]);
    let text = arcsm::files::image_grid::read_png_text(&here.path().join("a.png")).expect("written");
    assert_eq!(
        (text["arcsm:seed"].as_str(), text["arcsm:checkpoint"].as_str()),
        ("5", drawn["fingerprint"].as_str().expect("text"))
    );
    assert!(text["arcsm:command"].contains("--count 3"), "{text:?}");
}

#[test]
fn the_doctor_examines_every_kernel() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let report = json_of(&mut arcsm(here.path(), "doctor"));
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(arcsm::kernels::ALL.len()), "{report}");
}

#[test]
fn the_sample_executable_draws_what_the_subcommand_draws() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let checkpoint = train_tiny(here.path(), "run", 3);
    let words = ["--checkpoint", checkpoint.to_str().expect("text"), "--count", "5", "--seed", "9", "--npy"];
    succeeds(arcsm(here.path(), "sample").args(words).arg("a.npy"));
    succeeds(assert_cmd::Command::from(program("arcsm-sample")).current_dir(here.path()).args(words).arg("b.npy"));
    succeeds(arcsm(here.path(), "sample --batch 2").args(words).arg("c.npy"));
    let [a, b, c] = ["a.npy", "b.npy", "c.npy"].map(|name| fs::read(here.path().join(name)).expect("written"));
    assert_eq!(a, b);
    assert_eq!(a, c, "samples must not depend on the batch");
}

#[test]
fn an_evaluation_has_every_reading_and_writes_them_for_each_sample() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let checkpoint = train_tiny(here.path(), "run", 30);
    let words = "--count 3 --sigma 0.1,0.3 --flow-count 2 --flow-steps 4 --csv nats.csv --npz nats.npz --seed 4";
    let evaluate = || {
        let mut command = arcsm(here.path(), &format!("evaluate {words} --checkpoint"));
        command.arg(&checkpoint);
        command
    };
    let report = json_of(&mut evaluate());
    let evaluation = &report["evaluation"];
    assert_eq!((evaluation["samples"].as_u64(), evaluation["quanta"].as_u64()), (Some(3), Some(16)), "{report}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    let levels = evaluation["levels"].as_array().expect("levels");
    assert_eq!(levels.len(), 2, "{report}");
    for level in levels {
        for reading in ["nats", "bits_per_dimension", "one_level"] {
            assert!(number(&level[reading]["mean"]).is_finite(), "{level}");
        }
        assert!(number(&level["integral_error"]) <= 1e-3, "{level}");
        assert!(number(&level["flow"]["normalised"]["mean"]).is_finite() && level["flow"]["samples"] == 2, "{level}");
        // No density is better than that of the noise, but for the few samples.
        assert!(number(&level["nats"]["mean"]) > number(&level["noise_floor"]), "{level}");
        assert!(level["bits_meaning"].as_str().is_some_and(|text| text.contains("17 levels")), "{level}");
    }
    let table = fs::read_to_string(here.path().join("nats.csv")).expect("written");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0][2], rows[1][0], rows[1][1]), (7, "nats", "0", "0.1"), "{table}");
    let mean = (1..4).map(|n| rows[n][2].parse::<f64>().expect("a number")).sum::<f64>() / 3.0;
    assert!((mean - number(&levels[0]["nats"]["mean"])).abs() <= 1e-9, "{table}");
    let mut archive =
        NpzReader::new(fs::File::open(here.path().join("nats.npz")).expect("written")).expect("an archive");
    let nats: ndarray::Array2<f32> = archive.by_name("nats").expect("an array");
    assert_eq!(nats.shape(), [2, 3]);
    assert!((f64::from(nats[[0, 1]]) - rows[2][2].parse::<f64>().expect("a number")).abs() <= 1e-3, "{nats}");
    // The same seed, the same bits.
    assert_eq!(json_of(&mut evaluate())["evaluation"], *evaluation);
}

#[test]
fn an_evaluation_refuses_what_makes_no_sense() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let checkpoint = train_tiny(here.path(), "run", 3);
    let evaluate = |words: &str| {
        let mut command = arcsm(here.path(), &format!("evaluate --count 1 --flow-count 0 {words} --checkpoint"));
        command.arg(&checkpoint);
        command
    };
    for (words, expected) in [
        ("--sigma 0.01", "0.03 to 1"),
        ("--sigma 0.03,7", "--force"),
        ("--levels 3,0.5", "outside the range"),
        ("--levels 0.5,0.6", "do not fall"),
        ("--sigma 0", "positive"),
        ("--sigma -1", "positive"),
        ("--sigma nan", "positive"),
        ("--range 1,0", "LOW < HIGH"),
        ("--range 1", "LOW,HIGH"),
        ("--resolution 0", "0.5 to 100"),
        ("--flow-steps 0", "1 to 10000"),
        ("--data toy:moons", "the model takes 8x8x1"),
        ("--data nonsense", "no data SPEC"),
        ("--csv .", "is a folder"),
    ] {
        refuses(&mut evaluate(words), 2, &[expected]);
    }
    let output = evaluate("--sigma 0.02 --force").output().expect("starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("outside the range"), "{stderr}");
    let output = evaluate("--range 0.4,0.5 --sigma 0.03 --levels 0.1").output().expect("starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("grids cut off mass: wider ones change"), "{stderr}");
    // A model without noise levels has no density of noisy values.
    let words = "train --data gaussian:2 --hidden 8 --context 4 --score-hidden 8 --batch 16 --steps 2 --out plain";
    succeeds(&mut arcsm(here.path(), words));
    let plain = "evaluate --checkpoint plain/checkpoints/last.safetensors --count 2";
    refuses(&mut arcsm(here.path(), &format!("{plain} --sigma 0.1")), 2, &["without noise levels"]);
    let report = json_of(&mut arcsm(here.path(), plain));
    let level = &report["evaluation"]["levels"][0];
    assert!(level["truth"]["difference"]["mean"].is_f64() && level["flow"].is_null(), "{report}");
}

// ---- bad input --------------------------------------------------------------------------------------------------

#[test]
fn data_that_cannot_be_used_is_refused_and_leaves_nothing_behind() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let image_header = [0u8, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2];
    let write = |name: &str, bytes: &[u8]| fs::write(here.path().join(name), bytes).expect("written");
    write("short", &[&image_header[..], &[7; 5]].concat());
    write("labels", &[&[0u8, 0, 10, 1, 0, 0, 0, 2][..], &[1, 2]].concat());
    write("text.gz", b"this is no gzip file");
    write("hole.csv", b"1,2,3\n4,,6\n7,8,9\n");
    write("complex.npy", &npy_header("<c8", "(4, 2)", 64));
    write_npy(&here.path().join("cube.npy"), &HostTensor::new([2, 2, 2, 2, 2], vec![0.5; 32])).expect("written");
    for part in ["empty", "broken", "cifar", "cut"] {
        fs::create_dir(here.path().join(part)).expect("made");
    }
    write("broken/text.png", b"this is no image");
    write("cifar/data_batch_1.bin", &[0; 3074]);
    write("cifar/test_batch.bin", &[0; 3073]);
    let photo = encoded(16, 3, 0, image::ImageFormat::Jpeg);
    write("cut/photo.jpg", &photo[..photo.len() / 2]);
    write("text.npz", b"this is no archive");
    let before = names_in(here.path());
    let cases: [(&str, &[&str]); 21] = [
        ("images:nowhere", &["nowhere", "cannot be read"]),
        ("images:empty", &["empty", ".png", ".jpg"]),
        ("images:broken", &["text.png", "is no PNG, JPEG", "--broken skip"]),
        ("images:broken --broken skip", &["broken", "1 of 1", "text.png"]),
        ("images:cut", &["photo.jpg", "cut off", "--broken skip"]),
        ("images:cut --broken skip", &["1 of 1", "photo.jpg"]),
        ("cifar10:cifar", &["data_batch_1.bin", "3074", "3073"]),
        ("digits --channels 3", &["data.channels", "8x8x1"]),
        ("digits --size 16", &["data.size", "8x8x1"]),
        ("npz:text.npz", &["text.npz", "no .npz archive"]),
        ("toy:moons --flip", &["data.flip", "images"]),
        ("idx:missing", &["missing", "cannot be read"]),
        ("idx:short", &["short", "8", "5"]),
        ("idx:labels", &["labels", "magic number 00000a01"]),
        ("idx:text.gz", &["text.gz", "is no gzip file"]),
        ("mnist:nowhere", &["nowhere"]),
        ("npy:complex.npy", &["complex.npy", "<c8", "complex numbers"]),
        ("npy:cube.npy", &["cube.npy", "shape"]),
        ("csv:hole.csv", &["hole.csv", "2"]),
        ("toy:moon", &["toy:moons"]),
        ("mnits:x", &["mnist"]),
    ];
    for (spec, words) in cases {
        refuses(&mut arcsm(here.path(), &format!("train --out run --data {spec}")), 2, words);
        assert_eq!(names_in(here.path()), before, "{spec} left something behind");
    }
}

/// A square image of 1 or 3 channels, another one for each seed.
fn encoded(side: u32, channels: usize, seed: u32, format: image::ImageFormat) -> Vec<u8> {
    let value = |x: u32, y: u32| ((x * 31 + y * 17 + seed * 57) % 251) as u8;
    let image: image::DynamicImage = match channels {
        1 => image::GrayImage::from_fn(side, side, |x, y| image::Luma([value(x, y)])).into(),
        _ => image::RgbImage::from_fn(side, side, |x, y| image::Rgb([value(x, y), value(y, x), 9])).into(),
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

/// A folder of such images.
fn put_images(folder: &Path, count: u32, side: u32, channels: usize) {
    fs::create_dir(folder).expect("made");
    for seed in 0..count {
        let bytes = encoded(side, channels, seed, image::ImageFormat::Png);
        fs::write(folder.join(format!("{seed}.png")), bytes).expect("written");
    }
}

#[test]
fn images_that_do_not_fit_the_model_are_refused() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    for (name, side, channels) in [("colour", 4, 3), ("grey", 4, 1), ("larger", 6, 3)] {
        put_images(&here.path().join(name), 8, side, channels);
    }
    let tiny = TINY.replace("digits", "images:colour");
    // The settings that are built in for images resize them.
    succeeds(&mut arcsm(here.path(), &format!("train {tiny} --size 4 --steps 2 --out run")));
    let before = fs::read(here.path().join("run/checkpoints/last.safetensors")).expect("written");
    let resume = |rest: &str| arcsm(here.path(), &format!("train --resume run --steps 4 --data {rest}"));
    refuses(&mut resume("images:grey"), 2, &["4x4x3", "images:grey has 4x4x1", "[data] settings"]);
    refuses(&mut resume("images:larger --size 6"), 2, &["4x4x3", "images:larger has 6x6x3"]);
    write_npy(&here.path().join("grey.npy"), &HostTensor::new([2, 4, 4, 1], vec![0.5; 32])).expect("written");
    let score = "score --checkpoint run/checkpoints/last.safetensors --out s.npz --input grey.npy";
    refuses(&mut arcsm(here.path(), score), 2, &["grey.npy", "4x4x1 (D = 16)", "4x4x3 (D = 48)"]);
    assert_eq!(fs::read(here.path().join("run/checkpoints/last.safetensors")).expect("kept"), before);
}

#[test]
fn data_that_stay_on_disk_train_the_same_weights() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    put_images(&here.path().join("pictures"), 23, 4, 3);
    let words = TINY.replace("digits", "images:pictures");
    let train = |run: &str, memory: &str| {
        let words = format!("train {words} --size 4 --flip --steps 6 {memory} --out {run}");
        let output = arcsm(here.path(), &words).output().expect("the executable starts");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        (Checkpoint::load(&here.path().join(run).join("checkpoints/last.safetensors")).expect("written").tensors, log)
    };
    let (in_memory, quiet) = train("memory", "");
    let (on_disk, log) = train("disk", "--data-memory 0");
    assert!(in_memory == on_disk, "weights differ");
    assert!(log.contains("stay on disk") && !quiet.contains("stay on disk"), "{log}");
}

fn npy_header(dtype: &str, shape: &str, data: usize) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let here = folder();
    fs::write(here.path().join("typo.toml"), "[train]\nbach = 3\n").expect("written");
    fs::write(here.path().join("broken.toml"), "[train\n").expect("written");
    refuses(&mut arcsm(here.path(), "train --config typo.toml --out run"), 2, &["`train.bach`", "`train.batch`"]);
    refuses(&mut arcsm(here.path(), "train --config broken.toml --out run"), 2, &["broken.toml"]);
    refuses(&mut arcsm(here.path(), "train --config none.toml --out run"), 2, &["none.toml"]);
    refuses(&mut arcsm(here.path(), "train --data digits --out run --sigma-min -1"), 2, &["noise.sigma_min"]);
    refuses(&mut arcsm(here.path(), "train --data digits --out run --score-activation relu"), 2, &["differentiable"]);
    refuses(&mut arcsm(here.path(), "train --resume nothing"), 2, &["nothing", "no run folder"]);
    refuses(&mut arcsm(here.path(), "sample --checkpoint c --out a.png --steps 3"), 2, &["--steps", "other sampler"]);
    assert_eq!(names_in(here.path()), ["broken.toml", "typo.toml"]);
}

#[test]
fn unknown_flags_have_status_2() {
    let here = folder();
    let output = arcsm(here.path(), "train --stpes 3").output().expect("the executable starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--steps"), "the nearest flag is named");
}

#[test]
fn adapters_that_are_not_there_have_status_3() {
    let here = folder();
    let without = ["adapters", "doctor", "train --data digits --out run"];
    for words in without {
        let mut command = arcsm(here.path(), words);
        // Software drivers of other systems cannot be hidden so; an impossible backend is no adapter anywhere.
        command
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("VK_ICD_FILENAMES", "/nonexistent")
            .env("WGPU_BACKEND", "vulkan");
        if cfg!(target_os = "linux") {
            refuses(&mut command, 3, &["no GPU adapter was found", "mesa-vulkan-drivers"]);
        }
    }
    if has_adapter() {
        let known = &arcsm::gpu::list_adapters()[0].name;
        refuses(&mut arcsm(here.path(), "adapters --adapter voodoo2"), 3, &["voodoo2", known]);
        let mut command = arcsm(here.path(), "adapters");
        refuses(command.env("WGPU_ADAPTER_NAME", "voodoo3"), 3, &["voodoo3", known]);
    }
    assert!(names_in(here.path()).is_empty());
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_the_numbers_before_training() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words = "train --data digits --out run --hidden 65536,65536";
    let needed = (65_536u64 * 65_536 * 4).to_string();
    refuses(&mut arcsm(here.path(), words), 3, &["ctx.layers.1.weight", &needed, "Use smaller sizes"]);
}

#[test]
fn checkpoints_that_cannot_be_used_are_refused() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let whole = fs::read(train_tiny(here.path(), "run", 2)).expect("written");
    let newer = {
        let (old, new) = (br#""format_version":"1""#, br#""format_version":"9""#);
        let at = whole.windows(old.len()).position(|window| window == old).expect("the header holds it");
        [&whole[..at], &new[..], &whole[at + new.len()..]].concat()
    };
    let write = |name: &str, bytes: &[u8]| fs::write(here.path().join(name), bytes).expect("written");
    write("cut", &whole[..whole.len() - 100]);
    write("newer", &newer);
    write("other", b"PK\x03\x04");
    write_npy(&here.path().join("x.npy"), &HostTensor::new([2, 64], vec![0.5; 128])).expect("written");
    write_npy(&here.path().join("wide.npy"), &HostTensor::new([2, 65], vec![0.5; 130])).expect("written");
    for (name, words) in [
        ("none", &["none", "cannot be read"][..]),
        ("cut", &["cut", "no whole safetensors file"]),
        ("newer", &["newer", "format version 9"]),
        ("other", &["other", "no whole safetensors file"]),
    ] {
        refuses(&mut arcsm(here.path(), &format!("sample --checkpoint {name} --count 2 --out a.png")), 2, words);
        refuses(&mut arcsm(here.path(), &format!("score --checkpoint {name} --input x.npy --out a.npz")), 2, words);
    }
    let score = "score --checkpoint run/checkpoints/last.safetensors --out a.npz --input";
    refuses(&mut arcsm(here.path(), &format!("{score} wide.npy")), 2, &["wide.npy", "65", "64"]);
    refuses(&mut arcsm(here.path(), &format!("{score} x.npy --sigma wide.npy")), 2, &["wide.npy"]);
    refuses(&mut arcsm(here.path(), &format!("{score} x.npy --sigma -0.1")), 2, &["--sigma"]);

    succeeds(&mut arcsm(here.path(), &format!("train {TINY} --steps 2 --out wider --hidden 24,24")));
    let last = Path::new("checkpoints/last.safetensors");
    fs::copy(here.path().join("wider").join(last), here.path().join("run").join(last)).expect("copied");
    refuses(&mut arcsm(here.path(), "train --resume run --steps 4"), 2, &["a model with other settings"]);
    assert!(!here.path().join("a.png").exists() && !here.path().join("a.npz").exists());
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_work() {
    let here = folder();
    fs::write(here.path().join("file"), "x").expect("written");
    let start = Instant::now();
    for words in [
        "sample --checkpoint c --out file/a.png",
        "sample --checkpoint c --npy .",
        "score --checkpoint c --input x.npy --out file/a.npz",
        "denoise --checkpoint c --sigma 0.5 --out file/a.png",
        "inpaint --checkpoint c --mask top --npy file/a.npy",
        "detect --checkpoint c --outliers noise --csv file/a.csv",
        "import --weights w --config m --out file/a.ckpt",
    ] {
        refuses(&mut arcsm(here.path(), words), 2, &["Give a path to a file"]);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "no work before the check");
    if has_adapter() {
        refuses(&mut arcsm(here.path(), &format!("train {TINY} --out file/run")), 2, &["file/run"]);
        refuses(&mut arcsm(here.path(), "demo --out file/demo"), 2, &["file/demo"]);
    }
    assert_eq!(fs::read_to_string(here.path().join("file")).expect("there"), "x");
}

#[test]
fn a_run_is_not_overwritten_unless_forced() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let checkpoint = train_tiny(here.path(), "run", 2);
    let before = fs::read(&checkpoint).expect("written");
    refuses(&mut arcsm(here.path(), &format!("train {TINY} --out run")), 2, &["holds a run already", "--force"]);
    refuses(&mut arcsm(here.path(), "train --force --data npy:none.npy --out run"), 2, &["none.npy"]);
    assert_eq!(fs::read(&checkpoint).expect("kept"), before, "a refused run must lose nothing");
    succeeds(&mut arcsm(here.path(), &format!("train {TINY} --out run --steps 2 --force --seed 8")));
    assert_ne!(fs::read(&checkpoint).expect("written"), before);
    refuses(&mut arcsm(here.path(), "train --resume run --seed 3"), 2, &["--resume", "seed"]);
}

#[test]
fn a_full_disk_keeps_the_old_file_and_leaves_no_part() {
    let here = folder();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "none"]).arg(here.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: a small file system cannot be mounted here");
        return;
    }
    let elsewhere = folder();
    let outcome = std::panic::catch_unwind(|| {
        if !has_adapter() {
            return;
        }
        let checkpoint = train_tiny(elsewhere.path(), "run", 2);
        let input = elsewhere.path().join("x.npy");
        write_npy(&input, &HostTensor::new([400, 64], vec![0.5; 400 * 64])).expect("written");
        let old = here.path().join("old.npz");
        fs::write(&old, "precious").expect("written");
        let words =
            ["--checkpoint", checkpoint.to_str().expect("text"), "--input", input.to_str().expect("text"), "--out"];
        refuses(arcsm(here.path(), "score").args(words).arg(&old), 1, &["old.npz", "The disk is full"]);
        assert_eq!(fs::read_to_string(&old).expect("kept"), "precious");
        assert_eq!(names_in(here.path()), ["old.npz"]);
        let words = format!("train {TINY} --hidden 256,256 --steps 2 --out run");
        refuses(&mut arcsm(here.path(), &words), 1, &["The disk is full"]);
        assert!(!names_in(&here.path().join("run/checkpoints")).iter().any(|name| name.ends_with(".safetensors")));
    });
    let unmounted = Command::new("umount").arg(here.path()).status().expect("umount starts");
    assert!(unmounted.success());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

// ---- interruptions ----------------------------------------------------------------------------------------------

/// A training run in the background.
fn spawn(folder: &Path, words: &str) -> Child {
    let mut command = program("arcsm");
    command.current_dir(folder).args(words.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the executable starts")
}

/// Waits until a checkpoint has at least this step.
fn wait_for_step(path: &Path, step: u64) -> Checkpoint {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if path.exists() {
            let checkpoint = Checkpoint::load(path).expect("a checkpoint is always readable");
            if checkpoint.step >= step {
                return checkpoint;
            }
        }
        assert!(Instant::now() < deadline, "no step {step} in a minute");
        sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_or_killed_run_goes_on_bit_for_bit() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words = |run: &str| format!("train {TINY} --steps 120 --checkpoint-every 3 --out {run}");
    succeeds(&mut arcsm(here.path(), &words("whole")));
    let last = |run: &str| here.path().join(run).join("checkpoints/last.safetensors");
    let whole = Checkpoint::load(&last("whole")).expect("written");

    let mut interrupted = spawn(here.path(), &words("interrupted"));
    wait_for_step(&last("interrupted"), 6);
    let signalled = Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status();
    assert!(signalled.expect("kill starts").success());
    let status = interrupted.wait().expect("it ends");
    let mut text = String::new();
    interrupted.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("error: interrupted") && text.contains("arcsm train --resume interrupted"), "{text}");

    let mut killed = spawn(here.path(), &words("killed"));
    wait_for_step(&last("killed"), 9);
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");

    for run in ["interrupted", "killed"] {
        let stopped_at = Checkpoint::load(&last(run)).expect("readable").step;
        assert!(stopped_at < 120, "{run} had ended before it was stopped");
        succeeds(&mut arcsm(here.path(), &format!("train --resume {run}")));
        let resumed = Checkpoint::load(&last(run)).expect("written");
        assert_eq!((resumed.step, resumed.samples_drawn), (whole.step, whole.samples_drawn));
        for (name, tensor) in &whole.tensors {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&resumed.tensors[name].values) == bits(&tensor.values), "{run}: {name} differs");
        }
        let lines = |run: &str| fs::read_to_string(here.path().join(run).join("metrics.jsonl")).expect("written");
        assert!(lines(run) == lines("whole"), "{run}: every step stands once, with the same losses");
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_keeps_its_best_weights() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let words = "train --config digits-made --data digits --hidden 16 --validate-every 1 --learning-rate 1e6 --out run";
    refuses(&mut arcsm(here.path(), words), 4, &["loss is not finite", "smaller learning rate"]);
    let best = Checkpoint::load(&here.path().join("run/checkpoints/best.safetensors")).expect("readable");
    assert!(best.step > 0 && best.tensors.values().all(|tensor| tensor.values.iter().all(|value| value.is_finite())));
}

// ---- image networks ---------------------------------------------------------------------------------------------

#[test]
fn convolutions_refuse_data_that_do_not_fit_them() {
    let here = folder();
    refuses(
        &mut arcsm(here.path(), "train --data digits --network gated --order random --out run"),
        2,
        &["model.order", "neighbours"],
    );
    refuses(&mut arcsm(here.path(), "train --data digits --network gated --kernel 4 --out run"), 2, &["1, 3, 5 or 7"]);
    if !has_adapter() {
        return;
    }
    for (words, expected) in [
        ("--data digits --network pixelcnn --downsamplings 4", ["4 halvings do not divide 8x8", "at most 3"]),
        ("--data toy:moons --network gated", ["gated needs images", "samples are"]),
        ("--data digits --network gated --batch 16 --micro-batch 5", ["train.micro_batch", "5 does not divide"]),
        ("--data digits --network gated --memory 1", ["train.memory", "1 of 32 samples at a time"]),
    ] {
        refuses(&mut arcsm(here.path(), &format!("train {words} --out run")), 2, &expected);
        assert!(!here.path().join("run").exists(), "{words} left a folder");
    }
}

#[test]
fn the_memory_plan_is_told_before_anything_is_made() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let plan =
        |words: &str| json_of(&mut arcsm(here.path(), &format!("train --data digits --network gated --plan {words}")));
    let (whole, parts) = (plan("--batch 16"), plan("--batch 16 --memory 4"));
    assert_eq!((&whole["parts"], &whole["micro_batch"]), (&1.into(), &16.into()));
    assert_eq!(parts["parts"].as_u64().expect("a number") * parts["micro_batch"].as_u64().expect("a number"), 16);
    assert!(parts["parts"].as_u64() > Some(1) && parts["total_bytes"].as_u64() <= Some(4 << 20), "{parts}");
    let labels = whole["training"].as_array().expect("tensors").iter().map(|tensor| &tensor["label"]);
    assert!(labels.into_iter().any(|label| label == "ctx.blk.3, gated"), "{whole}");
}

#[test]
fn an_image_network_trains_scores_and_samples_from_the_command_line() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let sizes = "--filters 8 --blocks 1 --downsamplings 1 --context 4 --score-hidden 16,16 --batch 8 --steps 4";
    succeeds(&mut arcsm(here.path(), &format!("train --data digits --network pixelcnn {sizes} --out run")));
    let last = "run/checkpoints/last.safetensors";
    let drawn =
        json_of(&mut arcsm(here.path(), &format!("sample --checkpoint {last} --count 4 --out s.png --npy s.npy")));
    assert!(here.path().join("s.png").exists() && here.path().join("s.npy").exists(), "{drawn}");
    let score = |input: &str| format!("score --checkpoint {last} --input {input} --out s.npz");
    succeeds(&mut arcsm(here.path(), &score("s.npy")));
    write_npy(&here.path().join("wide.npy"), &HostTensor::new([1, 4, 16, 1], vec![0.5; 64])).expect("written");
    refuses(&mut arcsm(here.path(), &score("wide.npy")), 2, &["wide.npy", "4x16x1", "8x8x1"]);
}

// ---- questions to a trained model --------------------------------------------------------------------------------

/// Images like the digits, no two values alike.
fn put_samples(path: &Path, count: usize) -> HostTensor {
    let tensor = HostTensor::new([count, 8, 8, 1], (0..64 * count).map(|i| (i * 37 % 101) as f32 / 101.0).collect());
    write_npy(path, &tensor).expect("written");
    tensor
}

#[test]
fn noise_is_removed_from_own_data_and_from_arrays() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    train_tiny(here.path(), "run", 3);
    let denoise = |words: &str| {
        arcsm(here.path(), &format!("denoise --checkpoint run/checkpoints/last.safetensors --npy d.npy {words}"))
    };
    let report = json_of(&mut denoise("--sigma 0.5 --count 40 --out d.png"));
    let quality = |key: &str| report["quality"][key].as_f64().expect("a number");
    // 2,560 squared normal numbers: five standard errors of their mean, sqrt(2 / 2560).
    assert!((quality("mse_noisy") - 0.25).abs() <= 0.25 * 0.14, "{report}");
    assert!(
        quality("psnr_denoised") > 0.0 && quality("psnr_linear_causal") > quality("psnr_noisy_clipped"),
        "{report}"
    );
    assert!(report["mse_expected_by_the_model"].as_f64().is_some(), "{report}");
    let array = || arcsm::files::arrays::read_npy(&here.path().join("d.npy")).expect("written");
    assert_eq!(array().shape, [40, 8, 8, 1]);
    let text = arcsm::files::image_grid::read_png_text(&here.path().join("d.png")).expect("written");
    assert!(text["arcsm:command"].contains("--sigma 0.5"), "{text:?}");

    put_samples(&here.path().join("x.npy"), 3);
    put_samples(&here.path().join("two.npy"), 2);
    write_npy(&here.path().join("wide.npy"), &HostTensor::new([3, 65], vec![0.5; 195])).expect("written");
    let mut results = Vec::new();
    for method in ["step", "mean", "draw", "draw --draws 2 --particles 3"] {
        succeeds(&mut denoise(&format!("--input x.npy --clean x.npy --sigma 0.5 --method {method}")));
        results.push(array().values);
        assert!(results.iter().rev().skip(1).all(|other| *other != results[results.len() - 1]), "{method}");
    }
    let cases: [(&str, &[&str]); 7] = [
        ("--sigma 2", &["--sigma", "0.03 to 1", "--force"]),
        ("--sigma -1", &["--sigma", "-1"]),
        ("--sigma 0.5 --input wide.npy", &["wide.npy", "65", "64"]),
        ("--sigma 0.5 --input x.npy --clean two.npy", &["two.npy", "2 samples", "3"]),
        ("--sigma 0.5 --data toy:moons", &["toy:moons", "8x8x1"]),
        ("--sigma 0.5 --draws 2", &["--method", "draw"]),
        ("--sigma 0.5 --input none.npy", &["none.npy"]),
    ];
    for (words, expected) in cases {
        refuses(&mut denoise(words), 2, expected);
    }
    succeeds(&mut denoise("--sigma 2 --force --count 2"));
}

#[test]
fn missing_parts_are_filled_in_and_the_rest_stays() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    train_tiny(here.path(), "run", 3);
    let x = put_samples(&here.path().join("x.npy"), 2);
    let inpaint = |words: &str| {
        let words = format!("inpaint --checkpoint run/checkpoints/last.safetensors --npy f.npy {words}");
        arcsm(here.path(), &words)
    };
    let filled = || arcsm::files::arrays::read_npy(&here.path().join("f.npy")).expect("written");
    let is_known = |known: &dyn Fn(usize, usize) -> bool| {
        let values = filled().values;
        let of_value = |i: usize| (i / 192, i % 64);
        for (i, value) in values.iter().enumerate() {
            let (sample, d) = of_value(i);
            let same = value.to_bits() == x.values[64 * sample + d].to_bits();
            assert!(same == known(d / 8, d % 8), "row {}, column {}: {value}", d / 8, d % 8);
        }
        values
    };
    let common = "--input x.npy --completions 3 --particles 5 --seed 4";
    let report = json_of(&mut inpaint(&format!("{common} --mask bottom --out f.png")));
    assert_eq!((&report["direct"], &report["resamplings"], &report["particles"]), (&true.into(), &0.into(), &1.into()));
    assert_eq!(filled().shape, [2, 3, 8, 8, 1]);
    let values = is_known(&|y, _| y < 4);
    assert_ne!(values[..64], values[64..128], "completions differ");

    let report = json_of(&mut inpaint(&format!("{common} --mask left")));
    assert_eq!((&report["direct"], &report["particles"]), (&false.into(), &5.into()));
    let values = is_known(&|_, x| x >= 4);
    // How the time falls, and how samples are put together, must not change the draw.
    succeeds(&mut inpaint(&format!("{common} --mask left --gpu-budget-ms 1")));
    assert_eq!(filled().values, values);

    let mut marks = vec![0.0; 64];
    (marks[9], marks[40]) = (1.0, 2.0);
    write_npy(&here.path().join("m.npy"), &HostTensor::new([8, 8], marks)).expect("written");
    succeeds(&mut inpaint(&format!("{common} --mask m.npy")));
    is_known(&|y, x| (y, x) != (1, 1) && (y, x) != (5, 0));
    write_npy(&here.path().join("wide.npy"), &HostTensor::new([8, 9], vec![1.0; 72])).expect("written");
    write_npy(&here.path().join("three.npy"), &HostTensor::new([3, 8, 8], vec![1.0; 192])).expect("written");
    for (mask, expected) in [
        ("wide.npy", &["wide.npy", "[8, 9]", "[8, 8, 1]"][..]),
        ("three.npy", &["three.npy", "[3, 8, 8]", "[2, 8, 8, 1]"]),
        ("none.npy", &["none.npy"]),
        ("botom", &["botom", "bottom"]),
        ("random:2", &["random:2", "(0, 1)"]),
    ] {
        refuses(&mut inpaint(&format!("{common} --mask {mask}")), 2, expected);
    }
}

#[test]
fn a_model_for_every_order_fills_in_directly_whatever_the_mask() {
    let here = folder();
    let train = |words: &str| arcsm(here.path(), &format!("train {words}"));
    refuses(
        &mut train("--data digits --network gated --order any --out run"),
        2,
        &["model.order", "convolutional", "neighbours"],
    );
    if !has_adapter() {
        return;
    }
    let report = json_of(&mut train(&format!("{TINY} --order any --steps 3 --out run")));
    assert_eq!(report["steps"], 3);
    let x = put_samples(&here.path().join("x.npy"), 2);
    let inpaint = |words: &str| {
        let words = format!("inpaint --checkpoint run/checkpoints/last.safetensors --completions 2 --seed 4 {words}");
        arcsm(here.path(), &words)
    };
    let report = json_of(&mut inpaint("--input x.npy --mask left --npy f.npy --out f.png"));
    assert_eq!((&report["direct"], &report["particles"], &report["orders"]), (&true.into(), &1.into(), &1.into()));
    assert!(report["mean_squared_error_of_their_mean"].is_null(), "nobody knows what was missing");
    let values = arcsm::files::arrays::read_npy(&here.path().join("f.npy")).expect("written").values;
    for (i, value) in values.iter().enumerate() {
        let same = value.to_bits() == x.values[64 * (i / 128) + i % 64].to_bits();
        assert_eq!(same, i % 8 >= 4, "value {i}");
    }
    assert_ne!(values[..64], values[64..128], "completions differ");
    let report = json_of(&mut inpaint("--count 3 --mask random:0.5 --npy f.npy"));
    assert_eq!((&report["direct"], &report["orders"]), (&true.into(), &3.into()));
    assert!(report["mean_squared_error_of_their_mean"].as_f64().expect("a number") > 0.0);
    // Other commands take the natural order.
    succeeds(&mut arcsm(here.path(), "sample --checkpoint run/checkpoints/last.safetensors --count 2 --out s.png"));
    succeeds(&mut arcsm(here.path(), "evaluate --checkpoint run/checkpoints/best.safetensors --count 2"));
    succeeds(&mut train("--resume run --steps 5"));
}

#[test]
fn outliers_are_told_with_every_statistic() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    train_tiny(here.path(), "run", 3);
    put_samples(&here.path().join("odd.npy"), 12);
    write_npy(&here.path().join("empty.npy"), &HostTensor::new([0, 8, 8], vec![])).expect("written");
    let detect =
        |words: &str| arcsm(here.path(), &format!("detect --checkpoint run/checkpoints/last.safetensors {words}"));
    let report = json_of(&mut detect("--outliers npy:odd.npy --outliers letters --count 10 --out h.png --csv v.csv"));
    let statistics = report["statistics"].as_array().expect("a list");
    assert_eq!((statistics.len(), &report["sets"]["npy:odd.npy"], &report["reference"]), (17, &10.into(), &10.into()));
    for statistic in statistics {
        let area = statistic["sets"]["letters"]["auroc"].as_f64().expect("a number");
        let rate = statistic["sets"]["npy:odd.npy"]["fpr_at_95"].as_f64().expect("a number");
        assert!((0.0..=1.0).contains(&area) && (0.0..=1.0).contains(&rate), "{statistic}");
    }
    let lines = fs::read_to_string(here.path().join("v.csv")).expect("written");
    assert_eq!(lines.lines().count(), 1 + 3 * 10);
    assert!(lines.lines().all(|line| line.split(',').count() >= 19), "{lines}");
    assert!(here.path().join("h.png").exists());
    let cases: [(&str, &[&str]); 6] = [
        ("", &["--outliers", "nothing to detect"]),
        ("--outliers npy:empty.npy", &["empty.npy", "no values"]),
        ("--outliers toy:moons", &["toy:moons", "8x8x1"]),
        ("--outliers nose", &["nose", "SPEC"]),
        ("--outliers noise --sigma 0.1,7", &["--sigma", "0.03 to 1", "--force"]),
        ("--outliers noise --inliers npy:odd.npy", &["npy:odd.npy", "held-out"]),
    ];
    for (words, expected) in cases {
        refuses(&mut detect(words), 2, expected);
    }
}

// ---- an outsider's numbers --------------------------------------------------------------------------------------

/// The golden vectors.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/golden")
}

#[test]
fn imported_golden_weights_score_as_their_own_implementation() {
    if !has_adapter() {
        return;
    }
    let golden = golden();
    let cases = [
        ("made_d6_osig_tanh", "", 6),
        ("made_d6_plain_softplus", "", 6),
        ("conv_5x5x1_plain_softplus", "--shape 5x5x1", 25),
    ];
    for (name, shape, dimensions) in cases {
        let here = folder();
        let weights = golden.join(format!("{name}.safetensors"));
        let tensors = read_weights(&weights).expect("golden");
        let text = fs::read_to_string(golden.join(format!("{name}.json"))).expect("golden");
        fs::write(here.path().join("m.toml"), model_settings(&text)).expect("written");
        let words = format!("import --config m.toml --prefix w0. --out m.ckpt {shape} --weights {}", weights.display());
        assert_eq!(json_of(&mut arcsm(here.path(), &words))["dimensions"], dimensions);
        let write = |file: &str, tensor: &str| {
            write_npy(&here.path().join(file), &tensors[tensor]).expect("written");
        };
        write("x.npy", "x");
        let plain = !tensors.contains_key("sigma");
        let noise = if plain { "--sigma 0" } else { "--sigma sigma.npy --noise eps.npy" };
        let (sigma, eps) = if plain { ("dsm_sigma", "dsm_eps") } else { ("sigma", "eps") };
        write("sigma.npy", sigma);
        write("eps.npy", eps);
        let score = "score --checkpoint m.ckpt --input x.npy --out s.npz";
        let losses = json_of(&mut arcsm(here.path(), &format!("{score} {noise}")));
        for (array, tensor) in [("context", "ctx"), ("score", "s"), ("slope", "ds")] {
            assert_close(&read_npz(&here.path().join("s.npz"), array), &tensors[tensor].values, array);
        }
        let loss = |losses: &Value, key: &str| losses[key].as_f64().expect("a number") as f32;
        assert_close(&[loss(&losses, "csm_loss")], &tensors["csm_loss"].values, "csm loss");
        let noisy = json_of(&mut arcsm(here.path(), &format!("{score} --sigma sigma.npy --noise eps.npy")));
        assert_close(&[loss(&noisy, "dsm_loss")], &tensors["dsm_loss"].values, "dsm loss");
    }
}

/// The settings of a golden model, with mean 0.25 and standard deviation 0.5 as its layout says.
fn model_settings(json: &str) -> String {
    let about: Value = serde_json::from_str(json).expect("golden");
    let network = match about.get("hidden") {
        Some(hidden) => format!("hidden = {hidden}"),
        None => "network = \"gated\"".into(),
    };
    let conv = match about.get("k1") {
        Some(first) => format!(
            "[model.conv]\nfirst_kernel = {first}\nkernel = {}\nfilters = {}\nblocks = {}\n",
            about["k"], about["F"], about["blocks"]
        ),
        None => String::new(),
    };
    format!(
        "[model]\n{network}\nactivation = {}\ncontext = {}\n{conv}\
         [model.score]\nhidden = {}\nactivation = {}\nparametrisation = {}\nmean = 0.25\nsd = 0.5\n",
        about["ctx_act"], about["C"], about["score_hidden"], about["score_act"], about["param"]
    )
}

fn read_npz(path: &Path, array: &str) -> Vec<f32> {
    let mut archive = NpzReader::new(fs::File::open(path).expect("written")).expect("an archive");
    let array: ndarray::ArrayD<f32> = archive.by_name(array).expect("the array is there");
    array.iter().copied().collect()
}

/// Within 1e-5 relative, by norm: some forty roundings of f32 in a row, of 6e-8 each, and the adapter's exp and tanh.
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = norm(&mut expected.iter().map(|v| f64::from(*v)));
    assert!(size > 0.0 && difference <= 1e-5 * size, "{what}: {difference:.3e} of {size:.3e}");
}

#[test]
fn weights_that_do_not_fit_their_settings_are_refused() {
    let here = folder();
    let write = |name: &str, text: &str| fs::write(here.path().join(name), text).expect("written");
    write("edm.toml", "[model.score]\nparametrisation = \"edm\"\nmean = 0.1\n");
    refuses(
        &mut arcsm(here.path(), "import --weights w --config edm.toml --out m"),
        2,
        &["model.score.sd", "edm.toml"],
    );
    if !has_adapter() {
        return;
    }
    let golden = golden();
    let weights = golden.join("made_d6_osig_tanh.safetensors");
    let text = fs::read_to_string(golden.join("made_d6_osig_tanh.json")).expect("golden");
    write("m.toml", &model_settings(&text));
    write("wide.toml", &model_settings(&text).replace("context = 4", "context = 5"));
    let import = format!("import --out m --weights {} --config", weights.display());
    refuses(&mut arcsm(here.path(), &format!("{import} m.toml")), 2, &["ctx.layers.0.weight", "--prefix"]);
    refuses(&mut arcsm(here.path(), &format!("{import} m.toml --prefix w0. --shape 2x2x1")), 2, &["6 inputs", "2x2x1"]);
    refuses(
        &mut arcsm(here.path(), &format!("{import} wide.toml --prefix w0.")),
        2,
        &["ctx.layers.2.weight", "[24, 11]"],
    );
    assert!(!here.path().join("m").exists());
}
