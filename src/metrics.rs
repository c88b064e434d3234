//! Losses of a run as JSON lines, and the curve they make.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::image_grid::PngText;
use crate::plot;

/// Steps whose mean is the final training loss.
const RECENT: usize = 100;

/// The metrics of a run, on disk and in memory.
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
    train: Vec<(u64, f64)>,
    held_out: Vec<(u64, f64)>,
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
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::file("read", path, e, "Remove the file or give another folder")),
        };
        // A kill may have cut the last line off.
        let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kept: Vec<Line> = lines.into_iter().filter(|line| line.step <= step).collect();
        files::write_atomically(path, |file| {
            kept.iter().try_for_each(|line| writeln!(file, "{}", serde_json::to_string(line)?))
        })?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|e| Error::file("open", path, e, "Give a folder that can be written"))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            train: kept.iter().filter_map(|line| Some((line.step, line.train_loss?))).collect(),
            held_out: kept.iter().filter_map(|line| Some((line.step, line.held_out_loss?))).collect(),
        })
    }

    /// Adds a step's training loss.
    ///
    /// # Errors
    /// A full disk.
    pub fn train(&mut self, step: u64, loss: f64) -> Result<()> {
        self.train.push((step, loss));
        self.write(Line { step, train_loss: Some(loss), held_out_loss: None })
    }

    /// Adds a held-out loss.
    ///
    /// # Errors
    /// A full disk.
    pub fn held_out(&mut self, step: u64, loss: f64) -> Result<()> {
        self.held_out.push((step, loss));
        self.write(Line { step, train_loss: None, held_out_loss: Some(loss) })
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// A full disk.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| self.refused(e))
    }

    /// Mean training loss of the last hundred steps.
    pub fn recent_train_loss(&self) -> f64 {
        let recent = &self.train[self.train.len().saturating_sub(RECENT)..];
        recent.iter().map(|(_, loss)| loss).sum::<f64>() / recent.len() as f64
    }

    /// Draws both losses over the steps.
    ///
    /// # Errors
    /// A picture that cannot be written.
    pub fn plot(&self, path: &Path, title: &str, text: PngText<'_>) -> Result<()> {
        plot::loss_curve(path, &self.train, &self.held_out, title, text)
    }

    fn write(&mut self, line: Line) -> Result<()> {
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
