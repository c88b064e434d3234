//! The samplers that go from level to level: Langevin dynamics, plain and adjusted, and the flow.

use crate::ask::sample::{GRID_LINES, MALA_LINES, lines_of_thread};
use crate::gpu::{Gpu, GpuError, Kernel, Tensor};
use crate::kernels::{SampleLangevin, SampleMala, SampleOde};
use crate::nn::net::StepTile;
use crate::reference::sampler::{
    Flow, Langevin, MultiLevel, flow as flow_twin, langevin as langevin_twin, mala as mala_twin,
};

use super::{Cut, FIRST_SAMPLE, MULTILEVEL_TOLERANCE, RANGE, SEED, SHAPES, SIGMAS, Setup, quadrature};
use crate::doctor::model::{MEAN, SD, Shape};
use crate::doctor::trial::Trial;
use crate::doctor::{Check, Failure, fault};

pub(in crate::doctor) const LANGEVIN: Check = Check {
    kernel: SampleLangevin::SPEC,
    run: langevin,
    faults: &[
        fault("sample_langevin", "min(n / params.steps, params.n_levels - 1u)", "n / (params.steps + 1u)"),
        fault("sample_langevin", "sqrt(params.step_size * params.temperature)", "sqrt(params.step_size)"),
        fault("sample_langevin", "sqrt(params.temperature * (", "sqrt(("),
        fault("sample_langevin", "min(LINES * thread, n_samples - 1u)", "min(2u * thread, n_samples - 1u)"),
        fault("sample_langevin", "snapped(y.x + drift.x)", "y.x + drift.x"),
        fault("sample_langevin", "set_state(chain_at(even), y.x);", ""),
        fault("sample_langevin", "n == 0u || e == params.first_evaluation", "n == 0u && e != params.first_evaluation"),
        fault("sample_langevin", "params.first_sample + sample, d, n", "sample, d, n"),
        // Of the variant for hardware.
        fault("sample_langevin_workgroup", "n - n % THREADS + thread + 1u", "n + thread + 1u"),
        fault("sample_langevin_workgroup", "level + 1u < params.n_levels", "level + 2u < params.n_levels"),
        fault("sample_langevin_workgroup", "snapped(y + drift)", "y + drift"),
        fault("sample_langevin_workgroup", "set_state(chain_at(sample), y);", ""),
        // Of the image networks.
        fault("sample_langevin", "min(j + ahead + 1u", "min(j + 1u"),
        fault("sample_langevin", "tables[t + 12u] << up", "tables[t + 12u]"),
        fault("sample_langevin", "i32(i * conv.stride)", "i32(i)"),
        fault("sample_langevin", "state_word(base + word_of(skip, due.i, at)) + phi", "phi"),
        fault("sample_langevin", "phi(GATE, z)", "z"),
        fault("sample_langevin", "quotient(run, due.n_columns) * SAMPLES", "0u"),
    ],
};

pub(in crate::doctor) const ODE: Check = Check {
    kernel: SampleOde::SPEC,
    run: ode,
    faults: &[
        fault("sample_ode", "drift + lower * s", "drift + sigma * s"),
        fault("sample_ode", "lower / sigma * sqrt", "sqrt"),
        fault("sample_ode", "bits_of(sample, d, level + 1u)", "bits_of(sample, d, level)"),
        fault("sample_ode", "params.temperature * (sigma", "(sigma"),
        fault("sample_ode", "params.first_sample + sample, d, n", "sample, d, n"),
        fault("sample_ode", "inverse_variance) / params.temperature", "inverse_variance)"),
        fault("sample_ode", "snapped(y + here * here * s)", "y + here * here * s"),
        fault("sample_ode", "params.incremental == 1u", "true"),
        fault("sample_ode", "n_points, top, 0u, local", "n_points, top, 1u, local"),
    ],
};

pub(in crate::doctor) const MALA: Check = Check {
    kernel: SampleMala::SPEC,
    run: mala,
    faults: &[
        fault("sample_mala", "log(random.y) < gain", "true"),
        fault("sample_mala", "- back * back", ""),
        fault("sample_mala", "0.1 * (s + ", "0.2 * ("),
        fault("sample_mala", "49.0 / 90.0 * (", "1.0 * ("),
        fault("sample_mala", "line) / params.temperature", "line)"),
        fault("sample_mala", "params.first_sample + sample, d, n", "sample, d, n"),
        fault("sample_mala", "set_state(at + 1u, x.y)", "set_state(at + 1u, s)"),
        fault("sample_mala", "+ level]++", "]++"),
        fault("sample_mala", "snapped(x.x + sigma", "(x.x + sigma"),
    ],
};

/// A step moves y by at most a few units of sigma and contracts errors; log and cos of the normal numbers have 1e-5.
const LANGEVIN_TOLERANCE: f64 = 2e-4;

