// The score of a sample's next dimension at a thread's two lines, by all threads of the workgroup together; functions and
// arguments as in point_scores, of which `base` and `lane` mean nothing here.

fn takes_part(line: u32, n_lines: u32) -> bool {
    return true;
}

fn point_scores(base: u32, samples: vec2<u32>, y: vec2<f32>, sigma: f32, first_quad: u32, lane: u32, line: u32) -> vec2<f32> {
    let thread = line / 2u;
    if first_quad == 0u {
        take_context(samples.x, thread);
    }
    if line < TILE_LINES {
        line_inputs[line] = input_value(y.x, sigma, params.mean, params.sd);
        line_inputs[line + 1u] = input_value(y.y, sigma, params.mean, params.sd);
    }
    evaluate_lines(TILE_LINES, input_level(sigma), thread);
    let own = min(line, TILE_LINES - 2u);
    let f = vec2(line_output(own), line_output(own + 1u));
    let shift = vec2(score_shift(y.x, sigma, params.mean, params.sd), score_shift(y.y, sigma, params.mean, params.sd));
    return shift + score_gain(sigma, params.sd) * f;
}
