// result = (s, ds/dx~, log q, 0) of a mixture head, for every row (sample and dimension, x~, sigma, eps)
//
// log q is the log density at x~ of the conditional under noise sigma, or the log probability of x's bin. Score and slope
// are always those of the density. A thread owns one row.

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    components: u32,
    n_logits: u32,
    first_mean: f32,
    mean_step: f32,
    mean_unit: f32,
    scale_unit: f32,
    bin_low: f32,
    bin_high: f32,
    bin_width: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // (n_rows, 4)
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>; // (n_rows, 4)

//#include activation
//#include mixture
//#include mixture_rows
@compute @workgroup_size(64)
fn mixture_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.n_rows {
        return;
    }
    let row = rows[index];
    let at = context_at(row.x);
    let x = bitcast<f32>(row.y);
    let sigma = bitcast<f32>(row.z);
    let density = score_and_total(at, x, sigma);
    let slope = score_slope(at, x, sigma, density.x, density.y);
    let totals = log_totals(at, x, sigma);
    result[index] = vec4(density.x, slope, totals.x - totals.y, 0.0);
}
