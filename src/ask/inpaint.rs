//! Filling in what is missing of samples, given the rest.

use std::collections::HashMap;
use std::path::Path;

use crate::ask::sample::given::{Given, KNOWLEDGE_BYTES, Knowledge, Weigh};
use crate::ask::sample::{Drawn, SampleRequest, sample};
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::files::image_grid::{Grid, PngText, UNIT};
use crate::gpu::Gpu;
use crate::host;
use crate::models::ar_csm::Head;
use crate::numbers::random::{random_bits, stream, uniform};
use crate::order::Permutation;
use crate::shape::SampleShape;

/// The forms of a mask's name, for messages.
const FORMS: &str = "top, bottom, left, right, middle, random:SHARE, or a file M.npy";
/// Colour of what is missing, in the picture of what is given.
const MISSING: [f32; 3] = [0.16, 0.36, 0.62];
/// How much of that colour the dark parts of what was filled in have.
const TINT: f32 = 0.55;

/// Which values are missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// (M, D), in the data's order of dimensions; one for all samples, or one for each.
    missing: Vec<bool>,
    dimensions: usize,
}

/// How to fill in.
#[derive(Debug, Clone, PartialEq)]
pub struct InpaintRequest {
    /// R, completions of each sample, each drawn on its own.
    pub completions: usize,
    /// Particles of each completion, where something known comes after something missing.
    pub particles: usize,
    /// Seed.
    pub seed: u64,
}

/// Samples with what was missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Inpainted {
    /// (N, R, D); known values are as they were, to the bit.
    pub values: Vec<f32>,
    /// Whether everything missing came last in the order that it was drawn in, so that every completion is exact.
    pub is_direct: bool,
    /// Orders that the model was taken in: one for each different mask where it has any, else 1.
    pub orders: usize,
    /// How it was drawn.
    pub drawn: Drawn,
}

impl Mask {
    /// From numbers, of which those that are not zero mark what is missing: one sample's values, or a whole number of
    /// samples' values.
    ///
    /// # Errors
    /// Another number of values.
    pub fn new(marks: &[f32], dimensions: usize) -> Result<Self> {
        if marks.is_empty() || !marks.len().is_multiple_of(dimensions) {
            let problem = format!("has {} values, a sample has {dimensions}", marks.len());
            return Err(Error::input("mask", problem, "Give one mark for each value"));
        }
        Ok(Self { missing: marks.iter().map(|&mark| mark != 0.0).collect(), dimensions })
    }

    /// Columns of every row by their names, separated by commas; None where one of them is no column's.
    pub fn of_columns(asked: &str, names: &[String]) -> Option<Self> {
        let places: Vec<usize> =
            asked.split(',').map(|name| names.iter().position(|known| known == name.trim())).collect::<Option<_>>()?;
        let missing = (0..names.len()).map(|column| places.contains(&column)).collect();
        Some(Self { missing, dimensions: names.len() })
    }

    /// A part of every image by name, or a share of the pixels at random, others in each sample.
    ///
    /// # Errors
    /// Samples that are no images; a name that is not known.
    pub fn of_name(name: &str, shape: SampleShape, count: usize, seed: u64) -> Result<Self> {
        let refuse = |problem: String| Error::input("--mask", problem, format!("Give {FORMS}"));
        let SampleShape::Image { height, width, channels } = shape else {
            let problem = format!("`{name}` is for images, the samples are points of D = {shape}");
            return Err(Error::input("--mask", problem, "Give names of columns, as in --mask x,y, or a file M.npy"));
        };
        let share = match name.strip_prefix("random:") {
            None => None,
            Some(text) => match text.parse::<f64>() {
                Ok(share) if share > 0.0 && share < 1.0 => Some(share),
                _ => return Err(refuse(format!("`{name}` has no share in (0, 1)"))),
            },
        };
        let inner = |at: usize, length: usize| (length / 4..length - length / 4).contains(&at);
        let is_missing = |sample: usize, y: usize, x: usize| {
            Some(match name {
                "top" => 2 * y < height,
                "bottom" => 2 * y >= height,
                "left" => 2 * x < width,
                "right" => 2 * x >= width,
                "middle" => inner(y, height) && inner(x, width),
                _ => {
                    let bits = random_bits(seed, stream::DATA, sample as u32, (y * width + x) as u32, 0);
                    uniform(bits[0]) < share?
                }
            })
        };
        let samples = if share.is_some() { count } else { 1 };
        let places = (0..samples).flat_map(|n| (0..height).flat_map(move |y| (0..width).map(move |x| (n, y, x))));
        let pixels: Option<Vec<bool>> = places.map(|(n, y, x)| is_missing(n, y, x)).collect();
        let pixels = pixels.ok_or_else(|| refuse(format!("`{name}` is no part of an image")))?;
        let missing = pixels.into_iter().flat_map(|pixel| std::iter::repeat_n(pixel, channels)).collect();
        Ok(Self { missing, dimensions: shape.dimensions() })
    }

