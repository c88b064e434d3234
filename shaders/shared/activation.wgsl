// Activations phi with first and second derivative, safe at any argument and not finite where that is not. Ids as in
// codes::Activation.

//#include finite
// 1 / (1 + exp(-z)), a number in (0, 1] even where z is NaN: for products with something that shows it.
fn finite_sigmoid(z: f32) -> f32 {
    let e = exp(-min(abs(z), 87.0));
    return select(e, 1.0, z >= 0.0) / (1.0 + e);
}

fn sigmoid(z: f32) -> f32 {
    return kept(z, finite_sigmoid(z));
}

// log(1 + y) for y in [0, 1], as 2 atanh(y / (2 + y)): the built-in log loses 5 digits near 1 on some adapters.
fn log_1p(y: f32) -> f32 {
    let t = y / (2.0 + y);
    let q = t * t;
    let series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q / 13.0)))));
    return 2.0 * t * series;
}

// exp(z) - 1 for z <= 0.
fn exp_m1(z: f32) -> f32 {
    let series = z * (1.0 + z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0 * (1.0 + z / 5.0 * (1.0 + z / 6.0)))));
    return kept(z, select(exp(max(z, -87.0)) - 1.0, series, z > -0.25));
}

// The built-in tanh is NaN for large arguments on several drivers and loses digits near 0 on others.
fn tanh_safe(z: f32) -> f32 {
    let q = z * z;
    let series = z * (1.0 - q * (1.0 / 3.0 - q * (2.0 / 15.0 - q * (17.0 / 315.0 - q * 62.0 / 2835.0))));
    let e = exp(-2.0 * min(abs(z), 40.0));
    return kept(z, select(sign(z) * (1.0 - e) / (1.0 + e), series, abs(z) < 0.25));
}

// Identity.
fn phi_0(z: f32) -> f32 {
    return z;
}

fn phi_first_0(z: f32) -> f32 {
    return 1.0;
}

fn phi_second_0(z: f32) -> f32 {
    return 0.0;
}

// ReLU.
fn phi_1(z: f32) -> f32 {
    return kept(z, max(z, 0.0));
}

fn phi_first_1(z: f32) -> f32 {
    return kept(z, select(0.0, 1.0, z > 0.0));
}

fn phi_second_1(z: f32) -> f32 {
    return 0.0;
}

// SiLU.
fn phi_2(z: f32) -> f32 {
    return z * finite_sigmoid(z);
}

fn phi_first_2(z: f32) -> f32 {
    return finite_sigmoid(z) * (1.0 + z * finite_sigmoid(-z));
}

fn phi_second_2(z: f32) -> f32 {
    return finite_sigmoid(z) * finite_sigmoid(-z) * (2.0 + z * (1.0 - 2.0 * finite_sigmoid(z)));
}

// Softplus.
fn phi_3(z: f32) -> f32 {
    return kept(z, max(z, 0.0) + log_1p(exp(-min(abs(z), 87.0))));
}

fn phi_first_3(z: f32) -> f32 {
    return sigmoid(z);
}

fn phi_second_3(z: f32) -> f32 {
    return sigmoid(z) * finite_sigmoid(-z);
}

// Hyperbolic tangent.
fn phi_4(z: f32) -> f32 {
    return tanh_safe(z);
}

fn phi_first_4(z: f32) -> f32 {
    return 4.0 * sigmoid(2.0 * z) * finite_sigmoid(-2.0 * z);
}

fn phi_second_4(z: f32) -> f32 {
    return -8.0 * tanh_safe(z) * finite_sigmoid(2.0 * z) * finite_sigmoid(-2.0 * z);
}

// ELU.
fn phi_5(z: f32) -> f32 {
    return kept(z, select(exp_m1(min(z, 0.0)), z, z > 0.0));
}

fn phi_first_5(z: f32) -> f32 {
    return kept(z, exp(clamp(z, -87.0, 0.0)));
}

fn phi_second_5(z: f32) -> f32 {
    return kept(z, select(exp(clamp(z, -87.0, 0.0)), 0.0, z > 0.0));
}

// Of an activation that is a constant of the pipeline, so that the switches vanish.
fn phi(activation: u32, z: f32) -> f32 {
    switch activation {
        case 1u: { return phi_1(z); }
        case 2u: { return phi_2(z); }
        case 3u: { return phi_3(z); }
        case 4u: { return phi_4(z); }
        case 5u: { return phi_5(z); }
        default: { return phi_0(z); }
    }
}

fn phi_first(activation: u32, z: f32) -> f32 {
    switch activation {
        case 1u: { return phi_first_1(z); }
        case 2u: { return phi_first_2(z); }
        case 3u: { return phi_first_3(z); }
        case 4u: { return phi_first_4(z); }
        case 5u: { return phi_first_5(z); }
        default: { return phi_first_0(z); }
    }
}