fn langevin(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let lines = gpu.variant(SampleLangevin::SPEC).tile[0] as usize;
    // The third has nearly as many loop iterations as a dispatch may have: the declared bound must be true.
    for (shape, steps, n_samples) in
        [(SHAPES[0], 4, 67), (SHAPES[1], 3, 1), (SHAPES[1], 110, 2), (SHAPES[2], 1, 11), (SHAPES[3], 1, 2)]
    {
        let setup = Setup::special(&mut trial, &shape, steps == 3, n_samples == 11)?;
        let settings = chain(&setup, steps, 0.25);
        let draw = |score: &dyn Fn(f64, f64) -> f64, sample, d| {
            Some(langevin_twin(score, &settings, &settings.normals(SEED, sample, d)))
        };
        let evaluations = SIGMAS.len() * steps + 1;
        let end = shape.dimensions() * evaluations;
        let (whole, cut) = (setup.state(gpu, n_samples)?, setup.state(gpu, n_samples)?);
        run_langevin(&trial, &setup, &shape, &settings, true, &whole, Cut { samples: lines, ends: &[0, end] })?;
        setup.expect(&mut trial, &whole, LANGEVIN_TOLERANCE, &draw)?;
        let otherwise = Cut { samples: 5, ends: &[0, 1, 12, 13, 31, end] };
        run_langevin(&trial, &setup, &shape, &settings, true, &cut, otherwise)?;
        setup.expect_same(&trial, &whole, &cut)?;
        setup.expect_of_given_context(&mut trial, LANGEVIN_TOLERANCE, &draw, |trial, state, d| {
            let one = Cut { samples: 1, ends: &[d * evaluations, (d + 1) * evaluations] };
            run_langevin(trial, &setup, &shape, &settings, false, state, one)
        })?;
    }
    trial.verdict()
}

fn chain(setup: &Setup, steps: usize, step_size: f64) -> Langevin {
    let [mean, sd, temperature] = [MEAN, SD, setup.temperature].map(f64::from);
    Langevin { sigmas: SIGMAS.to_vec(), steps, step_size, mean, sd, temperature }
}

fn run_langevin(
    trial: &Trial<'_>,
    setup: &Setup,
    shape: &Shape,
    settings: &Langevin,
    incremental: bool,
    state: &Tensor,
    cut: Cut<'_>,
) -> Result<(), GpuError> {
    let variant = setup.variant(trial.gpu, SampleLangevin::SPEC);
    let cut = cut.on(trial.gpu, variant, 1);
    let scratch = setup.scratch(trial, state, cut)?;
    let group = [cut.samples, cut.samples.next_power_of_two().min(8)];
    for range in cut.ends.windows(2) {
        trial.run(&score_sampler!(
            trial,
            setup,
            shape,
            incremental,
            state,
            &scratch,
            group,
            SampleLangevin {
                first_evaluation: range[0] as u32,
                end_evaluation: range[1] as u32,
                lines: lines_of_thread(cut.samples, variant.tile[0] as usize),
                group_samples: cut.samples as u32,
                steps: settings.steps as u32,
                step_size: settings.step_size as f32,
            }
        ))?;
    }
    Ok(())
}

fn ode(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let cases = [
        (SHAPES[0], 40, false, 3, 2),
        (SHAPES[0], 24, true, 19, 8),
        (SHAPES[1], 128, true, 2, 1),
        (SHAPES[2], 24, false, 3, 2),
        (SHAPES[3], 24, true, 9, 8),
    ];
    for (shape, points, ancestral, n_samples, samples) in cases {
        let end = shape.dimensions();
        let setup = Setup::special(&mut trial, &shape, n_samples <= 3, n_samples == 9)?;
        let MultiLevel { sigmas, points, low, high, temperature, .. } = quadrature(&setup, points);
        let settings = Flow { sigmas, points, low, high, ancestral, temperature };
        let draw = |score: &dyn Fn(f64, f64) -> f64, sample, d| {
            let (u, normals) = settings.numbers(SEED, sample, d);
            Some(flow_twin(score, &settings, u, &normals))
        };
        let (whole, cut) = (setup.state(gpu, n_samples)?, setup.state(gpu, n_samples)?);
        let middle = end.div_ceil(2);
        run_ode(&trial, &setup, &shape, &settings, true, &whole, Cut { samples, ends: &[0, middle, end] })?;
        setup.expect(&mut trial, &whole, MULTILEVEL_TOLERANCE, &draw)?;
        let otherwise = Cut { samples: 4, ends: &[0, 1, middle + 1, end] };
        run_ode(&trial, &setup, &shape, &settings, true, &cut, otherwise)?;
        setup.expect_same(&trial, &whole, &cut)?;
        setup.expect_of_given_context(&mut trial, MULTILEVEL_TOLERANCE, &draw, |trial, state, d| {
            run_ode(trial, &setup, &shape, &settings, false, state, Cut { samples: 1, ends: &[d, d + 1] })
        })?;
    }
    trial.verdict()
}

