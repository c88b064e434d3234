//! Data in any units: tables, arrays and images as people have them, and questions about their own rows.

use std::fs;
use std::path::Path;

use arcsm::files::arrays::{HostTensor, read_npy, write_npy};
use arcsm::numbers::random::{normal_pair, random_bits, stream};
use serde_json::Value;

use super::{arcsm, folder, has_adapter, json_of, names_in, refuses, succeeds};

/// Settings that learn a table in a second.
const QUICK: &str = "--hidden 16 --score-hidden 16 --context 4 --batch 64 --context-noise 0 --weight-decay 0";

/// Correlated Gaussian rows: x, and 0.9 x + 0.44 noise.
fn rows(count: u32) -> Vec<[f64; 2]> {
    let normal = |row: u32, column: u32| {
        let bits = random_bits(5, stream::DATA, row, column, 0);
        normal_pair(bits[0], bits[1]).0
    };
    (0..count).map(|n| (normal(n, 0), normal(n, 1))).map(|(a, b)| [a, 0.9 * a + 0.44 * b]).collect()
}

fn write_csv(path: &Path, header: &str, rows: impl IntoIterator<Item = Vec<f64>>) {
    let line = |row: Vec<f64>| row.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
    let lines: Vec<String> = std::iter::once(header.to_owned()).chain(rows.into_iter().map(line)).collect();
    fs::write(path, lines.join("\n") + "\n").expect("written");
}

/// Columns of a table that a command wrote.
fn columns_of(path: &Path) -> (Vec<String>, Vec<Vec<f64>>) {
    let text = fs::read_to_string(path).expect("written");
    let mut lines = text.lines();
    let names: Vec<String> = lines.next().expect("a header").split(',').map(str::to_owned).collect();
    let mut columns = vec![Vec::new(); names.len()];
    for line in lines {
        for (column, cell) in columns.iter_mut().zip(line.split(',')) {
            column.push(cell.parse().unwrap_or(f64::NAN));
        }
    }
    (names, columns)
}

fn nats_of(report: &Value) -> f64 {
    report["evaluation"]["levels"][0]["nats"]["mean"].as_f64().expect("nats")
}

fn stderr_of(command: &mut assert_cmd::Command) -> String {
    let output = command.output().expect("the executable starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_table_in_any_unit_is_learned_as_the_same_density() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let rows = rows(300);
    let cases: [[(f64, f64); 2]; 6] = [
        [(0.0, 1.0), (0.0, 1.0)],
        [(10.0, 1.0), (1000.0, 1.0)],
        [(0.0, 1e-3), (0.0, 1e3)],
        [(0.0, 1e-9), (0.0, 1e9)],
        [(1e6, 1.0), (-1e6, 1.0)],
        [(30_000.0, 9000.0), (0.02, 0.001)],
    ];
    let mut first = None;
    for (number, units) in cases.into_iter().enumerate() {
        let run = format!("run{number}");
        let in_units = rows.iter().map(|row| vec![units[0].0 + units[0].1 * row[0], units[1].0 + units[1].1 * row[1]]);
        write_csv(&here.path().join("t.csv"), "a,b", in_units);
        let trained =
            json_of(&mut arcsm(here.path(), &format!("train --data csv:t.csv {QUICK} --steps 60 --out {run}")));
        let evaluate = format!("evaluate --checkpoint {run} --data csv:t.csv --count 40 --flow-count 0");
        let log_scale: f64 = units.iter().map(|(_, scale)| scale.ln()).sum();
        let nats = nats_of(&json_of(&mut arcsm(here.path(), &evaluate))) - log_scale;
        succeeds(&mut arcsm(here.path(), &format!("sample --checkpoint {run} --count 200 --csv s.csv --npy s.npy")));
        let (names, columns) = columns_of(&here.path().join("s.csv"));
        assert_eq!(names, ["a", "b"]);
        let unit = |d: usize| columns[d].iter().map(|x| (x - units[d].0) / units[d].1).collect::<Vec<f64>>();
        let drawn = [unit(0), unit(1)];
        let loss = trained["held_out_loss"].as_f64().expect("a loss");
        let (first_loss, first_nats, first_drawn) = first.get_or_insert_with(|| (loss, nats, drawn.clone()));
        // Offsets leave 1e-10 of the digits of what is standardised, f32 less; what training makes of that stays far below.
        assert!((loss - *first_loss).abs() <= 1e-3, "case {number}: {loss} {first_loss}");
        assert!((nats - *first_nats).abs() <= 1e-2, "case {number}: {nats} {first_nats}");
        for (found, expected) in drawn.iter().flatten().zip(first_drawn.iter().flatten()) {
            assert!((found - expected).abs() <= 0.02, "case {number}: {found} {expected}");
        }
    }
}

#[test]
fn images_in_any_range_are_learned_alike_and_drawn_in_their_own() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let value = |i: usize| ((i * 7919) % 17) as f32;
    let mut first = None;
    for (number, (low, high)) in [(0.0, 1.0), (0.0, 16.0), (0.0, 255.0), (-1.0, 1.0)].into_iter().enumerate() {
        let values = (0..60 * 16).map(|i| low + (high - low) * value(i) / 16.0).collect();
        write_npy(&here.path().join("x.npy"), &HostTensor::new([60, 4, 4], values)).expect("written");
        let words = format!("train --data npy:x.npy {QUICK} --steps 20 --out run{number}");
        let loss = json_of(&mut arcsm(here.path(), &words))["held_out_loss"].as_f64().expect("a loss");
        let first_loss = *first.get_or_insert(loss);
        assert!((loss - first_loss).abs() <= 0.02 * first_loss, "{low} to {high}: {loss} {first_loss}");
        let words = format!("sample --checkpoint run{number} --count 4 --out s{number}.png --npy s.npy");
        succeeds(&mut arcsm(here.path(), &words));
        let drawn = read_npy(&here.path().join("s.npy")).expect("written").values;
        let [least, most] = drawn.iter().fold([f32::MAX, f32::MIN], |[a, b], &v| [a.min(v), b.max(v)]);
        // Hardly trained, and so not quite within the range; in another unit they would be far outside it.
        let spread = high - low;
        assert!(least >= low - spread && most <= high + spread && most - least >= 0.3 * spread, "{least} {most}");
    }
}

