//! How many numbers a model's weights are, from its settings alone: known before anything is laid out or allocated.

use crate::codes::Parametrisation;
use crate::error::{Error, Result};
use crate::models::ar_csm::{ConvConfig, HeadKind, ModelConfig, Network};
use crate::order::Order;
use crate::shape::SampleShape;

/// Refuses samples of more values than any model here is made for, before tables of that length are made.
///
/// # Errors
/// Bad input, with both numbers.
pub fn check_dimensions(shape: SampleShape) -> Result<()> {
    let (found, most) = (shape.dimensions(), SampleShape::MOST_DIMENSIONS);
    if found <= most {
        return Ok(());
    }
    let problem = format!("{shape} has {found} values, expected at most {most}");
    Err(Error::input("the shape of a sample", problem, "Use smaller samples: resize images, leave columns out"))
}

/// Numbers that a checkpoint holds of one set of weights, for settings in their ranges. Places of convolutions that are
/// never seen count too, as files have them.
pub fn stored_numbers(config: &ModelConfig, shape: SampleShape) -> u128 {
    let context = config.context_width();
    let of_context = match (config.network, shape) {
        (Network::Gated, SampleShape::Image { channels, .. }) => gated(&config.conv, channels, context),
        (Network::PixelCnn, SampleShape::Image { channels, .. }) => pixel_cnn(&config.conv, channels, context),
        _ => made(config, shape.dimensions(), context),
    };
    let of_head = match config.head {
        HeadKind::Score => {
            let sigma = usize::from(config.score.parametrisation != Parametrisation::Plain);
            dense([context + 1 + sigma].into_iter().chain(config.score.hidden.iter().copied()).chain([1]))
        }
        _ => 0,
    };
    of_context + of_head
}

/// Weights (out, in, cells) and biases (out).
fn layer(n_in: usize, n_out: usize, cells: usize) -> u128 {
    n_out as u128 * (n_in as u128 * cells as u128 + 1)
}

fn dense(widths: impl Iterator<Item = usize>) -> u128 {
    let widths: Vec<usize> = widths.collect();
    widths.windows(2).map(|pair| layer(pair[0], pair[1], 1)).sum()
}

fn made(config: &ModelConfig, dimensions: usize, context: usize) -> u128 {
    let widths = [dimensions].into_iter().chain(config.hidden.iter().copied());
    let seen = match (config.order, config.hidden.first()) {
        (Order::Any, Some(&units)) => dimensions as u128 * units as u128,
        _ => 0,
    };
    dense(widths.chain([dimensions.saturating_mul(context)])) + seen
}

fn gated(conv: &ConvConfig, channels: usize, context: usize) -> u128 {
    let filters = conv.filters;
    layer(channels, filters, conv.first_kernel.pow(2))
        + conv.blocks as u128 * layer(filters, 2 * filters, conv.kernel.pow(2))
        + layer(filters, channels * context, 1)
}

/// Kernels of 2 x 3 look down, of 2 x 2 right.
fn pixel_cnn(conv: &ConvConfig, channels: usize, context: usize) -> u128 {
    let filters = conv.filters;
    let inner = |cells| layer(filters, filters, cells);
    let halves = |cells| layer(filters, 2 * filters, cells);
    let encoder = inner(6) + halves(6) + inner(4) + inner(1) + halves(4);
    let decoder = encoder + 2 * inner(1);
    let (blocks, halvings) = (conv.blocks as u128, conv.downsamplings as u128);
    layer(channels, filters, 6)
        + layer(channels, filters, 9)
        + blocks * ((halvings + 1) * encoder + halvings * decoder)
        + 2 * halvings * (inner(6) + inner(4))
        + layer(filters, channels * context, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use crate::models::ar_csm::ArCsm;

    fn check(gpu: &Gpu, config: &ModelConfig, shape: SampleShape) {
        let model = ArCsm::new(gpu, config, shape).expect("a small model");
        let numbers = model.stored_table().slots().map(|(_, slot)| slot.file_shape().iter().product::<usize>());
        let laid_out: usize = numbers.sum();
        assert_eq!(stored_numbers(config, shape), laid_out as u128, "{config:?} of {shape}");
    }

    #[test]
    fn the_count_is_that_of_the_model_laid_out() {
        let gpu = Gpu::noop();
        let base = ModelConfig { hidden: vec![24, 16, 8], context: 3, ..ModelConfig::default() };
        let conv = ConvConfig { filters: 6, blocks: 2, first_kernel: 5, ..ConvConfig::default() };
        for shape in ["12", "4x8x1", "4x4x3"] {
            let shape: SampleShape = shape.parse().expect("a shape");
            for head in [HeadKind::Score, HeadKind::Gaussian, HeadKind::Mog] {
                for order in [Order::Natural, Order::Any] {
                    check(&gpu, &ModelConfig { head, order, ..base.clone() }, shape);
                }
                if let SampleShape::Vector { .. } = shape {
                    continue;
                }
                check(&gpu, &ModelConfig { head, network: Network::Gated, conv: conv.clone(), ..base.clone() }, shape);
                for downsamplings in [0, 2] {
                    let conv = ConvConfig { downsamplings, ..conv.clone() };
                    check(&gpu, &ModelConfig { head, network: Network::PixelCnn, conv, ..base.clone() }, shape);
                }
            }
        }
        let mut plain = base;
        plain.score.parametrisation = Parametrisation::Plain;
        check(&gpu, &plain, SampleShape::Vector { dimensions: 5 });
    }

    #[test]
    fn samples_beyond_the_bound_are_refused() {
        let most = SampleShape::MOST_DIMENSIONS;
        check_dimensions(SampleShape::Vector { dimensions: most }).expect("the bound itself");
        for text in ["65536x65536x1", "4194305"] {
            let error = check_dimensions(text.parse().expect("a shape")).expect_err("too many");
            assert!(error.to_string().contains("at most 4194304") && error.exit_status() == 2, "{error}");
        }
    }
}
