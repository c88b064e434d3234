// Lanes share what they load: lane l of LANES neighbours in x loads element l for all of them. Without subgroups each
// loads for itself.

fn broadcast(v: vec4<f32>, lane: u32) -> vec4<f32> {
    return v;
}

fn broadcast_words(v: vec4<u32>, lane: u32) -> vec4<u32> {
    return v;
}
