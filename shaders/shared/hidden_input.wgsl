// The gradient of dense_backward where the layer's input is h = phi(z) of another: dh, added to what is there where that is asked
// for, and dz = dh phi'(z).

@group(0) @binding(5) var<storage, read> z: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(6) var<storage, read_write> dh: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(7) var<storage, read_write> dz: array<vec4<f32>>; // (batch, n_in)

//#include activation_quad
fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * ((params.n_in + 3u) / 4u) + column / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dh[at];
        }
        dh[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}

// Padding stays zero because dh is zero there.
fn finish(row: u32, column: u32) {
    if row < params.batch && column < params.n_in {
        let at = row * ((params.n_in + 3u) / 4u) + column / 4u;
        dz[at] = dh[at] * phi_first_quad(z[at]);
    }
}
