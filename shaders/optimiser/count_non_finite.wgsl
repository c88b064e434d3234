// count[0] += number of words that are NaN or infinite, by their bits
//
// A thread owns four words. The buffer is bound as integers, so that no float operation can hide a NaN; integer atomics
// give the same count in any order.

struct Params {
    n_values: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<vec4<u32>>; // (n_values)
@group(0) @binding(2) var<storage, read_write> count: array<atomic<u32>>; // (4)

@compute @workgroup_size(64)
fn count_non_finite(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let k = (group.y * 1024u + group.x) * 64u + local.x;
    if k >= (params.n_values + 3u) / 4u {
        return;
    }
    let bad = (values[k] & vec4(0x7fffffffu)) >= vec4(0x7f800000u);
    let found = dot(vec4<u32>(bad), vec4(1u));
    if found > 0u {
        atomicAdd(&count[0], found);
    }
}
