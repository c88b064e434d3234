// The rules of a masked convolution: where its taps lie and which channels they see. Nothing of it is stored.
//
// Tap t lies t / tap_width rows and t % tap_width columns past the corner (-above, -left). Output position (i, j) looks at
// (i, j) stride + tap, on a grid that repeats every input position 2x2 where up is 1; outside it everything is zero.
// Channels belong to groups, in order: channel c of n to group c groups / n, in each half of the outputs again. At the
// last tap, mask 1 (A) lets an output see the groups before its own, mask 2 (B) its own too, mask 0 all.
//
// The includer declares params: n_in, n_taps, tap_width, above, left, stride, up, mask, groups, half_width.

//#include quotient
// Row and column of tap t, counted from the corner.
fn tap_step(t: u32) -> vec2<i32> {
    let row = quotient(t, params.tap_width);
    return vec2(i32(row), i32(t - row * params.tap_width));
}

// How many leading channels of the input output o sees at the last tap.
fn visible_at_last_tap(o: u32) -> u32 {
    if params.mask == 0u {
        return params.n_in;
    }
    let place = select(o, o - params.half_width, o >= params.half_width);
    let group = quotient(place * params.groups, params.half_width) + params.mask - 1u;
    return quotient(group * params.n_in + params.groups - 1u, params.groups);
}
