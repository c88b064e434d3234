// Keeping NaN and infinities in sight: max, min, clamp and comparisons may drop a NaN, its bits cannot.

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) < 0x7f800000u;
}

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// What was made of x, unless x is not finite: then x itself, so that a result shows it.
fn kept(x: f32, made: f32) -> f32 {
    return select(x, made, is_finite(x));
}

// exp of a number that is not above 0, not less than the smallest normal float.
fn exp_above_zero(x: f32) -> f32 {
    return exp(kept(x, clamp(x, -87.0, 0.0)));
}
