// sample_langevin on hardware adapters: a workgroup owns one sample, and all of its threads know y. A step waits twice, for the
// first hidden layer and for the output; the normal numbers of the steps ahead are drawn side by side, one by each thread.

//#include langevin
// Two sets by turns: who is late still reads the one before.
var<workgroup> noises: array<f32, 2u * THREADS>;

// The network's output at one input. All threads must call it; all get it.
fn output_at(input: f32, level: f32, thread: u32) -> f32 {
    keep_unit(0u, 0u, thread, context_sum + level_weight * level + input_weight * input);
    workgroupBarrier();
    //#for i in 1..HIDDEN
    hidden_forward_{i}(1u, thread);
    workgroupBarrier();
    //#end
    let output = line_output(0u);
    if HIDDEN == 1u {
        // The next evaluation begins with what was just read.
        workgroupBarrier();
    }
    return output;
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_langevin_workgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    load_net(thread);
    let sample = group.x;
    let last = params.n_levels * params.steps;
    var d = params.first_evaluation / (last + 1u);
    var n = params.first_evaluation - d * (last + 1u);
    var level = min(n / params.steps, params.n_levels - 1u);
    var sigma = level_sigma(level);
    var y = state_word(chain_at(sample));
    for (var e = params.first_evaluation; e < params.end_evaluation; e++) {
        if n == 0u {
            if params.incremental == 1u {
                context_advance(d, sample, 1u, thread);
            }
            y = params.mean + sqrt(params.temperature * (params.sd * params.sd + sigma * sigma)) * normal(sample, d, 0u);
        }
        if n == 0u || e == params.first_evaluation {
            take_context(sample, thread);
        }
        let turn = n / THREADS % 2u * THREADS;
        if n % THREADS == 0u || e == params.first_evaluation {
            noises[turn + thread] = normal(sample, d, n - n % THREADS + thread + 1u);
        }
        let f = output_at(input_value(y, sigma, params.mean, params.sd), input_level(sigma), thread);
        let drift = sigma * sigma * (score_shift(y, sigma, params.mean, params.sd) + score_gain(sigma, params.sd) * f);
        if n < last {
            let spread = sqrt(params.step_size * params.temperature) * sigma;
            y += 0.5 * params.step_size * drift + spread * noises[turn + n % THREADS];
        } else {
            if thread == 0u {
                set_state(sample * params.state_words + d, snapped(y + drift));
            }
            storageBarrier();
            workgroupBarrier();
        }
        n++;
        if n > last {
            n = 0u;
            d++;
            level = 0u;
            sigma = level_sigma(0u);
        } else if n == (level + 1u) * params.steps && level + 1u < params.n_levels {
            level++;
            sigma = level_sigma(level);
        }
    }
    if thread == 0u {
        set_state(chain_at(sample), y);
    }
}
