// values[r, c] = values[r, c] / (1 - rate) where u >= rate, and 0 elsewhere, in place
//
// Row r is position r % positions of sample first_sample + r / positions. u belongs to (seed, sample, place, step): one
// place for every four channels of a position, counted from first_place on, so that layers do not share their numbers.
// Being linear, it is its own adjoint. A thread owns four columns of one row.

struct Params {
    rows: u32,
    width: u32,
    positions: u32,
    first_sample: u32,
    first_place: u32,
    seed_low: u32,
    seed_high: u32,
    step: u32,
    rate: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>; // (rows, width)

//#include philox
@compute @workgroup_size(64)
fn dropout(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.width + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let quads_of_sample = params.positions * n_quads;
    let sample = params.first_sample + index / quads_of_sample;
    let place = params.first_place + index % quads_of_sample;
    let seed = vec2(params.seed_low, params.seed_high);
    let bits = random_bits(seed, STREAM_DROPOUT, sample, place, params.step);
    let u = vec4(uniform_from(bits.x), uniform_from(bits.y), uniform_from(bits.z), uniform_from(bits.w));
    values[index] = select(vec4(0.0), values[index] / (1.0 - params.rate), u >= vec4(params.rate));
}
