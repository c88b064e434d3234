// Metropolis-adjusted Langevin (Roberts and Tweedie 1996), annealed over noise levels, dimension after dimension:
//   y_0 = mean + sqrt(sd^2 + sigma_0^2) z,
//   y' = y + e/2 sigma_i^2 s(y, sigma_i) + sqrt(e) sigma_i z,   accepted with probability
//   min(1, exp(integral of s(., sigma_i) from y to y') q(y | y') / q(y' | y))   T times a level,
//   x = y + sigma_L^2 s(y, sigma_L)
// In one dimension the score determines the energy: its integral is taken by the rule of Gauss and Lobatto with five
// nodes, exact for polynomials of degree 7. Where it ends one noise level away, which is the scale on which p_sigma changes, it
// is right to 1e-4, two away to 1e-3, three away (rare) to 1e-2 on average. A temperature T makes p^(1/T) the law of each
// level.
//
// Runs the rounds first_evaluation .. end_evaluation of the flat sequence (dimension, round); a dimension takes
// n_levels * (T + 1) of them: at each level one at y, then one a step. A workgroup owns group_samples samples, at most
// TILE_LINES / 4: each has four lines of score_net's tile, for the nodes after y. State stays in memory between dispatches,
// so the draw does not depend on how the sequence is cut.

const TANGENT = 0u;
const KEEP = 0u;

struct Params {
    n_samples: u32,
    dimensions: u32,
    context_width: u32,
    first_evaluation: u32,
    end_evaluation: u32,
    first_sample: u32,
    seed_low: u32,
    seed_high: u32,
    n_context_layers: u32,
    context_table: u32,
    sigma_table: u32,
    n_levels: u32,
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
    temperature: f32,
    snap_low: f32,
    snap_high: f32,
    snap_width: f32,
    group_samples: u32,
    steps: u32,
    step_size: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(2) var<storage, read> context_net: array<vec4<f32>>; // (n_context_net)
@group(0) @binding(3) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(4) var<storage, read_write> state: array<vec4<f32>>; // (n_samples, state_words)
@group(0) @binding(5) var<storage, read_write> accepted: array<u32>; // (n_samples, n_levels)
@group(0) @binding(6) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)

// Of every line.
var<workgroup> scores: array<f32, TILE_LINES>;

//#include philox
//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include quotient
//#include state
//#include made_step
//#include image_step
//#include context_step
//#include sampler
// A standard normal and a uniform number.
fn numbers(sample: u32, d: u32, n: u32) -> vec2<f32> {
    let seed = vec2(params.seed_low, params.seed_high);
    let bits = random_bits(seed, STREAM_MALA, params.first_sample + sample, d, n);
    return vec2(normal_pair(bits.x, bits.y).x, uniform_from(bits.z));
}

// Where a sample keeps its y, and after it s(y).
fn chain_at(sample: u32) -> u32 {
    return sample * params.state_words + params.context_at + 4u * quads(params.context_width);
}

// How far along a proposal two nodes of a sample lie: of its first thread, or of its second.
fn nodes(is_second: bool) -> vec2<f32> {
    return select(vec2(0.1726731646460114, 0.5), vec2(0.8273268353539886, 1.0), is_second);
}

// The integral of the score along a proposal, from the score where it begins and those at the nodes.
fn energy_gain(jump: f32, s: f32, line: u32) -> f32 {
    let ends = 0.1 * (s + scores[line + 3u]);
    return 0.5 * jump * (ends + 49.0 / 90.0 * (scores[line] + scores[line + 2u]) + 32.0 / 45.0 * scores[line + 1u]);
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_mala(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    load_net(thread);
    let line = 2u * thread;
    let first = group.x * params.group_samples;
    let n_samples = min(params.group_samples, params.n_samples - first);
    let base = group.x * (params.scratch_words / 4u);
    let rounds = params.n_levels * (params.steps + 1u);
    let own = first + min(thread / 2u, n_samples - 1u);
    let at = chain_at(own);
    let is_owner = thread % 2u == 0u && thread / 2u < n_samples;
    for (var e = params.first_evaluation; e < params.end_evaluation; e++) {
        let d = e / rounds;
        let n = e % rounds;
        let level = n / (params.steps + 1u);
        let is_step = n % (params.steps + 1u) > 0u;
        let sigma = level_sigma(level);
        if n == 0u {
            if params.incremental == 1u {
                context_advance(d, first, n_samples, thread);
            }
            if is_owner {
                let spread = sqrt(params.temperature * (params.sd * params.sd + sigma * sigma));
                set_state(at, params.mean + spread * numbers(own, d, 0u).x);
            }
            storageBarrier();
            workgroupBarrier();
        }
        let y = state_word(at);
        let s = state_word(at + 1u);
        let random = numbers(own, d, n + 1u);
        let half = 0.5 * params.step_size * sigma * sigma;
        let spread = sqrt(params.step_size * params.temperature) * sigma;
        let jump = select(0.0, half * s + spread * random.x, is_step);
        if takes_part(local.y * 16u, 4u * n_samples) {
            let places = vec2(y) + jump * nodes(thread % 2u == 1u);
            // The context columns stay from the round before.
            let first_quad = select(params.context_width / 4u, 0u, n == 0u || e == params.first_evaluation);
            let found = point_scores(base, vec2(own), places, sigma, first_quad, local.x, line);
            if line < TILE_LINES {
                scores[line] = found.x;
                scores[line + 1u] = found.y;
            }
        }
        workgroupBarrier();
        if is_owner && !is_step {
            set_state(at + 1u, scores[line + 3u]);
        } else if is_owner {
            var x = vec2(y, s);
            let proposed = scores[line + 3u];
            let back = (jump + half * proposed) / spread;
            let gain = energy_gain(jump, s, line) / params.temperature + 0.5 * (random.x * random.x - back * back);
            if log(random.y) < gain {
                x = vec2(y + jump, proposed);
                accepted[own * 4u * quads(params.n_levels) + level]++;
            } else if is_nan(gain) {
                x = vec2(gain);
            }
            set_state(at, x.x);
            set_state(at + 1u, x.y);
            if n + 1u == rounds {
                set_state(own * params.state_words + d, snapped(x.x + sigma * sigma * x.y));
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
