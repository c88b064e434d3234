//! The losses of score matching: values and gradients of the whole network against the float64 twin.

use arcsm::codes::Activation;
use arcsm::models::score_field::ScoreField;
use arcsm::models::score_field::losses::ScoreMatching;
use arcsm::nn::{GradientNoise, ParamBuffer};
use arcsm::numbers::random::{normal_pair, random_bits, stream};
use arcsm::reference::dense::Layer;
use arcsm::reference::score_field::{self, random_signs, unit_vectors};

use crate::shared;

const BATCH: usize = 16;
const DIMENSIONS: usize = 7;
const HIDDEN: [usize; 2] = [10, 5];
const SEED: u64 = 77;
const STEP: u32 = 3;

fn normals(count: usize, sample: u32) -> Vec<f32> {
    let normal = |i: usize| {
        let bits = random_bits(5, stream::DATA, sample, i as u32, 0);
        (0.3 + normal_pair(bits[0], bits[1]).0) as f32
    };
    (0..count).map(normal).collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// |got - want| is at most a share of the largest |want|: every number is a sum of thousands of products of order 1.
fn assert_close(label: &str, got: &[f32], want: &[f64]) {
    let largest = want.iter().fold(0.0, |largest: f64, want| largest.max(want.abs()));
    assert!(largest > 0.0, "{label} vanishes");
    assert_eq!(got.len(), want.len(), "{label}");
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(got) - want).abs() <= 2e-5 * largest, "{label}[{i}]: {got}, not {want} (of {largest})");
    }
}

