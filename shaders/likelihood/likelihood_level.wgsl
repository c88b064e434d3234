// One level of the density that the multi-level sampler draws from, on a grid for every row (sample, dimension):
//
//   p_0(y) = p~_0(y) / integral of p~_0,      p~_l(y) = exp(integral of the score at sigma_l)      (trapezoid, from y_target)
//   p_l(y) = p~_l(y) integral of p_{l-1}(y') K(y', y) / Z(y') dy',   Z(y') = integral of p~_l(y) K(y', y) dy,
//   K(y', y) = exp(-(y' - y)^2 / (2 tau^2)),   tau^2 = sigma_{l-1}^2 - sigma_l^2
//
// Integrals are sums over grid points (each stands for one step), so every p_l has mass 1 by construction. Everything is kept
// as logarithms: tails do not underflow. A reading is log p_l at the row's own value, the mass by all points and by every
// second one, and the largest mass that may lie beyond the ends of a grid.
//
// A workgroup owns a row at a time and strides over them; its grid points fill the tiles of score_net, two a thread.

const TANGENT = 0u;
const KEEP = 0u;
const MOST_POINTS = 1024u;
const LOWEST = -1.0e30;

struct Params {
    n_rows: u32,
    used_rows: u32,
    first_row: u32,
    n_groups: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    n_net: u32,
    n_tables: u32,
    scratch_words: u32,
    density_words: u32,
    density_at: u32,
    above_at: u32,
    points: u32,
    points_above: u32,
    sigma: f32,
    low: f32,
    step: f32,
    low_above: f32,
    step_above: f32,
    half_precision: f32,
    mean: f32,
    sd: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> targets: array<f32>; // (n_rows)
@group(0) @binding(3) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(4) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(5) var<storage, read_write> densities: array<f32>; // (n_rows, density_words)
@group(0) @binding(6) var<storage, read_write> readings: array<vec4<f32>>; // (n_rows, 4)
@group(0) @binding(7) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)

// log p~_l, and behind it log p_{l-1} - log Z.
var<workgroup> logs: array<f32, 2048>;

//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include likelihood
// logs[p] = s(start + p step). Ends with a barrier.
fn evaluate_points(row: u32, base: u32, start: f32, local: vec2<u32>) {
    let line = 2u * (local.y * 8u + local.x);
    let layer = layers[0];
    for (var tile = local.y * 16u; tile < params.points; tile += TILE_LINES) {
        let point = tile + 2u * local.x;
        let y = start + vec2(f32(point), f32(point + 1u)) * params.step;
        for (var quad = 0u; quad < quads(layer.n_in); quad++) {
            let inputs = Pair(row_quad(row, quad, y.x, params.sigma), row_quad(row, quad, y.y, params.sigma));
            set_input(base, quad, line, inputs);
        }
        let f = score_gain(params.sigma, params.sd) * score_output(base, 0u, true, local.x, line);
        //#for p in 0..2
        if point + {p}u < params.points {
            logs[point + {p}u] = score_shift(y[{p}], params.sigma, params.mean, params.sd) + f[{p}];
        }
        //#end
    }
    workgroupBarrier();
}

// Scores to log p~, which is 0 at point `own`: what lies near it keeps its digits. Ends with a barrier.
fn integrate(own: u32, thread: u32) {
    let score = logs[own];
    workgroupBarrier();
    if thread == 0u {
        var energy = 0.0;
        var before = score;
        for (var p = own + 1u; p < params.points; p++) {
            energy += 0.5 * (before + logs[p]) * params.step;
            before = logs[p];
            logs[p] = energy;
        }
        pad(0u, params.points);
    }
    if thread == 1u {
        var energy = 0.0;
        var before = score;
        for (var p = own; p > 0u; p--) {
            energy -= 0.5 * (before + logs[p - 1u]) * params.step;
            before = logs[p - 1u];
            logs[p - 1u] = energy;
        }
        logs[own] = 0.0;
    }
    workgroupBarrier();
}

// Nothing beyond the last point, up to a whole number of four.
fn pad(first: u32, n_points: u32) {
    for (var p = n_points; p % 4u != 0u; p++) {
        logs[first + p] = LOWEST;
    }
}

