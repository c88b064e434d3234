// y[b, d] = (x[b, d] + noise eps) * [u >= dropout]: what the context network sees in training (augmentation)
//
// A thread owns four columns of one row.

struct Params {
    batch: u32,
    dimensions: u32,
    seed_low: u32,
    seed_high: u32,
    step: u32,
    first_sample: u32,
    noise: f32,
    dropout: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, dimensions)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (batch, dimensions)

//#include philox
@compute @workgroup_size(64)
fn corrupt_context(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_quads = (params.dimensions + 3u) / 4u;
    if id.x >= n_quads {
        return;
    }
    let at = id.y * n_quads + id.x;
    var value = x[at];
    //#for j in 0..4
    if 4u * id.x + {j}u < params.dimensions {
        let seed = vec2(params.seed_low, params.seed_high);
        let bits = random_bits(seed, STREAM_CONTEXT_NOISE, params.first_sample + id.y, 4u * id.x + {j}u, params.step);
        let noisy = value[{j}] + params.noise * normal_pair(bits.x, bits.y).x;
        value[{j}] = select(0.0, noisy, uniform_from(bits.z) >= params.dropout);
    }
    //#end
    y[at] = value;
}
