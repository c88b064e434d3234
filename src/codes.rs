//! Numbers that the host and WGSL share: what a kernel's constant or uniform stands for.

use serde::{Deserialize, Serialize};

/// Activation functions phi, all safe at any argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Activation {
    /// z
    Identity = 0,
    /// max(z, 0); context network only, its second derivative vanishes.
    Relu = 1,
    /// z sigmoid(z)
    Silu = 2,
    /// log(1 + e^z)
    Softplus = 3,
    /// tanh z
    Tanh = 4,
    /// z for z > 0, e^z - 1 otherwise
    Elu = 5,
}

/// How the score network's output f becomes the score s of x~ = x + sigma eps (`assets/golden/LAYOUT.md` has the same names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Parametrisation {
    /// Input x~, s = f; the network does not see sigma.
    Plain = 0,
    /// Inputs x~ - mean and log(sigma)/2, s = f / sigma.
    Osig = 1,
    /// With v = sd^2 + sigma^2: inputs (x~ - mean)/sqrt(v) and log(sigma)/2, s = -(x~ - mean)/v + sd f / (sigma sqrt(v))
    /// (preconditioning after Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022).
    Edm = 2,
}

/// Training losses; J is averaged over the batch and summed over dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Objective {
    /// sigma^2 (1/2 s^2 + ds/dx~) at x~: the composite score matching of Meng et al. 2020 under noise.
    Csm = 0,
    /// 1/2 (sigma s + eps)^2: the denoising form, with the same minimiser.
    Dsm = 1,
    /// 1/2 s^2 + ds/dx at the clean x: continuous data without noise.
    Plain = 2,
    /// 1/2 h s^2 + h ds/dx + h' s at the clean x, h = distance to the nearer bound: data on an interval.
    Weighted = 3,
    /// -log q at x + sigma_min eps, or at the clean x where sigma_min is 0 or values are binned: maximum likelihood, for
    /// heads whose density is known.
    Ml = 4,
}

/// What the components of a mixture are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// exp(-z^2 / 2) / sqrt(2 pi)
    Gaussian = 0,
    /// e^-z / (1 + e^-z)^2
    Logistic = 1,
}

/// What an output sees at the last tap, when that is its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mask {
    /// All channels: for streams that never see their own position at all.
    None = 0,
    /// The groups of colour channels before its own (van den Oord et al. 2016, mask A).
    A = 1,
    /// Its own group, too (mask B).
    B = 2,
}

/// Directions whose slopes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Probes {
    /// Random, +1 or -1 in every dimension.
    Signs = 0,
    /// Unit vectors, one dimension after another.
    Units = 1,
}
