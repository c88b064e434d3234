// Loss of a mixture head, and its gradient by the parameters, which are the context: J averaged over the batch.
//
// With f_i = log q_i and its derivatives g_i, h_i, k_i by x, responsibilities r_i, and t_i the scales under noise:
//   s = sum r g,   s' = ds/dx = sum r (h + (g - s)^2)
//   adjoints of a_i = logit_i + f_i, g_i and h_i from those of log q, s and s', written q^, s^, s'^:
//   A = r (q^ + s^ (g - s) + s'^ (h + (g - s)^2 - s')),   G = r (s^ + 2 s'^ (g - s)),   H = r s'^
//   dlogit = A - q^ weight,   dm = -(A g + G h + H k)
//   dlog t = -A (1 + u g) - G (g + u h) - H (2 h + u k),  u = x - m
// A thread strides over the rows; a workgroup leaves the loss of its own in partials (sum_partials adds them up in order).

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    row_stride: u32,
    n_groups: u32,
    components: u32,
    n_logits: u32,
    first_mean: f32,
    mean_step: f32,
    mean_unit: f32,
    scale_unit: f32,
    bin_low: f32,
    bin_high: f32,
    bin_width: f32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // (n_rows, 4)
@group(0) @binding(3) var<storage, read_write> dcontext: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(4) var<storage, read_write> partials: array<vec4<f32>>; // (n_groups, 4)

var<workgroup> losses: array<f32, 64>;

//#include activation
//#include mixture
//#include mixture_rows
// Of score matching: (loss, dloss/ds, dloss/ds') of one row.
fn objective(score: f32, slope: f32, row: vec4<u32>) -> vec3<f32> {
    let x = bitcast<f32>(row.y);
    let sigma = bitcast<f32>(row.z);
    switch OBJECTIVE {
        case 0u: {
            let lambda = sigma * sigma;
            return lambda * vec3(0.5 * score * score + slope, score, 1.0);
        }
        case 1u: {
            let residual = sigma * score + bitcast<f32>(row.w);
            return vec3(0.5 * residual * residual, sigma * residual, 0.0);
        }
        case 2u: {
            return vec3(0.5 * score * score + slope, score, 1.0);
        }
        default: {
            // h = distance to the nearer end of the support, so that the boundary terms vanish.
            let centre = 0.5 * (params.low + params.high);
            let h = 0.5 * (params.high - params.low) - abs(x - centre);
            let h_slope = -sign(x - centre);
            return vec3(h * (0.5 * score * score + slope) + h_slope * score, h * score + h_slope, h);
        }
    }
}

fn write_gradient(to: u32, index: u32, c: Component, dlogit: f32, dmean: f32, dlog_scale: f32) {
    if params.n_logits > 0u {
        dcontext[to + index] = dlogit;
    }
    dcontext[to + params.n_logits + index] = params.mean_unit * dmean;
    dcontext[to + params.n_logits + params.components + index] = c.gain * dlog_scale;
}

// -log q of a row, and its gradient.
fn likelihood_row(at: u32, x: f32, sigma: f32, weight: f32) -> f32 {
    let totals = log_totals(at, x, sigma);
    for (var i = 0u; i < params.components; i++) {
        let c = component(at, i, sigma);
        let prior = exp_above_zero(c.logit - totals.y);
        let share = exp_above_zero(joint(c, x) - totals.x);
        var by_mean = 0.0;
        var by_log_scale = 0.0;
        if params.bin_width > 0.0 {
            let mass = component_mass(c, x);
            by_mean = mass.y;
            by_log_scale = mass.z;
        } else {
            let f = component_density(c, x);
            by_mean = -f.y;
            by_log_scale = -1.0 - (x - c.mean) * f.y;
        }
        write_gradient(at, i, c, weight * (prior - share), -weight * share * by_mean, -weight * share * by_log_scale);
    }
    return weight * (totals.y - totals.x);
}

// The loss of score matching, and its gradient.
fn score_row(at: u32, row: vec4<u32>, weight: f32) -> f32 {
    let x = bitcast<f32>(row.y);
    let sigma = bitcast<f32>(row.z);
    let density = score_and_total(at, x, sigma);
    let score = density.x;
    let slope = score_slope(at, x, sigma, score, density.y);
    let terms = weight * objective(score, slope, row);
    for (var i = 0u; i < params.components; i++) {
        let c = component(at, i, sigma);
        let f = component_density(c, x);
        let share = exp_above_zero(c.logit + f.x - density.y);
        let ahead = f.y - score;
        let by_joint = share * (terms.y * ahead + terms.z * (f.z + ahead * ahead - slope));
        let by_first = share * (terms.y + 2.0 * terms.z * ahead);
        let by_second = share * terms.z;
        let u = x - c.mean;
        let dmean = -(by_joint * f.y + by_first * f.z + by_second * f.w);
        let dlog_scale = -by_joint * (1.0 + u * f.y) - by_first * (f.y + u * f.z) - by_second * (2.0 * f.z + u * f.w);
        write_gradient(at, i, c, by_joint, dmean, dlog_scale);
    }
    return terms.x;
}

// Rows of a group of row_stride share one that was chosen, which stands for all of them.
fn row_weight(index: u32) -> f32 {
    let n_all = params.batch * params.dimensions;
    return f32(min(params.row_stride, n_all - index * params.row_stride)) / f32(params.batch);
}

@compute @workgroup_size(64)
fn mixture_train(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    var loss = 0.0;
    for (var index = group.x * 64u + local.x; index < params.n_rows; index += params.n_groups * 64u) {
        let row = rows[index];
        let at = context_at(row.x);
        if OBJECTIVE == 4u {
            loss += likelihood_row(at, bitcast<f32>(row.y), bitcast<f32>(row.z), row_weight(index));
        } else {
            loss += score_row(at, row, row_weight(index));
        }
    }
    losses[local.x] = loss;
    workgroupBarrier();
    if local.x == 0u {
        var sum = 0.0;
        for (var i = 0u; i < 64u; i++) {
            sum += losses[i];
        }
        partials[group.x] = vec4(sum, 0.0, 0.0, 0.0);
    }
}
