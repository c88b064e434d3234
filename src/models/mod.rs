//! Families of models, a folder each.

pub mod ar_csm;
pub mod classifier;
pub mod score_field;
