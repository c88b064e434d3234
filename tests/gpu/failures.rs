//! What cannot work gives an error that names the cause: no panic, no stale numbers.

use arcsm::gpu::{Fault, GpuError, GpuOptions, Tensor};
use arcsm::kernels::{ColumnSum, CopyColumns};

use crate::{open, shared};

/// Every column added up in one chunk.
fn column_sum<'t>(rows: u32, columns: u32, values: &'t Tensor, sums: &'t Tensor) -> ColumnSum<'t> {
    ColumnSum { rows, columns, chunk_rows: rows, n_chunks: 1, values, sums }
}

#[test]
fn a_lost_device_is_an_error_everywhere() {
    let Some(gpu) = open(GpuOptions::default()) else { return };
    let values = gpu.upload("values", &[3, 5], &[1.5_f32; 15]).expect("memory");
    let sums = gpu.tensor("sums", &[1, 5]).expect("memory");
    let kernel = column_sum(3, 5, &values, &sums);
    let mut recorder = gpu.record("before");
    recorder.run(&kernel).expect("recorded");
    let submission = recorder.submit().expect("submitted");
    assert_eq!(gpu.read::<f32>(&sums).expect("read"), [4.5; 5]);
    let pending = gpu.begin_read(&[&sums]);
    gpu.destroy();
    let lost = |outcome: Result<(), GpuError>, what: &str| {
        let error = outcome.expect_err(what);
        assert!(matches!(error, GpuError::Lost { .. }), "{what}: {error}");
    };
    lost(gpu.finish_read::<f32>(pending).map(drop), "a read that was under way");
    lost(gpu.read::<f32>(&sums).map(drop), "reading");
    lost(gpu.wait(), "waiting");
    lost(gpu.wait_for(&submission), "waiting for a submission");
    lost(gpu.is_intact(&sums).map(drop), "looking at fences");
    let mut recorder = gpu.record("after");
    let recorded = recorder.run(&kernel);
    lost(recorded.and_then(|()| recorder.submit().map(drop)), "submitting");
    lost(gpu.write(&values, &[0.0_f32; 15]), "writing");
    lost(gpu.tensor("late", &[2]).map(drop), "allocating");
}

#[test]
fn a_dropped_submission_is_noticed() {
    let fault = Fault { kernel: "count_submission", from: "counter[0] += 1u", to: "counter[0] += 0u" };
    let Some(gpu) = open(GpuOptions { fault: Some(fault), ..GpuOptions::default() }) else { return };
    let tensor = gpu.upload("tensor", &[2], &[7_u32, 8]).expect("memory");
    assert_eq!(gpu.read::<u32>(&tensor).expect("nothing submitted yet"), [7, 8]);
    for _ in 0..2 {
        gpu.record("nothing").submit().expect("submitted");
    }
    let error = gpu.read::<u32>(&tensor).expect_err("two are missing");
    assert!(matches!(error, GpuError::Dropped { missing: 2, submitted: 2 }), "{error}");
}

#[test]
fn a_fault_whose_text_is_nowhere_is_not_planted() {
    let fault = Fault { kernel: "column_sum", from: "no such text", to: "" };
    let Some(gpu) = open(GpuOptions { fault: Some(fault), ..GpuOptions::default() }) else { return };
    let [values, sums] = ["values", "sums"].map(|label| gpu.tensor(label, &[1, 1]).expect("memory"));
    let values = values.reshaped(&[1, 1]);
    let mut recorder = gpu.record("fault");
    recorder.run(&column_sum(1, 1, &values, &sums)).expect("shapes fit");
    recorder.submit().expect("as if there were no fault");
    assert!(!gpu.fault_was_planted());
}

#[test]
fn too_large_a_tensor_is_refused_with_its_numbers() {
    let Some(gpu) = shared() else { return };
    let columns = usize::try_from(gpu.adapter().max_binding_bytes / 4 + 1).expect("64 bits");
    let error = gpu.tensor("huge", &[1, columns]).expect_err("larger than a binding").to_string();
    let bytes = columns.next_multiple_of(4) * 4;
    for expected in ["huge", &bytes.to_string(), &gpu.adapter().max_binding_bytes.to_string(), &gpu.adapter().name] {
        assert!(error.contains(expected), "`{error}` lacks {expected}");
    }
}

#[test]
fn a_wrong_shape_names_kernel_and_argument() {
    let Some(gpu) = shared() else { return };
    let values = gpu.tensor("values", &[3, 5]).expect("memory");
    let sums = gpu.tensor("sums", &[1, 6]).expect("memory");
    let mut recorder = gpu.record("shapes");
    let error = recorder.run(&column_sum(3, 5, &values, &sums)).expect_err("6 sums");
    assert_eq!(error.to_string(), "kernel column_sum: sums has shape [1, 6], expected [1, 5]");
}

#[test]
fn loops_and_grids_stop_at_the_limits() {
    let Some(gpu) = shared() else { return };
    let sums = gpu.tensor("sums", &[1, 1]).expect("memory");
    let ones = |rows: usize| gpu.upload("ones", &[rows, 1], &vec![1.0_f32; rows]).expect("memory");
    // llvmpipe ends all loops of an invocation after 65,535 iterations; up to our limit, every one must run.
    let mut recorder = gpu.record("loops");
    recorder.run(&column_sum(60_000, 1, &ones(60_000), &sums)).expect("recorded");
    recorder.submit().expect("submitted");
    assert_eq!(gpu.read::<f32>(&sums).expect("read"), [60_000.0]);
    let values = ones(70_000);
    let too_many = column_sum(70_000, 1, &values, &sums);
    let mut recorder = gpu.record("loops");
    let recorded = recorder.run(&too_many);
    if gpu.adapter().software {
        let error = recorded.expect_err("70,000 iterations").to_string();
        assert!(error.contains("column_sum") && error.contains("70000 loop iterations"), "{error}");
    } else {
        recorded.expect("hardware has no such limit");
        recorder.submit().expect("submitted");
        assert_eq!(gpu.read::<f32>(&sums).expect("read"), [70_000.0]);
    }

    let (source, destination) = (ones(65_536), ones(65_536));
    let tall = CopyColumns {
        rows: 65_536,
        columns: 1,
        source_columns: 1,
        source_at: 0,
        destination_columns: 1,
        destination_at: 0,
        source: &source,
        destination: &destination,
    };
    let error = gpu.record("grid").run(&tall).expect_err("65,536 workgroups").to_string();
    assert!(error.contains("copy_columns") && error.contains("[1, 65536, 1] workgroups"), "{error}");
}

#[test]
fn threads_that_read_at_once_do_not_disturb_each_other() {
    let Some(gpu) = shared() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                for round in 0..100 {
                    let value = (100 * thread + round) as f32;
                    let values = gpu.upload("values", &[900, 3], &[value; 2700]).expect("memory");
                    let sums = gpu.tensor("sums", &[1, 3]).expect("memory");
                    let mut recorder = gpu.record("thread");
                    let kernel = column_sum(900, 3, &values, &sums);
                    recorder.run(&kernel).expect("recorded");
                    recorder.submit().expect("submitted");
                    assert_eq!(gpu.read::<f32>(&sums).expect("read"), [900.0 * value; 3]);
                }
            });
        }
    });
}
