// v[p B + b, d]: the directions first_direction + p in which a score's slope is taken
//
// PROBES 0: Rademacher, +1 or -1 with equal odds, so that E v v^T = I; a number belongs to (seed, sample, direction and
// dimension, step). PROBES 1: the unit vector of dimension first_direction + p, zero past the last dimension. A thread owns
// four columns of one row.

struct Params {
    batch: u32,
    dimensions: u32,
    n_directions: u32,
    first_direction: u32,
    seed_low: u32,
    seed_high: u32,
    step: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> v: array<vec4<f32>>; // (n_directions * batch, dimensions)

//#include philox
@compute @workgroup_size(64)
fn probe_directions(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    let n_quads = (params.dimensions + 3u) / 4u;
    if index >= params.n_directions * params.batch * n_quads {
        return;
    }
    let quad = index % n_quads;
    let row = index / n_quads;
    let direction = params.first_direction + row / params.batch;
    let columns = vec4(4u * quad, 4u * quad + 1u, 4u * quad + 2u, 4u * quad + 3u);
    var value = vec4(0.0);
    if PROBES == 1u {
        value = select(vec4(0.0), vec4(1.0), columns == vec4(direction));
    } else {
        let seed = vec2(params.seed_low, params.seed_high);
        let bits = random_bits(seed, STREAM_PROBES, row % params.batch, direction * n_quads + quad, params.step);
        value = select(vec4(-1.0), vec4(1.0), bits < vec4(0x80000000u));
    }
    v[index] = select(vec4(0.0), value, columns < vec4(params.dimensions));
}