// log sum over p < n_points of exp(logs[first + p] - half_precision (start + p step - y)^2).
fn log_sum_exp(first: u32, n_points: u32, start: f32, step: f32, y: f32, half_precision: f32) -> f32 {
    var top = LOWEST;
    for (var p = 0u; p < n_points; p += 4u) {
        //#for j in 0..4
        let offset{j} = start + f32(p + {j}u) * step - y;
        top = max(top, logs[first + p + {j}u] - half_precision * offset{j} * offset{j});
        //#end
    }
    var sum = 0.0;
    for (var p = 0u; p < n_points; p += 4u) {
        //#for j in 0..4
        let offset{j} = start + f32(p + {j}u) * step - y;
        sum += exp_above_zero(logs[first + p + {j}u] - half_precision * offset{j} * offset{j} - top);
        //#end
    }
    return top + log(sum);
}

// log p~ to log p, in `logs` and in `densities`. Ends with a barrier.
fn normalise(row: u32, y: f32, start: f32, thread: u32) {
    let words = row * params.density_words;
    if params.points_above == 0u {
        let total = log_sum_exp(0u, params.points, 0.0, 0.0, 0.0, 0.0) + log(params.step);
        workgroupBarrier();
        for (var p = thread; p < params.points; p += THREADS) {
            logs[p] -= total;
        }
    } else {
        let own_above = nearest_point(y, params.low_above, params.step_above, params.points_above);
        let start_above = y - f32(own_above) * params.step_above;
        for (var p = thread; p < params.points_above; p += THREADS) {
            let y_above = start_above + f32(p) * params.step_above;
            let log_z = log_sum_exp(0u, params.points, start, params.step, y_above, params.half_precision);
            logs[MOST_POINTS + p] = densities[words + params.above_at + p] - log_z;
        }
        if thread == 0u {
            pad(MOST_POINTS, params.points_above);
        }
        workgroupBarrier();
        for (var p = thread; p < params.points; p += THREADS) {
            let y_own = start + f32(p) * params.step;
            let arriving = log_sum_exp(
                MOST_POINTS, params.points_above, start_above, params.step_above, y_own, params.half_precision);
            logs[p] += arriving + log(params.step_above / params.step);
        }
    }
    for (var p = thread; p < params.points; p += THREADS) {
        densities[words + params.density_at + p] = logs[p];
    }
    storageBarrier();
    workgroupBarrier();
}

// Mass beyond an end of the grid, if the density goes on to fall as it does there; if it does not fall, as much as would
// fill another grid.
fn beyond(end: f32, inner: f32) -> f32 {
    let slope = max((inner - end) / params.step, 1.0 / (f32(params.points) * params.step));
    return exp(kept(end, min(end, 80.0))) / slope;
}

fn read_off(row: u32, own: u32) {
    var mass = 0.0;
    var mass_of_half = 0.0;
    for (var p = 0u; p < params.points; p++) {
        let share = exp(kept(logs[p], min(logs[p], 80.0))) * params.step;
        mass += share;
        mass_of_half += select(0.0, 2.0 * share, p % 2u == own % 2u);
    }
    let last = params.points - 1u;
    var cut = beyond(logs[0], logs[1]) + beyond(logs[last], logs[last - 1u]);
    if params.points_above > 0u {
        cut = max(cut, readings[row].w);
    }
    readings[row] = vec4(logs[own], mass, mass_of_half, cut);
}

@compute @workgroup_size(8, GROUP_ROWS)
fn likelihood_level(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    let base = group.x * (params.scratch_words / 4u);
    for (var row = group.x; row < params.used_rows; row += params.n_groups) {
        let y = targets[row];
        let own = nearest_point(y, params.low, params.step, params.points);
        let start = y - f32(own) * params.step;
        evaluate_points(params.first_row + row, base, start, local.xy);
        integrate(own, thread);
        normalise(row, y, start, thread);
        if thread == 0u {
            read_off(row, own);
        }
        workgroupBarrier();
    }
}
