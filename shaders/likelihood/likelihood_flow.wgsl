// The probability-flow reading of a density, on a grid for every row (sample, dimension): each point is carried by
//
//   dy/dt = -sigma^2 s(y, sigma),   t = log sigma,   from sigma to sigma_top (Heun),   and
//   log p_sigma(y) = log p_top(y_top) - integral of sigma^2 ds/dy dt
//
// (the probability-flow ODE and change of variables of Song et al. 2021, in one dimension). log p_top comes from
// likelihood_level, on its grid, between whose points it is linear. A reading is (log p at the row's own value, where that value
// was carried to, 0, 0).
//
// A workgroup owns as many points of a row at a time as it has threads, each a pair of value and tangent (score_net).

const TANGENT = 1u;
const KEEP = 0u;

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
    n_steps: u32,
    sigma: f32,
    sigma_top: f32,
    low: f32,
    step: f32,
    low_above: f32,
    step_above: f32,
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

//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include likelihood
// sigma^2 (s, ds/dy) at y for this thread's point.
fn flow(row: u32, base: u32, y: f32, sigma: f32, local: vec2<u32>) -> vec2<f32> {
    let line = 2u * (local.y * 8u + local.x);
    let layer = layers[0];
    for (var quad = 0u; quad < quads(layer.n_in); quad++) {
        var tangent = vec4(0.0);
        //#for j in 0..4
        if 4u * quad + {j}u == params.context_width {
            tangent[{j}] = input_scale(sigma, params.sd);
        }
        //#end
        set_input(base, quad, line, Pair(row_quad(row, quad, y, sigma), tangent));
    }
    let f = score_output(base, 0u, true, local.x, line);
    let gain = score_gain(sigma, params.sd);
    let score = score_shift(y, sigma, params.mean, params.sd) + gain * f.x;
    return sigma * sigma * vec2(score, score_shift_slope(sigma, params.sd) + gain * f.y);
}

// log p_top, linear between the points of its grid and beyond its ends.
fn top_density(row: u32, y: f32, y_target: f32) -> f32 {
    let own = nearest_point(y_target, params.low_above, params.step_above, params.points_above);
    let place = (y - y_target) / params.step_above + f32(own);
    let cell = clamp(floor(place), 0.0, f32(params.points_above - 2u));
    let at = row * params.density_words + params.above_at + u32(cell);
    return mix(densities[at], densities[at + 1u], place - cell);
}

@compute @workgroup_size(8, GROUP_ROWS)
fn likelihood_flow(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    let base = group.x * (params.scratch_words / 4u);
    let n_tiles = (params.points + THREADS - 1u) / THREADS;
    let dt = log(params.sigma_top / params.sigma) / f32(params.n_steps);
    for (var item = group.x; item < params.used_rows * n_tiles; item += params.n_groups) {
        let row = item / n_tiles;
        let point = item % n_tiles * THREADS + thread;
        let own = nearest_point(targets[row], params.low, params.step, params.points);
        var y = targets[row] + (f32(point) - f32(own)) * params.step;
        var log_slope = 0.0;
        for (var step = 0u; step < params.n_steps; step++) {
            let sigma = params.sigma * exp(f32(step) * dt);
            let next_sigma = params.sigma * exp(f32(step + 1u) * dt);
            let here = flow(params.first_row + row, base, y, sigma, local.xy);
            let there = flow(params.first_row + row, base, y - dt * here.x, next_sigma, local.xy);
            y -= 0.5 * dt * (here.x + there.x);
            log_slope -= 0.5 * dt * (here.y + there.y);
        }
        if point < params.points {
            let density = top_density(row, y, targets[row]) + log_slope;
            densities[row * params.density_words + params.density_at + point] = density;
            if point == own {
                readings[row] = vec4(density, y, 0.0, 0.0);
            }
        }
    }
}
