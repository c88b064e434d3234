//! Whether training still goes somewhere: gradients that are not finite, and losses that have left for good.

use crate::error::{Error, Result};

/// Steps in a row without a finite gradient that end a run: one may be a chance, and as nothing changed the next may be fine.
const MOST_SKIPPED: u32 = 3;

/// How many times the first loss is too much.
const FACTOR: f64 = 100.0;
/// Losses near zero may rise by this much whatever their factor, nats.
const LEAST_RISE: f64 = 1.0;
/// So many steps in a row with too large a loss; a few bad batches come to any run.
const MOST_LARGE: u32 = 10;

/// Steps whose losses are averaged to see whether they rise.
const WINDOW: u32 = 100;
/// So many averages, each above the one before, are no chance: of losses that only fluctuate, one order in 3,628,800.
const MOST_RISES: u32 = 10;

/// Steps that changed nothing, as their gradient was not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of this session, among those whose losses are known.
    pub steps: u64,
    /// The last ones without another between them.
    pub in_a_row: u32,
}

impl Skipped {
    /// Takes a step's squared gradient norm.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where it is one too many that is not finite.
    pub(super) fn take(&mut self, step: u64, squared_norm: f32) -> Result<()> {
        if squared_norm.is_finite() {
            self.in_a_row = 0;
            return Ok(());
        }
        self.steps += 1;
        self.in_a_row += 1;
        if self.in_a_row < MOST_SKIPPED {
            return Ok(());
        }
        Err(Error::NonFinite {
            what: format!("the gradient of {MOST_SKIPPED} steps in a row"),
            step,
            remedy: "No weight was changed by them, and the last checkpoint is kept; resume it with a smaller learning rate, or \
                     look for huge values in the data"
                .into(),
        })
    }

    /// What there is to say after such a step.
    pub(super) fn note(&self, step: u64) -> Option<String> {
        (self.in_a_row > 0).then(|| {
            format!(
                "step {step} changed nothing, as its gradient is not finite ({} in a row; {MOST_SKIPPED} end the run)",
                self.in_a_row
            )
        })
    }
}

/// Compares every training loss with the run's first one, and averages with those before them.
#[derive(Debug)]
pub(super) struct LossWatch {
    first: Option<f64>,
    /// Steps in a row with too large a loss.
    large: u32,
    rise: Rise,
}

/// Averages in a row that are above the one before.
#[derive(Debug, Default)]
struct Rise {
    sum: f64,
    steps: u32,
    last: Option<f64>,
    rises: u32,
}

impl LossWatch {
    /// For a run whose first loss this was, where it has one by now.
    pub(super) fn new(first: Option<f64>) -> Self {
        Self { first, large: 0, rise: Rise::default() }
    }

    /// Takes a step's loss.
    ///
    /// # Errors
    /// [`Error::Unsound`] when it is one too many of those that are too large, or ends one average too many that rose.
    pub(super) fn take(&mut self, step: u64, loss: f64) -> Result<()> {
        let first = *self.first.get_or_insert(loss);
        let is_large = loss > FACTOR * first.abs() && loss > first + LEAST_RISE;
        self.large = if is_large { self.large + 1 } else { 0 };
        let rises = self.rise.take(loss);
        let what = if self.large >= MOST_LARGE {
            format!(
                "{MOST_LARGE} losses in a row are above {FACTOR} times the first, {first:.4}; the last is {loss:.4e}"
            )
        } else if rises >= MOST_RISES && loss > first + LEAST_RISE {
            format!(
                "the mean loss of every {WINDOW} steps rose {MOST_RISES} times in a row, from {first:.4} at first to {loss:.4}"
            )
        } else {
            return Ok(());
        };
        let remedy =
            "The last checkpoint from before is kept; resume it with a smaller learning rate or with clip_norm = 1";
        Err(Error::Unsound { what: format!("training diverged: {what}"), step, remedy: remedy.into() })
    }

    /// Whether the last loss was too large.
    pub(super) fn is_suspicious(&self) -> bool {
        self.large > 0
    }
}

impl Rise {
    /// How many averages in a row rose, with this loss.
    fn take(&mut self, loss: f64) -> u32 {
        self.sum += loss;
        self.steps += 1;
        if self.steps == WINDOW {
            let mean = self.sum / f64::from(WINDOW);
            self.rises = if self.last.is_some_and(|last| mean > last) { self.rises + 1 } else { 0 };
            *self = Self { last: Some(mean), rises: self.rises, ..Self::default() };
        }
        self.rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bad_gradients_are_counted_and_several_in_a_row_end_the_run() {
        let mut skipped = Skipped::default();
        for (step, norm) in [1.0, f32::NAN, f32::INFINITY, 0.0, f32::NAN, -f32::NAN].into_iter().enumerate() {
            skipped.take(step as u64 + 1, norm).expect("not three in a row");
        }
        assert_eq!(skipped, Skipped { steps: 4, in_a_row: 2 });
        let error = skipped.take(7, f32::INFINITY).expect_err("the third");
        assert!(matches!(error, Error::NonFinite { step: 7, .. }) && error.exit_status() == 4, "{error}");
    }

    /// The step at which these losses end a run.
    fn end(losses: impl IntoIterator<Item = f64>) -> Option<u64> {
        let mut watch = LossWatch::new(None);
        (1..).zip(losses).find(|&(step, loss)| watch.take(step, loss).is_err()).map(|(step, _)| step)
    }

    #[test]
    fn only_losses_that_stay_far_above_the_first_end_a_run() {
        let after = |first: f64, then: f64| std::iter::once(first).chain(std::iter::repeat_n(then, 50));
        assert_eq!(end(after(2.0, 201.0)), Some(1 + u64::from(MOST_LARGE)));
        assert_eq!(end(after(2.0, 199.0)), None);
        // A hundred times next to nothing is little, and negative losses have their size.
        assert_eq!(end(after(1e-3, 0.9)), None);
        assert_eq!(end(after(1e-3, 1.1)), Some(11));
        assert_eq!(end(after(-5.0, 490.0)), None);
        assert_eq!(end(after(-5.0, 510.0)), Some(11));
        // Nine bad steps, a good one, nine bad ones.
        assert_eq!(end((0..60).map(|step| if step % 10 == 0 { 2.0 } else { 1e9 })), None);
    }

    #[test]
    fn losses_that_rise_without_end_end_a_run_and_those_that_fluctuate_do_not() {
        let rising = |step: i32| 5.0 + 0.003 * f64::from(step);
        assert_eq!(end((0..5000).map(rising)), Some(1100));
        assert_eq!(end((0..5000).map(|step| 5.0 + f64::from(step * 7919 % 101))), None);
        // A rise that stays below the first loss, as after a new learning rate.
        assert_eq!(end(std::iter::once(30.0).chain((0..5000).map(rising))), None);
    }

    #[test]
    fn a_resumed_run_keeps_its_first_loss_and_one_bad_step_makes_it_suspicious() {
        let mut watch = LossWatch::new(Some(3.0));
        watch.take(7, 300.5).expect("the first bad one");
        assert!(watch.is_suspicious());
        watch.take(8, 299.5).expect("a good one");
        assert!(!watch.is_suspicious());
        let error = (9..).find_map(|step| watch.take(step, 1e6).err()).expect("diverged");
        assert!(matches!(error, Error::Unsound { step: 18, .. }) && error.exit_status() == 4, "{error}");
    }
}
