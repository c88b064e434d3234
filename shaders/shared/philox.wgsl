// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
// A number is a pure function of (seed, stream, sample, dimension, step); reference/philox.rs is the same contract.

const STREAM_ROW_CHOICE = 1u;
const STREAM_ROW_NOISE = 2u;
const STREAM_CONTEXT_NOISE = 3u;
const STREAM_LANGEVIN = 4u;
const STREAM_MULTILEVEL = 5u;
const STREAM_DROPOUT = 8u;
const STREAM_GIVEN = 9u;
const STREAM_FLOW = 11u;
const STREAM_MALA = 12u;
const STREAM_MIXTURE = 16u;
const STREAM_PROBES = 24u;

// High and low word of a * b.
fn multiply_wide(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle_1 = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let middle_2 = (a & 0xffffu) * (b >> 16u) + (middle_1 & 0xffffu);
    return vec2((a >> 16u) * (b >> 16u) + (middle_1 >> 16u) + (middle_2 >> 16u), a * b);
}

fn philox4x32_10(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let p = multiply_wide(0xd2511f53u, c.x);
        let q = multiply_wide(0xcd9e8d57u, c.z);
        c = vec4(q.x ^ c.y ^ k.x, q.y, p.x ^ c.w ^ k.y, p.y);
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

fn random_bits(seed: vec2<u32>, stream: u32, sample: u32, dimension: u32, step: u32) -> vec4<u32> {
    return philox4x32_10(vec4(sample, dimension, step, stream), seed);
}

// In (0, 1), never at the ends: 23 bits and a half are exact in f32.
fn uniform_from(bits: u32) -> f32 {
    return (f32(bits >> 9u) + 0.5) * 1.1920928955078125e-7;
}

// Two standard normals (Box and Muller).
fn normal_pair(a: u32, b: u32) -> vec2<f32> {
    let radius = sqrt(-2.0 * log(uniform_from(a)));
    let angle = 6.283185307179586 * uniform_from(b);
    return radius * vec2(cos(angle), sin(angle));
}
