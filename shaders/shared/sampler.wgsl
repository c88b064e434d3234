// What both samplers share: the score network's input for a sample's context and a value y.
// The includer includes score_net, parametrisation, made_step and philox.

// Columns 4 quad .. + 4 of the network's input [context, u, log(sigma)/2].
fn point_quad(sample: u32, quad: u32, y: f32, sigma: f32) -> vec4<f32> {
    let context = sample * params.state_words + params.context_at;
    let n_in = score_layer(0u).n_in;
    var value = vec4(0.0);
    //#for j in 0..4
    if 4u * quad + {j}u < params.context_width {
        value[{j}] = state[context + 4u * quad + {j}u];
    } else if 4u * quad + {j}u == params.context_width {
        value[{j}] = input_value(y, sigma, params.mean, params.sd);
    } else if 4u * quad + {j}u < n_in {
        value[{j}] = input_level(sigma);
    }
    //#end
    return value;
}

// s of a row of the tile whose forward pass is done.
fn point_score(base: u32, row: u32, y: f32, sigma: f32) -> f32 {
    let f = score_output(base, params.n_layers, row, true);
    return score_shift(y, sigma, params.mean, params.sd) + score_gain(sigma, params.sd) * f;
}

fn level_sigma(level: u32) -> f32 {
    return bitcast<f32>(tables[params.sigma_table + level]);
}
