// Rows of the score network in training and evaluation: row = (sample * D + dimension, x~, sigma, eps), the last three
// as bits of floats. The includer declares params, context, rows and includes score_net and parametrisation.

// With TANGENT a row takes two lines of the tile, its value and its tangent.
const VIRTUAL = 1u + TANGENT;
const ROWS_PER_TILE = TILE_LINES / VIRTUAL;

fn context_at(row: u32) -> u32 {
    let pitch = 4u * quads(params.dimensions * params.context_width);
    return row / params.dimensions * pitch + row % params.dimensions * params.context_width;
}

// Network input [context, u, log(sigma)/2] of one column; the tangent only moves u.
fn input_column(row: vec4<u32>, column: u32) -> f32 {
    if column < params.context_width {
        return context[context_at(row.x) + column];
    }
    let sigma = bitcast<f32>(row.z);
    if column == params.context_width {
        return input_value(bitcast<f32>(row.y), sigma, params.mean, params.sd);
    }
    return input_level(sigma);
}

fn write_inputs(base: u32, first: u32, n_rows: u32, thread: u32) {
    let layer = score_layer(0u);
    let n_quads = quads(layer.n_in);
    for (var item = thread; item < n_rows * n_quads; item += THREADS) {
        let row = rows[first + item / n_quads];
        let column = item % n_quads * 4u;
        var value = vec4(0.0);
        var tangent = vec4(0.0);
        //#for j in 0..4
        if column + {j}u < layer.n_in {
            value[{j}] = input_column(row, column + {j}u);
        }
        if column + {j}u == params.context_width {
            tangent[{j}] = input_scale(bitcast<f32>(row.z), params.sd);
        }
        //#end
        let at = base + layer.input + VIRTUAL * (item / n_quads) * n_quads + item % n_quads;
        scratch[at] = value;
        if TANGENT == 1u {
            scratch[at + n_quads] = tangent;
        }
    }
}

// (s, ds/dx~) of the tile's row number `index` from the network's output (f, f').
fn score_and_slope(base: u32, first: u32, index: u32) -> vec2<f32> {
    let r = rows[first + index];
    let sigma = bitcast<f32>(r.z);
    let gain = score_gain(sigma, params.sd);
    let f = score_output(base, params.n_layers, VIRTUAL * index, true);
    var slope = 0.0;
    if TANGENT == 1u {
        let f_tangent = score_output(base, params.n_layers, VIRTUAL * index + 1u, false);
        slope = score_shift_slope(sigma, params.sd) + gain * f_tangent;
    }
    return vec2(score_shift(bitcast<f32>(r.y), sigma, params.mean, params.sd) + gain * f, slope);
}
