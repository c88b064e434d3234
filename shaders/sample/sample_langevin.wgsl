// Annealed Langevin dynamics, dimension after dimension (Meng et al. 2020; the schedule of Song and Ermon 2019):
//   y_0 = mean + sqrt(sd^2 + sigma_0^2) z,   y += e/2 sigma_i^2 s(y, sigma_i) + sqrt(e) sigma_i z   T times a level,
//   x = y + sigma_L^2 s(y, sigma_L)
// A temperature T gives both noises T times the variance: the law that small steps tend to is p^(1/T).
//
// Runs the evaluations first_evaluation .. end_evaluation of the flat sequence (dimension, step); a dimension takes
// n_levels * T + 1 of them. A workgroup owns group_samples samples, at most 64, LINES a thread: two are the lines of
// score_net's tile; of one, nothing is computed for the second line. y goes to memory between dispatches, so the draw does
// not depend on how the sequence is cut.

//#include langevin
// What step n of a sample's dimension d adds to y, given the drift sigma^2 s.
fn langevin_step(sample: u32, d: u32, n: u32, sigma: f32, drift: f32) -> f32 {
    let noise = sqrt(params.step_size * params.temperature) * sigma * normal(sample, d, n + 1u);
    return 0.5 * params.step_size * drift + noise;
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_langevin(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    load_net(thread);
    let first = group.x * params.group_samples;
    let n_samples = min(params.group_samples, params.n_samples - first);
    let base = group.x * (params.scratch_words / 4u);
    let last = params.n_levels * params.steps;
    let even = first + min(LINES * thread, n_samples - 1u);
    let odd = first + min(LINES * thread + 1u, n_samples - 1u);
    let has_even = LINES * thread < n_samples;
    let has_odd = LINES == 2u && 2u * thread + 1u < n_samples;
    var y = vec2(state_word(chain_at(even)), state_word(chain_at(odd)));
    for (var e = params.first_evaluation; e < params.end_evaluation; e++) {
        let d = e / (last + 1u);
        let n = e % (last + 1u);
        let sigma = level_sigma(min(n / params.steps, params.n_levels - 1u));
        if n == 0u {
            if params.incremental == 1u {
                context_advance(d, first, n_samples, thread);
            }
            let spread = sqrt(params.temperature * (params.sd * params.sd + sigma * sigma));
            y.x = params.mean + spread * normal(even, d, 0u);
            if LINES == 2u {
                y.y = params.mean + spread * normal(odd, d, 0u);
            }
        }
        if takes_part(local.y * 8u * LINES, n_samples) {
            // The context columns stay from the evaluation before.
            let first_quad = select(params.context_width / 4u, 0u, n == 0u || e == params.first_evaluation);
            let drift = sigma * sigma * point_scores(base, vec2(even, odd), y, sigma, first_quad, local.x, 2u * thread);
            if n < last {
                y.x += langevin_step(even, d, n, sigma, drift.x);
                if LINES == 2u {
                    y.y += langevin_step(odd, d, n, sigma, drift.y);
                }
            } else {
                if has_even {
                    set_state(even * params.state_words + d, snapped(y.x + drift.x));
                }
                if has_odd {
                    set_state(odd * params.state_words + d, snapped(y.y + drift.y));
                }
            }
        }
        if n == last {
            storageBarrier();
            workgroupBarrier();
        }
    }
    if has_even {
        set_state(chain_at(even), y.x);
    }
    if has_odd {
        set_state(chain_at(odd), y.y);
    }
}
