// points_of[p] = s(start + p step, sigma) for p < n_points of the workgroup's one sample, where n_samples is not 0: thread p
// takes point p of every tile. Columns before first_quad are as the evaluation before left them.
fn evaluate_points(
    base: u32, first: u32, n_samples: u32, step: f32, n_points: u32, sigma: f32, first_quad: u32, local: vec2<u32>,
) {
    let thread = local.y * 8u + local.x;
    let end = select(n_points, 0u, n_samples == 0u);
    if first_quad == 0u {
        take_context(first, thread);
    }
    for (var tile = 0u; tile < end; tile += TILE_LINES) {
        let point = tile + thread;
        let y = starts[0] + f32(point) * step;
        if thread < TILE_LINES {
            line_inputs[thread] = input_value(y, sigma, params.mean, params.sd);
        }
        let n_lines = min(TILE_LINES, (end - tile + BLOCK - 1u) / BLOCK * BLOCK);
        evaluate_lines(n_lines, input_level(sigma), thread);
        if thread < n_lines && point < end {
            points_of[point] = score_shift(y, sigma, params.mean, params.sd) + score_gain(sigma, params.sd) * line_output(thread);
        }
    }
}
