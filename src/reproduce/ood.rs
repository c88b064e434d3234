//! `ood`: outliers told from inliers by every statistic of one model.

use serde::{Deserialize, Serialize};

use super::images::Images;
use super::{Cell, Context, Part, Report, Table};
use crate::ask::denoise::write_rows;
use crate::ask::detect::{DetectRequest, Detector, Synthetic, auroc, false_positive_rate, measure};
use crate::codes::Objective;
use crate::data;
use crate::data::DataConfig;
use crate::error::{Error, Result};
use crate::files::image_grid::UNIT;
use crate::files::plot::{Histogram, histograms};
use crate::models::ar_csm::HeadKind;
use crate::shape::SampleShape;

/// What training takes of the time.
const TRAINING_SHARE: f64 = 0.75;
/// Share of the inliers that pass where the false positive rate is taken.
const KEPT: f64 = 0.95;
/// Sets that need no data.
const MADE: [(&str, Synthetic); 7] = [
    ("noise", Synthetic::Noise),
    ("constants", Synthetic::Constants),
    ("black", Synthetic::Black),
    ("inverted", Synthetic::Inverted),
    ("transposed", Synthetic::Transposed),
    ("permuted", Synthetic::Permuted),
    ("letters", Synthetic::Letters),
];

/// Statistics of every set: the inliers first.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    sets: Vec<String>,
    statistics: Vec<String>,
    /// (sets, samples, statistics)
    values: Vec<Vec<Vec<f64>>>,
    held_out_loss: f64,
    steps: u64,
}

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let images = Images::load(context)?;
    let outcome = context.part("statistics", 1.0, |part| of_model(part, &images))?;
    let mut report = Report::new(format!("outliers told from {}", images.name()));
    report.notes.push(format!(
        "Statistics of a score model (masked dense layers, dsm, {} steps, held-out loss {:.2}) on {} held-out images and as \
         many outliers of each set; as many other inliers say what inliers have. AUROC: the probability that an outlier's value \
         is above an inlier's. `typicality` and `distance over levels` are two-sided; the others take smooth or empty images \
         for the most typical of all.",
        outcome.steps,
        outcome.held_out_loss,
        outcome.values[0].len()
    ));
    for (title, measure) in [
        ("AUROC", &auroc as &dyn Fn(&[f64], &[f64]) -> f64),
        (
            "FPR@95: outliers that pass for inliers where 95 % of the inliers pass",
            &|inliers: &[f64], outliers: &[f64]| false_positive_rate(inliers, outliers, KEPT),
        ),
    ] {
        report.tables.push(outcome.table(title, measure, title == "AUROC"));
    }
    let panels = (0..outcome.statistics.len()).map(|at| Histogram {
        title: outcome.statistics[at].clone(),
        sets: (0..outcome.sets.len()).map(|set| (outcome.sets[set].as_str(), outcome.column(set, at))).collect(),
    });
    let panels: Vec<Histogram<'_>> = panels.collect();
    let title = "statistics of inliers (area) and outliers (lines)";
    histograms(&context.out.join("histograms.png"), &panels, title, &context.png_text())?;
    report.pictures.push(("histograms.png".into(), "Statistics of every set".into()));
    report.pictures.push(("sets.png".into(), format!("From the top: {}", outcome.sets.join("; "))));
    Ok(report)
}

