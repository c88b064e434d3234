// The output of dense_forward as it is.

@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>; // (batch, n_out)

// Columns past the end are padding and stay zero.
fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_out {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        y[row * ((params.n_out + 3u) / 4u) + column / 4u] = select(vec4(0.0), value, columns < vec4(params.n_out));
    }
}

// There is no activation.
fn finish(row: u32, column: u32) {}
