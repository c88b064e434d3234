// The gradients of dense_backward where the layer's input is h = phi(z) of another layer: dx by h, and dz = dx phi'(z).

@group(0) @binding(5) var<storage, read> z: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(7) var<storage, read_write> dz: array<vec4<f32>>; // (batch, n_in)

//#include activation_quad
//#include dense_input
// Padding stays zero because dx is zero there.
fn finish(row: u32, column: u32) {
    if row < params.batch && column < params.n_in {
        let at = row * ((params.n_in + 3u) / 4u) + column / 4u;
        dz[at] = dx[at] * phi_first_quad(z[at]);
    }
}