#[test]
fn every_kind_of_column_is_drawn_within_its_range_and_constants_exactly() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let table = rows(600)
        .into_iter()
        .map(|[a, b]| vec![(1.2 * a).exp(), 0.1, f64::from(u8::from(b > 0.0)), 18.0 + (b + 3.0).abs()]);
    let table: Vec<Vec<f64>> = table.collect();
    write_csv(&here.path().join("t.csv"), "income,constant,sex,age", table.clone());
    let note = stderr_of(&mut arcsm(here.path(), &format!("train --data csv:t.csv {QUICK} --steps 60 --out run")));
    assert!(note.contains("repeat exactly: `constant`") && note.contains("by ranks: `income`"), "{note}");
    assert!(names_in(&here.path().join("run/samples")).contains(&"step-60.png".to_owned()));
    succeeds(&mut arcsm(here.path(), "sample --checkpoint run --count 300 --csv s.csv --out s.jpg"));
    assert_eq!(fs::read(here.path().join("s.jpg")).expect("written")[..2], [0xff, 0xd8], "a JPEG");
    let (_, drawn) = columns_of(&here.path().join("s.csv"));
    assert!(drawn[1].iter().all(|&value| value == 0.1));
    for (d, drawn) in drawn.iter().enumerate() {
        let [low, high] = table.iter().fold([f64::MAX, f64::MIN], |[a, b], row| [a.min(row[d]), b.max(row[d])]);
        // 510 training rows leave somewhat more than a twentieth.
        let reach = 0.16 * (high - low);
        assert!(drawn.iter().all(|x| (low - reach..=high + reach).contains(x)), "column {d}: {low} to {high}");
    }
}

#[test]
fn own_rows_are_answered_one_by_one_in_their_order() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let all = rows(300);
    write_csv(&here.path().join("t.csv"), "a,b", all.iter().map(|row| row.to_vec()));
    succeeds(&mut arcsm(here.path(), &format!("train --data csv:t.csv {QUICK} --steps 200 --out run")));
    let mut ten: Vec<Vec<f64>> = all[..10].iter().map(|row| row.to_vec()).collect();
    ten[6] = vec![3.0, -3.0];
    write_csv(&here.path().join("ten.csv"), "a,b", ten.clone());
    write_csv(&here.path().join("turned.csv"), "b,id,a", ten.iter().map(|row| vec![row[1], 7.0, row[0]]));
    write_csv(&here.path().join("one.csv"), "a,b", [ten[6].clone()]);
    write_csv(&here.path().join("far.csv"), "a,b", [vec![1000.0, 0.0]]);
    let nats = |words: &str| {
        let words = format!("evaluate --checkpoint run --flow-count 0 --csv n.csv {words}");
        let log = stderr_of(&mut arcsm(here.path(), &words));
        let (names, columns) = columns_of(&here.path().join("n.csv"));
        assert_eq!(names[..3], ["sample", "sigma", "nats"]);
        assert!(columns[0].iter().enumerate().all(|(n, &sample)| sample == n as f64), "{:?}", columns[0]);
        (columns[2].clone(), log)
    };
    let (of_ten, log) = nats("--data csv:ten.csv");
    assert!(of_ten.len() == 10 && of_ten.iter().all(|&other| other <= of_ten[6]), "{of_ten:?}");
    assert!(!log.contains("far outside"), "{log}");
    assert_eq!(nats("--input turned.csv").0, of_ten, "columns are found by their names");
    assert_eq!(nats("--data csv:one.csv").0.len(), 1);
    assert!(nats("--data csv:ten.csv --range -12,12").1.contains("adapter"), "a range may begin with a minus");
    // No grid holds what is that far out: its number is none, unless it is asked for all the same.
    let far = "evaluate --checkpoint run --flow-count 0 --data csv:far.csv";
    let output = arcsm(here.path(), far).output().expect("the executable starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("1 of 1 samples lie far outside the range of training: `a` 1000 to 1000"), "{log}");
    assert!(output.status.code() == Some(4) && log.contains("a conditional's integral is off by"), "{log}");
    assert!(nats("--data csv:far.csv --force").1.contains("a conditional's integral is off by"));
    refuses(&mut arcsm(here.path(), "evaluate --checkpoint run --data toy:moons --range 1,0"), 2, &["LOW < HIGH"]);

    let ranked = json_of(&mut arcsm(here.path(), "detect --checkpoint run --data csv:ten.csv --csv d.csv"));
    assert_eq!((ranked["ranking"][0].as_u64(), ranked["samples"].as_u64()), (Some(6), Some(10)), "{ranked}");
    let (names, columns) = columns_of(&here.path().join("d.csv"));
    assert!(names[..3] == ["sample", "score", "outlier"] && columns[0].len() == 10 && columns[2][6] == 1.0);
}

