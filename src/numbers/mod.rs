//! Random numbers, linear algebra, distances between sets of samples.

pub mod frechet;
pub(crate) mod linear;
pub mod random;
