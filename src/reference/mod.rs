//! Float64 twins of every kernel: plain loop nests that say what the GPU has to compute.
//!
//! Nothing here knows of a GPU. A kernel is right when it agrees with its twin within a tolerance derived from the
//! data ([`dense::Approx`], [`compare`]); a twin is right when it agrees with finite differences, closed forms,
//! known answers and the golden vectors of an independent implementation. So no two f32 results are ever compared
//! with each other, and `arcsm doctor` can hold any adapter against the same numbers.
//!
//! Arrays are row-major and unpadded, with the letters of the whole project: B batch, D dimensions, K context width.
//! The data flow, with the file that has each step:
//!
//! ```text
//! x (B, D) --made, image_net--> contexts (B, D, K) --score_net--> score s, slope ds/dx~ --loss--> J
//!            |      |                                  |  x~ = x + sigma eps
//!            |      conv, gate, dropout                activation
//!            degrees, dense, activation
//!            |                                     mixture: score, slope and density of a conditional in closed form
//! model   J and its gradient by every weight          adam     one step of the optimiser, and its schedules
//! order   one set of weights for every order of the dimensions
//! score_field   scores of whole vectors, their slopes along directions, and the losses of score matching
//! sampler one dimension drawn from its conditional score   likelihood  its density   (random numbers: crate::numbers::random)
//! ```
//!
//! Shapes are trusted: these functions serve tests and self-tests, and panic when given arrays that do not fit.

pub mod activation;
pub mod adam;
pub mod compare;
pub mod conv;
pub mod degrees;
pub mod dense;
pub mod dropout;
pub mod gate;
pub mod image_net;
pub mod likelihood;
pub mod made;
pub mod mixture;
pub mod model;
pub mod order;
pub mod sampler;
pub mod score_field;
pub mod score_net;

#[cfg(test)]
mod testing;
