// points_of[.., p] = s(start + p step, sigma) for p < n_points of each of the samples from `first` on. The lines of a thread
// are points of one and the same sample; columns before first_quad are as the evaluation before left them.
fn evaluate_points(
    base: u32, first: u32, n_samples: u32, step: f32, n_points: u32, sigma: f32, first_quad: u32, local: vec2<u32>,
) {
    let sample = min(local.x % SAMPLES, max(n_samples, 1u) - 1u);
    let end = select(n_points, 0u, n_samples == 0u);
    var quad = first_quad;
    // Threads of one row leave together: they share what they load.
    for (var point = 16u * local.y / SAMPLES; point < end; point += TILE_LINES / SAMPLES) {
        let even = min(point + 2u * (local.x / SAMPLES), n_points - 1u);
        let odd = min(even + 1u, n_points - 1u);
        let y = starts[sample] + vec2(f32(even), f32(odd)) * step;
        let s = point_scores(base, vec2(first + sample), y, sigma, quad, local.x, 16u * local.y + 2u * local.x);
        points_of[sample * MAX_POINTS + even] = s.x;
        points_of[sample * MAX_POINTS + odd] = s.y;
        quad = params.context_width / 4u;
    }
}
