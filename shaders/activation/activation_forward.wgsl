// h[b, o] = phi(z[b, o])   (+ x[b, o] when residual is 1)
//
// A thread owns four columns of one row. x is the layer's input, of the same width when residual is 1.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
    residual: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(3) var<storage, read_write> h: array<vec4<f32>>; // (batch, n_out)

//#include activation_quad
@compute @workgroup_size(64)
fn activation_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.n_out + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.batch * n_quads {
        return;
    }
    var value = phi_quad(z[index]);
    if params.residual == 1u {
        value += x[index];
    }
    // phi(0) need not be 0: columns past the end are padding and stay zero.
    if params.n_out % 4u != 0u {
        let column = 4u * (index % n_quads);
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        value = select(vec4(0.0), value, columns < vec4(params.n_out));
    }
    h[index] = value;
}
