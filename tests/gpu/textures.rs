//! Tensors that some variants read as textures: what a kernel sees is what was written last.

use arcsm::gpu::{Gpu, GpuError, Recorder, Tensor};
use arcsm::kernels::MaskedDenseForward;

use crate::shared;

const BATCH: usize = 2;
const WIDTH: usize = 8;

/// A layer that doubles its input.
struct Doubling {
    weight: Tensor,
    bias: Tensor,
    visible: Tensor,
}

impl Doubling {
    fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let weight: Vec<f32> = (0..WIDTH * WIDTH).map(|at| if at % (WIDTH + 1) == 0 { 2.0 } else { 0.0 }).collect();
        Ok(Self {
            weight: gpu.upload("weight", &[WIDTH, WIDTH], &weight)?,
            bias: gpu.upload("bias", &[WIDTH], &[0.0_f32; WIDTH])?,
            visible: gpu.upload("visible", &[WIDTH], &[WIDTH as u32; WIDTH])?,
        })
    }

    fn run(&self, recorder: &mut Recorder<'_>, x: &Tensor, y: &Tensor) -> Result<(), GpuError> {
        let (n_in, n_out) = (WIDTH as u32, WIDTH as u32);
        let Self { weight, bias, visible } = self;
        recorder.run(&MaskedDenseForward { batch: BATCH as u32, n_in, n_out, x, weight, bias, visible, y })
    }
}

fn values(scale: f32) -> Vec<f32> {
    (1..=BATCH * WIDTH).map(|value| scale * value as f32).collect()
}

#[test]
fn a_tensor_that_changes_between_kernels_is_seen_to() {
    let Some(gpu) = shared() else { return };
    let layer = Doubling::new(gpu).expect("room");
    let x = gpu.upload("x", &[BATCH, WIDTH], &values(1.0)).expect("room");
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|name| gpu.tensor(name, &[BATCH, WIDTH]).expect("room"));
    let mut recorder = gpu.record("changes");
    layer.run(&mut recorder, &x, &a).expect("runs");
    // By a kernel, a copy, the host's zeros.
    layer.run(&mut recorder, &a, &x).expect("runs");
    layer.run(&mut recorder, &x, &b).expect("runs");
    recorder.copy(&b, &x);
    layer.run(&mut recorder, &x, &c).expect("runs");
    recorder.clear(&x);
    layer.run(&mut recorder, &x, &d).expect("runs");
    recorder.submit().expect("submitted");
    // By the host, between submissions.
    gpu.write(&x, &values(-1.0)).expect("written");
    let mut recorder = gpu.record("changes");
    layer.run(&mut recorder, &x, &e).expect("runs");
    recorder.submit().expect("submitted");
    for (tensor, scale) in [(a, 2.0), (b, 8.0), (c, 16.0), (d, 0.0), (e, -2.0)] {
        let got: Vec<f32> = gpu.read(&tensor).expect("read");
        assert_eq!(got, values(scale), "{}", tensor.label());
    }
}

#[test]
fn more_tensors_than_are_kept_as_textures_are_told_apart() {
    let Some(gpu) = shared() else { return };
    let layer = Doubling::new(gpu).expect("room");
    let tensors: Vec<_> = (1..8)
        .map(|scale| {
            let x = gpu.upload("x", &[BATCH, WIDTH], &values(scale as f32)).expect("room");
            (x, [0; 2].map(|_| gpu.tensor("y", &[BATCH, WIDTH]).expect("room")), scale as f32)
        })
        .collect();
    let mut recorder = gpu.record("many");
    for round in 0..2 {
        // Not in the order of the first round, so that some are still there and some are not.
        for (x, y, _) in tensors.iter().cycle().skip(3 * round).take(tensors.len()) {
            layer.run(&mut recorder, x, &y[round]).expect("runs");
        }
    }
    recorder.submit().expect("submitted");
    for (_, y, scale) in &tensors {
        for y in y {
            let got: Vec<f32> = gpu.read(y).expect("read");
            assert_eq!(got, values(2.0 * scale));
        }
    }
}
