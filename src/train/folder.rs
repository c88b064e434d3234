//! The folder of a run: whether it may be used, and what lies where.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::TrainPlan;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;
use crate::files::lock::Lock;
use crate::shape::SampleShape;

/// The folder of a run.
pub(super) struct RunFolder {
    pub(super) root: PathBuf,
    /// Held until the run ends; from the start where the folder holds a run already.
    lock: Option<Lock>,
}

impl RunFolder {
    /// Checks that the folder may be used, and makes nothing yet in a new one: data and sizes may still be refused.
    pub(super) fn open(plan: &TrainPlan) -> Result<Self> {
        let mut folder = Self { root: plan.out.clone(), lock: None };
        if plan.resume && !folder.last().exists() && !folder.holds_run() {
            let subject = plan.out.display().to_string();
            return Err(Error::input(subject, "holds no checkpoint to go on from", "Give the folder of a run"));
        }
        files::check_writable(&folder.root.join("config.toml"))?;
        if folder.holds_run() {
            folder.lock = Some(Lock::take(&folder.root)?);
        }
        folder.check_free(plan)?;
        Ok(folder)
    }

    /// Makes the folder this run's own, before the first of its files is written. Gives a note where the file system knows no
    /// locks.
    pub(super) fn take(&mut self, plan: &TrainPlan) -> Result<Option<String>> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => {
                let lock = Lock::take(&self.root)?;
                // Another run may have come and gone since the folder was looked at.
                self.check_free(plan)?;
                lock
            }
        };
        Ok(self.lock.insert(lock).note())
    }

    pub(super) fn holds_run(&self) -> bool {
        self.root.join("config.toml").exists()
    }

    fn check_free(&self, plan: &TrainPlan) -> Result<()> {
        if self.holds_run() && !plan.resume && !plan.force {
            let remedy = "Go on with `--resume`, start afresh with `--force`, or give another folder";
            return Err(Error::input(self.root.display().to_string(), "holds a run already", remedy));
        }
        Ok(())
    }

    /// Removes the files of an earlier run, and nothing else.
    pub(super) fn remove_run(&self) -> Result<()> {
        let files = ["metrics.jsonl", "loss.png"].map(|name| self.root.join(name));
        let pictures = std::fs::read_dir(self.root.join("samples")).into_iter().flatten();
        let pictures = pictures.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_picture(path));
        for path in files.into_iter().chain([self.last(), self.best()]).chain(pictures) {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", &path, e, "Give another folder"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn last(&self) -> PathBuf {
        self.root.join("checkpoints/last.safetensors")
    }

    pub(super) fn best(&self) -> PathBuf {
        self.root.join("checkpoints/best.safetensors")
    }

    /// Writes new best weights, where there are any.
    pub(super) fn save_best(&self, best: Option<Checkpoint>) -> Result<()> {
        best.map_or(Ok(()), |best| best.save(&self.best()))
    }

    /// Refuses to go on with a checkpoint of other data or another model.
    pub(super) fn check_belongs(
        &self,
        checkpoint: Checkpoint,
        config: &Config,
        shape: SampleShape,
    ) -> Result<Checkpoint> {
        if checkpoint.shape != shape {
            let problem = format!("belongs to samples of {}, {} has {shape}", checkpoint.shape, config.data.spec);
            let remedy = "Resume with the [data] settings of the run's config.toml";
            return Err(Error::input(self.last().display().to_string(), problem, remedy));
        }
        if checkpoint.config.model != config.model {
            let subject = self.last().display().to_string();
            let remedy = "Resume with the [model] settings of the run's config.toml";
            return Err(Error::input(subject, "belongs to a model with other settings", remedy));
        }
        Ok(checkpoint)
    }

    pub(super) fn write_config(&self, config: &Config) -> Result<()> {
        files::write_atomically(&self.root.join("config.toml"), |file| file.write_all(config.to_toml().as_bytes()))
    }
}

/// Whether a file is named as pictures of samples after a step are.
fn is_picture(path: &Path) -> bool {
    let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.strip_suffix(".png"));
    step.is_some_and(|step| step.parse::<u64>().is_ok())
}
