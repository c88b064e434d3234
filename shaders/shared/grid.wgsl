// Inverse-CDF draws on equidistant points, whose scores are evaluated together; at last every sample is followed by a
// thread of its own.
//
// The includer declares params, constants SAMPLES and MAX_POINTS and the workgroup's memory: points_of (of every sample scores,
// then energies, then densities on its points) and starts (the place of its first point). It includes sampler.

//#include grid_points
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
        density = exp_above_zero(points_of[at + p] - top);
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
    let t = kept(rest, clamp(2.0 * rest / max(left + root, 1e-30), 0.0, 1.0));
    return start + (f32(cell) + t) * step;
}
