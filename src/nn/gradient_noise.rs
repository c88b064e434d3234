//! How much a gradient that is drawn at random scatters around its mean: what a stochastic loss costs in steps.

use super::squares::Squares;
use crate::gpu::{Gpu, GpuError, Recorder};
use crate::kernels::AddScaled;
use crate::nn::ParamBuffer;

/// Sums over gradients g_1 .. g_R, on the GPU. They are taken of g_r - g_1, so that equal gradients give exactly no scatter.
pub struct GradientNoise<'g> {
    gpu: &'g Gpu,
    first: ParamBuffer,
    /// Sum of g_r - g_1.
    sum: ParamBuffer,
    /// Of one gradient at a time.
    partial: Squares,
    count: u32,
    /// Sum of |g_r - g_1|^2.
    squares: f64,
}

/// Unbiased estimates from R gradients.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scatter {
    /// Trace of the covariance of one gradient: 1/(R - 1) sum |g_r - mean|^2.
    pub variance: f64,
    /// |E g|^2: |mean|^2 - variance / R. Where scatter hides the mean, it may be negative.
    pub squared_mean: f64,
}

impl Scatter {
    /// Variance over squared mean: how many gradients have to be averaged until their scatter is as large as what they
    /// say. None where the mean could not be told from nothing.
    pub fn ratio(&self) -> Option<f64> {
        (self.squared_mean > 0.0).then(|| self.variance / self.squared_mean)
    }
}

impl<'g> GradientNoise<'g> {
    /// Nothing yet, for gradients laid out as this one.
    ///
    /// # Errors
    /// No memory.
    pub fn new(gpu: &'g Gpu, gradient: &ParamBuffer) -> Result<Self, GpuError> {
        let table = gradient.table();
        Ok(Self {
            gpu,
            first: ParamBuffer::zeros(gpu, "first_gradient", table)?,
            sum: ParamBuffer::zeros(gpu, "sum_of_gradients", table)?,
            partial: Squares::new(gpu, gradient)?,
            count: 0,
            squares: 0.0,
        })
    }

    /// Takes one more gradient, and uses its memory up.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn add(&mut self, gradient: &ParamBuffer) -> Result<(), GpuError> {
        self.count += 1;
        let mut recorder = self.gpu.record("gradient_noise");
        if self.count == 1 {
            gradient.stretches().zip(self.first.stretches()).for_each(|(from, to)| recorder.copy(&from, &to));
            return recorder.submit().map(drop);
        }
        add_scaled(&mut recorder, &self.first, -1.0, gradient)?;
        add_scaled(&mut recorder, gradient, 1.0, &self.sum)?;
        recorder.submit()?;
        self.squares += self.squared_norm(gradient)?;
        Ok(())
    }

    /// What the gradients so far say; of fewer than two, that nothing is known of their scatter (NaN).
    ///
    /// # Errors
    /// A failed adapter.
    pub fn finish(self) -> Result<Scatter, GpuError> {
        let count = f64::from(self.count);
        let squared_sum = self.squared_norm(&self.sum)?;
        let variance = ((self.squares - squared_sum / count) / (count - 1.0)).max(0.0);
        let mut recorder = self.gpu.record("mean_gradient");
        add_scaled(&mut recorder, &self.sum, 1.0 / self.count as f32, &self.first)?;
        recorder.submit()?;
        let variance = if self.count > 1 { variance } else { f64::NAN };
        Ok(Scatter { variance, squared_mean: self.squared_norm(&self.first)? - variance / count })
    }

    fn squared_norm(&self, vector: &ParamBuffer) -> Result<f64, GpuError> {
        let mut recorder = self.gpu.record("squared_norm");
        self.partial.add_up(&mut recorder, vector)?;
        recorder.submit()?;
        let partial: Vec<f32> = self.gpu.read(&self.partial.sums)?;
        Ok(partial.into_iter().map(f64::from).sum())
    }
}

/// sums += scale * terms, every parameter.
fn add_scaled(
    recorder: &mut Recorder<'_>,
    terms: &ParamBuffer,
    scale: f32,
    sums: &ParamBuffer,
) -> Result<(), GpuError> {
    for (terms, sums) in terms.stretches().zip(sums.stretches()) {
        let n_values = sums.words() as u32;
        recorder.run(&AddScaled { n_values, accumulate: 1, scale, terms: &terms, sums: &sums })?;
    }
    Ok(())
}
