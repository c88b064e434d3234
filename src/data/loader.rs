//! The next batch, prepared by a thread of its own while the adapter works on the last one.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::{Dataset, SampleShape, Samples, Shuffle, is_mirrored};
use crate::error::{Error, Result};
use crate::order::Orders;

/// Batches that wait to be taken; one more is in the thread's hands.
pub(crate) const WAITING: usize = 1;

/// The batches of training, one after another: a pure function of the data, the settings and the place.
#[derive(Debug)]
pub struct Batches {
    samples: Samples,
    shape: SampleShape,
    orders: Orders,
    batch: usize,
    /// Seed of mirroring, where it is asked for.
    mirror: Option<u64>,
    shuffle: Shuffle,
    indices: Vec<usize>,
}

/// What batches are wanted.
#[derive(Debug, Clone, Copy)]
pub struct BatchSettings {
    /// Samples in each.
    pub size: usize,
    /// Of the order in which samples are drawn, and of mirroring.
    pub seed: u64,
    /// Whether images are mirrored with probability 1/2.
    pub mirrored: bool,
}

impl Batches {
    /// Goes on after `drawn` samples of the data have been drawn; see [`Shuffle::at`].
    ///
    /// # Panics
    /// When there are no training samples.
    pub fn at(data: &Dataset, orders: Orders, wanted: BatchSettings, drawn: u64) -> Self {
        Self {
            samples: data.train.clone(),
            shape: data.shape,
            orders,
            batch: wanted.size,
            mirror: wanted.mirrored.then_some(wanted.seed),
            shuffle: Shuffle::at(data.train.len(), wanted.seed, drawn),
            indices: Vec::new(),
        }
    }

    /// How many samples have been drawn since the beginning.
    pub fn position(&self) -> u64 {
        self.shuffle.position()
    }

    /// The next batch (B, D), in the order of dimensions of its step.
    ///
    /// # Errors
    /// As [`Samples::gather`].
    pub fn next_batch(&mut self) -> Result<Vec<f32>> {
        let first = self.position();
        self.shuffle.next_batch(self.batch, &mut self.indices);
        let mut values = vec![0.0; self.batch * self.samples.dimensions()];
        self.samples.gather(&self.indices, &mut values)?;
        if let Some(seed) = self.mirror {
            let drawn = (first..).zip(values.chunks_exact_mut(self.samples.dimensions()));
            let mirrored = drawn.filter(|(position, _)| is_mirrored(seed, *position));
            mirrored.for_each(|(_, sample)| self.shape.mirror(sample));
        }
        let order = self.orders.of_step(first / self.batch as u64 + 1);
        Ok(if order.is_natural() { values } else { order.to_model(&values, 1) })
    }
}

/// Gives the same batches as [`Batches`], prepared ahead. Dropping it ends the thread.
#[derive(Debug)]
pub struct Loader {
    /// None only while it is dropped.
    prepared: Option<Receiver<Result<Vec<f32>>>>,
    thread: Option<JoinHandle<()>>,
    batch: u64,
    position: u64,
}

impl Loader {
    /// Begins to prepare batches.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(mut batches: Batches) -> Result<Self> {
        let (sender, prepared) = sync_channel(WAITING);
        let (batch, position) = (batches.batch as u64, batches.position());
        let work = move || {
            let mut goes_on = true;
            while goes_on {
                let next = batches.next_batch();
                goes_on = next.is_ok();
                goes_on &= sender.send(next).is_ok();
            }
        };
        let thread = Builder::new().name("loader".into()).spawn(work);
        let thread = thread.map_err(|source| Error::Failed(format!("cannot start a thread: {source}")))?;
        Ok(Self { prepared: Some(prepared), thread: Some(thread), batch, position })
    }

    /// How many samples were in the batches that have been taken, those before the start counted too: what
    /// [`Batches::at`] needs to go on exactly. What is prepared ahead does not count.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next batch (B, D), in the order of dimensions of its step; waits for it if need be.
    ///
    /// # Errors
    /// As [`Batches::next_batch`], when the batch's turn has come; after that there are no more.
    ///
    /// # Panics
    /// When the thread did.
    pub fn next_batch(&mut self) -> Result<Vec<f32>> {
        match self.prepared.as_ref().and_then(|prepared| prepared.recv().ok()) {
            Some(batch) => {
                let batch = batch?;
                self.position += self.batch;
                Ok(batch)
            }
            None => {
                if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                    resume_unwind(panic);
                }
                Err(Error::Failed("there are no more batches, as one could not be read".into()))
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Nobody receives any more, so the thread ends with the batch that it has in hand.
        self.prepared = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by itself; another one while dropping would end the process.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data;
    use crate::data::DataConfig;
    use crate::order::{Order, Permutation};

    /// Batches in a random order of dimensions, mirrored.
    fn batches(data: &Dataset, size: usize, drawn: u64) -> Batches {
        let orders = Orders::new(Order::Random, 0, data.shape);
        Batches::at(data, orders, BatchSettings { size, seed: 0, mirrored: true }, drawn)
    }

    fn digits() -> Dataset {
        data::load(&DataConfig::default(), 0).expect("embedded")
    }

    #[test]
    fn batches_are_permuted_and_some_mirrored() {
        let data = digits();
        let batch = batches(&data, 100, 0).next_batch().expect("in memory");
        let (mut indices, mut sample) = (Vec::new(), vec![0.0; 64]);
        Shuffle::new(data.train.len(), 0).next_batch(100, &mut indices);
        let order = Permutation::new(Order::Random, 0, 64);
        for (position, (&index, found)) in indices.iter().zip(batch.chunks_exact(64)).enumerate() {
            data.train.write_sample(index, &mut sample).expect("in memory");
            if is_mirrored(0, position as u64) {
                data.shape.mirror(&mut sample);
            }
            assert_eq!(found, order.to_model(&sample, 1), "{position}");
        }
    }

    #[test]
    fn the_thread_changes_nothing_and_goes_on_where_batches_were_taken() {
        let data = digits();
        let mut serial = batches(&data, 100, 0);
        let mut loader = Loader::start(batches(&data, 100, 0)).expect("a thread");
        // 20 batches of 100 run over the end of an epoch of 1527.
        for taken in 0..20 {
            if taken % 6 == 5 {
                // By now more is prepared than was taken.
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(loader.position(), 100 * taken);
                loader = Loader::start(batches(&data, 100, loader.position())).expect("a thread");
            }
            let (expected, found) = (serial.next_batch().expect("memory"), loader.next_batch().expect("memory"));
            assert!(expected == found, "batch {taken}");
            assert_eq!(loader.position(), serial.position());
        }
    }

    #[test]
    fn an_error_comes_when_its_batch_is_due_and_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let array = crate::files::arrays::HostTensor::new([40, 1, 2], (0..80).map(|v| v as f32).collect());
        crate::files::arrays::write_npy(&file, &array).expect("written");
        let spec = format!("npy:{}", file.display());
        let data = data::load(&DataConfig { spec, memory: 0, ..Default::default() }, 0).expect("fine");
        let start = || Loader::start(batches(&data, 4, 0));
        let mut loader = start().expect("a thread");
        loader.next_batch().expect("still there");
        let waiting = start().expect("a thread");
        std::fs::File::options().write(true).open(&file).expect("there").set_len(100).expect("cut");
        let error = (0..20).find_map(|_| loader.next_batch().err()).expect("most rows are gone");
        assert!(error.to_string().contains("x.npy") && error.exit_status() == 1, "{error}");
        assert!(loader.position() < 40);
        assert!(loader.next_batch().is_err(), "there is no more");
        drop(waiting);
    }
}
