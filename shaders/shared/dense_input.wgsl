// The gradient of dense_backward by the layer's input, added to what is there where that is asked for. The includer declares dx.

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * ((params.n_in + 3u) / 4u) + column / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dx[at];
        }
        dx[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}
