//! Losses of a run as JSON lines, and the curve they make.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::files::image_grid::PngText;
use crate::files::plot;

/// Steps whose mean is the final training loss.
const RECENT: usize = 100;

/// Points of a curve that are kept, at most: more than a picture has columns.
const MOST_POINTS: usize = 8192;

/// The metrics of a run: whole on disk, in memory as much as a picture shows.
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
    losses: Losses,
}

/// What is kept in memory.
#[derive(Default)]
struct Losses {
    first: Option<f64>,
    recent: VecDeque<f64>,
    train: Curve,
    held_out: Curve,
    last_held_out: Option<u64>,
}

impl Losses {
    fn take(&mut self, line: Line) {
        if let Some(loss) = line.train_loss {
            self.first.get_or_insert(loss);
            self.train.push(line.step, loss);
            self.recent.push_back(loss);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        if let Some(loss) = line.held_out_loss {
            self.held_out.push(line.step, loss);
            self.last_held_out = Some(line.step);
        }
    }
}

/// A loss over the steps, of however many steps in bounded memory: each point is the mean of `stride` losses.
struct Curve {
    points: Vec<(u64, f64)>,
    stride: usize,
    sum: f64,
    count: usize,
}

impl Default for Curve {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, sum: 0.0, count: 0 }
    }
}

impl Curve {
    fn push(&mut self, step: u64, loss: f64) {
        self.sum += loss;
        self.count += 1;
        if self.count < self.stride {
            return;
        }
        self.points.push((step, self.sum / self.count as f64));
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() == MOST_POINTS {
            self.points = self.points.chunks(2).map(|pair| (pair[1].0, 0.5 * (pair[0].1 + pair[1].1))).collect();
            self.stride *= 2;
        }
    }
}

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Line {
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    train_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out_loss: Option<f64>,
}

impl Metrics {
    /// Opens the file of a run that has done `step` steps; lines of later steps, which a resumed run makes again, go.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let old = match File::open(path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::file("read", path, e, "Remove the file or give another folder")),
        };
        let mut losses = Losses::default();
        files::write_atomically(path, |file| {
            for line in old.into_iter().flat_map(BufRead::lines) {
                // A kill may have cut the last line off.
                let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
                if line.step <= step {
                    writeln!(file, "{}", serde_json::to_string(&line)?)?;
                    losses.take(line);
                }
            }
            Ok(())
        })?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|e| Error::file("open", path, e, "Give a folder that can be written"))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), losses })
    }

    /// Adds a step's training loss.
    ///
    /// # Errors
    /// A full disk.
    pub fn train(&mut self, step: u64, loss: f64) -> Result<()> {
        self.write(Line { step, train_loss: Some(loss), held_out_loss: None })
    }

    /// Adds a held-out loss, unless the step has it already, as that of a finished run which is resumed.
    ///
    /// # Errors
    /// A full disk.
    pub fn held_out(&mut self, step: u64, loss: f64) -> Result<()> {
        if self.losses.last_held_out == Some(step) {
            return Ok(());
        }
        self.write(Line { step, train_loss: None, held_out_loss: Some(loss) })
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// A full disk.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| self.refused(e))
    }

    /// Training loss of the run's first step, once it is known.
    pub fn first_train_loss(&self) -> Option<f64> {
        self.losses.first
    }

    /// Mean training loss of the last hundred steps.
    pub fn recent_train_loss(&self) -> f64 {
        self.losses.recent.iter().sum::<f64>() / self.losses.recent.len() as f64
    }

    /// Draws both losses over the steps.
    ///
    /// # Errors
    /// A picture that cannot be written.
    pub fn plot(&self, path: &Path, title: &str, text: PngText<'_>) -> Result<()> {
        plot::loss_curve(path, &self.losses.train.points, &self.losses.held_out.points, title, text)
    }

    fn write(&mut self, line: Line) -> Result<()> {
        self.losses.take(line);
        let text = serde_json::to_string(&line).expect("numbers and names always serialise");
        writeln!(self.file, "{text}").map_err(|e| self.refused(e))
    }

    fn refused(&self, error: std::io::Error) -> Error {
        Error::file(
            "write",
            &self.path,
            error,
            "Free some space and go on with `--resume`; the last checkpoint is whole",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).expect("written").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_resumed_run_has_every_line_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).expect("new");
        (1..=5).for_each(|step| metrics.train(step, step as f64).expect("written"));
        metrics.held_out(5, 0.5).expect("written");
        metrics.held_out(5, 0.5).expect("the same again");
        metrics.flush().expect("written");
        drop(metrics);
        let whole = lines(&path);
        assert_eq!(whole.len(), 6);
        // Killed in the middle of a line after its checkpoint of step 3.
        std::fs::write(&path, whole.join("\n").rsplit_once("}").expect("lines").0).expect("written");
        let mut metrics = Metrics::open(&path, 3).expect("resumed");
        assert_eq!(lines(&path), whole[..3]);
        assert_eq!((metrics.first_train_loss(), metrics.recent_train_loss()), (Some(1.0), 2.0));
        (4..=5).for_each(|step| metrics.train(step, step as f64).expect("written"));
        metrics.held_out(5, 0.5).expect("written");
        metrics.flush().expect("written");
        assert_eq!(lines(&path), whole);
        let mut metrics = Metrics::open(&path, 5).expect("finished, and resumed");
        metrics.held_out(5, 0.5).expect("known");
        metrics.flush().expect("written");
        assert_eq!(lines(&path), whole);
    }

    #[test]
    fn memory_is_bounded_and_the_curve_keeps_its_mean() {
        let mut losses = Losses::default();
        let steps = 10 * MOST_POINTS as u64;
        for step in 1..=steps {
            losses.take(Line { step, train_loss: Some(step as f64), held_out_loss: None });
        }
        let points = &losses.train.points;
        assert!(points.len() < MOST_POINTS && points.len() >= MOST_POINTS / 2, "{}", points.len());
        assert_eq!((losses.recent.len(), losses.train.stride), (RECENT, 16));
        let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
        assert_eq!(mean, 0.5 * (steps + 1) as f64);
        assert!(points.windows(2).all(|pair| pair[1].0 - pair[0].0 == 16));
    }
}
