// dt[p B + b, o] = dh'[p B + b, o] phi'(z[b, o])
// dz[b, o] = sum over p of dh'[p B + b, o] phi''(z[b, o]) t[p B + b, o]   (+ dz[b, o] when accumulate is 1)
//
// The adjoint of tangent_forward: slopes depend on z too, through the curvature of phi. A thread owns four columns of one
// sample and adds up the directions in order. Padding stays zero because t and dh' are zero there.

struct Params {
    batch: u32,
    n_out: u32,
    n_directions: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> t: array<vec4<f32>>; // (n_directions * batch, n_out)
@group(0) @binding(3) var<storage, read> dh_tangent: array<vec4<f32>>; // (n_directions * batch, n_out)
@group(0) @binding(4) var<storage, read_write> dt: array<vec4<f32>>; // (n_directions * batch, n_out)
@group(0) @binding(5) var<storage, read_write> dz: array<vec4<f32>>; // (batch, n_out)

//#include activation_quad
@compute @workgroup_size(64)
fn tangent_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    let quads = params.batch * ((params.n_out + 3u) / 4u);
    if index >= quads {
        return;
    }
    let slope = phi_first_quad(z[index]);
    var sum = vec4(0.0);
    for (var p = 0u; p < params.n_directions; p++) {
        let adjoint = dh_tangent[p * quads + index];
        dt[p * quads + index] = adjoint * slope;
        sum += adjoint * t[p * quads + index];
    }
    var total = vec4(0.0);
    if params.accumulate == 1u {
        total = dz[index];
    }
    dz[index] = total + sum * phi_second_quad(z[index]);
}
