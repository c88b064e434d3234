// Lanes share what they load: lane l of LANES neighbours in x loads element l for all of them. Subgroups of exactly 8
// lanes along x (software adapters): a shuffle there is one instruction, a load is a loop over lanes.

const LANES = 8u;

fn broadcast(v: vec4<f32>, lane: u32) -> vec4<f32> {
    return subgroupShuffle(v, lane);
}

fn broadcast_words(v: vec4<u32>, lane: u32) -> vec4<u32> {
    return subgroupShuffle(v, lane);
}
