// Draws dimensions first_dimension .. end_dimension of every sample from the conditionals of a mixture head, exactly: a
// component by its weight, then a value by Box and Muller or by the logistic quantile, under noise sigma; with bins, the
// middle of the bin that it falls into. A temperature T takes every component with its weight to the power 1/T, which
// makes Gaussians of T times the variance and weights w^(1/T) scale^(1 - 1/T): their mixture to the power 1/T, as far as
// they do not overlap.
//
// A workgroup owns SAMPLES samples. State stays in memory between dispatches, so the draw does not depend on
// how the dimensions are cut into dispatches.

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
    incremental: u32,
    context_at: u32,
    state_words: u32,
    n_context_net: u32,
    n_tables: u32,
    components: u32,
    n_logits: u32,
    first_mean: f32,
    mean_step: f32,
    mean_unit: f32,
    scale_unit: f32,
    bin_low: f32,
    bin_high: f32,
    bin_width: f32,
    sigma: f32,
    temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context_net: array<vec4<f32>>; // (n_context_net)
@group(0) @binding(2) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>; // (n_samples, state_words)

const THREADS = 8u * GROUP_ROWS;

//#include philox
//#include broadcast
//#include activation
//#include quotient
//#include state
//#include made_step
//#include image_step
//#include context_step
//#include mixture
fn parameter(at: u32, index: u32) -> f32 {
    return state_word(at + index);
}

// Log of a component's weight, up to a constant.
fn log_weight(at: u32, index: u32) -> f32 {
    let share = 1.0 / params.temperature;
    return share * parameter(at, index) + (1.0 - share) * log(component(at, index, params.sigma).scale);
}

// The largest log weight, and the sum of all weights in units of that one.
fn weight_sums(at: u32) -> vec2<f32> {
    var top = -3.0e38;
    for (var i = 0u; i < params.n_logits; i++) {
        top = max(top, log_weight(at, i));
    }
    var total = 0.0;
    for (var i = 0u; i < params.n_logits; i++) {
        total += exp_above_zero(log_weight(at, i) - top);
    }
    return vec2(top, total);
}

// Which component a uniform number means: the first at which the weights add up to more than it.
fn choose(at: u32, weights: vec2<f32>, u: f32) -> u32 {
    var rest = u * weights.y;
    var chosen = 0u;
    for (; chosen + 1u < params.n_logits; chosen++) {
        rest -= exp_above_zero(log_weight(at, chosen) - weights.x);
        if rest < 0.0 {
            break;
        }
    }
    return chosen;
}

// The middle of the nearest bin.
fn snapped(x: f32) -> f32 {
    if params.bin_width == 0.0 {
        return x;
    }
    let inside = kept(x, clamp(x, params.bin_low, params.bin_high));
    return params.bin_low + round((inside - params.bin_low) / params.bin_width) * params.bin_width;
}

fn draw(at: u32, sample: u32, d: u32) -> f32 {
    let bits = random_bits(vec2(params.seed_low, params.seed_high), STREAM_MIXTURE, params.first_sample + sample, d, 0u);
    let weights = weight_sums(at);
    let c = component(at, choose(at, weights, uniform_from(bits.x)), params.sigma);
    var z = normal_pair(bits.y, bits.z).x;
    if FAMILY == 1u {
        let u = uniform_from(bits.y);
        z = log(u / (1.0 - u));
    }
    return snapped(kept(weights.y, c.mean + c.scale * sqrt(params.temperature) * z));
}

@compute @workgroup_size(8, GROUP_ROWS)
fn sample_mixture(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    let first = group.x * SAMPLES;
    let n_own = min(SAMPLES, params.n_samples - first);
    for (var d = params.first_dimension; d < params.end_dimension; d++) {
        if params.incremental == 1u {
            context_advance(d, first, n_own, thread);
        }
        if thread < n_own {
            let base = (first + thread) * params.state_words;
            set_state(base + d, draw(base + params.context_at, first + thread, d));
        }
        storageBarrier();
        workgroupBarrier();
    }
}
