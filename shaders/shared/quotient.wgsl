// a / b for a < 2^21: integer division is slow on most adapters.
fn quotient(a: u32, b: u32) -> u32 {
    return u32((f32(a) + 0.5) / f32(b));
}
