// Inverse-CDF draws on equidistant points, whose scores are evaluated together; at last every sample is followed by a
// thread of its own.
//
// The includer declares params, constants SAMPLES and MAX_POINTS and the workgroup's memory: points_of (of every sample scores,
// then energies, then densities on its points) and starts (the place of its first point). It includes sampler.

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

// Scores on a sample's points to the density exp(integral of the score - (point - centre)^2 inverse_variance / 2) to the
// power 1 / temperature, scaled to a maximum of 1. Gives the sum of its trapezoids, of width 1.
fn integrate(at: u32, start: f32, step: f32, n_points: u32, centre: f32, inverse_variance: f32) -> f32 {
    var energy = 0.0;
    var top = -3.0e38;
    var score = points_of[at];
    for (var p = 0u; p < n_points; p++) {
        let left = score;
        score = points_of[at + p];
        energy += select(0.0, 0.5 * (left + score) * step, p > 0u);
        let offset = start + f32(p) * step - centre;
        let log_density = (energy - 0.5 * offset * offset * inverse_variance) / params.temperature;
        points_of[at + p] = log_density;
        top = max(top, log_density);
    }
    var total = 0.0;
    var density = 0.0;
    for (var p = 0u; p < n_points; p++) {
        let left = density;
        density = exp(max(points_of[at + p] - top, -87.0));
        points_of[at + p] = density;
        total += select(0.0, 0.5 * (left + density), p > 0u);
    }
    return total;
}

// Where the distribution function of the piecewise linear density, whose trapezoids sum up to `total`, is u.
fn invert(at: u32, start: f32, step: f32, n_points: u32, total: f32, u: f32) -> f32 {
    var rest = u * total;
    var cell = 0u;
    for (; cell + 2u < n_points; cell++) {
        let mass = 0.5 * (points_of[at + cell] + points_of[at + cell + 1u]);
        if rest < mass {
            break;
        }
        rest -= mass;
    }
    let left = points_of[at + cell];
    let root = sqrt(max(left * left + 2.0 * (points_of[at + cell + 1u] - left) * rest, 0.0));
    let t = clamp(2.0 * rest / max(left + root, 1e-30), 0.0, 1.0);
    return start + (f32(cell) + t) * step;
}
