//! What every check does: draw data, upload it, run a kernel, compare, look at paddings and fences.

use crate::gpu::{Gpu, GpuError, Kernel, Tensor};
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};
use crate::reference::compare::compare;

use super::Failure;

/// A check in progress.
pub(super) struct Trial<'g> {
    pub(super) gpu: &'g Gpu,
    drawn: u32,
    worst: f64,
}

/// A tensor and what is in it.
pub(super) struct Data {
    pub(super) tensor: Tensor,
    pub(super) values: Vec<f64>,
}

impl<'g> Trial<'g> {
    pub(super) fn new(gpu: &'g Gpu) -> Self {
        Self { gpu, drawn: 0, worst: 0.0 }
    }

    /// The largest error so far, in units of its tolerance.
    pub(super) fn verdict(self) -> Result<f64, Failure> {
        Ok(self.worst)
    }

    // ---- data -------------------------------------------------------------------------------------------------

    fn bits(&mut self) -> [u32; 4] {
        self.drawn += 1;
        random_bits(0x0123_4567_89ab_cdef, stream::DATA, self.drawn, 0, 0)
    }

    /// A uniform number in [low, high), a value of f32.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        f64::from((low + (high - low) * uniform(self.bits()[0])) as f32)
    }

    /// Normal numbers, values of f32, with a mean that no sign error leaves alone.
    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        let mut normal = || {
            let bits = self.bits();
            f64::from((0.2 + normal_pair(bits[0], bits[1]).0) as f32)
        };
        (0..count).map(|_| normal()).collect()
    }

    /// A tensor of normal numbers.
    pub(super) fn data(&mut self, label: &str, shape: &[usize]) -> Result<Data, GpuError> {
        let values = self.normals(shape.iter().product());
        Ok(Data { tensor: self.floats(label, shape, &values)?, values })
    }

    /// A tensor of given numbers, which f32 must hold exactly.
    pub(super) fn floats(&self, label: &str, shape: &[usize], values: &[f64]) -> Result<Tensor, GpuError> {
        self.gpu.upload(label, shape, &values.iter().map(|&value| value as f32).collect::<Vec<_>>())
    }

    /// A flat tensor of integers.
    pub(super) fn words(&self, label: &str, words: &[u32]) -> Result<Tensor, GpuError> {
        self.gpu.upload(label, &[words.len()], words)
    }

    /// For each output how many leading inputs it sees: random, never falling.
    pub(super) fn staircase(&mut self, outputs: usize, inputs: usize) -> Vec<u32> {
        let mut visible: Vec<u32> = (0..outputs).map(|_| self.uniform(0.0, inputs as f64 + 1.0) as u32).collect();
        visible.sort_unstable();
        visible
    }

    // ---- running and comparing --------------------------------------------------------------------------------

    pub(super) fn run<K: Kernel>(&self, kernel: &K) -> Result<(), GpuError> {
        let mut recorder = self.gpu.record("doctor");
        recorder.run(kernel)?;
        recorder.submit().map(drop)
    }

    /// Holds a tensor against what it must be; what lies around its rows must be as it was.
    pub(super) fn expect(&mut self, tensor: &Tensor, want: &[f64], tolerance: &[f64]) -> Result<(), Failure> {
        self.expect_intact(tensor)?;
        let label = format!("{} {:?}", tensor.label(), tensor.shape());
        self.expect_values(&label, &self.gpu.read(tensor)?, want, tolerance)
    }

    /// The same for numbers that have been read.
    pub(super) fn expect_values(
        &mut self,
        label: &str,
        got: &[f32],
        want: &[f64],
        tolerance: &[f64],
    ) -> Result<(), Failure> {
        let comparison = compare(label, got, want, tolerance)?;
        self.worst = self.worst.max(comparison.worst_ratio);
        Ok(())
    }

    /// Holds a tensor against exact words.
    pub(super) fn expect_words(&self, tensor: &Tensor, want: &[u32]) -> Result<(), Failure> {
        self.expect_intact(tensor)?;
        let got: Vec<u32> = self.gpu.read(tensor)?;
        match got.iter().zip(want).position(|(got, want)| got != want) {
            None if got.len() == want.len() => Ok(()),
            None => Err(Failure::Broken(format!("{}: {} words, not {}", tensor.label(), got.len(), want.len()))),
            Some(at) => {
                let (label, got, want) = (tensor.label(), got[at], want[at]);
                Err(Failure::Broken(format!("{label}: word {at} is {got:#010x}, expected {want:#010x}")))
            }
        }
    }

    /// Holds samples against those of the same work in other dispatches: their bits must be equal.
    pub(super) fn expect_same_draws(&self, whole: &[f32], cut: &[f32]) -> Result<(), Failure> {
        let differ = |(whole, cut): &(&f32, &f32)| whole.to_bits() != cut.to_bits();
        let differences: Vec<f32> =
            whole.iter().zip(cut).filter(differ).map(|(whole, cut)| (whole - cut).abs()).collect();
        match differences.iter().copied().max_by(f32::total_cmp) {
            None => Ok(()),
            Some(largest) => Err(Failure::Broken(format!(
                "{} of {} samples depend on how the work is cut into dispatches, by up to {largest:.1e}",
                differences.len(),
                whole.len(),
            ))),
        }
    }

    pub(super) fn expect_intact(&self, tensor: &Tensor) -> Result<(), Failure> {
        if self.gpu.is_intact(tensor)? {
            return Ok(());
        }
        let (label, shape) = (tensor.label(), tensor.shape());
        Err(Failure::Broken(format!("{label} {shape:?}: the padding of a row or the words past the end were written")))
    }
}

/// One tolerance for all elements: a share of the largest.
pub(super) fn relative_to_largest(want: &[f64], share: f64) -> Vec<f64> {
    let largest = want.iter().fold(f64::from(f32::MIN_POSITIVE), |largest, value| largest.max(value.abs()));
    vec![share * largest; want.len()]
}

/// Room for rounding, the same relative one everywhere.
pub(super) fn roundings(count: f64) -> f64 {
    count * f64::from(f32::EPSILON)
}
