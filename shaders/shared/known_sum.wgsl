// The product of a weight row with what a sample's state holds, over the first `visible` inputs; `weight` in vec4s,
// `input` in words. The includer declares context_net and state.
fn known_sum(weight: u32, input: u32, visible: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; 4u * k < visible; k++) {
        let i = 4u * k;
        let at = input + i;
        let x = vec4(state[at], state[at + 1u], state[at + 2u], state[at + 3u]);
        sum += dot(context_net[weight + k], select(vec4(0.0), x, vec4(i, i + 1u, i + 2u, i + 3u) < vec4(visible)));
    }
    return sum;
}
