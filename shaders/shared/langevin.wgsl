// What both forms of annealed Langevin dynamics declare and share.

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
    steps: u32,
    incremental: u32,
    context_at: u32,
    state_words: u32,
    group_samples: u32,
    n_groups: u32,
    scratch_words: u32,
    n_net: u32,
    n_context_net: u32,
    n_tables: u32,
    mean: f32,
    sd: f32,
    step_size: f32,
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
fn normal(sample: u32, d: u32, n: u32) -> f32 {
    let seed = vec2(params.seed_low, params.seed_high);
    let bits = random_bits(seed, STREAM_LANGEVIN, params.first_sample + sample, d, n);
    return normal_pair(bits.x, bits.y).x;
}

// Where a sample keeps its y.
fn chain_at(sample: u32) -> u32 {
    return sample * params.state_words + params.context_at + 4u * quads(params.context_width);
}
