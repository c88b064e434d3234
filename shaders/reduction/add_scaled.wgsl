// sums[i] = scale terms[i]   (+ sums[i] when accumulate is 1): the gradient of a batch from those of its parts
//
// A thread owns four words.

struct Params {
    n_values: u32,
    accumulate: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> terms: array<vec4<f32>>; // (n_values)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_values)

@compute @workgroup_size(64)
fn add_scaled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= (params.n_values + 3u) / 4u {
        return;
    }
    var sum = params.scale * terms[index];
    if params.accumulate == 1u {
        sum += sums[index];
    }
    sums[index] = sum;
}
