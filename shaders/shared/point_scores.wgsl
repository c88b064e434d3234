// The score of a sample's next dimension at a thread's two lines, each thread for itself.

fn load_net(thread: u32) {
    load_layers();
}

// Whether the threads of a row evaluate their lines, where the first of them is number `line` of n_lines. Threads of one row
// go together: they share what they load.
fn takes_part(line: u32, n_lines: u32) -> bool {
    return line < n_lines;
}

// Columns 4 quad .. + 4 of the network's input [context, u, log(sigma)/2].
fn point_quad(sample: u32, quad: u32, y: f32, sigma: f32) -> vec4<f32> {
    let context = (sample * params.state_words + params.context_at) / 4u;
    let n_in = layers[0].n_in;
    var value = state[context + min(quad, (params.context_width - 1u) / 4u)];
    //#for j in 0..4
    if 4u * quad + {j}u == params.context_width {
        value[{j}] = input_value(y, sigma, params.mean, params.sd);
    } else if 4u * quad + {j}u > params.context_width {
        value[{j}] = select(0.0, input_level(sigma), 4u * quad + {j}u < n_in);
    }
    //#end
    return value;
}

// s(y, sigma) on lines `line` and `line + 1` of the tile, which belong to two samples, maybe the same. Columns before
// first_quad are as the evaluation before left them. Lanes side by side must call it together.
fn point_scores(base: u32, samples: vec2<u32>, y: vec2<f32>, sigma: f32, first_quad: u32, lane: u32, line: u32) -> vec2<f32> {
    let layer = layers[0];
    for (var quad = first_quad; quad < quads(layer.n_in); quad++) {
        let inputs = Pair(point_quad(samples.x, quad, y.x, sigma), point_quad(samples.y, quad, y.y, sigma));
        set_input(base, quad, line, inputs);
    }
    let f = score_output(base, params.context_width / 4u, first_quad == 0u, lane, line);
    let shift = vec2(score_shift(y.x, sigma, params.mean, params.sd), score_shift(y.y, sigma, params.mean, params.sd));
    return shift + score_gain(sigma, params.sd) * f;
}
