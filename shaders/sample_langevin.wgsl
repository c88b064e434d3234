// Annealed Langevin dynamics, dimension after dimension (Meng et al. 2020; the schedule of Song and Ermon 2019):
//   y_0 = mean + sqrt(sd^2 + sigma_0^2) z,   y += e/2 sigma_i^2 s(y, sigma_i) + sqrt(e) sigma_i z   T times a level,
//   x = y + sigma_L^2 s(y, sigma_L)
//
// Runs the evaluations first_evaluation .. end_evaluation of the flat sequence (dimension, step); a dimension takes
// n_levels * T + 1 of them. A workgroup of 8 x 64 / ROWS threads owns 64 samples, the tile of score_net. State stays in memory
// between dispatches, so the draw does not depend on how the sequence is cut.

const TANGENT = 0u;

struct Params {
    n_samples: u32,
    dimensions: u32,
    context_width: u32,
    first_evaluation: u32,
    end_evaluation: u32,
    first_sample: u32,
    seed_low: u32,
    seed_high: u32,
    n_layers: u32,
    n_context_layers: u32,
    context_table: u32,
    sigma_table: u32,
    n_levels: u32,
    steps: u32,
    incremental: u32,
    context_at: u32,
    state_words: u32,
    n_groups: u32,
    scratch_words: u32,
    n_net: u32,
    n_context_net: u32,
    n_tables: u32,
    mean: f32,
    sd: f32,
    step_size: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(2) var<storage, read> context_net: array<vec4<f32>>; // (n_context_net)
@group(0) @binding(3) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // (n_samples, state_words)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)

//#include philox
//#include broadcast
//#include activation
//#include parametrisation
//#include score_net
//#include made_step
//#include image_step
//#include context_step
//#include sampler
fn normal(sample: u32, d: u32, n: u32) -> f32 {
    let seed = vec2(params.seed_low, params.seed_high);
    let bits = random_bits(seed, STREAM_LANGEVIN, params.first_sample + sample, d, n);
    return normal_pair(bits.x, bits.y).x;
}

// Where a sample keeps its y.
fn chain_at(sample: u32) -> u32 {
    return sample * params.state_words + params.context_at + 4u * quads(params.context_width);
}

@compute @workgroup_size(8, 64u / ROWS)
fn sample_langevin(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    let first = group.x * TILE_LINES;
    let n_rows = min(TILE_LINES, params.n_samples - first);
    let base = group.x * (params.scratch_words / 4u);
    let layer = score_layer(0u);
    let n_quads = quads(layer.n_in);
    let evaluations = params.n_levels * params.steps + 1u;
    for (var e = params.first_evaluation; e < params.end_evaluation; e++) {
        let d = e / evaluations;
        let n = e % evaluations;
        let sigma = level_sigma(min(n / params.steps, params.n_levels - 1u));
        if n == 0u && params.incremental == 1u {
            context_advance(d, first, n_rows, thread);
        }
        // The context columns stay from the evaluation before.
        let first_quad = select(params.context_width / 4u, 0u, n == 0u || e == params.first_evaluation);
        for (var row = thread; row < n_rows; row += THREADS) {
            let sample = first + row;
            if n == 0u {
                state[chain_at(sample)] =
                    params.mean + sqrt(params.sd * params.sd + sigma * sigma) * normal(sample, d, 0u);
            }
            for (var quad = first_quad; quad < n_quads; quad++) {
                scratch[base + layer.input + row * n_quads + quad] = point_quad(sample, quad, state[chain_at(sample)], sigma);
            }
        }
        storageBarrier();
        workgroupBarrier();
        score_hidden_layers(base, params.n_layers, local.xy, n_rows);
        for (var row = thread; row < n_rows; row += THREADS) {
            let sample = first + row;
            let y = state[chain_at(sample)];
            let drift = sigma * sigma * point_score(base, row, y, sigma);
            if n + 1u == evaluations {
                state[sample * params.state_words + d] = y + drift;
            } else {
                let noise = sqrt(params.step_size) * sigma * normal(sample, d, n + 1u);
                state[chain_at(sample)] = y + 0.5 * params.step_size * drift + noise;
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
