// dseen[d, k] = dbias[k] where position_of[d] < visible[k], and 0 elsewhere: the adjoint of seen_bias
//
// A thread owns four units of one dimension.

struct Params {
    dimensions: u32,
    units: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dbias: array<vec4<f32>>; // (units)
@group(0) @binding(2) var<storage, read> position_of: array<u32>; // (dimensions)
@group(0) @binding(3) var<storage, read> visible: array<u32>; // (units)
@group(0) @binding(4) var<storage, read_write> dseen: array<vec4<f32>>; // (dimensions, units)

@compute @workgroup_size(64)
fn seen_bias_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.units + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.dimensions * n_quads {
        return;
    }
    let dimension = index / n_quads;
    let quad = index - dimension * n_quads;
    var value = vec4(0.0);
    //#for j in 0..4
    if 4u * quad + {j}u < params.units && position_of[dimension] < visible[4u * quad + {j}u] {
        value[{j}] = dbias[quad][{j}];
    }
    //#end
    dseen[index] = value;
}
