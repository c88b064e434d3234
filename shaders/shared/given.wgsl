// What is known of a value before it is drawn, and what that says of the values drawn before it.
//
// Two words a dimension in `tables`, from params.given_at on for each group of params.particles samples: kind and value.
// The log weight of a sample is the last word of its state.
//
// A known x is weighed by the density of the chain that the sampler draws: y_L = x, and a random walk upwards,
// y_{l-1} ~ q = N(y_l, tau_l^2), tau_l^2 = sigma_{l-1}^2 - sigma_l^2, gives the weight p(y_0) prod_l p(y_l | y_{l-1}) / q(y_{l-1} | y_l),
// whose mean is the chain's density of y_L = x. A noisy value stands for y_0 and is weighed by p(y_0).
//
// The includer declares params, tables, state and points_of (densities on a sample's points); it includes philox, state and
// sampler.

const KNOWN = 1u;
const NOISY = 2u;
const WEIGHED = 4u;

fn given_word(sample: u32, d: u32, word: u32) -> u32 {
    if params.given_at == 0u {
        return 0u;
    }
    return tables[params.given_at + 2u * (sample / params.particles * params.dimensions + d) + word];
}

// Whether what is known decides a level's y, or x for the one after the last.
fn is_given_at(given: u32, level: u32) -> bool {
    return (given & KNOWN) != 0u || ((given & NOISY) != 0u && level == 0u);
}

// y of a level above a known x.
fn noised(x: f32, sample: u32, d: u32, level: u32) -> f32 {
    var y = x;
    for (var k = params.n_levels - 1u; k > level; k--) {
        let upper = level_sigma(k - 1u);
        let lower = level_sigma(k);
        let seed = vec2(params.seed_low, params.seed_high);
        let bits = random_bits(seed, STREAM_GIVEN, params.first_sample + sample, d, k);
        y += sqrt(upper * upper - lower * lower) * normal_pair(bits.x, bits.y).x;
    }
    return y;
}

// Adds to the log weight: the log of the piecewise linear density at y, beyond the grid that of its end, less that of
// N(centre, 1 / inverse_variance) at y where the level has one. `total` is the sum of the density's trapezoids, of width 1.
fn weigh(
    at: u32, start: f32, step: f32, n_points: u32, y: f32, centre: f32, inverse_variance: f32, total: f32, sample: u32,
) {
    let place = clamp((y - start) / step, 0.0, f32(n_points - 1u));
    let cell = min(u32(place), n_points - 2u);
    let height = mix(points_of[at + cell], points_of[at + cell + 1u], place - f32(cell));
    var log_weight = log(kept(height, max(height, 1e-37))) - log(total * step);
    if inverse_variance > 0.0 {
        let offset = y - centre;
        log_weight += 0.5 * (offset * offset * inverse_variance + log(6.283185307179586 / inverse_variance));
    }
    let weight_at = sample * params.state_words + params.state_words - 1u;
    set_state(weight_at, state_word(weight_at) + log_weight);
}
