//! The model of arcsm in Burn, for comparison: `check GOLDEN_FOLDER` holds it against the golden files, `serve` times it.
//!
//! `serve` reads requests from standard input and answers each with a line, as `../pytorch/bench.py` explains.

mod check;
mod model;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::prelude::*;
use burn::tensor::Distribution;
use serde_json::{Value, json};

use model::{ArCsm, Batch, Objective, Settings, Trainer};

/// Cheap units are repeated for about this long, s.
const STRETCH: f64 = 1.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check", folder] => std::process::exit(check::run(folder.as_ref(), &device)),
        ["serve"] => serve(&device),
        _ => {
            eprintln!("usage: arcsm-peer-burn check GOLDEN_FOLDER | serve");
            std::process::exit(2);
        }
    }
}

/// n units of work, waited for.
type Work = Box<dyn FnMut(u32)>;

fn serve(device: &Device) {
    let mut works: HashMap<String, (String, Work)> = HashMap::new();
    answer(&json!({ "name": "Burn 0.22.1 (wgpu, autotune, fusion)" }));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let request: Value = serde_json::from_str(&line).expect("requests are JSON");
        let (how, work) = works.entry(line).or_insert_with(|| prepare(&request, device));
        let units = (STRETCH / clocked(work, 1)).clamp(1.0, 200.0) as u32;
        answer(&json!({ "seconds": clocked(work, units), "how": how }));
    }
}

fn answer(object: &Value) {
    println!("{object}");
    std::io::stdout().flush().expect("standard output is open");
}

fn clocked(work: &mut Work, units: u32) -> f64 {
    let start = Instant::now();
    work(units);
    start.elapsed().as_secs_f64() / f64::from(units)
}

/// Every way to do it, warmed up until the autotuner has settled; the fastest is kept.
fn prepare(request: &Value, device: &Device) -> (String, Work) {
    let ways: Vec<(&str, Work)> = match request["case"].as_str() {
        Some("train-step") => vec![
            ("autodiff", train_step(request, &device.clone().autodiff())),
            (
                "autodiff, gradient checkpointing",
                train_step(request, &device.clone().autodiff().gradient_checkpointing()),
            ),
        ],
        Some("gemm-forward") => vec![("matmul + bias", gemm_forward(request, device))],
        case => panic!("case {case:?}: expected train-step or gemm-forward"),
    };
    let mut best: Option<(f64, &str, Work)> = None;
    for (how, mut work) in ways {
        let warm_up = clocked(&mut work, 1) + clocked(&mut work, 1);
        let cost = (0..3).map(|_| clocked(&mut work, 1)).fold(f64::INFINITY, f64::min);
        eprintln!("burn: {}, {how}: {:.1} ms after {warm_up:.0} s of warm-up", request["case"], 1e3 * cost);
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, how, work));
        }
    }
    let (_, how, work) = best.expect("there is a way");
    (how.into(), work)
}

fn size(request: &Value, name: &str) -> usize {
    request[name].as_u64().unwrap_or_else(|| panic!("{name}: expected a number")) as usize
}

fn train_step(request: &Value, device: &Device) -> Work {
    let hidden = request["hidden"].as_array().expect("hidden: expected a list");
    let settings = Settings {
        dimensions: size(request, "dimensions"),
        hidden: hidden.iter().map(|width| width.as_u64().expect("widths are numbers") as usize).collect(),
        context: size(request, "context"),
        activation: "relu".into(),
        score_hidden: vec![64, 64],
        score_activation: "silu".into(),
        parametrisation: "edm".into(),
        mean: 0.5,
        sd: (1.0f64 / 12.0).sqrt(),
    };
    let shape = [size(request, "batch"), settings.dimensions];
    let objective = if request["objective"] == "csm" { Objective::Csm } else { Objective::Dsm };
    let mut trainer = Trainer::new(ArCsm::new(settings, device), 0.99, 1e-4);
    let device = device.clone();
    let data = Tensor::<2>::random([2048, shape[1]], Distribution::Default, &device);
    let mut first = 0;
    Box::new(move |units| {
        for _ in 0..units {
            first = (first + shape[0]) % (2048 - shape[0]);
            let x = data.clone().narrow(0, first, shape[0]);
            // Log-uniform on [0.03, 1].
            let sigma = Tensor::random(shape, Distribution::Uniform(0.03f64.ln(), 0.0), &device).exp();
            let eps = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
            trainer.step(objective, Batch { x, sigma, eps });
        }
        device.sync().expect("the device works");
    })
}

fn gemm_forward(request: &Value, device: &Device) -> Work {
    let [batch, n_in, n_out] = ["batch", "n_in", "n_out"].map(|name| size(request, name));
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
    let (x, weight, bias) = (random([batch, n_in]), random([n_in, n_out]), random([1, n_out]));
    let device = device.clone();
    Box::new(move |units| {
        for _ in 0..units {
            let y = x.clone().matmul(weight.clone()) + bias.clone();
            // Fusion puts work off until it must be done; dropping y unused could skip it.
            std::hint::black_box(&y);
            device.flush().expect("the device works");
        }
        device.sync().expect("the device works");
    })
}