#[test]
fn losses_and_gradients_agree_with_the_twin() {
    let Some(gpu) = shared() else { return };
    let activation = Activation::Softplus;
    let field = ScoreField::new(gpu, DIMENSIONS, &HIDDEN, activation).expect("a small network");
    let weights = ParamBuffer::zeros(gpu, "weights", &field.table).expect("memory");
    let gradient = ParamBuffer::zeros(gpu, "gradient", &field.table).expect("memory");
    for (id, slot) in field.table.slots() {
        let count = slot.shape.iter().product();
        let scale = if slot.is_matrix() { 0.4 } else { 0.7 };
        let values: Vec<f32> = normals(count, slot.offset as u32).into_iter().map(|value| scale * value).collect();
        gpu.write(&weights.tensor(id), &values).expect("written");
    }
    let read = |buffer: &ParamBuffer, name: &str| -> Vec<f32> {
        let (id, _) = field.table.slots().find(|(_, slot)| slot.name == name).expect("a parameter");
        buffer.read(gpu, id).expect("read").values
    };
    let layer = |buffer: &ParamBuffer, l: usize, part: &str| read(buffer, &format!("layers.{l}.{part}"));
    let twin = score_field::ScoreField {
        activation,
        layers: (0..3)
            .map(|l| Layer {
                weight: doubles(&layer(&weights, l, "weight")),
                bias: doubles(&layer(&weights, l, "bias")),
            })
            .collect(),
        gain: doubles(&read(&weights, "gain")),
    };
    let clean = normals(BATCH * DIMENSIONS, 1 << 30);

    for (loss, most_directions) in [
        (ScoreMatching::Exact, DIMENSIONS),
        // Three parts, the last one with a direction past the last dimension.
        (ScoreMatching::Exact, 3),
        (ScoreMatching::Sliced { projections: 1 }, 1),
        (ScoreMatching::Sliced { projections: 4 }, 2),
        (ScoreMatching::SlicedVr { projections: 3 }, 3),
        (ScoreMatching::Denoising { sigma: 0.5 }, 1),
    ] {
        let label = format!("{loss:?} by {most_directions}");
        let workspace = field.workspace(gpu, BATCH, loss, most_directions).expect("memory");
        gpu.write(&workspace.clean, &clean).expect("written");
        let mut recorder = gpu.record("losses");
        let place = [SEED, u64::from(STEP)];
        field.loss_and_gradient(&mut recorder, loss, place, &weights, &gradient, &workspace).expect("recorded");
        recorder.submit_in_pieces(workspace.pieces(loss, DIMENSIONS)).expect("submitted");

        let noisy = doubles(&gpu.read::<f32>(&workspace.points()).expect("read"));
        let directions = [0, loss.directions(DIMENSIONS)];
        let v = match loss {
            ScoreMatching::Exact => unit_vectors(BATCH, DIMENSIONS, directions),
            _ => random_signs(SEED, BATCH, DIMENSIONS, directions, STEP),
        };
        let (losses, want) = twin.loss_and_gradient(loss.terms(), &doubles(&clean), &noisy, &v);
        let got: Vec<f32> = gpu.read(&workspace.losses).expect("read");
        assert_close(&label, &got.into_iter().step_by(4).collect::<Vec<_>>(), &losses);
        for (l, want) in want.layers.iter().enumerate() {
            assert_close(&format!("{label} dweight {l}"), &layer(&gradient, l, "weight"), &want.weight);
            assert_close(&format!("{label} dbias {l}"), &layer(&gradient, l, "bias"), &want.bias);
        }
        assert_close(&format!("{label} dgain"), &read(&gradient, "gain"), &want.gain);

        let mut recorder = gpu.record("scores");
        field.evaluate(&mut recorder, &weights, &workspace).expect("recorded");
        recorder.submit().expect("submitted");
        assert_close(
            &format!("{label} scores"),
            &gpu.read::<f32>(&workspace.scores()).expect("read"),
            &twin.scores(&doubles(&clean)),
        );
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let Some(gpu) = shared() else { return };
    let error = ScoreField::new(gpu, 3, &[4], Activation::Relu).expect_err("no second derivative");
    assert!(error.to_string().contains("Relu"), "{error}");
    let field = ScoreField::new(gpu, 3, &[4], Activation::Silu).expect("a small network");
    let error = field.workspace(gpu, 20, ScoreMatching::Exact, 1).expect_err("unaligned");
    assert_eq!(error.to_string(), "the batch: is 20, no multiple of 16. Give 32");
}

#[test]
fn the_scatter_of_gradients_is_that_of_their_numbers() {
    let Some(gpu) = shared() else { return };
    let field = ScoreField::new(gpu, DIMENSIONS, &HIDDEN, Activation::Silu).expect("a small network");
    let gradient = ParamBuffer::zeros(gpu, "gradient", &field.table).expect("memory");
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let total: usize = field.table.slots().map(|(_, slot)| count(&slot.shape)).sum();
    // A mean of size 3 in every number, and scatter around it.
    let draws: Vec<Vec<f32>> = (0..6)
        .map(|r| normals(total, r).into_iter().zip(normals(total, 99)).map(|(a, b)| a + 3.0 * b).collect())
        .collect();
    let scatter_of = |draws: &[Vec<f32>]| {
        let mut noise = GradientNoise::new(gpu, &gradient).expect("memory");
        for draw in draws {
            let mut rest = draw.as_slice();
            for (id, slot) in field.table.slots() {
                let (own, after) = rest.split_at(count(&slot.shape));
                gpu.write(&gradient.tensor(id), own).expect("written");
                rest = after;
            }
            noise.add(&gradient).expect("added");
        }
        noise.finish().expect("read")
    };
    let n = draws.len() as f64;
    let mean: Vec<f64> = (0..total).map(|i| draws.iter().map(|draw| f64::from(draw[i])).sum::<f64>() / n).collect();
    let squares =
        draws.iter().map(|draw| draw.iter().zip(&mean).map(|(g, m)| (f64::from(*g) - m).powi(2)).sum::<f64>());
    let variance = squares.sum::<f64>() / (n - 1.0);
    let squared_mean = mean.iter().map(|m| m * m).sum::<f64>() - variance / n;
    let got = scatter_of(&draws);
    assert!((got.variance - variance).abs() <= 1e-5 * variance, "{got:?}, not {variance}");
    assert!((got.squared_mean - squared_mean).abs() <= 1e-5 * squared_mean, "{got:?}, not {squared_mean}");
    assert_eq!(got.ratio(), Some(got.variance / got.squared_mean));
    let equal = scatter_of(&vec![draws[0].clone(); 3]);
    assert_eq!((equal.variance, equal.ratio()), (0.0, Some(0.0)));
}
