// sums[i] = sum over g of partials[g, offset + i], as in sum_partials
//
// For adapters that wait long for what they load. A workgroup owns 32 words; each of GROUP_ROWS threads adds up some of what
// stands above one another, in order, and these sums are added pairwise. The order is fixed, so the same partials give the same bits.

struct Params {
    n_groups: u32,
    words: u32,
    offset: u32,
    n_sums: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>; // (n_groups, words)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_sums)

//#include add_lines
@compute @workgroup_size(8, GROUP_ROWS)
fn sum_partials_parallel(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let k = group.x * 8u + local.x;
    let is_inside = k < (params.n_sums + 3u) / 4u;
    var sum = vec4(0.0);
    if is_inside {
        for (var row = local.y; row < params.n_groups; row += GROUP_ROWS) {
            sum += partials[(row * params.words + params.offset) / 4u + k];
        }
    }
    sum = add_lines(sum, local);
    if is_inside && local.y == 0u {
        sums[k] = sum;
    }
}
