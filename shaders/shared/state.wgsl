// A sampler's state by words. The includer declares state: array<vec4<f32>>, since a load of four costs hardly more than one.

fn state_word(at: u32) -> f32 {
    return state[at / 4u][at % 4u];
}

fn set_state(at: u32, value: f32) {
    state[at / 4u][at % 4u] = value;
}