fn of_model(part: &Part<'_, '_>, images: &Images) -> Result<Outcome> {
    let context = part.context();
    let mut config = images.made.clone();
    (config.model.head, config.train.objective) = (HeadKind::Score, Objective::Dsm);
    let held_out = images.data.held_out.len();
    let count = images.count(context, 6.0, [16, 500]).min(held_out / 2);
    if count < 8 {
        let problem = format!("has {held_out} held-out images, at least 16 are needed");
        return Err(Error::input(images.data.name.clone(), problem, "Give more images"));
    }
    // Before the training, as an unreadable set ends all.
    let sets = sets(context, images, count)?;
    let training = part.train("model", config, &images.data, TRAINING_SHARE * part.seconds())?;
    let trained = part.load(&training)?;
    let request = DetectRequest { seed: context.request.seed, ..DetectRequest::new(&trained)? };
    let together: Vec<f32> = sets.iter().flat_map(|(_, values)| values).copied().collect();
    let mut measures = measure(context.gpu, &trained, &together, &request, &mut |share| {
        part.progress(TRAINING_SHARE + (1.0 - TRAINING_SHARE) * share, "statistics");
    })?;
    let mut split = sets.iter().map(|(name, values)| (name, measures.split_front(values.len() / images.dimensions())));
    let (_, reference) = split.next().expect("the reference comes first");
    let detector = Detector::new(&request.sigmas, &reference);
    let (names, values) = split.map(|(name, measures)| (name.clone(), detector.statistics(&measures))).unzip();
    let rows: Vec<&[f32]> = sets[1..].iter().map(|(_, values)| values.as_slice()).collect();
    write_rows(&context.out.join("sets.png"), &rows, images.data.shape, UNIT, &context.png_text())?;
    Ok(Outcome {
        sets: names,
        statistics: detector.names(),
        values,
        held_out_loss: training.held_out_loss,
        steps: training.steps,
    })
}

/// The inliers that say what inliers have, those that are told from outliers, then the outliers.
fn sets(context: &Context<'_>, images: &Images, count: usize) -> Result<Vec<(String, Vec<f32>)>> {
    let mut reference = images.data.held_out.first(2 * count)?;
    let inliers = reference.split_off(count * images.dimensions());
    let mut sets = Vec::new();
    for (name, set) in MADE {
        let square = matches!(images.data.shape, SampleShape::Image { height, width, .. } if height == width);
        if square || !matches!(set, Synthetic::Transposed | Synthetic::Letters) {
            sets.push((
                name.to_owned(),
                set.of_inliers(&inliers, images.data.shape, [0.0, 1.0], context.request.seed)?,
            ));
        }
    }
    for spec in &context.request.outliers {
        let data = data::load(&DataConfig { spec: spec.clone(), ..DataConfig::default() }, context.request.seed)?;
        if data.shape != images.data.shape {
            let problem = format!("has samples of {}, the inliers are {}", data.shape, images.data.shape);
            return Err(Error::input(spec.clone(), problem, "Give outliers of the inliers' shape"));
        }
        let name = spec.rsplit(['/', ':']).next().unwrap_or(spec).to_owned();
        sets.push((name, data.train.first(count.min(data.train.len()))?));
    }
    let own = [("reference".to_owned(), reference), (images.name().to_owned(), inliers)];
    Ok(own.into_iter().chain(sets).collect())
}

impl Outcome {
    fn column(&self, set: usize, statistic: usize) -> Vec<f64> {
        self.values[set].iter().map(|sample| sample[statistic]).collect()
    }

    /// A row for each statistic, a column for each set of outliers, and the worst of them.
    fn table(&self, title: &str, measure: &dyn Fn(&[f64], &[f64]) -> f64, low_is_bad: bool) -> Table {
        let columns: Vec<&str> =
            ["statistic"].into_iter().chain(self.sets[1..].iter().map(String::as_str)).chain(["worst"]).collect();
        let mut table = Table::new(title, &columns);
        for (at, name) in self.statistics.iter().enumerate() {
            let inliers = self.column(0, at);
            let values: Vec<f64> = (1..self.sets.len()).map(|set| measure(&inliers, &self.column(set, at))).collect();
            let worst = match low_is_bad {
                true => values.iter().copied().fold(f64::INFINITY, f64::min),
                false => values.iter().copied().fold(0.0, f64::max),
            };
            let cells = values.into_iter().chain([worst]).map(|value| Cell::Number(value, 3));
            table.push([Cell::text(name.clone())].into_iter().chain(cells).collect());
        }
        table
    }
}