fn run_ode(
    trial: &Trial<'_>,
    setup: &Setup,
    shape: &Shape,
    settings: &Flow,
    incremental: bool,
    state: &Tensor,
    cut: Cut<'_>,
) -> Result<(), GpuError> {
    let cut = cut.on(trial.gpu, setup.variant(trial.gpu, SampleOde::SPEC), GRID_LINES);
    let scratch = setup.scratch(trial, state, cut)?;
    for range in cut.ends.windows(2) {
        trial.run(&score_sampler!(
            trial,
            setup,
            shape,
            incremental,
            state,
            &scratch,
            [cut.samples; 2],
            SampleOde {
                first_dimension: range[0] as u32,
                end_dimension: range[1] as u32,
                points: settings.points as u32,
                low: RANGE[0],
                high: RANGE[1],
                ancestral: u32::from(settings.ancestral),
            }
        ))?;
    }
    Ok(())
}

/// A decision that is nearer than this may fall otherwise in f32, by the errors of the energies.
const LEAST_MARGIN: f64 = 1e-3;

fn mala(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let most = gpu.variant(SampleMala::SPEC).tile[0] as usize / MALA_LINES;
    for (shape, steps, n_samples) in [(SHAPES[0], 4, 19), (SHAPES[1], 3, 1), (SHAPES[2], 2, 5), (SHAPES[3], 1, 2)] {
        let setup = Setup::special(&mut trial, &shape, n_samples != 5, n_samples == 5)?;
        // Steps so large that many proposals are refused.
        let settings = chain(&setup, steps, 2.0);
        let draw = |score: &dyn Fn(f64, f64) -> f64, sample, d| {
            let draw = mala_twin(score, &settings, &settings.pairs(SEED, sample, d));
            (draw.margin > LEAST_MARGIN).then_some(draw.x)
        };
        let rounds = SIGMAS.len() * (steps + 1);
        let end = shape.dimensions() * rounds;
        let (whole, cut) = (setup.state(gpu, n_samples)?, setup.state(gpu, n_samples)?);
        let halves = Cut { samples: most, ends: &[0, end / 2, end] };
        let accepted = run_mala(&trial, &setup, &shape, &settings, true, &whole, halves)?;
        setup.expect(&mut trial, &whole, LANGEVIN_TOLERANCE, &draw)?;
        expect_accepted(&mut trial, &setup, &settings, &whole, &accepted)?;
        let otherwise = Cut { samples: 3, ends: &[0, 1, 5, 6, end / 2 + 1, end] };
        run_mala(&trial, &setup, &shape, &settings, true, &cut, otherwise)?;
        setup.expect_same(&trial, &whole, &cut)?;
        setup.expect_of_given_context(&mut trial, LANGEVIN_TOLERANCE, &draw, |trial, state, d| {
            let one = Cut { samples: 1, ends: &[d * rounds, (d + 1) * rounds] };
            run_mala(trial, &setup, &shape, &settings, false, state, one).map(drop)
        })?;
    }
    trial.verdict()
}

/// Accepted proposals of the samples of which no decision was close.
fn expect_accepted(
    trial: &mut Trial<'_>,
    setup: &Setup,
    settings: &Langevin,
    state: &Tensor,
    accepted: &Tensor,
) -> Result<(), Failure> {
    trial.expect_intact(accepted)?;
    let got: Vec<u32> = trial.gpu.read(accepted)?;
    let net = &setup.random.twin.context;
    let samples = setup.drawn(trial.gpu, state)?;
    for (sample, x) in samples.chunks_exact(net.dimensions()).enumerate() {
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let (mut want, mut margin) = (vec![0; SIGMAS.len()], f64::INFINITY);
        for (d, context) in net.contexts(&x).chunks_exact(net.width()).enumerate() {
            let pairs = settings.pairs(SEED, FIRST_SAMPLE + sample as u32, d as u32);
            let draw = mala_twin(setup.score(context.to_vec()), settings, &pairs);
            want.iter_mut().zip(draw.accepted).for_each(|(sum, count)| *sum += count);
            margin = margin.min(draw.margin);
        }
        let got = &got[sample * SIGMAS.len()..][..SIGMAS.len()];
        if margin > LEAST_MARGIN && got != want {
            return Err(Failure::Broken(format!("accepted of sample {sample}: {got:?}, expected {want:?}")));
        }
    }
    Ok(())
}

/// Gives how many proposals were accepted, (n, L).
fn run_mala(
    trial: &Trial<'_>,
    setup: &Setup,
    shape: &Shape,
    settings: &Langevin,
    incremental: bool,
    state: &Tensor,
    cut: Cut<'_>,
) -> Result<Tensor, GpuError> {
    let cut = cut.on(trial.gpu, setup.variant(trial.gpu, SampleMala::SPEC), MALA_LINES);
    let scratch = setup.scratch(trial, state, cut)?;
    let accepted =
        trial.gpu.upload("accepted", &[state.shape()[0], SIGMAS.len()], &vec![0u32; state.shape()[0] * 3])?;
    let group = [cut.samples, cut.samples.next_power_of_two().min(8)];
    for range in cut.ends.windows(2) {
        trial.run(&score_sampler!(
            trial,
            setup,
            shape,
            incremental,
            state,
            &scratch,
            group,
            SampleMala {
                first_evaluation: range[0] as u32,
                end_evaluation: range[1] as u32,
                group_samples: cut.samples as u32,
                steps: settings.steps as u32,
                step_size: settings.step_size as f32,
                accepted: &accepted,
            }
        ))?;
    }
    Ok(accepted)
}
