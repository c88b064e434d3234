// Draws dimensions first_dimension .. end_dimension of every sample down a ladder of noise levels: a value y from
// p_sigma_0 by inverse CDF on 2 G points of [low - 4 sigma_0, high + 4 sigma_0], then from level to level
//
//   probability flow (Song et al. 2021), dy/dsigma = -sigma s(y, sigma), a Heun step from sigma to sigma' (Karras et al. 2022):
//     y* = y + (sigma - sigma') sigma s(y, sigma),   y' = y + (sigma - sigma') / 2 (sigma s(y, sigma) + sigma' s(y*, sigma'))
//   ancestral (Ho et al. 2020; Song et al. 2021, eq. 47), from p(y' | y, x) at the denoised mean x = y + sigma^2 s(y, sigma):
//     y' = y + (sigma^2 - sigma'^2) s(y, sigma) + sigma' / sigma sqrt(sigma^2 - sigma'^2) z
//
// and at last x = y + sigma_L^2 s(y, sigma_L). A temperature T takes p_sigma_0 to the power 1/T and gives the noise T times
// the variance.
//
// A workgroup owns SAMPLES samples, at most 8; the points of the first level fill the tiles of score_net, then each sample
// is a line of one. State stays in memory between dispatches, so the draw does not depend on how the dimensions are cut
// into dispatches.

const TANGENT = 0u;
const KEEP = 0u;
const MAX_POINTS = 256u;

struct Params {
    n_samples: u32,
    dimensions: u32,
    context_width: u32,
    first_dimension: u32,
    end_dimension: u32,
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
    points: u32,
    low: f32,
    high: f32,
    ancestral: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(2) var<storage, read> context_net: array<vec4<f32>>; // (n_context_net)
@group(0) @binding(3) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(4) var<storage, read_write> state: array<vec4<f32>>; // (n_samples, state_words)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)

// Of every sample: scores of its points, then energies, then densities; and the place of its first point.
var<workgroup> points_of: array<f32, SAMPLES * MAX_POINTS>;
var<workgroup> starts: array<f32, SAMPLES>;

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
//#include grid
// Number n of a sample's dimension d: the start, then one a step.
fn bits_of(sample: u32, d: u32, n: u32) -> vec4<u32> {
    return random_bits(vec2(params.seed_low, params.seed_high), STREAM_FLOW, params.first_sample + sample, d, n);
}

// The normal number that the step down from a level adds, with its standard deviation.
fn ancestral_noise(sample: u32, d: u32, level: u32, sigma: f32, lower: f32) -> f32 {
    let bits = bits_of(sample, d, level + 1u);
    let spread = lower / sigma * sqrt(params.temperature * (sigma * sigma - lower * lower));
    return spread * normal_pair(bits.x, bits.y).x;
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_ode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first = group.x * SAMPLES;
    let n_samples = min(SAMPLES, params.n_samples - first);
    let thread = local.y * 8u + local.x;
    load_net(thread);
    let own = first + min(thread, n_samples - 1u);
    let at = (own - first) * MAX_POINTS;
    let base = group.x * (params.scratch_words / 4u);
    let top = level_sigma(0u);
    // What a temperature above 1 spreads must not be cut off.
    let margin = 4.0 * sqrt(max(params.temperature, 1.0)) * top;
    let start = params.low - margin;
    let n_points = 2u * params.points;
    let step = (params.high - params.low + 2.0 * margin) / f32(n_points - 1u);
    // A Heun step takes two evaluations, an ancestral one takes one; the denoising step takes the last.
    let per_step = 2u - params.ancestral;
    let n_evaluations = per_step * (params.n_levels - 1u) + 1u;
    for (var d = params.first_dimension; d < params.end_dimension; d++) {
        if params.incremental == 1u {
            context_advance(d, first, n_samples, thread);
        }
        if thread < n_samples {
            starts[thread] = start;
        }
        workgroupBarrier();
        evaluate_points(base, first, n_samples, step, n_points, top, 0u, local.xy);
        workgroupBarrier();
        var y = 0.0;
        if thread < n_samples {
            let total = integrate(at, start, step, n_points, 0.0, 0.0);
            y = invert(at, start, step, n_points, total, uniform_from(bits_of(own, d, 0u).x));
        }
        // Where the step before began, and sigma s there.
        var origin = y;
        var drift = 0.0;
        for (var n = 0u; n < n_evaluations; n++) {
            let level = n / per_step;
            let is_end = n % per_step == 1u;
            let sigma = level_sigma(level);
            let lower = level_sigma(min(level + 1u, params.n_levels - 1u));
            let here = select(sigma, lower, is_end);
            if thread < n_samples {
                starts[thread] = y;
            }
            workgroupBarrier();
            // The context columns stay from the first level's points.
            evaluate_points(base, first, n_samples, 0.0, 1u, here, params.context_width / 4u, local.xy);
            workgroupBarrier();
            if thread < n_samples {
                let s = points_of[at];
                if n + 1u == n_evaluations {
                    set_state(own * params.state_words + d, snapped(y + here * here * s));
                } else if params.ancestral == 1u {
                    y += (sigma * sigma - lower * lower) * s + ancestral_noise(own, d, level, sigma, lower);
                } else if is_end {
                    y = origin + 0.5 * (sigma - lower) * (drift + lower * s);
                } else {
                    origin = y;
                    drift = sigma * s;
                    y += (sigma - lower) * drift;
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
