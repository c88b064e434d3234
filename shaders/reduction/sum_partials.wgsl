// sums[i] = sum over g of partials[g, offset + i], groups in order
//
// A thread owns four words. The order is fixed, so the same partials give the same bits.

struct Params {
    n_groups: u32,
    words: u32,
    offset: u32,
    n_sums: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>; // (n_groups, words)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_sums)

@compute @workgroup_size(64)
fn sum_partials(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= (params.n_sums + 3u) / 4u {
        return;
    }
    var sum = vec4(0.0);
    for (var group = 0u; group < params.n_groups; group++) {
        sum += partials[(group * params.words + params.offset) / 4u + id.x];
    }
    sums[id.x] = sum;
}
