//! What a trained model can be asked.

pub mod closed_form;
pub mod denoise;
pub mod detect;
pub mod evaluate;
pub mod import;
pub mod inpaint;
pub mod likelihood;
pub mod picture;
pub mod sample;
pub mod trained;
