//! `classifier`: trains the small classifier on whose features Frechet distances are taken.

use serde::{Deserialize, Serialize};

use super::{Cell, Context, Report, Table};
use crate::data;
use crate::error::Result;
use crate::models::classifier::{Classifier, Labelled};

/// Classes of the data sets that have labels.
const CLASSES: usize = 10;
/// Images that the training sees, all passes together.
const IMAGES_SEEN: usize = 180_000;

/// What training came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    passes: usize,
    accuracy: f64,
    confidence: f64,
}

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let spec = context.request.data.as_deref().unwrap_or("digits");
    let set = data::load_labelled(spec)?;
    let file = "classifier.safetensors";
    let outcome = context.part("classifier", 1.0, |part| {
        let seed = context.request.seed;
        let mut network = Classifier::new(set.shape, CLASSES, seed)?;
        let passes = IMAGES_SEEN.div_ceil(set.train.labels.len());
        let train = Labelled { images: &set.train.images, labels: &set.train.labels };
        network.train(train, passes, seed, &mut |share, loss| {
            part.progress(share, &format!("loss {loss:.3}"));
            context.check_stop().is_ok()
        });
        context.check_stop()?;
        let reading = network.read(&set.held_out.images);
        network.save(&context.out.join(file))?;
        Ok(Outcome { passes, accuracy: reading.accuracy(&set.held_out.labels), confidence: reading.confidence() })
    })?;
    let mut report = Report::new(format!("a small classifier of {spec}"));
    report.notes.push(format!(
        "Two convolutions and a dense layer of {} features, on the host. `arcsm reproduce mnist --features {file}` takes \
         Frechet distances on them; the budget does not matter here.",
        crate::models::classifier::FEATURES
    ));
    let mut table = Table::new("Held-out images", &["images", "passes", "accuracy", "confidence"]);
    table.push(vec![
        Cell::Count(set.held_out.labels.len() as u64),
        Cell::Count(outcome.passes as u64),
        Cell::Number(outcome.accuracy, 4),
        Cell::Number(outcome.confidence, 3),
    ]);
    report.tables.push(table);
    Ok(report)
}
