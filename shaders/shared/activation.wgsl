// Activations phi with first and second derivative, safe at any argument. Callers pass a constant of the pipeline, so the
// switches vanish. Ids as in config::Activation.

fn sigmoid(z: f32) -> f32 {
    let e = exp(-min(abs(z), 87.0));
    return select(e, 1.0, z >= 0.0) / (1.0 + e);
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
    return select(exp(max(z, -87.0)) - 1.0, series, z > -0.25);
}

// The built-in tanh is NaN for large arguments on several drivers and loses digits near 0 on others.
fn tanh_safe(z: f32) -> f32 {
    let q = z * z;
    let series = z * (1.0 - q * (1.0 / 3.0 - q * (2.0 / 15.0 - q * (17.0 / 315.0 - q * 62.0 / 2835.0))));
    let e = exp(-2.0 * min(abs(z), 40.0));
    return select(sign(z) * (1.0 - e) / (1.0 + e), series, abs(z) < 0.25);
}

fn phi(activation: u32, z: f32) -> f32 {
    switch activation {
        case 1u: { return max(z, 0.0); }
        case 2u: { return z * sigmoid(z); }
        case 3u: { return max(z, 0.0) + log_1p(exp(-min(abs(z), 87.0))); }
        case 4u: { return tanh_safe(z); }
        case 5u: { return select(exp_m1(min(z, 0.0)), z, z > 0.0); }
        default: { return z; }
    }
}

fn phi_first(activation: u32, z: f32) -> f32 {
    switch activation {
        case 1u: { return select(0.0, 1.0, z > 0.0); }
        case 2u: { return sigmoid(z) * (1.0 + z * sigmoid(-z)); }
        case 3u: { return sigmoid(z); }
        case 4u: { return 4.0 * sigmoid(2.0 * z) * sigmoid(-2.0 * z); }
        case 5u: { return exp(clamp(z, -87.0, 0.0)); }
        default: { return 1.0; }
    }
}

fn phi_second(activation: u32, z: f32) -> f32 {
    switch activation {
        case 2u: { return sigmoid(z) * sigmoid(-z) * (2.0 + z * (1.0 - 2.0 * sigmoid(z))); }
        case 3u: { return sigmoid(z) * sigmoid(-z); }
        case 4u: { return -8.0 * tanh_safe(z) * sigmoid(2.0 * z) * sigmoid(-2.0 * z); }
        case 5u: { return select(exp(clamp(z, -87.0, 0.0)), 0.0, z > 0.0); }
        default: { return 0.0; }
    }
}

fn phi_4(activation: u32, z: vec4<f32>) -> vec4<f32> {
    return vec4(phi(activation, z.x), phi(activation, z.y), phi(activation, z.z), phi(activation, z.w));
}

fn phi_first_4(activation: u32, z: vec4<f32>) -> vec4<f32> {
    return vec4(phi_first(activation, z.x), phi_first(activation, z.y), phi_first(activation, z.z), phi_first(activation, z.w));
}

fn phi_second_4(activation: u32, z: vec4<f32>) -> vec4<f32> {
    return vec4(phi_second(activation, z.x), phi_second(activation, z.y), phi_second(activation, z.z), phi_second(activation, z.w));
}
