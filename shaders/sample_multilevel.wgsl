// Draws dimensions first_dimension .. end_dimension of every sample by multi-level quadrature.
//
// Level 0: y from p_sigma0 by inverse CDF on 2 G points of [low - 4 sigma0, high + 4 sigma0], the log density being the
// integral of the score (trapezoid). Level l: y' from p_sigma_l(y') N(y; y', tau^2), tau^2 = sigma_{l-1}^2 - sigma_l^2,
// on G points of y +- 3.5 tau. Last: x = y + sigma_L^2 s(y, sigma_L). All points of a level are evaluated together.
//
// A workgroup of 8 x 64 / ROWS threads owns one sample; a tile of score_net is 64 points. State stays in memory between
// dispatches, so the draw does not depend on how the dimensions are cut into dispatches.

const TANGENT = 0u;

struct Params {
    n_samples: u32,
    dimensions: u32,
    context_width: u32,
    first_dimension: u32,
    end_dimension: u32,
    first_sample: u32,
    seed_low: u32,
    seed_high: u32,
    n_layers: u32,
    n_context_layers: u32,
    context_table: u32,
    sigma_table: u32,
    n_levels: u32,
    points: u32,
    incremental: u32,
    context_at: u32,
    state_words: u32,
    scratch_words: u32,
    n_net: u32,
    n_context_net: u32,
    n_tables: u32,
    mean: f32,
    sd: f32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(2) var<storage, read> context_net: array<vec4<f32>>; // (n_context_net)
@group(0) @binding(3) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // (n_samples, state_words)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_samples, scratch_words)

var<workgroup> scores: array<f32, 256>;
var<workgroup> density: array<f32, 256>;
var<workgroup> drawn: f32;
var<workgroup> highest: f32;

//#include philox
//#include broadcast
//#include activation
//#include parametrisation
//#include score_net
//#include made_step
//#include image_step
//#include context_step
//#include sampler
// scores[p] = s(start + p step, sigma) for p < n_points. Ends with a barrier.
fn evaluate_points(sample: u32, base: u32, start: f32, step: f32, n_points: u32, sigma: f32, local: vec2<u32>) {
    let thread = local.y * 8u + local.x;
    let layer = score_layer(0u);
    let n_quads = quads(layer.n_in);
    for (var first = 0u; first < n_points; first += TILE_LINES) {
        let n_rows = min(TILE_LINES, n_points - first);
        for (var item = thread; item < n_rows * n_quads; item += THREADS) {
            let y = start + f32(first + item / n_quads) * step;
            scratch[base + layer.input + item] = point_quad(sample, item % n_quads, y, sigma);
        }
        storageBarrier();
        workgroupBarrier();
        score_hidden_layers(base, params.n_layers, local, n_rows);
        for (var row = thread; row < n_rows; row += THREADS) {
            scores[first + row] = point_score(base, row, start + f32(first + row) * step, sigma);
        }
        storageBarrier();
        workgroupBarrier();
    }
}

// density[p] = exp(integral of the score - (point - centre)^2 inverse_variance / 2), scaled to a maximum of 1.
fn integrate(start: f32, step: f32, n_points: u32, centre: f32, inverse_variance: f32, thread: u32) {
    if thread == 0u {
        var energy = 0.0;
        var top = -3.0e38;
        for (var p = 0u; p < n_points; p++) {
            if p > 0u {
                energy += 0.5 * (scores[p - 1u] + scores[p]) * step;
            }
            let offset = start + f32(p) * step - centre;
            density[p] = energy - 0.5 * offset * offset * inverse_variance;
            top = max(top, density[p]);
        }
        highest = top;
    }
    workgroupBarrier();
    for (var p = thread; p < n_points; p += THREADS) {
        density[p] = exp(max(density[p] - highest, -87.0));
    }
    workgroupBarrier();
}

// Inverse CDF of the piecewise linear density, into `drawn`. Ends with a barrier.
fn invert(start: f32, step: f32, n_points: u32, u: f32, thread: u32) {
    if thread == 0u {
        var total = 0.0;
        for (var p = 0u; p + 1u < n_points; p++) {
            total += 0.5 * (density[p] + density[p + 1u]);
        }
        var rest = u * total;
        var cell = 0u;
        for (; cell + 2u < n_points; cell++) {
            let mass = 0.5 * (density[cell] + density[cell + 1u]);
            if rest < mass {
                break;
            }
            rest -= mass;
        }
        let left = density[cell];
        let root = sqrt(max(left * left + 2.0 * (density[cell + 1u] - left) * rest, 0.0));
        let t = clamp(2.0 * rest / max(left + root, 1e-30), 0.0, 1.0);
        drawn = start + (f32(cell) + t) * step;
    }
    workgroupBarrier();
}

@compute @workgroup_size(8, 64u / ROWS)
fn sample_multilevel(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let sample = group.x;
    let thread = local.y * 8u + local.x;
    let base = sample * (params.scratch_words / 4u);
    for (var d = params.first_dimension; d < params.end_dimension; d++) {
        if params.incremental == 1u {
            context_advance(d, sample, 1u, thread);
        }
        var y = 0.0;
        var above = 0.0;
        for (var level = 0u; level < params.n_levels; level++) {
            let sigma = level_sigma(level);
            var n_points = 2u * params.points;
            var start = params.low - 4.0 * sigma;
            var span = params.high - params.low + 8.0 * sigma;
            var inverse_variance = 0.0;
            if level > 0u {
                let variance = above * above - sigma * sigma;
                n_points = params.points;
                span = 7.0 * sqrt(variance);
                start = y - 0.5 * span;
                inverse_variance = 1.0 / variance;
            }
            let step = span / f32(n_points - 1u);
            evaluate_points(sample, base, start, step, n_points, sigma, local.xy);
            integrate(start, step, n_points, y, inverse_variance, thread);
            let seed = vec2(params.seed_low, params.seed_high);
            let bits = random_bits(seed, STREAM_MULTILEVEL, params.first_sample + sample, d, level);
            invert(start, step, n_points, uniform_from(bits.x), thread);
            y = drawn;
            above = sigma;
        }
        evaluate_points(sample, base, y, 0.0, 1u, above, local.xy);
        if thread == 0u {
            state[sample * params.state_words + d] = y + above * above * scores[0];
        }
        storageBarrier();
        workgroupBarrier();
    }
}