    /// M: 1, or as many as there are samples.
    pub fn count(&self) -> usize {
        self.missing.len() / self.dimensions
    }

    /// What is missing of a sample, (D).
    pub fn of_sample(&self, sample: usize) -> &[bool] {
        &self.missing[sample % self.count() * self.dimensions..][..self.dimensions]
    }

    /// The different masks, each with the samples that have it, of `count`.
    fn groups(&self, count: usize) -> Vec<(&[bool], Vec<usize>)> {
        let mut groups: Vec<(&[bool], Vec<usize>)> = Vec::new();
        let mut group_of = HashMap::new();
        for sample in 0..count {
            let missing = self.of_sample(sample);
            let group = *group_of.entry(missing).or_insert(groups.len());
            if group == groups.len() {
                groups.push((missing, Vec::new()));
            }
            groups[group].1.push(sample);
        }
        groups
    }

    /// Whether nothing known comes after something missing, in any sample.
    pub fn is_suffix(&self, order: &Permutation) -> bool {
        let of_sample = |missing: &[bool]| order.dimensions().iter().map(|&d| missing[d]).is_sorted();
        self.missing.chunks_exact(self.dimensions).all(of_sample)
    }

    /// Share of the values that are missing.
    pub fn share(&self) -> f64 {
        self.missing.iter().filter(|missing| **missing).count() as f64 / self.missing.len() as f64
    }
}

