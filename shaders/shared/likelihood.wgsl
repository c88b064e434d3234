// What the likelihood kernels share: the score network's input for a row (sample, dimension) and a value y, and grids
// that have the row's own value among their points, so that nothing is interpolated there.
// The includer declares params, context, tables and includes score_net and parametrisation.

fn context_at(row: u32) -> u32 {
    let pitch = 4u * quads(params.dimensions * params.context_width);
    return row / params.dimensions * pitch + row % params.dimensions * params.context_width;
}

// Columns 4 quad .. + 4 of the network's input [context, u, log(sigma)/2].
fn row_quad(row: u32, quad: u32, y: f32, sigma: f32) -> vec4<f32> {
    let first = context_at(row);
    let n_in = layers[0].n_in;
    var value = vec4(0.0);
    //#for j in 0..4
    if 4u * quad + {j}u < params.context_width {
        value[{j}] = context[first + 4u * quad + {j}u];
    } else if 4u * quad + {j}u == params.context_width {
        value[{j}] = input_value(y, sigma, params.mean, params.sd);
    } else if 4u * quad + {j}u < n_in {
        value[{j}] = input_level(sigma);
    }
    //#end
    return value;
}

// Which of low, low + step, ... comes nearest to y. The grid is then moved so that this point is y itself.
fn nearest_point(y: f32, low: f32, step: f32, n_points: u32) -> u32 {
    return u32(clamp(round((y - low) / step), 0.0, f32(n_points - 1u)));
}
