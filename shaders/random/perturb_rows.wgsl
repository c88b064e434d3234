// One noisy row out of every row_stride: (sample * D + dimension, x~ = x + sigma eps, sigma, eps)
//
// sigma = sigma_min (sigma_max / sigma_min)^u is log-uniform, eps normal, each row its own; the row is chosen uniformly
// among its row_stride neighbours. A thread owns one row. Floats are stored as bits, beside the index.

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    row_stride: u32,
    seed_low: u32,
    seed_high: u32,
    first_sample: u32,
    step: u32,
    log_sigma_min: f32,
    log_sigma_range: f32,
    noise: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (batch, dimensions)
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>; // (n_rows, 4)

//#include philox
@compute @workgroup_size(64)
fn perturb_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.n_rows {
        return;
    }
    let seed = vec2(params.seed_low, params.seed_high);
    let first = index * params.row_stride;
    let neighbours = min(params.row_stride, params.batch * params.dimensions - first);
    // Counted over all samples, so that a part of a batch makes the choices of the whole.
    let number = params.first_sample * params.dimensions / params.row_stride + index;
    let row = first + random_bits(seed, STREAM_ROW_CHOICE, number, 0u, params.step).x % neighbours;
    let sample = row / params.dimensions;
    let dimension = row % params.dimensions;
    let bits = random_bits(seed, STREAM_ROW_NOISE, params.first_sample + sample, dimension, params.step);
    let sigma = params.noise * exp(params.log_sigma_min + params.log_sigma_range * uniform_from(bits.z));
    let eps = normal_pair(bits.x, bits.y).x;
    let pitch = (params.dimensions + 3u) / 4u * 4u;
    let x_tilde = x[sample * pitch + dimension] + sigma * eps;
    rows[index] = vec4(row, bitcast<u32>(x_tilde), bitcast<u32>(sigma), bitcast<u32>(eps));
}