/// Fills in what the mask names of samples x (N, D); values there are not looked at. `progress` is told the share that is
/// done.
///
/// Where everything missing comes last in the model's order, it is drawn given the rest directly; a model that was trained
/// over orders is taken in an order for which this holds, whatever the mask. Else particles are drawn side by side, weighed
/// by the density of every known value that they come to, and one of them is taken: the more particles, the nearer to the
/// posterior.
///
/// # Errors
/// Values or a mask that do not fit the model, no completions; a failed adapter.
pub fn inpaint(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    mask: &Mask,
    request: &InpaintRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Inpainted> {
    if matches!(trained.model.head, Head::Mixture(_)) {
        let problem = "is in closed form, whose draws take nothing as given";
        return Err(Error::input("the model's head", problem, "Use a model with head = \"score\" for this"));
    }
    let dimensions = trained.model.dimensions();
    let count = x.len() / dimensions;
    if count == 0 || !x.len().is_multiple_of(dimensions) || request.completions == 0 {
        let problem = format!("{} values and {} completions, D = {dimensions}", x.len(), request.completions);
        return Err(Error::input("samples", problem, "Give (N, D) values and at least one completion"));
    }
    if mask.dimensions != dimensions || ![1, count].contains(&mask.count()) {
        let problem =
            format!("is of {} samples of D = {}, there are {count} of {dimensions}", mask.count(), mask.dimensions);
        return Err(Error::input("mask", problem, "Give one mask for all samples, or one for each"));
    }
    let numbers = [x.len(), request.completions, request.particles];
    let remedy = "Give fewer samples, completions or particles at a time";
    host::check_fits("--completions", "the completions", KNOWLEDGE_BYTES, &numbers, remedy)?;
    if trained.has_any_order() {
        return inpaint_in_orders(gpu, trained, x, mask, request, progress);
    }
    let is_direct = mask.is_suffix(&trained.model.order);
    let samples: Vec<usize> = (0..count).collect();
    let mut drawn = fill(gpu, trained, x, mask, &samples, request, is_direct, progress)?;
    Ok(Inpainted { values: std::mem::take(&mut drawn.values), is_direct, orders: 1, drawn })
}

/// Fills in some samples by a model in one order: (n, R, D).
#[allow(clippy::too_many_arguments, reason = "what inpaint was asked, and how")]
fn fill(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    mask: &Mask,
    samples: &[usize],
    request: &InpaintRequest,
    is_direct: bool,
    progress: &mut dyn FnMut(f64),
) -> Result<Drawn> {
    let dimensions = trained.model.dimensions();
    let of_value = |(&x, &missing): (&f32, &bool)| if missing { Knowledge::Unknown } else { Knowledge::Value(x) };
    let mut knowledge = Vec::with_capacity(samples.len() * request.completions * dimensions);
    for &n in samples {
        let values = &x[n * dimensions..][..dimensions];
        let of_sample: Vec<Knowledge> = values.iter().zip(mask.of_sample(n)).map(of_value).collect();
        (0..request.completions).for_each(|_| knowledge.extend_from_slice(&of_sample));
    }
    let (particles, weigh) = match is_direct {
        true => (1, Weigh::Nothing),
        false => (request.particles, Weigh::AfterUnknown),
    };
    let sampling = SampleRequest {
        given: Some(Given { knowledge, particles, weigh }),
        ..SampleRequest::new(trained, samples.len() * request.completions, request.seed)
    };
    sample(gpu, trained, &sampling, progress)
}

/// The same by a model that was trained over orders: for each different mask it is taken in the order that has everything
/// known first. Every one of them has a seed of its own, as the samplers number samples from 0.
fn inpaint_in_orders(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    mask: &Mask,
    request: &InpaintRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Inpainted> {
    let count = x.len() / mask.dimensions;
    let of_sample = request.completions * mask.dimensions;
    let groups = mask.groups(count);
    let mut values = vec![0.0; count * of_sample];
    let (mut whole, mut done, mut ordered) = (None::<Drawn>, 0, None::<Trained>);
    for (number, (missing, samples)) in groups.iter().enumerate() {
        let order = Permutation::known_first(missing);
        match &mut ordered {
            Some(ordered) => ordered.set_order(gpu, order)?,
            None => ordered = Some(trained.in_order(gpu, order)?),
        }
        let ordered = ordered.as_ref().expect("made above");
        let request = InpaintRequest { seed: seed_of_group(request.seed, number as u32), ..request.clone() };
        let share = |share: f64| (done as f64 + share * samples.len() as f64) / count as f64;
        let drawn = fill(gpu, ordered, x, mask, samples, &request, true, &mut |part| progress(share(part)))?;
        for (&sample, drawn) in samples.iter().zip(drawn.values.chunks_exact(of_sample)) {
            values[sample * of_sample..][..of_sample].copy_from_slice(drawn);
        }
        done += samples.len();
        let seconds = drawn.seconds + whole.as_ref().map_or(0.0, |whole| whole.seconds);
        // Nothing is weighed, so there are no densities to keep.
        whole = Some(Drawn { values: Vec::new(), log_densities: Vec::new(), seconds, ..drawn });
    }
    let drawn = whole.expect("there is a sample, and so a mask");
    Ok(Inpainted { values, is_direct: true, orders: groups.len(), drawn })
}

/// The seed itself for the first mask, and unrelated ones for the others.
fn seed_of_group(seed: u64, group: u32) -> u64 {
    let bits = random_bits(seed, stream::ORDERS, group, 0, 0);
    if group == 0 { seed } else { u64::from(bits[0]) << 32 | u64::from(bits[1]) }
}

/// How far the mean of a sample's completions is from the sample itself: mean square over everything that was missing.
/// x (N, D) must be whole; NaN where nothing is missing.
pub fn mean_squared_error(x: &[f32], mask: &Mask, inpainted: &Inpainted) -> f64 {
    let dimensions = mask.dimensions;
    let completions = inpainted.values.len() / x.len();
    let (mut sum, mut missing) = (0.0, 0.0);
    let samples = x.chunks_exact(dimensions).zip(inpainted.values.chunks_exact(completions * dimensions));
    for (n, (x, filled)) in samples.enumerate() {
        for d in (0..dimensions).filter(|&d| mask.of_sample(n)[d]) {
            let total: f64 = filled.iter().skip(d).step_by(dimensions).map(|&value| f64::from(value)).sum();
            sum += (total / completions as f64 - f64::from(x[d])).powi(2);
            missing += 1.0;
        }
    }
    sum / missing
}

/// Writes a row for each sample: as it was, what is given of it with the missing part in blue, and its completions with a
/// tint where they were filled in. `range` is drawn from black to white.
///
/// # Errors
/// Samples that are no images; a file that cannot be written.
pub fn write_picture(
    path: &Path,
    x: &[f32],
    mask: &Mask,
    inpainted: &Inpainted,
    shape: SampleShape,
    range: [f64; 2],
    text: PngText<'_>,
) -> Result<()> {
    let SampleShape::Image { height, width, channels } = shape else {
        let problem = format!("samples of D = {shape} are no images");
        return Err(Error::input(path.display().to_string(), problem, "Write them with --npy FILE instead"));
    };
    let dimensions = shape.dimensions();
    let count = x.len() / dimensions;
    let completions = inpainted.values.len() / x.len();
    let mut images = Vec::with_capacity((2 + completions) * count * height * width * 3);
    for (n, sample) in x.chunks_exact(dimensions).enumerate() {
        let missing = mask.of_sample(n);
        let sample = &shades(sample, range);
        paint(&mut images, sample, missing, channels, |value, _| value);
        paint(&mut images, sample, missing, channels, |_, blue| blue);
        for completion in
            inpainted.values[n * completions * dimensions..][..completions * dimensions].chunks(dimensions)
        {
            paint(&mut images, &shades(completion, range), missing, channels, |value, blue| value.max(TINT * blue));
        }
    }
    Grid::new(&images, [height, width, 3], UNIT, Some(2 + completions))?.write(path, text)
}

/// Values as shares of the way from black to white.
fn shades(values: &[f32], [low, high]: [f64; 2]) -> Vec<f32> {
    let span = (high - low).max(f64::MIN_POSITIVE);
    values.iter().map(|&value| ((f64::from(value) - low) / span) as f32).collect()
}

/// Appends an image as RGB; a missing value of a colour becomes `filled(value, colour of what is missing)`.
fn paint(images: &mut Vec<f32>, image: &[f32], missing: &[bool], channels: usize, filled: impl Fn(f32, f32) -> f32) {
    for (pixel, missing) in image.chunks_exact(channels).zip(missing.chunks_exact(channels)) {
        for (c, blue) in MISSING.iter().enumerate() {
            let from = c % channels;
            let value = pixel[from].clamp(0.0, 1.0);
            images.push(if missing[from] { filled(value, *blue) } else { value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Order;

    const SHAPE: SampleShape = SampleShape::Image { height: 4, width: 6, channels: 3 };

    fn missing(name: &str) -> Vec<usize> {
        let mask = Mask::of_name(name, SHAPE, 2, 5).expect("a part");
        let pixels = mask.of_sample(0).chunks_exact(3).enumerate();
        pixels.filter(|(_, pixel)| pixel == &[true; 3]).map(|(at, _)| at).collect()
    }

    #[test]
    fn parts_have_names() {
        assert_eq!(missing("top"), (0..12).collect::<Vec<_>>());
        assert_eq!(missing("bottom"), (12..24).collect::<Vec<_>>());
        assert_eq!(missing("left")[..4], [0, 1, 2, 6]);
        assert_eq!(missing("right")[..4], [3, 4, 5, 9]);
        assert_eq!(missing("middle"), [7, 8, 9, 10, 13, 14, 15, 16]);
        let random = Mask::of_name("random:0.3", SHAPE, 200, 5).expect("a share");
        assert_eq!(random.count(), 200);
        // 4,800 pixels: five standard errors of 0.3.
        assert!((random.share() - 0.3).abs() <= 5.0 * (0.21f64 / 4800.0).sqrt(), "{}", random.share());
        assert_ne!(random.of_sample(0), random.of_sample(1));
        for name in ["botom", "random:1.5", "random:", "random"] {
            let error = Mask::of_name(name, SHAPE, 2, 5).expect_err(name);
            assert!(error.to_string().contains(name) && error.exit_status() == 2, "{error}");
        }
        let points = SampleShape::Vector { dimensions: 3 };
        assert!(Mask::of_name("top", points, 2, 5).is_err());
        let names = ["age", "income", "sex"].map(str::to_owned);
        let mask = Mask::of_columns("sex, age", &names).expect("columns");
        assert_eq!((mask.count(), mask.of_sample(0)), (1, &[true, false, true][..]));
        assert!(Mask::of_columns("sex,height", &names).is_none());
    }

    #[test]
    fn suffixes_are_those_of_the_models_order() {
        let natural = Permutation::natural(72);
        let reversed = Permutation::new(Order::Reversed, 0, 72);
        let is_suffix = |name: &str| {
            let mask = Mask::of_name(name, SHAPE, 1, 5).expect("a part");
            [mask.is_suffix(&natural), mask.is_suffix(&reversed)]
        };
        assert_eq!(is_suffix("bottom"), [true, false]);
        assert_eq!(is_suffix("top"), [false, true]);
        assert_eq!(is_suffix("left"), [false, false]);
    }

    #[test]
    fn samples_are_grouped_by_their_masks() {
        let mask = Mask::new(&[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2).expect("four");
        let groups = mask.groups(4);
        let samples: Vec<&[usize]> = groups.iter().map(|(_, samples)| samples.as_slice()).collect();
        assert_eq!(samples, [&[0, 2][..], &[1], &[3]]);
        assert_eq!(groups[0].0, [false, true]);
        let one = Mask::new(&[0.0, 1.0], 2).expect("one");
        assert_eq!(one.groups(3).len(), 1);
        let seeds: Vec<u64> = (0..3).map(|group| seed_of_group(7, group)).collect();
        assert!(seeds[0] == 7 && seeds[1] != 7 && seeds[1] != seeds[2], "{seeds:?}");
    }

    #[test]
    fn marks_must_make_whole_samples() {
        let mask = Mask::new(&[0.0, 1.0, 0.5, 0.0], 2).expect("two");
        assert_eq!((mask.count(), mask.of_sample(3)), (2, &[true, false][..]));
        assert!(Mask::new(&[0.0; 3], 2).is_err() && Mask::new(&[], 2).is_err());
    }
}
