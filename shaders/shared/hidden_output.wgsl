// The output of dense_forward in a hidden layer: z, which the way back needs, and h = phi(z), with RESIDUAL plus x.

@group(0) @binding(5) var<storage, read_write> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(6) var<storage, read_write> h: array<vec4<f32>>; // (batch, n_out)

//#include activation_quad
fn is_unit(column: u32) -> vec4<bool> {
    return vec4(column, column + 1u, column + 2u, column + 3u) < vec4(params.n_out);
}

// Columns past the end are padding and stay zero, where phi(0) need not be 0.
fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_out {
        z[row * ((params.n_out + 3u) / 4u) + column / 4u] = select(vec4(0.0), value, is_unit(column));
    }
}

fn finish(row: u32, column: u32) {
    if row < params.batch && column < params.n_out {
        let at = row * ((params.n_out + 3u) / 4u) + column / 4u;
        var value = phi_quad(z[at]);
        if RESIDUAL == 1u {
            value += x_at(at);
        }
        h[at] = select(vec4(0.0), value, is_unit(column));
    }
}
