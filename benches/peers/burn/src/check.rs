//! Holds the model against the golden files: losses of both objectives, and losses under Adam.

use std::path::Path;

use burn::module::Param;
use burn::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::model::{ArCsm, Batch, Dense, Objective, Settings, Trainer};

/// Relative, float32 against float64.
const TOLERANCE: f64 = 1e-4;

/// Exit status: 0 where all is well.
pub fn run(folder: &Path, device: &Device) -> i32 {
    let is_golden = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("made_") && name.ends_with(".safetensors")
    };
    let files =
        std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let mut files: Vec<_> = files.unwrap_or_default().into_iter().filter(|path| is_golden(path)).collect();
    files.sort();
    if files.is_empty() {
        println!("SKIPPED: no made_*.safetensors in {}; the model is not compared with them", folder.display());
    }
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        for (name, found, expected) in losses(&file, &device.clone().autodiff()) {
            let error = (found / expected - 1.0).abs();
            if error <= TOLERANCE {
                passed += 1;
            } else {
                failed += 1;
                println!("FAILED {}: {name}: {found}, expected {expected}", file.display());
            }
        }
    }
    long_loops(device);
    println!("burn 0.22.1: {passed} passed, {failed} failed");
    i32::from(failed > 0)
}

/// Weight gradients of a training step sum over 100,352 rows. Mesa 22's software driver ends a shader's loops after 65,535
/// iterations without a word: says so where Burn's results suffer from it, for the golden models are too small to show it.
fn long_loops(device: &Device) {
    const ROWS: usize = 100_352;
    let ones = Tensor::<2>::ones([ROWS, 64], device);
    let sums = [
        ("a sum", ones.clone().sum_dim(0).slice([0..1, 0..1]).into_scalar::<f32>()),
        ("a product", ones.clone().transpose().matmul(ones).slice([0..1, 0..1]).into_scalar::<f32>()),
    ];
    for (name, found) in sums {
        if found != ROWS as f32 {
            println!(
                "NOTE: {name} over {ROWS} ones is {found} here: the driver cut the loop short, so Burn computes less here than it should"
            );
        }
    }
}

/// Name, ours and theirs of every loss in a golden file.
fn losses(file: &Path, device: &Device) -> Vec<(String, f64, f64)> {
    let about: Value = serde_json::from_str(
        &std::fs::read_to_string(file.with_extension("json")).expect("a golden file has its .json"),
    )
    .expect("it is JSON");
    let bytes = std::fs::read(file).expect("the file can be read");
    let golden = Golden(SafeTensors::deserialize(&bytes).expect("it is a safetensors file"));
    let widths = |name: &str| {
        let list = about[name].as_array().expect("a list of widths");
        list.iter().map(|width| width.as_u64().expect("a width") as usize).collect::<Vec<_>>()
    };
    let text = |name: &str| about[name].as_str().expect("a name").to_owned();
    let settings = Settings {
        dimensions: about["D"].as_u64().expect("a number") as usize,
        hidden: widths("hidden"),
        context: about["C"].as_u64().expect("a number") as usize,
        activation: text("ctx_act"),
        score_hidden: widths("score_hidden"),
        score_activation: text("score_act"),
        parametrisation: text("param"),
        mean: 0.25,
        sd: 0.5,
    };
    let is_plain = settings.parametrisation == "plain";
    let batch = |prefix: &str| {
        let x = golden.matrix("x", device);
        let noise = |name: &str| match golden.0.tensor(&format!("{prefix}{name}")) {
            Ok(_) => golden.matrix(&format!("{prefix}{name}"), device),
            Err(_) => x.ones_like(),
        };
        Batch { sigma: noise("sigma"), eps: noise("eps"), x: x.clone() }
    };
    let mut model = ArCsm::new(settings, device);
    golden.load(&mut model, device);
    let dsm = model.loss(Objective::Dsm, batch(if is_plain { "dsm_" } else { "" })).into_scalar::<f32>();
    let mut losses = vec![("dsm loss".to_owned(), f64::from(dsm), golden.values("dsm_loss")[0])];
    let mut trainer = Trainer::new(model, 0.999, 0.01);
    for (step, expected) in golden.values("adam_losses").into_iter().enumerate() {
        let found = trainer.step(Objective::Csm, batch("")).into_scalar::<f32>();
        losses.push((format!("csm loss after {step} steps of Adam"), f64::from(found), expected));
    }
    losses
}

struct Golden<'a>(SafeTensors<'a>);

impl Golden<'_> {
    fn values(&self, name: &str) -> Vec<f64> {
        let data = self.0.tensor(name).unwrap_or_else(|_| panic!("the golden file lacks {name}"));
        data.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect()
    }

    fn matrix(&self, name: &str, device: &Device) -> Tensor<2> {
        let shape = self.0.tensor(name).unwrap_or_else(|_| panic!("the golden file lacks {name}")).shape().to_vec();
        let values: Vec<f32> = self.values(name).into_iter().map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [shape[0], shape[1]]), device)
    }

    /// Golden weights are (out, in), Burn's (in, out).
    fn load(&self, model: &mut ArCsm, device: &Device) {
        let fill = |layers: &mut [Dense], stem: &str| {
            for (i, layer) in layers.iter_mut().enumerate() {
                let bias: Vec<f32> =
                    self.values(&format!("w0.{stem}.{i}.bias")).into_iter().map(|value| value as f32).collect();
                let weight = self.matrix(&format!("w0.{stem}.{i}.weight"), device).transpose();
                layer.weight = Param::from_tensor(weight.detach());
                layer.bias = Param::from_tensor(Tensor::from_floats(&bias[..], device));
            }
        };
        fill(&mut model.networks.layers, "ctx.layers");
        fill(&mut model.networks.net, "net.lin");
    }
}
