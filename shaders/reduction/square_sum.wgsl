// sums[g, 0] = sum of squares of the words that workgroup g owns
//
// A workgroup walks with 64 threads over a part of the values that lies in one piece, as caches like it, then adds their 64
// sums pairwise in a fixed order.

struct Params {
    n_values: u32,
    n_groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>; // (n_values)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_groups, 4)

var<workgroup> partial: array<f32, 64>;

//#loads values
@compute @workgroup_size(64)
fn square_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    var sum = 0.0;
    let n_quads = (params.n_values + 3u) / 4u;
    let part = (n_quads + params.n_groups * 64u - 1u) / (params.n_groups * 64u) * 64u;
    let end = min((group.x + 1u) * part, n_quads);
    for (var k = group.x * part + local.x; k < end; k += 64u) {
        let four = values_at(k);
        sum += dot(four, four);
    }
    partial[local.x] = sum;
    for (var width = 32u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if local.x < width {
            partial[local.x] += partial[local.x + width];
        }
    }
    if local.x == 0u {
        sums[group.x] = vec4(partial[0], 0.0, 0.0, 0.0);
    }
}
