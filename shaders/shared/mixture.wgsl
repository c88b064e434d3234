// A conditional that is a mixture of Gaussians (FAMILY 0) or of logistics (FAMILY 1), from its context
//   [logits (n_logits) | means (components) | log scales (components)], n_logits = components, or 0 for a single Gaussian:
//   weight_i = softmax(logits)_i,  m_i = first_mean + i mean_step + mean_unit a_i,  s_i = scale_unit exp(b_i), |b_i| <= 7.
// Under noise sigma a scale becomes t_i = sqrt(s_i^2 + NOISE_SHARE sigma^2): exact for Gaussians; logistics get the
// logistic of the same variance. With bins, the density gives way to the probability of the bin around x.
//
// The includer declares params, the function parameter(at, index), and the constant FAMILY, and includes activation.

const LARGEST_LOG_SCALE = 7.0;
const HALF_LOG_TAU = 0.9189385332046727;
// 3 / pi^2: a logistic of scale s has the variance pi^2 s^2 / 3.
const LOGISTIC_NOISE_SHARE = 0.30396355092701331;

struct Component {
    logit: f32,
    mean: f32,
    scale: f32,
    // d log(scale) / db, 0 where b is at its bound.
    gain: f32,
}

fn component(at: u32, index: u32, sigma: f32) -> Component {
    var logit = 0.0;
    if params.n_logits > 0u {
        logit = parameter(at, index);
    }
    let a = parameter(at, params.n_logits + index);
    let b = parameter(at, params.n_logits + params.components + index);
    let scale = params.scale_unit * exp(kept(b, clamp(b, -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)));
    let noisy = sqrt(scale * scale + select(1.0, LOGISTIC_NOISE_SHARE, FAMILY == 1u) * sigma * sigma);
    let share = scale / noisy;
    let mean = params.first_mean + f32(index) * params.mean_step + params.mean_unit * a;
    return Component(logit, mean, noisy, select(0.0, share * share, abs(b) < LARGEST_LOG_SCALE));
}

// log q_i(x) and its first three derivatives by x.
fn component_density(c: Component, x: f32) -> vec4<f32> {
    let z = (x - c.mean) / c.scale;
    let r = 1.0 / c.scale;
    var f = vec4(-0.5 * z * z - HALF_LOG_TAU, -z, -1.0, 0.0);
    if FAMILY == 1u {
        let e = exp(-min(abs(z), 87.0));
        let first = -tanh_safe(0.5 * z);
        let second = -2.0 * e / ((1.0 + e) * (1.0 + e));
        f = vec4(-abs(z) - 2.0 * log_1p(e), first, second, first * second);
    }
    return vec4(f.x - log(c.scale), f.y * r, f.z * r * r, f.w * r * r * r);
}

// log of the probability that component i gives to the bin around x, and its derivatives by m_i and log t_i. The first
// bin has all that lies below it, the last all above. With z the ends of the bin in units of the scale, below and above:
//   P = sigmoid(z+) sigmoid(-z-) (1 - exp(z- - z+))
fn component_mass(c: Component, x: f32) -> vec3<f32> {
    let width = params.bin_width / c.scale;
    let upper = (x - c.mean) / c.scale + 0.5 * width;
    let lower = upper - width;
    let is_first = x < params.bin_low + 0.5 * params.bin_width;
    let is_last = x > params.bin_high - 0.5 * params.bin_width;
    var f = vec3(0.0);
    if !is_last {
        let above = sigmoid(-upper);
        f += vec3(-phi(3u, -upper), -above / c.scale, -upper * above);
    }
    if !is_first {
        let below = sigmoid(lower);
        f += vec3(-phi(3u, lower), below / c.scale, lower * below);
    }
    if !is_first && !is_last {
        let inside = -exp_m1(-width);
        f += vec3(log(inside), 0.0, -width * exp(-min(width, 87.0)) / inside);
    }
    return f;
}

// log weight_i + log q_i(x), up to the constant log sum exp(logits); of the bin where there are bins.
fn joint(c: Component, x: f32) -> f32 {
    if params.bin_width > 0.0 {
        return c.logit + component_mass(c, x).x;
    }
    return c.logit + component_density(c, x).x;
}

// log sum exp of the joints and of the logits.
fn log_totals(at: u32, x: f32, sigma: f32) -> vec2<f32> {
    var top = vec2(-3.0e38);
    var total = vec2(0.0);
    for (var i = 0u; i < params.components; i++) {
        let c = component(at, i, sigma);
        let terms = vec2(joint(c, x), c.logit);
        let higher = max(top, terms);
        total.x = total.x * exp_above_zero(top.x - higher.x) + exp_above_zero(terms.x - higher.x);
        total.y = total.y * exp_above_zero(top.y - higher.y) + exp_above_zero(terms.y - higher.y);
        top = higher;
    }
    return top + log(total);
}

// Responsibility-weighted means: the score s = sum r g of the density, and log sum exp of its joints.
fn score_and_total(at: u32, x: f32, sigma: f32) -> vec2<f32> {
    var top = -3.0e38;
    var total = 0.0;
    var weighted = 0.0;
    for (var i = 0u; i < params.components; i++) {
        let c = component(at, i, sigma);
        let f = component_density(c, x);
        let higher = max(top, c.logit + f.x);
        let kept = exp_above_zero(top - higher);
        let term = exp_above_zero(c.logit + f.x - higher);
        total = total * kept + term;
        weighted = weighted * kept + term * f.y;
        top = higher;
    }
    return vec2(weighted / total, top + log(total));
}

// ds/dx = sum r (h + (g - s)^2): the form that keeps its digits far out, where s is large.
fn score_slope(at: u32, x: f32, sigma: f32, score: f32, log_total: f32) -> f32 {
    var slope = 0.0;
    for (var i = 0u; i < params.components; i++) {
        let c = component(at, i, sigma);
        let f = component_density(c, x);
        let share = exp_above_zero(c.logit + f.x - log_total);
        slope += share * (f.z + (f.y - score) * (f.y - score));
    }
    return slope;
}