#[test]
fn heads_in_closed_form_rank_and_evaluate_own_rows_in_the_datas_units() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let all = rows(400);
    write_csv(&here.path().join("t.csv"), "a,b", all.iter().map(|row| vec![1e3 * row[0], 5.0 + row[1]]));
    let words = "train --data csv:t.csv --head gaussian --hidden 16 --batch 128 --steps 1500 --sigma-min 0 --out run";
    succeeds(&mut arcsm(here.path(), &format!("{words} --weight-decay 0 --context-noise 0 --patience 0")));
    let report = json_of(&mut arcsm(here.path(), "evaluate --checkpoint run --part train"));
    let nats = report["closed_form"][0]["mean_nats"].as_f64().expect("nats");
    // Of the Gaussian that the rows were made of, in the units of the file; training rows may be learned a little better.
    let of_row = |[a, b]: &[f64; 2]| 0.5 * (a * a + ((b - 0.9 * a) / 0.44).powi(2));
    let truth = std::f64::consts::TAU.ln() + (1e3f64 * 0.44).ln() + all.iter().map(of_row).sum::<f64>() / 400.0;
    assert!((nats - truth).abs() <= 0.1, "{nats} {truth}");
    let ranked = json_of(&mut arcsm(here.path(), "detect --checkpoint run --input t.csv --count 20"));
    assert_eq!(ranked["scores"].as_array().map(Vec::len), Some(20), "{ranked}");
}

#[test]
fn learning_by_heart_is_told_and_ended() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    write_csv(&here.path().join("t.csv"), "a,b", rows(24).into_iter().map(|row| row.to_vec()));
    write_csv(&here.path().join("more.csv"), "a,b", rows(90)[30..].iter().map(|row| row.to_vec()));
    let sizes = "--head mog --hidden 128 --context-noise 0 --weight-decay 0 --learning-rate 0.01 --components 5";
    let words = format!("train --data csv:t.csv --held-out-data csv:more.csv {sizes} --out run");
    let output = arcsm(here.path(), &format!("{words} --patience 0 --steps 400")).output().expect("starts");
    let (log, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && log.contains("24 samples to learn from, 60 held out"), "{log}");
    assert!(log.contains("learned by heart; use the checkpoint `best`"), "{log}");
    assert!(text.contains("--checkpoint run/checkpoints/best.safetensors"), "{text}");
    let report = json_of(&mut arcsm(here.path(), &format!("{words} --patience 3 --steps 1500 --force")));
    let [steps, best] = ["steps", "best_step"].map(|key| report[key].as_u64().expect("a number"));
    assert!(report["stopped_early"] == true && steps < 1500 && best < steps, "{report}");
    refuses(
        &mut arcsm(here.path(), "train --data digits --held-out-data csv:more.csv --out other"),
        2,
        &["more.csv", "8x8x1"],
    );
}

#[test]
fn a_run_finds_its_data_from_any_folder_and_says_where_it_looked() {
    if !has_adapter() {
        return;
    }
    let here = folder();
    let [home, away] = ["home", "away"].map(|name| here.path().join(name));
    for folder in [&home, &away] {
        fs::create_dir(folder).expect("made");
    }
    write_csv(&home.join("t.csv"), "a,b", rows(100).into_iter().map(|row| row.to_vec()));
    succeeds(&mut arcsm(&home, &format!("train --data csv:t.csv {QUICK} --steps 60 --out run")));
    let words = "evaluate --checkpoint ../home/run --flow-count 0";
    let report = json_of(&mut arcsm(&away, words));
    assert_eq!(report["evaluation"]["samples"].as_u64(), Some(15), "{report}");
    succeeds(&mut arcsm(&away, "train --resume ../home/run --steps 70"));
    fs::rename(home.join("t.csv"), away.join("t.csv")).expect("moved");
    json_of(&mut arcsm(&away, words));
    fs::rename(away.join("t.csv"), away.join("gone.csv")).expect("moved");
    refuses(&mut arcsm(&away, words), 2, &["home/t.csv", "cannot be read"]);
    refuses(&mut arcsm(&away, "sample --checkpoint ../home --count 1 --csv s.csv"), 2, &["home", "best.safetensors"]);
}
