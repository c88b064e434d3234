// Draws dimensions first_dimension .. end_dimension of every sample by multi-level quadrature.
//
// Level 0: y from p_sigma0 by inverse CDF on 2 G points of [low - 4 sigma0, high + 4 sigma0], the log density being the
// integral of the score (trapezoid). Level l: y' from p_sigma_l(y') N(y; y', tau^2), tau^2 = sigma_{l-1}^2 - sigma_l^2,
// on G points of y +- 3.5 tau. Last: x = y + sigma_L^2 s(y, sigma_L). All points of a level are evaluated together. A
// temperature T takes each of these densities to the power 1/T.
//
// A workgroup owns SAMPLES samples, at most 8; their points fill the tiles of score_net, and each chain is followed by a
// thread of its own. What shared/given says of a dimension takes the place of draws. State stays in memory between
// dispatches, so the draw does not depend on how the dimensions are cut into dispatches.

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
    first_points: u32,
    points: u32,
    incremental: u32,
    context_at: u32,
    state_words: u32,
    n_groups: u32,
    scratch_words: u32,
    given_at: u32,
    particles: u32,
    n_net: u32,
    n_context_net: u32,
    n_tables: u32,
    mean: f32,
    sd: f32,
    low: f32,
    high: f32,
    temperature: f32,
    snap_low: f32,
    snap_high: f32,
    snap_width: f32,
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
//#include given
//#include grid
// Whether no sample needs the scores of a level, the one after the last being the step to x.
fn is_idle(first: u32, n_samples: u32, d: u32, level: u32) -> bool {
    for (var s = 0u; s < n_samples; s++) {
        let given = given_word(first + s, d, 0u);
        let is_weighed = (given & WEIGHED) != 0u && level < params.n_levels;
        if is_weighed || !is_given_at(given, level) {
            return false;
        }
    }
    return true;
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_multilevel(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first = group.x * SAMPLES;
    let n_samples = min(SAMPLES, params.n_samples - first);
    let thread = local.y * 8u + local.x;
    load_net(thread);
    let own = first + min(thread, n_samples - 1u);
    let at = (own - first) * MAX_POINTS;
    let base = group.x * (params.scratch_words / 4u);
    let seed = vec2(params.seed_low, params.seed_high);
    // What a temperature above 1 spreads must not be cut off.
    let widening = sqrt(max(params.temperature, 1.0));
    for (var d = params.first_dimension; d < params.end_dimension; d++) {
        if params.incremental == 1u {
            context_advance(d, first, n_samples, thread);
        }
        let given = given_word(own, d, 0u);
        let known = bitcast<f32>(given_word(own, d, 1u));
        var y = 0.0;
        // The context columns stay from the first evaluation on.
        var first_quad = 0u;
        // After the levels one more evaluation, at y itself.
        for (var level = 0u; level <= params.n_levels; level++) {
            let sigma = level_sigma(min(level, params.n_levels - 1u));
            let above = level_sigma(max(level, 1u) - 1u);
            var n_points = params.first_points;
            var start = params.low - 4.0 * widening * sigma;
            var span = params.high - params.low + 8.0 * widening * sigma;
            var inverse_variance = 0.0;
            if level == params.n_levels {
                n_points = 1u;
                start = y;
                span = 0.0;
            } else if level > 0u {
                let variance = above * above - sigma * sigma;
                n_points = params.points;
                span = 7.0 * widening * sqrt(variance);
                start = y - 0.5 * span;
                inverse_variance = 1.0 / variance;
            }
            let step = span / f32(max(n_points, 2u) - 1u);
            if thread < n_samples {
                starts[thread] = start;
            }
            workgroupBarrier();
            let n_busy = select(n_samples, 0u, is_idle(first, n_samples, d, level));
            evaluate_points(base, first, n_busy, step, n_points, sigma, first_quad, local.xy);
            first_quad = select(params.context_width / 4u, first_quad, n_busy == 0u);
            workgroupBarrier();
            if thread < n_samples {
                let is_given = is_given_at(given, level);
                if level == params.n_levels {
                    let x = snapped(y + sigma * sigma * points_of[at]);
                    set_state(own * params.state_words + d, select(x, known, is_given));
                } else {
                    let total = integrate(at, start, step, n_points, y, inverse_variance);
                    let bits = random_bits(seed, STREAM_MULTILEVEL, params.first_sample + own, d, level);
                    let centre = y;
                    y = invert(at, start, step, n_points, total, uniform_from(bits.x));
                    if is_given {
                        y = select(known, noised(known, own, d, level), (given & KNOWN) != 0u);
                    }
                    if is_given && (given & WEIGHED) != 0u {
                        weigh(at, start, step, n_points, y, centre, inverse_variance, total, own);
                    }
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
}
