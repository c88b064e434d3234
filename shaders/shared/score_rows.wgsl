// Rows of the score network in training and evaluation: row = (sample * D + dimension, x~, sigma, eps), the last three
// as bits of floats. The includer declares params, context, rows and includes score_net and parametrisation.

// With TANGENT a row takes two lines of the tile, its value and its tangent.
const VIRTUAL = 1u + TANGENT;
const ROWS_PER_TILE = TILE_LINES / VIRTUAL;

fn context_at(row: u32) -> u32 {
    let pitch = 4u * quads(params.dimensions * params.context_width);
    return row / params.dimensions * pitch + row % params.dimensions * params.context_width;
}

// Columns 4 quad .. + 4 of the network's input [context, u, log(sigma)/2] of a row.
fn value_quad(row: vec4<u32>, quad: u32, n_in: u32) -> vec4<f32> {
    let sigma = bitcast<f32>(row.z);
    let at = context_at(row.x) + 4u * quad;
    var value = vec4(0.0);
    //#for j in 0..4
    if 4u * quad + {j}u < params.context_width {
        value[{j}] = context[at + {j}u];
    } else if 4u * quad + {j}u == params.context_width {
        value[{j}] = input_value(bitcast<f32>(row.y), sigma, params.mean, params.sd);
    } else if 4u * quad + {j}u < n_in {
        value[{j}] = input_level(sigma);
    }
    //#end
    return value;
}

// Their derivatives by x~, which only moves u.
fn tangent_quad(row: vec4<u32>, quad: u32) -> vec4<f32> {
    let is_value = vec4(4u * quad, 4u * quad + 1u, 4u * quad + 2u, 4u * quad + 3u) == vec4(params.context_width);
    return select(vec4(0.0), vec4(input_scale(bitcast<f32>(row.z), params.sd)), is_value);
}

// Columns 4 quad .. + 4 of the network's input on the two lines from `line` on, where their rows are among the tile's n_rows from
// `first` on; else zero.
fn input_pair(first: u32, n_rows: u32, line: u32, quad: u32) -> Pair {
    let n_in = layers[0].n_in;
    let index = line / VIRTUAL;
    let row = rows[first + min(index, n_rows - 1u)];
    var odd = tangent_quad(row, quad);
    if TANGENT == 0u {
        let next_row = rows[first + min(index + 1u, n_rows - 1u)];
        odd = select(vec4(0.0), value_quad(next_row, quad, n_in), vec4(index + 1u < n_rows));
    }
    let even = value_quad(row, quad, n_in);
    let is_row = vec4(index < n_rows);
    return Pair(select(vec4(0.0), even, is_row), select(vec4(0.0), odd, is_row));
}

// (s, ds/dx~) of a row from the network's output f and its tangent f'.
fn score_and_slope(row: vec4<u32>, f: f32, f_tangent: f32) -> vec2<f32> {
    let sigma = bitcast<f32>(row.z);
    let gain = score_gain(sigma, params.sd);
    let score = score_shift(bitcast<f32>(row.y), sigma, params.mean, params.sd) + gain * f;
    return vec2(score, score_shift_slope(sigma, params.sd) + gain * f_tangent);
}
