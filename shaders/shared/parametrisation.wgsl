// From the network's output f to the score s of x~ = x + sigma eps; PARAMETRISATION is a constant of the pipeline.
// Ids and formulas as in config::Parametrisation.

// Network input u and its derivative by x~.
fn input_scale(sigma: f32, sd: f32) -> f32 {
    return select(1.0, inverseSqrt(sd * sd + sigma * sigma), PARAMETRISATION == 2u);
}

fn input_value(x_tilde: f32, sigma: f32, mean: f32, sd: f32) -> f32 {
    return (x_tilde - select(mean, 0.0, PARAMETRISATION == 0u)) * input_scale(sigma, sd);
}

// log(sigma) / 2, the network's second input. Bits below sigma = 1e-30 stand for no noise at all.
fn input_level(sigma: f32) -> f32 {
    return 0.5 * log(kept(sigma, max(sigma, 1e-30)));
}

// s = shift + gain f.
fn score_gain(sigma: f32, sd: f32) -> f32 {
    switch PARAMETRISATION {
        case 1u: { return 1.0 / sigma; }
        case 2u: { return sd / (sigma * sqrt(sd * sd + sigma * sigma)); }
        default: { return 1.0; }
    }
}

// d shift / d x~.
fn score_shift_slope(sigma: f32, sd: f32) -> f32 {
    return select(0.0, -1.0 / (sd * sd + sigma * sigma), PARAMETRISATION == 2u);
}

fn score_shift(x_tilde: f32, sigma: f32, mean: f32, sd: f32) -> f32 {
    return score_shift_slope(sigma, sd) * (x_tilde - mean);
}
