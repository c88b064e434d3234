// Lanes share what they load: lane l of LANES neighbours in x loads element l for all of them. Subgroups of exactly 8
// lanes along x (software adapters): a shuffle there is one instruction, a load is a loop over lanes.
// The includer declares params; FIRST_UNIFORM is the name of its first one, a size.

// The lane, hidden from the compiler: LLVM makes two shuffles of most that it knows the lane of.
fn hidden(lane: u32) -> u32 {
    return lane + (params.FIRST_UNIFORM >> 31u);
}

fn broadcast(v: vec4<f32>, lane: u32) -> vec4<f32> {
    return subgroupShuffle(v, hidden(lane));
}

fn broadcast_words(v: vec4<u32>, lane: u32) -> vec4<u32> {
    return subgroupShuffle(v, hidden(lane));
}
