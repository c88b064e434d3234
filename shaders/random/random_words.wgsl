// words[i] = philox4x32_10((i, dimension, step, stream), seed): the generator itself, for known-answer tests
//
// A thread owns one counter.

struct Params {
    n: u32,
    seed_low: u32,
    seed_high: u32,
    stream: u32,
    first_sample: u32,
    dimension: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>>; // (n, 4)

//#include philox
@compute @workgroup_size(64)
fn random_words(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n {
        let seed = vec2(params.seed_low, params.seed_high);
        words[id.x] = random_bits(seed, params.stream, params.first_sample + id.x, params.dimension, params.step);
    }
}
