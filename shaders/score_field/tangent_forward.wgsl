// h'[p B + b, o] = phi'(z[b, o]) t[p B + b, o]: tangents in several directions p through an activation
//
// A thread owns four columns of one sample, in all directions. Padding stays zero because t is zero there.

struct Params {
    batch: u32,
    n_out: u32,
    n_directions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> t: array<vec4<f32>>; // (n_directions * batch, n_out)
@group(0) @binding(3) var<storage, read_write> h_tangent: array<vec4<f32>>; // (n_directions * batch, n_out)

//#include activation_quad
@compute @workgroup_size(64)
fn tangent_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    let quads = params.batch * ((params.n_out + 3u) / 4u);
    if index >= quads {
        return;
    }
    let slope = phi_first_quad(z[index]);
    for (var p = 0u; p < params.n_directions; p++) {
        h_tangent[p * quads + index] = slope * t[p * quads + index];
    }
}
